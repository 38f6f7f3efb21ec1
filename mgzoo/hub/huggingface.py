"""Hubs with the Hugging Face protocol, through `huggingface_hub`: with its cache, environment variables and login.

`huggingface_hub` is imported for network access only; reading the cache imports its constants and never opens
a socket. The client reads HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE when it is imported.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path, PurePosixPath

from mgzoo import storage
from mgzoo.artifact.manifest import MANIFEST_NAME, MAX_FILES, MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest, read_manifest
from mgzoo.artifact.strict_json import problem
from mgzoo.hub.folder_hub import check_tag
from mgzoo.spec import MgzooError, Problem

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9_-]{1,128}")
_KEPT = frozenset({".gitattributes"})
_BUSY = (408, 429, 500, 502, 503, 504)
AT_ONCE = 8
"""Number of parallel downloads, as in `huggingface_hub.snapshot_download`."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit hash, not a tag or a branch."""
    return bool(_COMMIT.fullmatch(revision or ""))


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


# --------------------------------------------------------------------------------------------- the cache


def cached_folder(repo: str, revision: str | None) -> Path | None:
    """The artifact's folder in the Hugging Face cache, if complete."""
    folder, lacks = find_cached(repo, revision)
    return None if lacks else folder


def find_cached(repo: str, revision: str | None) -> tuple[Path, str]:
    """The cache folder of an artifact, and a message about missing files; empty if complete."""
    base = _cache_of(repo)
    commit = revision if is_commit(revision) else None
    if commit is None:
        pointer = base / "refs" / (revision or "main")
        commit = pointer.read_text().strip() if pointer.is_file() else ""
    folder = base / "snapshots" / commit
    if not is_commit(commit) or not (folder / MANIFEST_NAME).is_file():
        return folder, "is not on this machine"
    try:
        files = read_manifest(folder).files
    except MgzooError:
        return folder, f"is on this machine with a damaged {MANIFEST_NAME}"
    lost = [name for name in files if not (folder / name).is_file()]
    more = f" and {len(lost) - 1} more files" if len(lost) > 1 else ""
    return folder, f"is not complete on this machine: it lacks {lost[0]}{more}" if lost else ""


def remember(repo: str, revision: str | None, commit: str) -> None:
    """Record the commit of a tag or branch in the cache, like the client, but only after a complete download."""
    if is_commit(revision):
        return
    pointer = _cache_of(repo) / "refs" / (revision or "main")
    storage.atomic_write(pointer, commit, durable=False)


