"""`mgzoo show`: options of a component, or parts and provenance of a model, a run or a generated file. No torch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing
from pathlib import Path

from mgzoo.cli import output
from mgzoo.discovery import discover
from mgzoo.errors import suggest
from mgzoo.generation.request import options_of, output_modalities
from mgzoo.spec import Component, MgzooError

LABELS = {
    "autoencoder": {"emits": "latent"},
    "encoder": {"takes": "input modality", "emits": "condition"},
    "objective": {"predicts": "prediction type"},
    "sampler": {"accepts": "prediction types"},
    "task": {"needs": "required parts", "gives": "modalities", "emits": "conditions", "makes": "outputs", "asks": "request options"},
    "data": {"gives": "modalities"},
}
"""Kind -> key of the contract as JSON has it -> label in the text."""
PROVENANCE = "provenance (part, code, source of the code, weights <- base weights)"


def show(arguments) -> int:
    """`mgzoo show ID|ARTIFACT|RUN|FILE`."""
    from mgzoo.hub.lookup import find_local
    from mgzoo.hub.references import expand_home
    from mgzoo.recipe.compose import compose
    from mgzoo.recipe.shipped import SUFFIXES, recipe_names

    thing, registry = arguments.thing, discover()
    path = expand_home(thing)
    if declared := registry.find(thing):
        said, text = component(declared), _component_text
    elif path.suffix in SUFFIXES or thing in recipe_names():
        recipe = compose(thing)
        said, text = recipe.tree, lambda _: recipe.to_yaml().rstrip()
    elif path.is_file():
        said, text = file(path), _file_text
    elif (artifact := find_local(thing)) is not None:
        said, text = {"artifact": thing, **model(artifact)}, _model_text
        if (path / "checkpoints").is_dir():
            said = {**run(path), **said}
    elif path.is_dir() and (path / "checkpoints").is_dir():
        said, text = run(path), _nested_text
    else:
        raise _unknown(thing)
    if arguments.json:
        output.emit_json(said)
    else:
        print(text(said))
    return 0


def component(declared: Component) -> dict:
    """A component as data: what it is, who declares it, its config's fields, and what its tiny() and default emit and take."""
    registry = discover()
    config = registry.config_class(declared.id)
    hints = typing.get_type_hints(config)
    return {
        "id": declared.id,
        "kind": declared.kind,
        "summary": declared.summary,
        "provider": str(registry.provider(declared.id)),
        "license": declared.license,
        "formerly": declared.formerly,
        "config": declared.config,
        "target": declared.target,
        "options": [
            {
                "name": field.name,
                "type": _type(hints[field.name]),
                "default": _default(field),
                "help": field.metadata.get("help", ""),
            }
            for field in dataclasses.fields(config)
        ],
        "contract": _contract(declared, config),
    }


def _contract(declared: Component, config: type) -> dict:
    """What the component emits and accepts, for its default config where it has one, else for its tiny()."""
    required = any(field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING for field in dataclasses.fields(config))
    made = config.tiny() if required else config()
    ask = {
        "autoencoder": lambda: {"emits": made.latent_spec()},
        "encoder": lambda: {"takes": made.input_modality(), "emits": made.condition_spec("NAME")},
        "backbone": lambda: {"patch": made.patch},
        "objective": lambda: {"predicts": made.prediction_type()},
        "sampler": lambda: {"accepts": made.prediction_types()},
        "task": lambda: {"needs": made.required_parts(), "gives": made.modalities(), "emits": made.conditions(), "makes": output_modalities(made), **_asks(made)},
        "data": lambda: {"gives": made.modalities()},
    }.get(declared.kind, dict)
    return {"of": "tiny()" if required else "the default config", **output.plain(ask())}


def _asks(config) -> dict:
    """What a request to a task may hold besides the usual, by flag."""
    told = {ask.flag: " | ".join(ask.choices or (ask.kind,)) + f" (--no-{ask.flag[2:]} for no)" * (ask.kind == "boolean") + f": {ask.help}" + " (required)" * ask.required for ask in options_of(config)}
    return {"asks": told} if told else {}


def _type(hint) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _default(field: dataclasses.Field):
    if field.default_factory is not dataclasses.MISSING:
        return output.plain(field.default_factory())
    return "???" if field.default is dataclasses.MISSING else output.plain(field.default)


def model(folder: Path) -> dict:
    """An artifact's manifest, the commit that its content is, and where its parts come from."""
    from mgzoo.artifact.manifest import commit_of, read_manifest
    from mgzoo.recipe.compose import compose
    from mgzoo.recipe.provenance import artifact_provenance

    said = {"commit": commit_of(folder), **output.plain(read_manifest(folder)), "provenance": artifact_provenance(folder)}
    with contextlib.suppress(MgzooError):  # a plugin that is not here does not say what its task asks for
        task = compose(folder / "recipe.yaml").parts.get("task")
        said |= _asks(task.config) if task else {}
    return said


def run(folder: Path) -> dict:
    """A run folder: its checkpoints, the last line of its metrics, and where its parts come from."""
    from mgzoo.recipe.provenance import run_provenance
    from mgzoo.train import checkpoint

    latest = checkpoint.latest(folder / "checkpoints")
    metrics = folder / "metrics.jsonl"
    return {
        "run": str(folder),
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").glob("step-*")),
        "latest": latest.name if latest else None,
        "last metrics": _last(metrics.read_text(errors="replace")) if metrics.is_file() else None,
        "provenance": run_provenance(folder),
    }


