"""What the hub keeps: repositories with commits and tags in memory, large objects by their SHA-256 on disk."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path


class Refused(Exception):
    """A request that the hub answers with an error: status, the client's X-Error-Code, and a message."""

    def __init__(self, status: int, message: str, code: str = ""):
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of one commit: its bytes (``data``), or the SHA-256 of a large object. oid: git's name of the blob."""

    size: int
    oid: str
    data: bytes | None = None
    sha256: str | None = None


@dataclass
class Repo:
    """Commits (id -> path -> `Entry`), and what main and the tags point to."""

    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    main: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str:
        """The commit that a branch, a tag or a commit names."""
        found = self.main if revision == "main" else self.tags.get(revision, revision)
        if found not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def files(self, revision: str) -> dict[str, Entry]:
        """The files of a revision."""
        return self.commits[self.commit_of(revision)]

    def entry(self, revision: str, path: str) -> Entry:
        """One file of a revision."""
        files = self.files(revision)
        if path not in files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        return files[path]


def regular(data: bytes) -> Entry:
    """A file that git itself holds."""
    return Entry(size=len(data), oid=hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), data=data)


class Store:
    """Repositories by name, and a folder of objects."""

    def __init__(self, root: Path):
        self.root, self.repos, self.lock = root, {}, threading.RLock()
        root.mkdir(parents=True, exist_ok=True)
        self._made = 0

    def clear(self) -> None:
        """Forget all repositories and objects."""
        with self.lock:
            self.repos.clear()
            for path in self.root.iterdir():
                if path.is_file():
                    path.unlink()

    def repo(self, name: str) -> Repo:
        """The repository of this name."""
        if name not in self.repos:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return self.repos[name]

    def create(self, name: str) -> None:
        """A new repository with a first commit of its own, as the real hub makes one."""
        with self.lock:
            if name in self.repos:
                raise Refused(409, "You already created this model repo")
            self.repos[name] = Repo()
            self.add(self.repos[name], {".gitattributes": regular(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")})

    def add(self, repo: Repo, files: dict[str, Entry]) -> str:
        """Make ``files`` the content of a new commit on main."""
        with self.lock:
            self._made += 1
            listing = "\n".join(f"{path} {entry.oid}" for path, entry in sorted(files.items()))
            commit = hashlib.sha1(f"{self._made} {repo.main}\n{listing}".encode()).hexdigest()
            repo.commits[commit], repo.main = dict(files), commit
            return commit

    def commit(self, name: str, lines: list[dict]) -> str:
        """Apply the lines of a commit request to main, all or nothing; refused where its parent is no longer main's commit."""
        with self.lock:
            repo = self.repo(name)
            parent = lines[0]["value"].get("parentCommit")
            if parent is not None and not repo.main.startswith(parent):
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repo.files("main"))
            for line in lines[1:]:
                value, path = line["value"], line["value"]["path"]
                if line["key"] == "file":
                    files[path] = regular(_decoded(value))
                elif line["key"] == "lfsFile":
                    files[path] = self.large(value["oid"])
                elif line["key"] == "deletedFile":
                    if files.pop(path, None) is None:
                        raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                else:
                    raise Refused(400, f"unknown operation {line['key']}")
            return self.add(repo, files)

    def large(self, sha256: str) -> Entry:
        """The file whose object was uploaded before."""
        if not self.has(sha256):
            raise Refused(400, f"the object {sha256} was never uploaded")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {self.path(sha256).stat().st_size}\n"
        return Entry(size=self.path(sha256).stat().st_size, oid=regular(pointer.encode()).oid, sha256=sha256)

    def path(self, sha256: str) -> Path:
        """Where an object lies."""
        return self.root / sha256

    def has(self, sha256: str) -> bool:
        """Whether an object is there, whole."""
        return self.path(sha256).is_file()

    def part(self, sha256: str, number: int | str) -> Path:
        """Where an upload is written before it is whole."""
        return self.root / f"{sha256}.part-{number}"

    def finish(self, sha256: str, parts: list[Path]) -> None:
        """Join the parts of an upload and keep them if their digest is what was announced."""
        whole = parts[0]
        with open(whole, "ab") as file:
            for part in parts[1:]:
                file.write(part.read_bytes())
                part.unlink()
        with open(whole, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            whole.unlink()
            raise Refused(400, f"the object has SHA-256 {actual}, announced was {sha256}")
        os.replace(whole, self.path(sha256))


def _decoded(value: dict) -> bytes:
    import base64

    return base64.b64decode(value["content"])
