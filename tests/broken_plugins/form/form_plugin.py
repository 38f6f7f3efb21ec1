from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(id="form.a", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]
