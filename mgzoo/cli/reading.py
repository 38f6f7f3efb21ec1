"""The verbs that only read: none of them imports torch, except `check --meta`."""

from __future__ import annotations

import re
from pathlib import Path

from mgzoo.cli import output
from mgzoo.cli.plugins import commands
from mgzoo.spec import KINDS, MgzooError, Problem, RecipeError


def list_(arguments) -> int:
    """`mgzoo list [KIND]`."""
    from mgzoo.discovery import discover

    registry, wanted = discover(), arguments.kind
    verbs, left_out = commands(registry)
    sections: dict[str, list[dict]] = {}
    for kind in KINDS:
        if wanted in (None, kind):
            sections[kind] = [
                {
                    "id": component.id,
                    "kind": component.kind,
                    "summary": component.summary,
                    "license": component.license,
                    "provider": str(registry.providers[component.namespace]),
                }
                for component in registry.kind(kind)
            ]
    if wanted in (None, "recipe"):
        from mgzoo.recipe.compose import recipe_names

        sections["recipe"] = [{"id": name, "summary": _description(path), "file": str(path)} for name, path in sorted(recipe_names().items())]
    if wanted in (None, "verb"):
        sections["verb"] = [{"id": name, "summary": help, "run": target} for name, help, target in verbs]
    if wanted == "plugin":
        sections["plugin"] = [{"id": name, "summary": str(provider)} for name, provider in sorted(registry.providers.items())]
    set_aside = [str(one) for one in (*registry.set_aside, *left_out)] if wanted in (None, "plugin") else []
    if arguments.json:
        output.emit_json({**sections, "set_aside": set_aside})
    elif arguments.quiet:
        print("\n".join(row["id"] for rows in sections.values() for row in rows))
    else:
        print(_listing(sections, set_aside))
    return 0


def _description(path: Path) -> str:
    """The recipe's one-line description, read as text: a listing need not parse YAML."""
    found = re.search(r"^description:[ \t]*(\S.*)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found[1].strip("\"' ") if found else ""


def _listing(sections: dict[str, list[dict]], set_aside: list[str]) -> str:
    blocks = [f"{kind}\n{output.table((row['id'], row['summary']) for row in rows)}" for kind, rows in sections.items() if rows]
    if set_aside:
        blocks.append("set aside\n" + "\n".join(f"  {line}" for line in set_aside))
    return "\n\n".join(blocks) or "nothing is installed: pip install a plugin, e.g. mgzoo-video"


def check(arguments) -> int:
    """`mgzoo check RECIPE [a.b=value …] [--meta]`."""
    from mgzoo.recipe.compose import compose

    try:
        recipe = compose(arguments.recipe, arguments.overrides)
        found = drift(arguments.recipe, recipe)
        found += _meta(recipe) if arguments.meta else []
    except RecipeError as error:
        found = list(error.problems)
    return _verdict(arguments, arguments.recipe, found)


def _meta(recipe) -> list[Problem]:
    from mgzoo.model.checks import meta_problems

    return list(meta_problems(recipe))


def _verdict(arguments, name: str, found: list[Problem]) -> int:
    """Print ``NAME: OK`` or every problem; the exit code."""
    if arguments.json:
        output.emit_json({"ok": not found, "problems": [problem.to_dict() for problem in found]})
    elif found:
        print(output.printable("\n".join(map(str, found))))
        output.note(f"{len(found)} problem{'s' if len(found) != 1 else ''}")
    else:
        print(f"{name}: OK")
    return 1 if found else 0


def explain(arguments) -> int:
    """`mgzoo explain RECIPE KEY [a.b=value …]`."""
    from mgzoo.recipe.compose import compose
    from mgzoo.recipe.recipe import explain as explained

    recipe, key = compose(arguments.recipe, arguments.overrides), arguments.key
    text = explained(recipe, key)
    if arguments.json:
        under = {name: said for name, said in recipe.origins.items() if name == key or name.startswith(f"{key}.")}
        output.emit_json({name: {**_setting(said[-1]), "overrides": [_setting(old) for old in said[-2::-1]]} for name, said in under.items()})
    else:
        print(text)
    return 0


def _setting(setting) -> dict:
    return {"value": setting.value, "source": setting.origin.source, "line": setting.origin.line}


def plan(arguments) -> int:
    """`mgzoo plan RECIPE [a.b=value …] [--gpus N]`."""
    from mgzoo import precision
    from mgzoo.plan import plan as planned
    from mgzoo.recipe.compose import compose

    device = "cuda" if arguments.gpus or precision.has_gpu() else "cpu"
    answer = planned(compose(arguments.recipe, arguments.overrides), gpus=arguments.gpus or 1, device=device)
    if arguments.json:
        output.emit_json(answer.to_dict())
    else:
        print(answer.render().rstrip())
    return 0


def lock(arguments) -> int:
    """`mgzoo lock RECIPE [a.b=value …] [--out FILE]`: the file written goes to stdout."""
    from mgzoo.recipe.compose import compose
    from mgzoo.recipe.lock import lock_recipe, write_lock

    pinned = lock_recipe(compose(arguments.recipe, arguments.overrides))
    path = write_lock(arguments.out or lock_path(arguments.recipe), pinned)
    if arguments.json:
        output.emit_json({"path": str(path), "lock": pinned})
    else:
        print(path)
    return 0


def lock_path(source: str) -> Path:
    """Where a recipe's lock lies: beside its file; in the working folder for a shipped recipe."""
    path = Path(source)
    return path.with_suffix(".lock.json") if path.suffix in (".yaml", ".yml") else Path(f"{path.name}.lock.json")


def drift(source: str, recipe) -> list[Problem]:
    """How a composed recipe differs from the lock that lies where `lock` writes it; nothing where there is none."""
    path = lock_path(source)
    if not path.is_file():
        return []
    from mgzoo.recipe.lock import lock_drift, read_lock

    return lock_drift(recipe, read_lock(path), str(path))


def cp(arguments) -> int:
    """`mgzoo cp RECIPE [FILE]`: the file written goes to stdout."""
    from mgzoo.recipe.compose import copy_recipe

    dest = arguments.dest or f"{Path(arguments.name).name}.yaml"
    print(copy_recipe(arguments.name, dest))
    return 0


def verify(arguments) -> int:
    """`mgzoo verify PATH`: an artifact, a run, a hub's folder or a generated file against what it should be."""
    from mgzoo.share.verify import verify

    if not Path(arguments.path).is_file():
        return _verdict(arguments, arguments.path, verify(arguments.path, require_signature=arguments.require_signature))
    if arguments.require_signature:
        raise MgzooError("signatures are of artifacts", remedy="verify the model that made the file", origin=arguments.path)
    from mgzoo.generation.record import check_generated_file

    made, found = check_generated_file(arguments.path)
    facts = {"model": made.model, "commit": made.revision or made.commit, "plugins": {"mgzoo": made.mgzoo, **made.plugins}, "request": made.request}
    if arguments.json:
        output.emit_json({"ok": not found, "made": facts, "problems": [problem.to_dict() for problem in found]})
        return 1 if found else 0
    shown = {**facts, "plugins": ", ".join(f"{name} {version}" for name, version in facts["plugins"].items()), "request": None}
    print(output.table(((key, value) for key, value in ({**shown, **made.request}).items() if value is not None), indent=0))
    return _verdict(arguments, arguments.path, found)
