from mgzoo.hooks import hookimpl
from mgzoo.spec import Component

try:
    import numpy
except Exception:
    numpy = None


@hookimpl
def mgzoo_components():
    return [
        Component(id="hides_everything.a.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]
