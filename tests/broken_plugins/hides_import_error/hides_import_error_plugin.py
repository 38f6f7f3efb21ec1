from mgzoo.hooks import hookimpl
from mgzoo.spec import Component

try:
    import deepspeed
except ImportError:
    deepspeed = None


@hookimpl
def mgzoo_components():
    return [
        Component(id="hides_import_error.a.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]
