"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.stripes.v1",
            kind="data",
            config="mgzoo_acme.configs:StripesConfig",
            target="mgzoo_acme.stripes:Stripes",
            summary="moving stripes with captions, drawn as they are needed; no files",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
