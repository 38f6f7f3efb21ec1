"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.heun.v1",
            kind="sampler",
            config="mgzoo_acme.configs:HeunConfig",
            target="mgzoo_acme.heun:Heun",
            summary="Heun's method with equal steps, two evaluations each",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
