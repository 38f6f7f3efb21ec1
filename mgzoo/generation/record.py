"""What made a generated file: written into it by `mgzoo generate`, read back, looked up, and held against what is here.

A file comes from anywhere: what it says is checked like everything else that a stranger wrote, and nothing is fetched because
a file says so. Never imports torch.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mgzoo import __version__, media, storage
from mgzoo.artifact.integrity import check_files
from mgzoo.artifact.manifest import COMMIT_LENGTH, MANIFEST_NAME, commit_of, read_manifest
from mgzoo.artifact.strict_json import problem
from mgzoo.discovery import discover
from mgzoo.distributions import known_distributions
from mgzoo.hub.fetch import fetch
from mgzoo.hub.lookup import find_local
from mgzoo.hub.references import parse_reference
from mgzoo.recipe.artifact_check import check_contract
from mgzoo.recipe.provenance import artifact_provenance
from mgzoo.spec import SEED_LIMIT, MgzooError, Problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_COMMIT, _DIGEST, _REVISION = re.compile(r"[0-9a-f]{12}"), re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_FILE = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_DISTRIBUTION, _VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,98}"), re.compile(r"[A-Za-z0-9.+!_-]{1,64}")
_TASK = {"id": re.compile(r"\w+(\.\w+){2}"), "distribution": _DISTRIBUTION, "version": _VERSION}
_ASKED = {
    "prompt": lambda value: isinstance(value, str) and 0 < len(value) <= 100_000,
    "task": lambda value: isinstance(value, str) and re.fullmatch(r"\w+(\.\w+){2}", value),
    "seed": lambda value: _whole(value) and 0 <= value < SEED_LIMIT,
    "fps": lambda value: _number(value) and value > 0,
    "guidance": lambda value: _number(value),
    **dict.fromkeys(("frames", "height", "width", "steps"), lambda value: _whole(value) and value >= 1),
    "on_step": lambda value: False,  # a function: no file may say it
}
_NAMED = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True, kw_only=True)
class GenerationRecord:
    """What a file says made it.

    model: a name on a hub, or of a folder. commit, manifest: the first 12 and all hex digits of the blake3 digest of its mgzoo.json.
    revision: of a network hub. plugins: distribution -> version of those that supplied parts. request: what was asked for;
    where a key is absent, the model's own value held. machine: what the last bits depend on. task: the task head's component ``id``, its
    ``distribution`` and ``version``; {} in files of before.
    """

    model: str
    commit: str
    manifest: str
    request: Mapping[str, Any]
    revision: str | None = None
    mgzoo: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.model}@{self.revision or self.commit}"


def name_and_revision(ref: str, folder: Path) -> tuple[str, str | None]:
    """How to call the model in ``folder``, which a person called ``ref``, and its revision on a network hub; never a path."""
    parsed, place = parse_reference(ref), folder.resolve()
    own = place.parent if place.name in ("artifact", commit_of(folder)) else place
    return parsed.repo or parsed.name or own.name, place.name if parsed.is_endpoint else None


@dataclass(frozen=True, kw_only=True)
class LoadedFrom:
    """The artifact that a model was loaded from: what a record says of the model.

    name, revision: how to call it, and its revision on a network hub; never a path. manifest: blake3 digest of its mgzoo.json.
    parts: `mgzoo.recipe.provenance.artifact_provenance`.
    """

    name: str
    revision: str | None
    manifest: str
    parts: Mapping[str, Any]

    def called(self, name: str, revision: str | None) -> LoadedFrom:
        """The same artifact by another name: the one in the file that is repeated."""
        return replace(self, name=name, revision=revision)

    @classmethod
    def of(cls, ref: str | Path, folder: Path) -> LoadedFrom:
        """What to note of the artifact in ``folder``, which a person called ``ref``."""
        name, revision = name_and_revision(ref, folder)
        return cls(name=name, revision=revision, manifest=storage.digest_file(folder / MANIFEST_NAME), parts=artifact_provenance(folder, deep=False))


def make_record(artifact: LoadedFrom, recipe, task_id: str, request: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What to write into a file that the model loaded from ``artifact`` made with the task head ``task_id``. Equal arguments give equal text."""
    said = {"model": artifact.name, "commit": artifact.manifest[:COMMIT_LENGTH], "manifest": artifact.manifest}
    said |= {"revision": artifact.revision} if artifact.revision else {}
    own = recipe.parts.get("task")
    head = own.provider if own is not None and own.component.id == task_id else discover().provider(task_id)
    providers = [head, *(part.provider for part in recipe.parts.values())]
    plugins = dict(sorted((provider.distribution, provider.version) for provider in providers))
    task = {"id": task_id, "distribution": head.distribution, "version": head.version}
    return {**said, "mgzoo": __version__, "plugins": plugins, "task": task, "machine": dict(machine), "request": dict(request), "recipe": recipe.tree,
            "parts": dict(artifact.parts)}


