from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(id="taken.fine.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
        Component(id="healthy.sampler.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]
