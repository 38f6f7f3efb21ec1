"""Models: build, load, save and generate. Imports torch."""

from mgzoo.model.build import build
from mgzoo.model.generate import generate
from mgzoo.model.load import load
from mgzoo.model.model import Model
from mgzoo.model.save import save

Model.generate, Model.save = generate, save  # here, so that model.py, which they need, never imports them

__all__ = ["Model", "build", "generate", "load", "save"]


_OLD = {"to_frames": "float_to_uint8", "to_pixels": "uint8_to_float"}
"""Old names, for one release, of functions now in `mgzoo.media`."""


def __getattr__(name: str):
    if name not in _OLD:
        raise AttributeError(f"module 'mgzoo.model' has no attribute {name!r}")
    import warnings

    from mgzoo import media

    warnings.warn(f"mgzoo.model.{name} is mgzoo.media.{_OLD[name]} now; the next release removes the old name", DeprecationWarning, stacklevel=2)
    return getattr(media, _OLD[name])
