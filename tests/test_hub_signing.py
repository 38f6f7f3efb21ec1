"""Signatures: the right key passes; another key, another content, another's signature and none are refused before a weight moves."""

import builtins
import json
import os
import shutil
from pathlib import Path

import pytest

from mgzoo.artifact.manifest import read_manifest, write_manifest
from mgzoo.artifact.signing import check_signature, sign_artifact
from mgzoo.cli import run
from mgzoo.errors import ArtifactError
from mgzoo.model.build import build
from mgzoo.model.save import save
from mgzoo.recipe.compose import compose
from mgzoo.share.describe import describe
from mgzoo.share.pull import pull
from mgzoo.share.push import push
from mgzoo.share.verify import verify
from mgzoo.spec import MgzooError

pytest.importorskip("model_signing.signing", reason="pip install model-signing pyopenssl", exc_type=ImportError)

TAE = """
schema: 1
parts:
  autoencoder:
    use: autoencoders.tae.v1
    config: {widths: [16, 16, 16, 16], groups: 8, encoder_blocks: [0, 0, 1, 0], decoder_blocks: [0, 0, 1, 0], attention: false}
  task: {use: autoencoders.reconstruct.v1}
"""


def keys(folder: Path, name: str, curve="SECP256R1", password=None) -> tuple[Path, Path]:
    """A new pair: files of PEM text."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(getattr(ec, curve)())
    closed = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    paths = folder / f"{name}.pem", folder / f"{name}.pub"
    paths[0].write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, closed))
    paths[1].write_bytes(private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return paths


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signing")
    (folder / "recipe.yaml").write_text(TAE)
    return save(build(compose(folder / "recipe.yaml")), folder / "model", golden=False)


@pytest.fixture
def signed(saved, tmp_path, monkeypatch) -> str:
    """./hub/tae, signed with ann.pem; ann.pub and bob.pub lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGZOO_HOME", str(tmp_path / "home"))
    shutil.copytree(saved, "model")
    keys(Path("."), "ann")
    keys(Path("."), "bob")
    push("model", "./hub/tae", sign="ann.pem", probe=False)
    return "./hub/tae"


def place(ref: str) -> Path:
    return next(path.parent for path in Path(ref).glob("*/mgzoo.json"))


def refused(match: str, *words, **options) -> None:
    before = set(Path(".").rglob("*"))
    with pytest.raises(ArtifactError, match=match) as caught:
        pull(*words, **options)
    assert {one.kind for one in caught.value.problems} == {"signature"}
    assert set(Path(".").rglob("*")) == before


def test_the_right_key_passes_and_the_signature_travels(signed):
    pulled = pull(signed, "pulled", require_signature="ann.pub")
    assert (pulled / "mgzoo.sig").is_file() and verify(pulled, require_signature="ann.pub") == []
    push(pulled, "./mirror/tae", probe=False)
    assert verify("./mirror/tae", require_signature="ann.pub") == [] == verify(pulled)
    assert pull(signed, require_signature="ann.pub") == pull(signed)


def test_another_key_is_refused(signed):
    refused("invalid signature: Key mismatch", signed, "pulled", require_signature="bob.pub")
    assert [one.kind for one in verify(signed, require_signature="bob.pub")] == ["signature"]


def test_a_signature_that_claims_the_right_key_is_refused_all_the_same(signed):
    """The hint of a key in the file is anybody's word; what counts is the arithmetic."""
    sign_artifact(Path("model"), "bob.pem")
    forged, real = (json.loads((folder / "mgzoo.sig").read_bytes()) for folder in (Path("model"), place(signed)))
    forged["verificationMaterial"] = real["verificationMaterial"]
    (place(signed) / "mgzoo.sig").write_text(json.dumps(forged))
    refused("invalid signature", signed, "pulled", require_signature="ann.pub")


