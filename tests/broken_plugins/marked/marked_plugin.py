from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_componets():
    return [Component(id="marked.a.v1", kind="sampler", config="a:B", target="a:B", summary="never seen")]
