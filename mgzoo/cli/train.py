"""`mgzoo train`. torch is imported when it runs."""

from __future__ import annotations

import os
from contextlib import nullcontext

from mgzoo.cli.recipes import lock_path, lock_problems
from mgzoo.spec import RecipeError


def train(arguments) -> int:
    """`mgzoo train RECIPE [a.b=value …] --out RUN [--resume [--accept-changes]] [--force]`: rank 0 prints the artifact's folder."""
    from mgzoo.recipe.compose import compose

    recipe = compose(arguments.recipe, arguments.overrides)
    if found := lock_problems(arguments.recipe, recipe):
        raise RecipeError(found)

    from mgzoo import precision
    from mgzoo.budget import require_memory
    from mgzoo.hub.fetch import without_network

    if not arguments.force and not precision.has_gpu():
        require_memory(recipe, "cpu")  # before torch is imported; for a GPU the loop asks

    from mgzoo.train import train as trained

    # Held to a lock, everything it names is here and is what it was: no hub needs to be asked.
    with without_network() if lock_path(arguments.recipe).is_file() else nullcontext():
        run = trained(recipe, arguments.out, resume=arguments.resume, accept_changes=arguments.accept_changes, force=arguments.force)
    if os.environ.get("RANK", "0") == "0":
        print(run.artifact)
    return 0
