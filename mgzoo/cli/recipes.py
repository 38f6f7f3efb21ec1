"""Recipe verbs: `mgzoo check`, `explain`, `plan`, `lock` and `cp`."""

from __future__ import annotations

from pathlib import Path

from mgzoo.cli import output
from mgzoo.spec import Problem, RecipeError


def check(arguments) -> int:
    """`mgzoo check RECIPE [a.b=value …] [--meta]`."""
    from mgzoo.recipe.compose import compose

    try:
        recipe = compose(arguments.recipe, arguments.overrides)
        found = lock_problems(arguments.recipe, recipe)
        if arguments.meta:
            from mgzoo.model.checks import meta_problems

            found += meta_problems(recipe)
    except RecipeError as error:
        found = list(error.problems)
    return output.print_verdict(arguments, arguments.recipe, found)


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
    from mgzoo.budget import excess
    from mgzoo.plan import plan as planned
    from mgzoo.recipe.compose import compose

    device = "cuda" if arguments.gpus or precision.has_gpu() else "cpu"
    answer = planned(compose(arguments.recipe, arguments.overrides), gpus=arguments.gpus or 1, device=device)
    if arguments.json:
        output.emit_json(answer.to_dict())
    else:
        print(answer.render().rstrip())
        if device == "cpu" and (found := excess(answer)):
            print(f"\nnote: {found}")
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


def lock_problems(source: str, recipe) -> list[Problem]:
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
