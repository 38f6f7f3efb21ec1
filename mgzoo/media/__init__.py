"""Video, image and sound files <-> tensors, through PyAV and Pillow.

Video is uint8 (T, H, W, 3) in RGB, sound float32 (channels, samples) in [-1, 1], as in `mgzoo.parts`. Reading and writing
import torch; `meta` and `probe` do not, so that showing a file stays quick. Sound as tensors is `mgzoo.media.audio`.
Each name is imported at its first use: PyAV takes a third of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgzoo.media.contact_sheets import contact_sheet
    from mgzoo.media.decode import IMAGES, VIDEO, intact, meta, open_media, read, read_bytes
    from mgzoo.media.formats import AAC_RATES, WRITTEN, can_hold
    from mgzoo.media.inspection import probe
    from mgzoo.media.media import Media
    from mgzoo.media.pixels import fit, float_to_uint8, resize, uint8_to_float
    from mgzoo.media.timing import evenly, same_rate
    from mgzoo.storage import atomic_path

__all__ = ["AAC_RATES", "IMAGES", "VIDEO", "WRITTEN", "Media", "atomic_path", "can_hold", "contact_sheet", "evenly", "fit", "float_to_uint8", "intact", "meta",
           "open_media", "probe", "read", "read_bytes", "resize", "same_rate", "uint8_to_float"]  # fmt: skip


def __getattr__(name: str) -> Any:
    match name:
        case "IMAGES" | "VIDEO" | "intact" | "meta" | "open_media" | "read" | "read_bytes":
            from mgzoo.media import decode as module
        case "AAC_RATES" | "WRITTEN" | "can_hold":
            from mgzoo.media import formats as module
        case "fit" | "float_to_uint8" | "resize" | "uint8_to_float":
            from mgzoo.media import pixels as module
        case "evenly" | "same_rate":
            from mgzoo.media import timing as module
        case "Media":
            from mgzoo.media import media as module
        case "contact_sheet":
            from mgzoo.media import contact_sheets as module
        case "probe":
            from mgzoo.media import inspection as module
        case "atomic_path":
            from mgzoo import storage as module
        case _:
            raise AttributeError(f"module 'mgzoo.media' has no attribute {name!r}")
    value = globals()[name] = getattr(module, name)
    return value
