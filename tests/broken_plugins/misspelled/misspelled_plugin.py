from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(id="misspelled.a.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]


def mgzoo_recipe():
    return None