def test_changed_content_is_refused_though_the_manifest_was_made_to_agree(signed):
    (place(signed) / "README.md").write_text("# better than it is")
    with pytest.raises(ArtifactError, match="README.md: the file has"):
        pull(signed, "pulled", require_signature="ann.pub")
    signature = (place(signed) / "mgzoo.sig").read_bytes()
    write_manifest(read_manifest(place(signed)), place(signed))
    assert not (place(signed) / "mgzoo.sig").exists()
    (place(signed) / "mgzoo.sig").write_bytes(signature)
    refused("invalid signature: Signature mismatch", signed, "pulled", require_signature="ann.pub")
    assert pull(signed, "pulled")


def test_the_signature_of_another_artifact_is_refused(signed):
    describe("model", metrics={"steps": 1})
    push("model", "./hub/other", probe=False)
    shutil.copyfile(place(signed) / "mgzoo.sig", place("./hub/other") / "mgzoo.sig")
    refused("invalid signature: Signature mismatch", "./hub/other", "pulled", require_signature="ann.pub")


def test_an_artifact_without_a_signature_is_refused_where_one_is_required(signed):
    (place(signed) / "mgzoo.sig").unlink()
    refused("the artifact is not signed", signed, "pulled", require_signature="ann.pub")
    assert pull(signed) and verify(signed) == []


def test_what_was_pushed_or_pulled_without_a_signature_can_get_one_later(signed):
    Path("model/mgzoo.sig").unlink()
    (place(signed) / "mgzoo.sig").unlink()
    pull(signed)
    commit = push("model", signed, sign="ann.pem", probe=False)
    assert commit == place(signed).name and verify(signed, require_signature="ann.pub") == []
    assert (pull(signed, require_signature="ann.pub") / "mgzoo.sig").is_file()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"{" * 100_000, b"\xff", b'{"verificationMaterial": {}, "mediaType": 1}', b" " * 1_000_001])
def test_what_is_no_signature_is_refused_and_does_no_harm(signed, data):
    (place(signed) / "mgzoo.sig").write_bytes(data)
    refused("invalid signature", signed, "pulled", require_signature="ann.pub")


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_larger_curves_sign(signed, curve):
    private, public = keys(Path("."), curve, curve)
    sign_artifact(Path("model"), private)
    assert check_signature(Path("model"), public) == []


def test_a_file_that_is_no_key_is_named(signed):
    Path("text.pem").write_text("hello")
    keys(Path("."), "closed", password=b"secret")
    for key, said in (("none.pem", "no such key file: none.pem"), ("text.pem", "text.pem is not a private key for signing"),
                      ("closed.pem", "closed.pem is not a private key for signing"), ("ann.pub", "ann.pub is not a private key")):
        with pytest.raises(MgzooError) as caught:
            push("model", "./hub/again", sign=key, probe=False)
        assert said in caught.value.what and caught.value.remedy and not Path("hub/again").exists()
    for key, said in (("none.pub", "no such key file: none.pub"), ("ann.pem", "ann.pem is not a public key"), ("text.pem", "text.pem is not a public key")):
        with pytest.raises(MgzooError) as caught:
            pull(signed, "pulled", require_signature=key)
        assert said in caught.value.what and caught.value.remedy
    assert sorted(os.listdir("model")) == sorted([*{name.split("/")[0] for name in read_manifest("model").files}, "mgzoo.json", "mgzoo.sig"])


def test_the_words_of_the_command_line(signed, capsys):
    assert run(["push", "model", "./hub/second", "--sign", "ann.pem"]) == 0
    assert run(["pull", "./hub/second", "--require-signature", "bob.pub"]) == 1
    out, err = capsys.readouterr()
    assert "Key mismatch" in err and "WARNING" not in out
    assert run(["pull", "./hub/second", "--require-signature", "ann.pub"]) == 0
    assert run(["verify", capsys.readouterr().out.strip(), "--require-signature", "ann.pub"]) == 0


def test_without_the_package_one_line_says_what_to_install(signed, monkeypatch):
    real = builtins.__import__

    def absent(name, *words):
        if name.startswith("model_signing"):
            raise ImportError("No module named 'model_signing'")
        return real(name, *words)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MgzooError) as caught:
        pull(signed, "pulled", require_signature="ann.pub")
    assert str(caught.value) == (
        "signatures need the package model-signing; its import failed: No module named 'model_signing'\n    -> pip install model-signing pyopenssl"
    )
    assert pull(signed, "pulled")
