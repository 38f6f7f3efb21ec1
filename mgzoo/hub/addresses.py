"""URLs -> ``org/name[@revision]``. No torch, no network.

    https://HUB/org/name, …/tree/v1, …/blob/main/FILE    a page of the hub that HF_ENDPOINT names (HUB/org/name is read likewise)
    hf://org/name[@v1], hf://models/org/name             always the network hub, also where a folder has that name
    org/name/tree/v1, models/org/name                    the path of a page, where no folder has that name

All other URLs are rejected with the valid form; they are never paths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mgzoo.artifact.secrets import SECRETS
from mgzoo.spec import MgzooError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,95}")
FORMS = "use a folder, registry/NAME[@tag], PATH/NAME[@tag] or org/name[@revision]"
SAME = ("huggingface.co", "hf.co", "www.huggingface.co")
"""Names of one hub."""
PAGES = ("tree", "blob", "resolve", "raw", "edit", "commit", "commits")
"""Path components before the revision in the URL of a page."""
OTHERS = {"datasets": "a data set", "spaces": "a space", "buckets": "a bucket", "collections": "a collection", "papers": "a paper",
          "docs": "a documentation page", "blog": "a blog page", "api": "a hub route"}
"""First path components of URLs that are not models."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_HOST = re.compile(r"(([a-z0-9-]+\.)+[a-z]{2,}|localhost|\[[0-9a-f:]+\]|\d{1,3}(\.\d{1,3}){3})(:\d+)?", re.IGNORECASE)
_USER = re.compile(r"[^/\s]*@")
_SECRET_QUERY = re.compile(r"(?i)[?&#;](\w|-)*(token|key|secret|passw|auth|signature|credential)(\w|-)*=")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A model on the network hub. revision: None for main, or where the address names none. file: the page's, if it is of a file."""

    repo: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def shown(text: str) -> str:
    """A reference for messages: without user, password, query or token."""
    scheme = _SCHEME.match(text)
    if scheme:
        head = text[: scheme.start(2)]
        text = head + re.split(r"[?#]", scheme[2], maxsplit=1)[0]
        text = re.sub(rf"(?<={re.escape(head)}){_USER.pattern}", "…@", text) if _USER.match(scheme[2]) else text
    elif ":" in text.partition("@")[0] and "@" in text:
        text = _USER.sub("…@", text, count=1)
    for _, pattern in SECRETS:
        text = pattern.sub(b"\xe2\x80\xa6", text.encode("utf-8", "replace")).decode()
    return text if len(text) <= 200 else text[:197] + "..."


def read(text: str) -> Address | None:
    """The model of a URL, or None for other references (paths, hub names).

    Raises `MgzooError` for URLs of other things, of other hubs than the configured one, and with secrets.
    """
    written = text.strip()
    first, *more = written.split("/")
    if (match := _SCHEME.match(written)) and (match[1].lower() in ("http", "https", "hf") or "://" in written or not Path(first).exists()):
        return _with_scheme(match[1].lower(), match[2], text)
    if not first or first in (".", "..") or first.startswith("~") or Path(first).exists() and not (more[1:] and more[1] in PAGES):
        return None
    if _HOST.fullmatch(first) and more and (first.lower() in SAME or ":" in first or len(more) > 1):
        return _on_hub(first, "/".join(more), text)
    if "\\" in written or re.match(r"[A-Za-z]:", written):
        raise MgzooError(f"{shown(text)!r} is a Windows path", remedy="use the path on this system, e.g. /mnt/c/models/name")
    if ":" in first:
        raise MgzooError(f"{shown(text)!r} looks like an address of another protocol", remedy=f"{FORMS}; for a path, write ./{shown(text)}")
    page = len(more) >= 2 and more[1] in PAGES and first != "registry" and not Path(*written.split("/")[:3]).exists()
    if page or first in ("models", "datasets", "spaces") and len(more) > (first == "models"):
        return _page(written.split("/"), text)
    return None


