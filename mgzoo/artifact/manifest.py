"""The manifest `mgzoo.json`, the first file read of an artifact. Never imports torch.

Parsing is strict: unknown keys, unsafe names and oversized files are problems, and all problems are reported together.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.strict_json import JsonChecker, parse_strict_json, shorten
from mgzoo.errors import ArtifactError, MgzooError
from mgzoo.spec import CONTROL_CHARACTERS, ConditionSpec, Contract, LatentSpec
from mgzoo.storage import digest_file

MANIFEST_NAME = "mgzoo.json"
SIGNATURE_NAME = "mgzoo.sig"
"""File of the signature of mgzoo.json, and therefore not listed in it."""
MANIFEST_SCHEMA = 1
MAX_MANIFEST_BYTES = 1_000_000
MAX_RECIPE_BYTES = 200_000
"""Maximum size of a recipe file: a hundred times a long recipe, and parsed within seconds."""
MAX_FILES = 10_000
COMMIT_LENGTH = 12
ADAPTER_FILE = "adapter_model.safetensors"
CONTRACT_KEYS = {"concat_channels": "feeds"}
"""Field of `Contract` -> its key in mgzoo.json, where that is another: stored files keep their keys."""
BF16_FROM = 1_000_000
"""Parts of at least this many parameters are stored in bfloat16 unless `save` is told otherwise (our choice)."""

PART_NAME = re.compile(r"autoencoder|backbone|objective|sampler|task|encoders\.[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99})?")
_TOP_FILES = frozenset({"README.md", "LICENSE", MANIFEST_NAME, "recipe.yaml", "recipe.lock.json", "evaluation.json", "curve.png", "sample.png", "sample.mp4"})
_PROBE_FILES = frozenset({"inputs.safetensors", "outputs.safetensors"})
_PART_FILE = re.compile(r"(adapter_)?config\.json|(adapter_)?model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json")
_COMPONENT = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{12}|[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class WeightsReference:
    """Weights in another artifact: ``part`` of ``repo`` at ``commit``, whose mgzoo.json has the blake3 ``digest``."""

    repo: str
    commit: str
    part: str
    digest: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}"


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """One part: its component, whether this artifact's training changed it, and where its weights are.

    weights: the files in this artifact, a `Reference`, or () for a part without weights. base: the initial weights of the training,
    None for random initialisation or a local folder; required for adapters. widened: tensors missing in the base, or wider
    than there.
    """

    use: str
    trained: bool = False
    weights: tuple[str, ...] | WeightsReference = ()
    base: WeightsReference | None = None
    widened: tuple[str, ...] = ()

    @property
    def is_adapter(self) -> bool:
        """Whether the files are an adapter for the base."""
        return isinstance(self.weights, tuple) and any(name.endswith(f"/{ADAPTER_FILE}") for name in self.weights)

    @property
    def requires(self) -> WeightsReference | None:
        """The artifact required to load the part, or None."""
        return self.weights if isinstance(self.weights, WeightsReference) else self.base if self.is_adapter else None


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size in bytes and blake3 hex digest of one file."""

    size: int
    blake3: str


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A distribution that supplied a part, the version that did, and where that was installed from (see `mgzoo.recipe.provenance`)."""

    distribution: str
    version: str
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of mgzoo.json.

    mgzoo: version of the core that wrote it. files: every file but mgzoo.json itself, by path relative to the artifact.
    metrics: training figures for people and tables, name -> number or short text.
    """

    schema: int = MANIFEST_SCHEMA
    mgzoo: str
    description: str = ""
    license: str
    parts: Mapping[str, PartEntry]
    contract: Contract = field(default_factory=Contract)
    requires: tuple[Requirement, ...] = ()
    metrics: Mapping[str, float | int | str] = field(default_factory=dict)
    files: Mapping[str, FileEntry]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> str:
        """The text of mgzoo.json: sorted keys, so that equal content gives an equal commit."""
        content = dataclasses.asdict(self)
        content["contract"] = {CONTRACT_KEYS.get(name, name): value for name, value in content["contract"].items()}
        parts = content["parts"].values()
        for entry, optional in [*((part, name) for part in parts for name in ("base", "widened")), *((one, "source") for one in content["requires"])]:
            if not entry[optional]:
                del entry[optional]
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def commit_of(folder: str | Path) -> str:
    """The commit of an artifact: the first 12 hex digits of the blake3 digest of its mgzoo.json."""
    return digest_file(Path(folder) / MANIFEST_NAME)[:COMMIT_LENGTH]


