"""What this plugin declares: strings only, so that listing it imports nothing."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="acme.exposure.v1",
            kind="filter",
            config="mgzoo_acme.configs:ExposureConfig",
            target="mgzoo_acme.exposure:Exposure",
            summary="mean brightness of a clip; leaves out what is too dark or too bright",
            license="mit",
        )
    ]
