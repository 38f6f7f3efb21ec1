"""Signatures of artifacts, by the `model-signing` package with an elliptic-curve key; no service is asked.

What is signed is mgzoo.json, which lists the digest of every other file: a good signature and good digests speak for the whole
artifact, and the signature can be checked before any weight is fetched. It lies beside mgzoo.json in ``mgzoo.sig``, a Sigstore
bundle that `model_signing verify key mgzoo.json --signature mgzoo.sig --public-key KEY` reads, too. Never imports torch.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.manifest import MANIFEST_NAME, SIGNATURE_NAME
from mgzoo.artifact.strict_json import problem
from mgzoo.spec import MgzooError, Problem

MAX_SIGNATURE_BYTES = 1_000_000


def sign_artifact(folder: Path, key: str | Path) -> Path:
    """Write ``folder``/mgzoo.sig with a private key (PEM; P-256, P-384 or P-521, without a password) and return it."""
    library, errors = _library(), _errors()
    try:
        signer = library.signing.Config().use_elliptic_key_signer(private_key=_key(key))
    except errors as error:
        made = "openssl ecparam -genkey -name prime256v1 -noout -out key.pem"
        raise MgzooError(f"{key} is not a private key for signing: {_said(error)}", remedy=f"create one: {made}") from None
    with storage.atomic_path(folder / SIGNATURE_NAME) as aside, _plain(folder) as path:
        signer.sign(path, aside)
    return folder / SIGNATURE_NAME


def check_signature(folder: Path, key: str | Path, origin: Path | str = "") -> list[Problem]:
    """Problems of the signature in ``folder``, which must be the holder's of the private half of ``key`` (PEM)."""
    library, errors = _library(), _errors()
    path, where = folder / SIGNATURE_NAME, f"{origin or folder}/{SIGNATURE_NAME}"
    try:
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=_key(key))
    except errors as error:
        made = "openssl ec -in key.pem -pubout -out key.pub"
        raise MgzooError(f"{key} is not a public key: {_said(error)}", remedy=f"derive it from the private key: {made}") from None
    if not path.is_file():
        return [problem("signature", "the artifact is not signed", "ask the author for a signed artifact, or do not require a signature", where)]
    try:
        if path.stat().st_size > MAX_SIGNATURE_BYTES:
            raise ValueError(f"larger than {MAX_SIGNATURE_BYTES:,} bytes")
        with _plain(folder) as signed, contextlib.redirect_stdout(sys.stderr):  # the library prints its warnings
            verifier.verify(signed, path)
    except errors as error:
        what = f"invalid signature: {_said(error)}"
        return [problem("signature", what, "do not use this artifact, or ask the author for the right key", where)]
    return []


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """mgzoo.json as a file that is no link: in the Hugging Face cache it is one, and the library follows none."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(shutil.copyfile(folder / MANIFEST_NAME, Path(place, MANIFEST_NAME)))


def _key(key: str | Path) -> Path:
    path = Path(key).expanduser()
    if not path.is_file():
        raise MgzooError(f"no such key file: {key}", remedy="give a PEM file")
    return path


def _library():
    try:
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        what = f"signatures need the package model-signing; its import failed: {error}"
        raise MgzooError(what, remedy="pip install model-signing pyopenssl") from None  # the second it imports and does not ask for
    return model_signing


def _errors() -> tuple[type[Exception], ...]:
    """What the library raises for a file that is no signature or no key, or does not hold: it names no error of its own."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    return (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, RecursionError, InvalidSignature, UnsupportedAlgorithm)


def _said(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 200 else line[:197] + "..."


def required_signature(folder: Path, key: str | Path | None, origin: Path | str = "") -> list[Problem]:
    """What is wrong with the signature, where one is required."""
    return check_signature(folder, key, origin) if key is not None else []