def is_allowed_file(name: str) -> bool:
    """Whether an artifact may hold a file of this relative name: data in known places, never code or pickles."""
    if not _FILE_NAME.fullmatch(name) or ".." in name:
        return False
    folder, _, file = name.rpartition("/")
    if not folder:
        return file in _TOP_FILES
    if folder == "probe":
        return file in _PROBE_FILES
    return bool(PART_NAME.fullmatch(folder) and _PART_FILE.fullmatch(file))


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check `folder`/mgzoo.json. Raises `ArtifactError` with every problem, `MgzooError` for a missing manifest."""
    path = Path(folder) / MANIFEST_NAME
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise MgzooError(f"{folder} is not an artifact: it has no {MANIFEST_NAME}", remedy="give the folder of a saved model") from None
    return _parsed_manifest(data, str(path))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write mgzoo.json, with the digests of all files in the folder."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    entries = {
        name: FileEntry(size=(folder / name).stat().st_size, blake3=digest_file(folder / name))
        for name in names
        if name not in (MANIFEST_NAME, SIGNATURE_NAME)
    }
    (folder / SIGNATURE_NAME).unlink(missing_ok=True)  # it was of another mgzoo.json
    text = dataclasses.replace(manifest, files=entries).to_json().encode()
    parse_manifest(text, MANIFEST_NAME)
    storage.write_file(folder / MANIFEST_NAME, text)


@functools.lru_cache(maxsize=32)
def _parsed_manifest(data: bytes, source: str) -> Manifest:
    """`parse` of the same bytes, once: a recipe's checks ask for the manifest of each of its weights many times."""
    return parse_manifest(data, source)


def read_part_config(folder: str | Path, part: str) -> dict:
    """The config (fields of the config dataclass) of one part of the artifact in `folder`."""
    part_entry(read_manifest(folder), part, str(folder))
    path = Path(folder) / part / "config.json"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError(f"larger than {MAX_MANIFEST_BYTES:,} bytes")
        content = parse_strict_json(data)
        if not isinstance(content, dict):
            raise ValueError("it is not an object")
    except FileNotFoundError:
        raise MgzooError(f"{path} is missing", remedy="pull or save the artifact again") from None
    except (ValueError, RecursionError) as error:
        raise MgzooError(f"{path} cannot be read: {error}", remedy="pull or save the artifact again") from None
    return content


def part_entry(manifest: Manifest, part: str, origin: str) -> PartEntry:
    """The entry of `part`. Raises `MgzooError` that lists the parts there are."""
    if part not in manifest.parts:
        raise MgzooError(f"the artifact has no part {part!r}", remedy=f"it has {', '.join(sorted(manifest.parts))}", origin=origin)
    return manifest.parts[part]


def parse_manifest(data: bytes, source: str = MANIFEST_NAME) -> Manifest:
    """Strictly turn the bytes of an mgzoo.json into a `Manifest`; raises `ArtifactError` with every problem."""
    check = _Checker(source)
    manifest = None
    if len(data) > MAX_MANIFEST_BYTES:
        check.problem("", f"larger than {MAX_MANIFEST_BYTES:,} bytes", "valid manifests are small; do not use this artifact")
    else:
        try:
            content = parse_strict_json(data)
        except (ValueError, RecursionError) as error:
            check.problem("", f"not JSON: {error}", "pull or save the artifact again")
        else:
            manifest = check.manifest(content)
    if check.problems:
        raise ArtifactError(check.problems)
    return manifest