def read_record(path: str | Path) -> GenerationRecord:
    """What a file says made it. Raises `MgzooError` where it says nothing, or what `mgzoo generate` would not have written."""
    said = media.meta(path)
    if not {"model", "manifest", "request"} <= said.keys():
        raise MgzooError("the file does not say what made it", remedy="name one that `mgzoo generate` wrote, as it wrote it", origin=str(path))
    request, plugins, machine = (said.get(key) for key in ("request", "plugins", "machine"))
    wrong = [key for key, kind in (("request", request), ("plugins", plugins), ("machine", machine)) if not isinstance(kind, dict)]
    texts = {"model": _NAME, "commit": _COMMIT, "manifest": _DIGEST, "mgzoo": _VERSION} | ({"revision": _REVISION} if "revision" in said else {})
    wrong += [key for key, pattern in texts.items() if not _fits(said.get(key), pattern)]
    if not wrong:
        wrong += [f"request.{key}" for key, value in request.items() if not _ASKED.get(key, _own)(value) or not _NAMED.fullmatch(key)]
        wrong += [f"plugins.{key}" for key, value in plugins.items() if not (_fits(key, _DISTRIBUTION) and _fits(value, _VERSION))]
        wrong += ["commit"] * (not said["manifest"].startswith(said["commit"]))
    task = said.get("task", {})
    if not isinstance(task, dict) or task and not (task.keys() == _TASK.keys() and all(_fits(task[key], pattern) for key, pattern in _TASK.items())):
        wrong.append("task")
    if wrong:
        what = f"what the file says of its making cannot be read: {', '.join(map(ascii, wrong))[:200]}"
        raise MgzooError(what, remedy="do not use what it says", origin=str(path))
    return GenerationRecord(**{key: said[key] for key in (*texts, "request", "plugins", "machine")}, task=task)


def find_recorded_model(made: GenerationRecord, given: str | None = None, origin: str = "") -> Path:
    """The folder of the very model: ``given`` (a reference), or wherever on this machine a model of that name is.

    Raises `MgzooError` where it is not here, or ``given`` is another; nothing is fetched.
    """
    if given is not None:
        folder = fetch(given, before_weights=check_contract)
        if _is(folder, made):
            return folder
        what = f"{given} is at commit {commit_of(folder)}, the file was made with {made.model} at {made.commit}"
        raise MgzooError(what, remedy=f"name the model at that commit, e.g. {made.model}@{made.commit}", origin=origin)
    name = made.model.rpartition("/")[2]
    places: list[str | Path] = [f"{made.model}@{made.revision or made.commit}"] if "/" in made.model else []
    places += [Path(name), Path("runs", name), storage.cache_home() / "hub" / name / made.commit, f"registry/{name}@{made.commit}"]
    for place in places:
        folder = find_local(place)
        if folder is not None and _is(folder, made):
            return folder
    remedy = f"name its folder: mgzoo generate FOLDER --from {Path(origin).name or 'FILE'}"
    if made.revision:
        remedy = f"if you trust it: mgzoo pull {made}"
    raise MgzooError(f"it was made with {made.model} at commit {made.commit}, which is not on this machine", remedy=remedy, origin=origin)