def discard(folder: Path, name: str) -> None:
    """Remove a damaged file from the cache, so that the next pull fetches it again."""
    path = folder / name
    if path.is_symlink():
        blob = path.parent / os.readlink(path)
        if blob.resolve().parent.is_relative_to(folder.resolve().parents[2]):
            blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _cache_of(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


# --------------------------------------------------------------------------------------------- pulling


def fetch_manifest(repo: str, revision: str | None) -> tuple[str, Path]:
    """Resolve to one commit and fetch its mgzoo.json alone, if it is small; returns the commit and the cached folder."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _errors(repo, revision):
        url = hf_hub_url(repo, MANIFEST_NAME, revision=revision)
        try:
            head = get_hf_file_metadata(url)
        except OSError as error:
            if getattr(getattr(error, "response", None), "status_code", 0) not in _BUSY:
                raise
            head = get_hf_file_metadata(url, retry_on_errors=True)
        if not is_commit(head.commit_hash) or head.size is None or not _ETAG.fullmatch(head.etag or ""):
            raise MgzooError(
                f"incomplete answer of the hub for {repo}/{MANIFEST_NAME}: expected a commit, a size and an ETag",
                remedy="check HF_ENDPOINT: it must support the Hugging Face protocol",
            )
        if head.size > MAX_MANIFEST_BYTES:
            raise MgzooError(
                f"{repo}: {MANIFEST_NAME} has {head.size:,} bytes, more than {MAX_MANIFEST_BYTES:,}",
                remedy="valid manifests are small; do not use this artifact",
            )
        path = Path(hf_hub_download(repo, MANIFEST_NAME, revision=head.commit_hash))
        if path.stat().st_size != head.size:
            hf_hub_download(repo, MANIFEST_NAME, revision=head.commit_hash, force_download=True)
    return head.commit_hash, path.parent


def check_listing(repo: str, commit: str, manifest: Manifest) -> list[Problem]:
    """Compare the hub's file listing of a commit with the manifest: missing files, other sizes, paths outside the folder."""
    from huggingface_hub import HfApi, RepoFile

    with _errors(repo):
        entries = HfApi(library_name="mgzoo").list_repo_tree(repo, revision=commit, recursive=True)
        listed = list(itertools.islice(entries, 2 * MAX_FILES))
    sizes = {one.path: one.lfs.size if one.lfs else one.size for one in listed if isinstance(one, RepoFile)}
    where, problems = f"{repo}@{commit}", []
    for path in sorted(one.path for one in listed):
        if path.startswith(("/", "\\")) or ".." in PurePosixPath(path.replace("\\", "/")).parts:
            what = f"the hub lists {_said(path)!r}, a path outside the folder"
            problems.append(problem("unsafe-name", what, "do not use this artifact", where))
    for name, entry in manifest.files.items():
        if name not in sizes:
            problems.append(problem("missing-file", f"{name} is not on the hub", "push the artifact again", where))
        elif sizes[name] != entry.size:
            what = f"{name} has {sizes[name]:,} bytes on the hub, expected {entry.size:,}"
            problems.append(problem("size", what, "push the artifact again", where))
    return problems


def fetch(repo: str, commit: str, names: Sequence[str]) -> None:
    """Fetch exactly these files of one commit into the cache, in parallel; existing files are skipped."""
    from huggingface_hub import hf_hub_download

    with _errors(repo), ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(hf_hub_download, repo, name, revision=commit) for name in names]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fetch_signature(repo: str, commit: str) -> None:
    """Fetch the signature of one commit into the cache, if it has one."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _errors(repo):
        try:
            head = get_hf_file_metadata(hf_hub_url(repo, SIGNATURE_NAME, revision=commit))
        except errors.EntryNotFoundError:
            return
        if (head.size or 0) > MAX_MANIFEST_BYTES:
            raise MgzooError(f"{repo}: {SIGNATURE_NAME} has {head.size:,} bytes", remedy="too large for a signature; do not use this artifact")
        hf_hub_download(repo, SIGNATURE_NAME, revision=commit)


# --------------------------------------------------------------------------------------------- pushing


def publish(
    folder: Path, names: Sequence[str], repo: str, *, tag: str | None, parent: str | None, check: Callable[[], None]
) -> str:
    """Create one commit with exactly these files, on ``parent`` (default: main at the start), and tag it.

    Weights are uploaded first; files from earlier pushes are not sent again. check: called after the upload and before the
    commit; may raise to abort. Nothing is visible before the commit.
    """
    from huggingface_hub import HfApi

    check_tag(tag)
    api = HfApi(library_name="mgzoo")
    with _errors(repo), ExitStack() as stack:
        now = _main(api, repo)
        if parent is not None and not now.sha.startswith(parent):
            raise _moved(repo, now.sha, parent)
        there = {file.rfilename for file in now.siblings or ()}
        if there - _KEPT - {"README.md", "LICENSE"} and MANIFEST_NAME not in there:
            raise MgzooError(f"{repo} is not an artifact repository: it has {len(there)} other files", remedy="choose another name")
        tagged = _is_tagged(api, repo, tag, folder)
        operations = [*_additions(folder, names, _takes_xet(repo), stack), *_deletions(sorted(there - set(names) - _KEPT))]
        with _quiet():
            try:
                api.preupload_lfs_files(repo, [one for one in operations if hasattr(one, "path_or_fileobj")], free_memory=False)
            finally:
                check()  # also where the upload failed: a file that changed on the way is the reason
            try:
                done = api.create_commit(repo, operations, commit_message="Push with mgzoo", parent_commit=now.sha)
            except OSError as error:
                if getattr(getattr(error, "response", None), "status_code", 0) in (409, 412):
                    raise _moved(repo, _main(api, repo).sha, now.sha) from None
                raise
    if tag is not None and not tagged:
        _tag(api, repo, tag, done.oid)
    return done.oid


def _main(api, repo: str):
    """The commit of main; a missing repository is created."""
    from huggingface_hub import errors

    try:
        return api.repo_info(repo, revision="main")
    except errors.RepositoryNotFoundError:
        api.create_repo(repo, exist_ok=True)
        return api.repo_info(repo, revision="main")


def _is_tagged(api, repo: str, tag: str | None, folder: Path) -> bool:
    """Whether the tag exists for this artifact; an error if it names another one."""
    commits = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo).tags} if tag is not None else {}
    if tag not in commits:
        return False
    data = (folder / MANIFEST_NAME).read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # git's name of the manifest, which lists all the rest
    if [one.blob_id for one in api.get_paths_info(repo, [MANIFEST_NAME], revision=tag)] != [oid]:
        raise MgzooError(f"{repo} already has a tag {tag!r}, at {commits[tag]}", remedy="tags cannot be moved: choose another tag")
    return True


def _takes_xet(repo: str) -> bool:
    """Whether the hub supports Xet. The client assumes so; hubs without it answer 404 to the token route."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    if constants.HF_HUB_DISABLE_XET:
        return False
    url = f"{constants.ENDPOINT}/api/models/{repo}/xet-write-token/main"
    return get_session().get(url, headers=build_hf_headers(library_name="mgzoo")).status_code != 404


