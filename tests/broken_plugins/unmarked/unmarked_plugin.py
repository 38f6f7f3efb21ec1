from mgzoo.spec import Component


def mgzoo_components():
    return [
        Component(id="unmarked.a.v1", kind="sampler", config="healthy_parts:HealthyConfig", target="healthy_parts:Healthy", summary="a sampler"),
    ]
