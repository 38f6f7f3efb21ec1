"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.weighted_flow.v1",
            kind="objective",
            config="mgzoo_acme.configs:WeightedFlowConfig",
            target="mgzoo_acme.weighted_flow:WeightedFlow",
            summary="rectified flow with uniform times, weighted towards noise",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
