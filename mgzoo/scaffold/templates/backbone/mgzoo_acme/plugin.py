"""What this plugin declares: strings only, so that listing it imports nothing."""

from pathlib import Path

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.mixer.v1",
            kind="backbone",
            config="mgzoo_acme.configs:MixerConfig",
            target="mgzoo_acme.mixer:Mixer",
            summary="small convolutional mixer over patches of any rank",
            license="mit",
        )
    ]


@hookimpl
def mgzoo_recipes():
    return Path(__file__).parent / "recipes"