def _with_scheme(scheme: str, rest: str, text: str) -> Address:
    if scheme not in ("http", "https", "hf"):
        raise MgzooError(f"{shown(text)!r} is an address of another protocol ({scheme})", remedy=FORMS)
    if scheme == "hf":
        host = rest.partition("/")[0]
        if ":" in host or "@" in host:
            _refuse_secret(text)
        return _page(rest.split("/"), text, files=True)
    host, _, path = rest.partition("/")
    return _on_hub(host, path, text)


def _refuse_secret(text: str) -> None:
    raise MgzooError(f"{shown(text)!r} contains a user name or a password", remedy="remove it and log in: hf auth login; revoke it if others may have seen it")


def _on_hub(host: str, path: str, text: str) -> Address:
    """A page of the configured hub; other hosts are rejected."""
    if "@" in host:
        _refuse_secret(text)
    if _SECRET_QUERY.search(text):
        raise MgzooError(f"{shown(text)!r} contains a token or a key", remedy="remove it and log in: hf auth login; revoke it if others may have seen it")
    from huggingface_hub import constants

    scheme = "http" if re.match(r"\s*http:", text, re.IGNORECASE) else "https"
    ours = urlsplit(constants.ENDPOINT)
    port = {"http": ":80", "https": ":443"}.get(ours.scheme, "")
    same = {one.lower().removesuffix(port) for one in (host, ours.netloc)}
    path, prefix = re.split(r"[?#]", path, maxsplit=1)[0], ours.path.strip("/")
    if len(same) > 1 and not same <= set(SAME) or prefix and not path.startswith(prefix + "/"):
        raise MgzooError(f"{shown(text)!r} is not on the configured hub {constants.ENDPOINT}",
                         remedy=f"if you trust it: HF_ENDPOINT={scheme}://{host} mgzoo …; else write org/name for a model on {constants.ENDPOINT}")
    return _page(path.removeprefix(prefix).split("/"), text)


def _page(parts: list[str], text: str, files: bool = False) -> Address:
    """``[models/]org/name[@revision][/tree/revision…]``. files: what follows the name is a file's path, as hf:// has it."""
    parts = [unquote(part) for part in parts if part]
    if parts[:1] == ["models"]:
        del parts[0]
    if parts and parts[0] in OTHERS:
        raise MgzooError(f"{shown(text)!r} is {OTHERS[parts[0]]}, not a model", remedy="name a model: org/name[@revision]")
    org, name, *more = [*parts, "", ""][: max(2, len(parts))]
    name, at, revision = name.partition("@")
    name = name.removesuffix(".git")
    if not NAME.fullmatch(org) or not NAME.fullmatch(name) or ".." in f"{org}/{name}":
        raise MgzooError(f"{shown(text)!r} is not an artifact reference", remedy=FORMS)
    named = shown(f"{org}/{name}")
    if at and revision == "refs" and len(more) >= 2:  # hf://org/name@refs/pr/1
        revision, more = "/".join([revision, *more[:2]]), more[2:]
    page = more.pop(0) if more and more[0] in PAGES else ""
    if page:
        taken = 3 if more[:1] == ["refs"] and len(more) >= 3 else 1
        there, more = "/".join(more[:taken]), more[taken:]
        if not there or at and there != revision:
            raise MgzooError(f"{shown(text)!r} has {'two revisions' if there else 'no revision'}", remedy=f"write {named}[@revision]")
        revision = there
    elif more and not files:
        raise MgzooError(f"{shown(text)!r} is a page of {named}, not the model", remedy=f"write {named}[@revision]")
    if page in ("tree", "commit", "commits") and more:
        raise MgzooError(f"{shown(text)!r} is a folder inside {named}, not the whole model", remedy=f"write {named}@{revision}")
    if (revision or at) and not REVISION.fullmatch(revision) or ".." in revision:
        raise MgzooError(f"{shown(text)!r} is not an artifact reference", remedy=FORMS)
    return Address(repo=f"{org}/{name}", revision=None if revision in ("", "main") else revision, file="/".join(more))
