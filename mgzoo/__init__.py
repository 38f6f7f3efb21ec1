"""mgzoo: a zoo of interchangeable parts for models that generate video, images and sound.

The verbs are imported when they are first used: importing mgzoo imports no torch.
"""

from __future__ import annotations

__version__ = "0.1.0"

_PLACES = {
    "Component": "mgzoo.spec",
    "Media": "mgzoo.media",
    "MgzooError": "mgzoo.errors",
    "Model": "mgzoo.model",
    "RecipeError": "mgzoo.errors",
    "build": "mgzoo.model",
    "compose": "mgzoo.recipe.compose",
    "hookimpl": "mgzoo.hooks",
    "load": "mgzoo.model",
    "pull": "mgzoo.share.pull",
    "push": "mgzoo.share.push",
    "train": "mgzoo.train",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'mgzoo' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
