"""What this plugin declares."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="backbones.llama3.v1",
            kind="backbone",
            config="mgzoo_backbones.configs:Llama3Config",
            target="mgzoo_backbones.llama3:Llama3",
            summary="LLaMa3-style transformer: RMSNorm, SwiGLU, no biases (Movie Gen's 30B by default)",
        ),
        Component(
            id="backbones.dit.v1",
            kind="backbone",
            config="mgzoo_backbones.configs:DiTConfig",
            target="mgzoo_backbones.dit:DiT",
            summary="the same transformer with DiT's LayerNorm, SiLU MLP and biases (Movie Gen's ablation)",
        ),
    ]
