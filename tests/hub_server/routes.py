"""The routes of the Hugging Face protocol that its client calls to push and pull, over HTTP/1.1 with Range and chunked bodies."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from . import READER, WRITER, faults
from .faults import Faults
from .store import Refused, Store, regular
from .xet import Cas

LARGE = re.compile(r"\.(safetensors|png|mp4)$")
LARGE_BYTES = 10_000_000
BLOCK = 1 << 20
ROUTES: list[tuple[str, re.Pattern, str]] = []
REPO = r"(?P<repo>[^/]+/[^/]+)"


def route(method: str, pattern: str):
    """Serve requests of this method whose path matches ``pattern`` whole."""

    def register(function):
        ROUTES.append((method, re.compile(pattern), function.__name__))
        return function

    return register


class Server(ThreadingHTTPServer):
    """One hub. settings: see `LoopbackHub.settings`."""

    daemon_threads = True

    def __init__(self, port: int, store: Store, settings: dict):
        super().__init__(("127.0.0.1", port), Handler)
        self.store, self.settings, self.faults, self.cas = store, settings, Faults(), Cas(store.root / "xet")
        self.seen, self.key = [], secrets.token_bytes(16)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that went away is no news; a fault of the server's own is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def sign(self, text: str) -> str:
        """What makes a storage URL valid without a token."""
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request at a time of one connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing on stderr: the log is asked for."""

    def do_GET(self):
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.sent = self.received = self.status = 0
        self.body_read = False
        path = unquote(url.path) if "/resolve/" in url.path else url.path
        if path.startswith("/-/control/"):
            return self.control(path.rpartition("/")[2])
        self.fault = self.server.faults.strike(f"{self.command} {self.path}")
        try:
            self.fail_early(path)
            for method, pattern, name in ROUTES:
                match = pattern.fullmatch(path)
                if match and self.command in (method, "HEAD" if method == "GET" else method):
                    getattr(self, name)(**{key: unquote(value) for key, value in match.groupdict().items() if value})
                    break
            else:
                raise Refused(404, f"no route {self.command} {path}")
        except Refused as error:
            self.refuse(error)
        except (ConnectionError, Dropped):
            self.close_connection = True
        finally:
            entry = {"method": self.command, "path": self.path, "status": self.status, "received": self.received, "sent": self.sent}
            self.server.seen.append(entry)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    # ----------------------------------------------------------------------------------- reading and answering

    def body(self) -> bytes:
        """The request's whole body."""
        return b"".join(self.blocks())

    def blocks(self):
        """The request's body in blocks."""
        self.body_read = True
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.received_block(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                block = self.rfile.read(min(left, BLOCK))
                if not block:
                    raise Dropped
                left -= len(block)
                yield self.received_block(block)

    def received_block(self, block: bytes) -> bytes:
        self.received += len(block)
        if self.fault.get("do") == faults.DROP and self.command in ("PUT", "POST") and self.received > self.fault.get("after", 0):
            raise Dropped
        return block

    def reply(self, content, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})}, ranges=False)

    def send(self, body: bytes | Path, status: int = 200, headers: dict[str, str] | None = None, ranges: bool = True) -> None:
        """Answer with bytes or a file, the part that Range asks for, spoilt by the fault that struck."""
        headers, fault = dict(headers or {}), self.fault.get("do")
        if fault == faults.BODY:
            body = self.fault["body"].encode()
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        if fault == faults.CUT:
            size = min(size, self.fault["after"])
        start, end = 0, size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and ranges:
            start, end = int(wanted[1]), min(int(wanted[2] or size) + bool(wanted[2]), size)
            if start >= size:
                raise Refused(416, "Range not satisfiable")
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(end - start), **headers, **self.fault.get("headers", {})}
        self.start(status, headers)
        if self.command == "HEAD":
            return
        for block in _blocks(body, start, end):
            if fault == faults.FLIP and self.sent == 0:
                block = block[:-1] + bytes([block[-1] ^ 1])
            if fault == faults.DROP and self.sent + len(block) > self.fault.get("after", 0):
                self.wfile.write(block[: max(self.fault.get("after", 0) - self.sent, 0)])
                self.wfile.flush()
                raise Dropped
            self.wfile.write(block)
            self.sent += len(block)

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Send the status and the headers; a body that nobody read ends the connection."""
        if not self.body_read and int(self.headers.get("Content-Length") or 0):
            headers["Connection"] = "close"
        self.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def refuse(self, error: Refused) -> None:
        """Answer an error as the hub words it."""
        body = b"" if self.command == "HEAD" else json.dumps({"error": error.message}).encode()
        headers = {"X-Error-Message": error.message, "Content-Type": "application/json", "Content-Length": str(len(body))}
        if error.code:
            headers["X-Error-Code"] = error.code
        self.start(error.status, headers | self.fault.get("headers", {}))
        self.wfile.write(body)

    def fail_early(self, path: str) -> None:
        """The faults that strike before a request is served."""
        fault = self.fault.get("do")
        if fault == faults.STATUS:
            raise Refused(self.fault["status"], self.fault.get("message", "switched on by a test"), self.fault.get("code", ""))
        if fault == faults.RACE:
            name = re.search(r"([^/]+/[^/]+)/(resolve|tree|commit|preupload|revision|tag|refs)", path)[1]
            repo = self.server.store.repo(name)
            self.server.store.add(repo, {**repo.files("main"), "rival.txt": regular(b"somebody else's")})

    def control(self, what: str) -> None:
        """What a test asks beside the protocol."""
        self.fault = {}
        content = json.loads(self.body())
        if what == "faults":
            self.server.faults.replace(content)
        elif what == "settings":
            self.server.settings.update(content)
        elif what == "reset":
            self.server.faults.replace([])
            self.server.store.clear()
        seen = list(self.server.seen)
        if what in ("log", "reset"):
            self.server.seen.clear()
        self.reply(seen)

    def allow(self, repo: str, *, write: bool = False) -> None:
        """Refuse who may not: private- and gated- repositories want a token, and writing the writer's, in its own namespace."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        name = repo.rpartition("/")[2]
        if token not in ("", READER, WRITER):
            raise Refused(401, "Invalid credentials in Authorization header")
        if name.startswith("private-") and not token:
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        if name.startswith("gated-") and token != WRITER:
            raise Refused(403, f"Access to model {repo} is restricted.", "GatedRepo")
        if write and not token:
            raise Refused(401, "Invalid username or password.")
        if write and (token != WRITER or repo.startswith("other/")):
            raise Refused(403, f"You don't have the rights to write to {repo}")

    # ----------------------------------------------------------------------------------- repositories and commits

    @route("POST", "/api/repos/create")
    def create_repo(self):
        content = json.loads(self.body())
        name = f"{content['organization']}/{content['name']}"
        self.allow(name, write=True)
        self.server.store.create(name)
        self.reply({"url": f"{self.server.url}/{name}", "name": name})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        text = json.loads(self.body())["content"]
        good = not text.startswith("---") or "license:" in text.split("---")[1]
        errors = [] if good else [{"message": '"license" is required'}]
        self.reply({"errors": errors, "warnings": []}, 200 if good else 400)

    @route("GET", f"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?")
    def info(self, repo, revision=None):
        self.allow(repo)
        revision = revision if revision and revision != "None" else "main"
        there = self.server.store.repo(repo)
        files = there.files(revision)
        siblings = [{"rfilename": path} for path in sorted(files)]
        self.reply({"id": repo, "sha": there.commit_of(revision), "siblings": siblings, "private": False, "tags": []})

    @route("GET", f"/api/models/{REPO}/refs")
    def refs(self, repo):
        self.allow(repo)
        there = self.server.store.repo(repo)
        tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit} for name, commit in there.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": there.main}
        self.reply({"branches": [main], "converts": [], "tags": tags})

    @route("POST", f"/api/models/{REPO}/tag/(?P<revision>[^/]+)")
    def tag(self, repo, revision):
        name = json.loads(self.body())["tag"]
        self.allow(repo, write=True)
        there = self.server.store.repo(repo)
        if name in there.tags:
            raise Refused(409, f"Tag reference exists already: {name}")
        there.tags[name] = there.commit_of(revision)
        self.reply({})

    @route("GET", f"/api/models/{REPO}/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
    def tree(self, repo, revision, folder=""):
        self.allow(repo)
        there = self.server.store.repo(repo).files(revision)
        self.reply([self.described(path, entry) for path, entry in sorted(there.items()) if path.startswith(folder or "")])

    @route("POST", f"/api/models/{REPO}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, repo, revision):
        asked = parse_qs(self.body().decode())["paths"]
        self.allow(repo)
        there = self.server.store.repo(repo).files(revision)
        self.reply([self.described(path, there[path]) for path in asked if path in there])

    def described(self, path, entry) -> dict:
        """A file as listings name it."""
        about = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
        if entry.sha256:
            about["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}
            if xet := self.xet_hash(entry):
                about["xetHash"] = xet
        return about

    @route("POST", f"/api/models/{REPO}/preupload/(?P<revision>[^/]+)")
    def preupload(self, repo, revision):
        asked = json.loads(self.body())["files"]
        self.allow(repo, write=True)
        there, answer = self.server.store.repo(repo).files(revision), []
        for file in asked:
            large = LARGE.search(file["path"]) or file["size"] > LARGE_BYTES
            old = there.get(file["path"])
            oid = {"oid": old.sha256 or old.oid} if old else {}
            answer.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid})
        self.reply({"files": answer})

    @route("POST", f"/api/models/{REPO}/commit/(?P<revision>[^/]+)")
    def commit(self, repo, revision):
        lines = [json.loads(line) for line in self.body().splitlines()]
        self.allow(repo, write=True)
        commit = self.server.store.commit(repo, lines)
        self.reply({"success": True, "commitOid": commit, "commitUrl": f"{self.server.url}/{repo}/commit/{commit}"})

    # ----------------------------------------------------------------------------------- large objects

    @route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
    def batch(self, repo):
        asked = json.loads(self.body())["objects"]
        self.allow(repo, write=True)
        self.reply({"transfer": "basic", "objects": [{**one, **self.upload_actions(repo, one)} for one in asked]})

    def upload_actions(self, repo: str, one: dict) -> dict:
        """Where an object is to be uploaded; nothing for one that is there."""
        oid, part_bytes = one["oid"], self.server.settings["part_bytes"]
        if self.server.store.has(oid):
            return {}
        href = f"{self.server.url}/-/lfs/{oid}?sig={self.server.sign(oid)}"
        verify = {"href": f"{self.server.url}/{repo}.git/info/lfs/verify"}
        if one["size"] <= part_bytes:
            return {"actions": {"upload": {"href": href}, "verify": verify}}
        parts = {f"{i + 1:05d}": f"{href}&part={i + 1}" for i in range(-(-one["size"] // part_bytes))}
        return {"actions": {"upload": {"href": href, "header": {"chunk_size": str(part_bytes), **parts}}, "verify": verify}}

    @route("PUT", "/-/lfs/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid):
        self.signed(oid)
        number = self.query.get("part", "whole")
        store, part = self.server.store, self.server.store.part(oid, f"{number}-{threading.get_ident()}")
        digest = hashlib.md5()
        try:
            with open(part, "wb") as file:
                for block in self.blocks():
                    file.write(block)
                    digest.update(block)
            if number == "whole":
                store.finish(oid, [part])
            else:
                part.replace(store.part(oid, number))
        finally:
            part.unlink(missing_ok=True)
        self.send(b"", headers={"ETag": f'"{digest.hexdigest()}"'})

    @route("POST", "/-/lfs/(?P<oid>[0-9a-f]{64})")
    def complete(self, oid):
        self.signed(oid)
        self.server.store.finish(oid, [self.server.store.part(oid, one["partNumber"]) for one in json.loads(self.body())["parts"]])
        self.reply({})

    @route("POST", rf"/{REPO}\.git/info/lfs/verify")
    def verify(self, repo):
        oid = json.loads(self.body())["oid"]
        self.allow(repo, write=True)
        if not self.server.store.has(oid):
            raise Refused(404, "the object is missing")
        self.reply({})

    @route("GET", f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, repo, revision, path):
        self.allow(repo)
        there = self.server.store.repo(repo)
        commit, entry = there.commit_of(revision), there.entry(revision, path)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.oid}"'}
        if entry.data is not None:
            return self.send(entry.data, headers=headers)
        # Another host name than the hub's, as in life: the client must not take its token there.
        place = f"http://localhost:{self.server.server_port}/-/objects/{entry.sha256}?sig={self.server.sign(entry.sha256)}"
        headers |= {"Location": place, "X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size), "Content-Length": "0"}
        if xet := self.xet_hash(entry):
            route = f"{self.server.url}/api/models/{quote(repo)}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": xet, "Link": f'<{route}>; rel="xet-auth"'}
        self.start(302, headers | self.fault.get("headers", {}))

    @route("GET", "/-/objects/(?P<oid>[0-9a-f]{64})")
    def stored(self, oid):
        self.signed(oid)
        if self.headers.get("Authorization"):
            raise Refused(400, "a token was sent to the storage")
        self.send(self.server.store.path(oid), headers={"ETag": f'"{oid}"'})

    def signed(self, oid: str) -> None:
        """Refuse a storage URL that the hub did not make."""
        if not hmac.compare_digest(self.query.get("sig", ""), self.server.sign(oid)):
            raise Refused(403, "bad signature")

    # ----------------------------------------------------------------------------------- Xet

    def xet_hash(self, entry) -> str | None:
        """The Xet name of a large object, where the hub has Xet and stored it so."""
        return self.server.cas.hashes.get(entry.sha256) if self.server.settings["xet"] else None

    @route("GET", f"/api/models/{REPO}/xet-(?P<kind>read|write)-token/(?P<revision>[^/]+)")
    def xet_token(self, repo, kind, revision):
        self.allow(repo, write=kind == "write")
        if not self.server.settings["xet"]:
            raise Refused(404, "This repository is not enabled for Xet")
        url, token, until = f"{self.server.url}/-/cas", self.server.sign(f"xet-{kind}"), 4_000_000_000
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
        self.reply({"casUrl": url, "accessToken": token, "exp": until}, headers=headers)

    @route("POST", "/-/cas/v1/xorbs/default/(?P<name>[0-9a-f]{64})")
    def xorb(self, name):
        self.xet_allowed("write")
        self.reply({"was_inserted": self.server.cas.put_xorb(name, self.body())})

    @route("POST", "/-/cas/(v1/)?shards")
    def shard(self):
        self.xet_allowed("write")
        self.server.cas.put_shard(self.body(), self.server.store)
        self.reply({"result": 1})

    @route("GET", "/-/cas/v1/reconstructions/(?P<name>[0-9a-f]{64})")
    def reconstruction(self, name):
        self.xet_allowed("read")
        self.reply(self.server.cas.reconstruction(name, f"{self.server.url}/-/xorbs/", self.headers.get("Range"), self.server.sign))

    @route("GET", "/-/xorbs/(?P<oid>[0-9a-f]{64})")
    def xorb_bytes(self, oid):
        self.signed(oid)
        self.send(self.server.cas.xorb_path(oid))

    def xet_allowed(self, kind: str) -> None:
        """Refuse a request to the Xet storage without a token that the hub gave out; who may write may read."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (self.server.sign("xet-write"), self.server.sign(f"xet-{kind}")):
            raise Refused(401, "no Xet token")


class Dropped(Exception):
    """The connection is to end here."""


def _blocks(body: bytes | Path, start: int, end: int):
    if isinstance(body, bytes):
        if start < end:
            yield body[start:end]
        return
    with open(body, "rb") as file:
        file.seek(start)
        while start < end:
            block = file.read(min(BLOCK, end - start))
            start += len(block)
            yield block
