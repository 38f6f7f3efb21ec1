"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.boomerang.v1",
            kind="task",
            config="mgzoo_acme.configs:BoomerangConfig",
            target="mgzoo_acme.boomerang:Boomerang",
            summary="text to a clip that plays forwards, then backwards: a loop without a seam",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
