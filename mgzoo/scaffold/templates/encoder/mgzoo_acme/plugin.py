"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.words.v1",
            kind="encoder",
            config="mgzoo_acme.configs:WordsConfig",
            target="mgzoo_acme.words:Words",
            summary="text encoder of hashed words; trains with the model",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