def _last(lines: str) -> dict | None:
    """The last whole line of JSON: a run that was killed may have left a part of one."""
    for line in reversed(lines.splitlines()):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return None


def file(path: Path) -> dict:
    """What is known of one file: the request, recipe and digests embedded by `mgzoo generate`, or a safetensors header."""
    if path.suffix == ".safetensors":
        return {"file": str(path), "tensors": _header(path)}
    from mgzoo import media
    from mgzoo.recipe.provenance import file_provenance

    holds, embedded = {key: value for key, value in media.probe(path).items() if value is not None}, media.meta(path)
    return {"file": str(path), **holds, "embedded": embedded, "provenance": file_provenance(embedded)}


def _header(path: Path) -> dict:
    from mgzoo.artifact.safetensors_header import read_header

    return {name: {"dtype": entry["dtype"], "shape": entry["shape"]} for name, entry in read_header(path).items()}


def _unknown(thing: str) -> MgzooError:
    from mgzoo.hub import addresses
    from mgzoo.hub.references import is_url, parse_reference

    if is_url(thing):
        named = parse_reference(thing).text  # raises where it is no model's
        return MgzooError(f"{named} is not on this machine", remedy=f"download it: mgzoo pull {named}")
    registry = discover()
    near = suggest(thing, registry.components)
    remedy = "did you mean " + " or ".join(near) + "?" if near else "name a component (`mgzoo list`), a model, a run folder or a file"
    return MgzooError(f"{addresses.shown(thing)!r} is not a component, model, run or file", remedy=remedy)


def _component_text(said: dict) -> str:
    head = [(key, said[key]) for key in ("id", "kind", "summary", "provider", "license", "config", "target")]
    head += [("formerly", ", ".join(said["formerly"]))] * bool(said["formerly"])
    labels = LABELS.get(said["kind"], {})
    contract = [(labels.get(key, key), _words(value)) for key, value in said["contract"].items() if key != "of"]
    options = [(one["name"], one["type"], _words(one["default"]), one["help"]) for one in said["options"]]
    blocks = [output.table(head, indent=0)]
    if contract:
        blocks.append(f"contract of {said['contract']['of']}\n" + output.table(contract))
    if options:
        blocks.append("options (name, type, default, meaning)\n" + output.table(options))
    return "\n\n".join(blocks)


def _model_text(said: dict) -> str:
    head = [
        (key, _words(said[key]))
        for key in ("run", "latest", "last metrics", "artifact", "commit", "description", "license", "mgzoo", "metrics")
        if said.get(key)
    ]
    parts = [
        (name, part["use"], "trained" if part["trained"] else "not trained", _source(part["weights"]))
        for name, part in said["parts"].items()
    ]
    contract = [("latent", _words(said["contract"]["latent"]))]
    contract += [(f"condition {one['name']}", _words(one)) for one in said["contract"]["conditions"]]
    requires = [(one["distribution"], one["version"]) for one in said["requires"]]
    files = [(name, output.size(one["size"]), one["blake3"][:12]) for name, one in said["files"].items()]
    blocks = [output.table(head, indent=0)]
    told = list(said.get("asks", {}).items())
    for title, rows in (("parts", parts), ("request options (mgzoo generate MODEL --NAME VALUE)", told), (PROVENANCE, _came_from(said)), ("contract", contract), ("requires", requires), ("files", files)):
        if rows:
            blocks.append(f"{title}\n{output.table(rows)}")
    return "\n\n".join(blocks)


def _came_from(said: dict) -> list[tuple[str, ...]]:
    """Rows of what is known of each part: its code, then the artifacts that its weights lie in and came from, nearest first."""
    rows = []
    for name, one in said["provenance"].items():
        code = (name, f"{one['distribution'] or '?'} {one['version'] or '?'}", one["source"] or "?")
        places = [f"this artifact at {one['commit']} ({_digest(one)})"] if one["commit"] and not one["repo"] else []
        places += [f"{start['repo'] or '?'}@{start['commit']} ({_digest(start)})" for start in one["from"] or ()]
        joint = ", adapter on " if one["adapter"] else " <- "
        rows.append((*code, joint.join(places[:2]) + "".join(f" <- {place}" for place in places[2:]) or "no weights"))
    return [tuple(_printable(str(cell)) for cell in row) for row in rows]


def _digest(place: dict) -> str:
    return f"blake3 {str(place['digest'])[:12]}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _source(weights) -> str:
    if isinstance(weights, dict):
        return f"{weights['repo']}@{weights['commit']}"
    return f"{len(weights)} file{'s' if len(weights) != 1 else ''}" if weights else "no weights"


def _file_text(said: dict) -> str:
    embedded = said.get("embedded", {})
    recipe = embedded.get("recipe")
    embedded = {key: value for key, value in embedded.items() if key != "parts"}
    shown = {key: value for key, value in said.items() if key != "embedded"} | {k: v for k, v in embedded.items() if k != "recipe"}
    return _nested_text(shown | ({"recipe": f"{recipe.get('description') or 'embedded'} (--json shows it)"} if recipe else {}))


def _nested_text(said: dict) -> str:
    head = output.table(((key, _words(value)) for key, value in said.items() if key != "provenance"), indent=0)
    return head + (f"\n\n{PROVENANCE}\n{output.table(_came_from(said))}" if said.get("provenance") else "")


def _words(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
