"""What this plugin declares: strings only, so that listing it imports nothing."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.flicker.v1",
            kind="metric",
            config="mgzoo_acme.configs:FlickerConfig",
            target="mgzoo_acme.flicker:Flicker",
            summary="how much brightness or loudness jumps from moment to moment",
            license="mit",
        )
    ]