class _Checker(JsonChecker):
    """Walks the parsed JSON of a manifest and collects problems."""

    def manifest(self, content) -> Manifest:
        content = self.mapping(content, "", tuple(f.name for f in dataclasses.fields(Manifest)))
        schema = self.integer(content.get("schema"), "schema", 1)
        if schema > MANIFEST_SCHEMA:
            self.problem("schema", f"is {schema}, this mgzoo reads {MANIFEST_SCHEMA}", "pip install -U mgzoo", kind="schema")
        files = self.files(content.get("files", {}))
        return Manifest(
            schema=schema,
            mgzoo=self.text(content.get("mgzoo"), "mgzoo", limit=64),
            description=self.text(content.get("description"), "description"),
            license=self.text(content.get("license"), "license", limit=100),
            parts=self.parts(content.get("parts", {}), files),
            contract=self.contract(content.get("contract", {"latent": None, "conditions": [], "feeds": 0})),
            requires=self.requires(content.get("requires", [])),
            metrics=self.metrics(content.get("metrics", {})),
            files=files,
        )

    def files(self, value) -> dict[str, FileEntry]:
        entries = {}
        value = self.mapping(value, "files")
        if len(value) > MAX_FILES:
            self.problem("files", f"more than {MAX_FILES:,} files")
            return {}
        for name, entry in value.items():
            key = f"files.{shorten(name)}"
            if not is_allowed_file(name) or name == MANIFEST_NAME:
                self.problem(key, "not an allowed file name in an artifact", "do not use this artifact", kind="unsafe-name")
                continue
            entry = self.mapping(entry, key, ("size", "blake3"))
            size = self.integer(entry.get("size"), f"{key}.size", 0)
            digest = self.text(entry.get("blake3"), f"{key}.blake3", _DIGEST, hint="a blake3 digest")
            entries[name] = FileEntry(size=size, blake3=digest)
        return entries

    def parts(self, value, files) -> dict[str, PartEntry]:
        entries = {}
        for name, entry in self.mapping(value, "parts").items():
            key = f"parts.{shorten(name)}"
            if not PART_NAME.fullmatch(name):
                self.problem(key, "not the name of a part", "autoencoder, encoders.NAME, backbone, objective, sampler or task")
                continue
            entry = self.mapping(entry, key, ("use", "trained", "weights"), ("base", "widened"))
            trained = entry.get("trained", False)
            if not isinstance(trained, bool):
                self.problem(f"{key}.trained", "must be true or false")
            entries[name] = PartEntry(
                use=self.text(entry.get("use"), f"{key}.use", _COMPONENT, 200, "a component id"),
                trained=trained is True,
                weights=self.weights(entry.get("weights", []), f"{key}.weights", name, files),
                base=self.reference(entry["base"], f"{key}.base") if "base" in entry else None,
                widened=self.names(entry.get("widened", []), f"{key}.widened"),
            )
            if entries[name].is_adapter and (entries[name].base is None or len(entries[name].weights) > 1):
                self.problem(key, f"an adapter is one file, {name}/{ADAPTER_FILE}, and its base")
        return entries

    def names(self, value, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_FILES:
            self.problem(key, "must be a list of names of tensors")
            return ()
        return tuple(self.text(name, key, limit=500) for name in value)

    def weights(self, value, key: str, part: str, files) -> tuple[str, ...] | WeightsReference:
        if isinstance(value, dict):
            return self.reference(value, key)
        if not isinstance(value, list):
            self.problem(key, "must be a list of files or a reference")
            return ()
        for name in value:
            if not isinstance(name, str) or name not in files or not name.startswith(part + "/"):
                self.problem(key, f"{shorten(str(name))!r} is not a listed file under {part}/")
        return tuple(name for name in value if isinstance(name, str))

    def reference(self, value, key: str) -> WeightsReference:
        value = self.mapping(value, key, ("repo", "commit", "part", "digest"))
        return WeightsReference(
            repo=self.text(value.get("repo"), f"{key}.repo", _REPO, hint="HUB/NAME"),
            commit=self.text(value.get("commit"), f"{key}.commit", _COMMIT, hint="a commit"),
            part=self.text(value.get("part"), f"{key}.part", PART_NAME, hint="the name of a part"),
            digest=self.text(value.get("digest"), f"{key}.digest", _DIGEST, hint="a blake3 digest"),
        )

    def contract(self, value) -> Contract:
        value = self.mapping(value, "contract", ("latent", "conditions", "feeds"))
        latent = None
        if value.get("latent") is not None:
            key = "contract.latent"
            entry = self.mapping(value["latent"], key, ("space", "channels", "stride", "layout"))
            stride = entry.get("stride")
            if not isinstance(stride, list) or not 1 <= len(stride) <= 4:
                self.problem(f"{key}.stride", "must be a list of one to four integers")
                stride = [1]
            latent = LatentSpec(
                space=self.text(entry.get("space"), f"{key}.space", limit=200),
                channels=self.integer(entry.get("channels"), f"{key}.channels", 1, 1_000_000),
                stride=tuple(self.integer(step, f"{key}.stride", 1, 1_000_000) for step in stride),
                layout=self.text(entry.get("layout"), f"{key}.layout", re.compile("video|sound"), hint="video or sound"),
            )
        conditions = value.get("conditions", [])
        if not isinstance(conditions, list) or len(conditions) > 100:
            self.problem("contract.conditions", "must be a list")
            conditions = []
        return Contract(
            latent=latent,
            conditions=tuple(self.condition(entry, f"contract.conditions.{i}") for i, entry in enumerate(conditions)),
            concat_channels=self.integer(value.get("feeds", 0), "contract.feeds", 0, 1_000_000),
        )

    def condition(self, value, key: str) -> ConditionSpec:
        value = self.mapping(value, key, ("name", "dim", "kind", "max_len", "optional"))
        length = value.get("max_len")
        if not isinstance(value.get("optional", True), bool):
            self.problem(f"{key}.optional", "must be true or false")
        return ConditionSpec(
            name=self.text(value.get("name"), f"{key}.name", limit=100),
            dim=self.integer(value.get("dim"), f"{key}.dim", 1, 10_000_000),
            kind=self.text(value.get("kind"), f"{key}.kind", re.compile("tokens|vector|frames"), hint="tokens, vector or frames"),
            max_len=None if length is None else self.integer(length, f"{key}.max_len", 1, 100_000_000),
            optional=value.get("optional", True) is True,
        )

    def requires(self, value) -> tuple[Requirement, ...]:
        if not isinstance(value, list) or len(value) > 200:
            self.problem("requires", "must be a list")
            return ()
        entries = []
        for i, entry in enumerate(value):
            entry = self.mapping(entry, f"requires.{i}", ("distribution", "version"), ("source",))
            entries.append(
                Requirement(
                    distribution=self.text(
                        entry.get("distribution"), f"requires.{i}.distribution", _DISTRIBUTION, hint="the name of a distribution"
                    ),
                    version=self.text(entry.get("version"), f"requires.{i}.version", re.compile(r"[A-Za-z0-9.+!_-]{1,64}")),
                    source=self.text(entry.get("source", ""), f"requires.{i}.source", re.compile(r"[ -~]*"), 300, "one line of text"),
                )
            )
        return tuple(entries)

    def metrics(self, value) -> dict:
        value = self.mapping(value, "metrics")
        for name, figure in value.items():
            number = isinstance(figure, (int, float)) and not isinstance(figure, bool) and math.isfinite(figure)
            if CONTROL_CHARACTERS.search(name) or not (number or (isinstance(figure, str) and len(figure) <= 1000 and not CONTROL_CHARACTERS.search(figure))):
                self.problem(f"metrics.{shorten(name)}", "must be a number or a short text")
        return value