def _additions(folder: Path, names: Sequence[str], xet: bool, stack: ExitStack) -> Iterator:
    """The upload operations. Weights are streamed from disk: by name for Xet, as open files for LFS. Other files are read here."""
    from huggingface_hub import CommitOperationAdd

    for name in names:
        path = folder / name
        if not name.endswith(".safetensors"):
            source = path.read_bytes()
        else:
            source = str(path) if xet else stack.enter_context(open(path, "rb"))
        yield CommitOperationAdd(path_in_repo=name, path_or_fileobj=source)


def _deletions(names: Sequence[str]) -> Iterator:
    from huggingface_hub import CommitOperationDelete

    for name in names:
        yield CommitOperationDelete(path_in_repo=name)


def _tag(api, repo: str, tag: str, commit: str) -> None:
    try:
        with _errors(repo):
            api.create_tag(repo, tag=tag, revision=commit)
    except MgzooError as error:
        what = f"{repo} is published as {commit}, but not tagged {tag!r}: {error.what}"
        raise MgzooError(what, remedy="push again to add the missing tag") from None


def _moved(repo: str, now: str, expected: str) -> MgzooError:
    what = f"{repo} has changed: main is {now}, this push is based on {expected}"
    return MgzooError(what, remedy="check the new commits, then push again")


# --------------------------------------------------------------------------------------------- errors


@contextmanager
def _errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn the exceptions of the client into `MgzooError` with a remedy."""
    from huggingface_hub import errors

    try:
        yield
    except MgzooError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, errors.HTTPError, errors.EntryNotFoundError) as error:
        raise _ours(error, repo, revision) from error


def _ours(error: BaseException, repo: str, revision: str | None) -> MgzooError:
    from huggingface_hub import errors

    named = f"{repo}@{revision}" if revision else repo
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and isinstance(error.__cause__, Exception):
        return _ours(error.__cause__, repo, revision)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return MgzooError(f"{named} is not reachable: HF_HUB_OFFLINE is set", remedy="unset HF_HUB_OFFLINE and try again")
    if isinstance(error, errors.GatedRepoError):
        return MgzooError(f"{repo} is gated", remedy="ask for access on its page, then log in: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        remedy = "check the name; for a private one log in: hf auth login"
        return MgzooError(f"{repo} does not exist or is private", remedy=remedy)
    if isinstance(error, errors.RevisionNotFoundError):
        return MgzooError(f"{repo} has no revision {revision or 'main'!r}", remedy="check the tag or commit after the '@'")
    if isinstance(error, errors.EntryNotFoundError):
        remedy = f"if it is {MANIFEST_NAME}: it is not an artifact of mgzoo"
        return MgzooError(f"{named} lacks a file: {_said(_last_of_url(error))}", remedy=remedy)
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, repo)
    if isinstance(error, errors.HFValidationError):
        return MgzooError(f"{repo}: {error}", remedy="write org/name[@revision]")
    if isinstance(error, errors.HTTPError | ConnectionError):
        remedy = "check the network and HF_ENDPOINT, then try again; completed transfers are kept"
        if cached_folder(repo, revision) is not None:
            remedy += "; HF_HUB_OFFLINE=1 uses the copy on this machine"
        # hf_xet has one error for all that can go wrong between it and its storage.
        what = "the hub is not reachable" if isinstance(error, errors.HTTPError) else f"the storage behind the hub refused {repo}"
        return MgzooError(f"{what}: {_said(str(error))}", remedy=remedy)
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return MgzooError(f"the transfer of {named} failed: {_said(str(error))}", remedy="try again; if the error persists, check HF_ENDPOINT")


def _refused(error, repo: str) -> MgzooError:
    status = error.response.status_code
    said = _said(error.server_message or error.response.reason_phrase)
    remedy = {
        401: "log in: hf auth login",
        403: "your token lacks the permission: create one with it, then hf auth login",
        429: "wait a while and try again; completed transfers are kept",
    }.get(status, "try again later; completed transfers are kept" if status >= 500 else "check HF_ENDPOINT and try again")
    return MgzooError(f"the hub refused {repo} with {status}: {said}", remedy=remedy)


def _last_of_url(error) -> str:
    response = getattr(error, "response", None)
    return str(response.request.url).rpartition("/")[2].partition("?")[0] if response is not None else str(error)


def _said(text: str) -> str:
    """A text from the hub, as one short line without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= 200 else line[:197] + "..."


def _quiet():
    """Disable the client's progress bars without a terminal."""
    from huggingface_hub.utils import disable_progress_bars

    return nullcontext() if sys.stderr.isatty() else disable_progress_bars()
