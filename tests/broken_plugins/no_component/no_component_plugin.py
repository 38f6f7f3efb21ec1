from mgzoo.hooks import hookimpl


@hookimpl
def mgzoo_components():
    return ["no_component.a.v1"]
