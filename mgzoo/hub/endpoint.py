"""A hub that speaks the Hugging Face protocol, through `huggingface_hub` as it is: its cache, its variables, its login.

`huggingface_hub` is imported when an endpoint is spoken to; `cached` only reads its constants and never opens a socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mgzoo.hub import manifest as manifests
from mgzoo.spec import MgzooError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Whether a revision names one commit for ever, as a tag or a branch does not."""
    return bool(_COMMIT.fullmatch(revision or ""))


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def cached(repo: str, revision: str | None) -> Path | None:
    """The artifact's folder in the Hugging Face cache, if the manifest and every file it lists are there."""
    from huggingface_hub import constants

    base = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    commit = revision if is_commit(revision) else None
    if commit is None:
        pointer = base / "refs" / (revision or "main")
        commit = pointer.read_text().strip() if pointer.is_file() else ""
    folder = base / "snapshots" / commit
    if not is_commit(commit) or not (folder / manifests.NAME).is_file():
        return None
    try:
        files = manifests.read(folder).files
    except MgzooError:
        return None
    return folder if all((folder / name).is_file() for name in files) else None


def fetch_manifest(repo: str, revision: str | None) -> tuple[str, Path]:
    """Resolve to one commit and fetch its mgzoo.json alone, if it is small; returns the commit and the cached folder."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _errors(repo):
        head = get_hf_file_metadata(hf_hub_url(repo, manifests.NAME, revision=revision))
        if head.size is not None and head.size > manifests.MAX_BYTES:
            raise MgzooError(
                f"{repo}: {manifests.NAME} has {head.size:,} bytes, more than {manifests.MAX_BYTES:,}",
                remedy="an honest manifest is small; do not use this artifact",
            )
        # Asked for by the person's revision, so that the cache learns what a tag or a branch points to.
        folder = Path(hf_hub_download(repo, manifests.NAME, revision=revision)).parent
    if head.commit_hash is not None and folder.name != head.commit_hash:
        raise MgzooError(f"{repo} changed while it was read", remedy="pull again")
    return folder.name, folder


def fetch(repo: str, commit: str, names: Sequence[str]) -> None:
    """Fetch exactly these files of one commit into the cache."""
    from huggingface_hub import hf_hub_download

    with _errors(repo):
        for name in names:
            hf_hub_download(repo, name, revision=commit)


def publish(folder: Path, names: Sequence[str], repo: str, *, tag: str | None, parent: str | None) -> str:
    """Make one commit that holds exactly these files, on ``parent`` (default: what main is now), and tag it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="mgzoo")
    with _errors(repo):
        api.create_repo(repo, exist_ok=True)
        now = api.repo_info(repo, revision="main")
        there = {file.rfilename for file in now.siblings or ()}
        if tag is not None and any(ref.name == tag for ref in api.list_repo_refs(repo).tags):
            raise MgzooError(f"{repo} already has a tag {tag!r}", remedy="tags do not move: choose another")
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names]
        stale = sorted(there - set(names) - {".gitattributes"})
        operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
        done = api.create_commit(repo, operations, commit_message="Push with mgzoo", parent_commit=parent or now.sha)
        if tag is not None:
            api.create_tag(repo, tag=tag, revision=done.oid)
        return done.oid


@contextmanager
def _errors(repo: str) -> Iterator[None]:
    """Turn the client's errors into ours: what is wrong and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise MgzooError(f"{repo} is gated", remedy="ask for access on its page, then log in: hf auth login") from None
    except errors.RepositoryNotFoundError:
        remedy = "check the name; for a private one log in: hf auth login"
        raise MgzooError(f"there is no {repo}, or you may not see it", remedy=remedy) from None
    except errors.RevisionNotFoundError:
        raise MgzooError(f"{repo} has no such revision", remedy="check the tag or commit after the '@'") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        remedy = f"go online and run: mgzoo pull {repo}"
        raise MgzooError(f"{repo} cannot be reached and is not in the cache", remedy=remedy) from None
    except errors.EntryNotFoundError as error:
        raise MgzooError(f"{repo} lacks a file: {error}", remedy="if it is mgzoo.json: it is not an mgzoo artifact") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        remedy = {
            401: "log in: hf auth login",
            403: "your token may not write there: make one that may, then hf auth login",
            409: "it has moved meanwhile: look at what was pushed, then push again",
            412: "it has moved meanwhile: look at what was pushed, then push again",
        }.get(status, "try again later")
        raise MgzooError(f"the hub refused {repo}: {error}", remedy=remedy) from None
    except errors.HFValidationError as error:
        raise MgzooError(f"{repo}: {error}", remedy="write org/name[@revision]") from None
    except errors.HTTPError as error:
        raise MgzooError(f"the hub cannot be reached: {error}", remedy="check the network and HF_ENDPOINT") from None
