from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    import torch.nn

    return [Component(id="imports_when_asked.a.v1", kind="sampler", config="a:B", target="a:B", summary=torch.nn.__doc__)]
