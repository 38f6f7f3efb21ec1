"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.patches.v1",
            kind="autoencoder",
            config="mgzoo_acme.configs:PatchesConfig",
            target="mgzoo_acme.patches:Patches",
            summary="linear codec of patches, fitted to the data, with a small network after it",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