def check_generated_file(path: str | Path) -> tuple[GenerationRecord, list[Problem]]:
    """What a file says made it, and everything that does not hold: its bytes, the model, the plugins' versions."""
    made, problems = read_record(path), []
    whole = media.intact(path)
    if not whole:
        what = "the file carries no digest" if whole is None else "the file is not as it was written: its digest is another"
        problems.append(problem("content", what, "get it from where it was generated, or generate it again", path))
    try:
        folder = find_recorded_model(made, origin=str(path))
        problems += check_files(folder, read_manifest(folder))
    except MgzooError as error:
        problems.append(problem("model", error.what, error.remedy, path, "model"))
    return made, problems + task_problems(made, path) + version_drift(made, path)


def is_recordable(key: str, value: Any) -> bool:
    """Whether `read_record` would take this of a request: a text, a number, or an input file's name and digest."""
    return _NAMED.fullmatch(key) is not None and bool(_ASKED.get(key, _own)(value))


def machine_differences(made: GenerationRecord, machine: Mapping[str, Any]) -> str | None:
    """In one line, what the last bits depend on and is otherwise here than where the file was made; None where nothing is."""
    differs = [f"{key} {made.machine.get(key)!r}, here {machine[key]!r}" for key in machine if made.machine.get(key) != machine[key]]
    if not differs:
        return None
    elsewhere = made.machine.get("processor") != machine["processor"]
    return f"made {'on another kind of processor ' * elsewhere}with {'; '.join(differs)}: the bits may differ"


def task_problems(made: GenerationRecord, origin: str | Path) -> list[Problem]:
    """A task head that is not here, or that another distribution declares here than the one that made the file; nothing for files of before."""
    if not made.task:
        return []
    registry, distribution = discover(), made.task["distribution"]
    component_id = made.task["id"]
    if registry.find(component_id) is None:
        what, remedy = registry.unknown(component_id, "task", {distribution: made.task["version"]})
        return [problem("plugin", what, remedy, origin, "task.id")]
    here = registry.provider(component_id)
    if here.distribution == distribution:
        return []  # of another version: `version_drift`
    what = f"made with the task {component_id} of {distribution} {made.task['version']}, which is of {here} here"
    return [problem("plugin", what, f"find out which of the two you trust, and uninstall {here.distribution} if it is the other", origin, "task.distribution")]


def version_drift(made: GenerationRecord, origin: str | Path) -> list[Problem]:
    """Plugins, and the core, that are not here in the versions that made the file."""
    problems = []
    for name, version in {"mgzoo": made.mgzoo, **made.plugins}.items():
        here = __version__ if name == "mgzoo" else _version(name)
        if here != version:
            what = f"made with {name} {version}, {f'installed is {here}' if here else 'which is not installed'}"
            # A file may name any distribution: only of one that is here already, or that is on our list, is its word a reason to install.
            known = here or name in known_distributions().values()
            remedy = f"to repeat it: pip install {name}=={version}" if known else "find out what that is and whether you trust it"
            problems.append(problem("plugin", what, remedy, origin, f"plugins.{name}"))
    return problems


def _is(folder: Path, made: GenerationRecord) -> bool:
    return storage.digest_file(folder / MANIFEST_NAME) == made.manifest


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(value, pattern: re.Pattern) -> bool:
    return isinstance(value, str) and ".." not in value and pattern.fullmatch(value) is not None


def _own(value) -> bool:
    """Whether a value may be what a task asks for: a text, a number, yes or no, or an input file's name and digest."""
    if isinstance(value, dict):
        return value.keys() == {"file", "blake3"} and _fits(value["blake3"], _DIGEST) and _fits(value["file"], _FILE)
    return isinstance(value, bool) or _number(value) or isinstance(value, str) and len(value) <= 100_000


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
