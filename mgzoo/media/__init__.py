"""Video, image and sound files <-> tensors, through PyAV and Pillow.

Video is uint8 (T, H, W, 3) in RGB, sound float32 (channels, samples) in [-1, 1], as in `mgzoo.parts`. Reading and writing
import torch; `meta` and `probe` do not, so that showing a file stays quick. Sound as tensors is `mgzoo.media.audio`.
"""

from mgzoo.media.contact_sheet import contact_sheet
from mgzoo.media.decode import IMAGES, VIDEO, intact, meta, open_media, read, read_bytes
from mgzoo.media.encode import AAC_RATES, WRITTEN, atomic_path, can_hold
from mgzoo.media.frames import fit, float_to_uint8, resize, uint8_to_float
from mgzoo.media.inspection import probe
from mgzoo.media.media import Media
from mgzoo.media.timing import evenly, same_rate

__all__ = ["AAC_RATES", "IMAGES", "VIDEO", "WRITTEN", "Media", "atomic_path", "can_hold", "contact_sheet", "evenly", "fit", "float_to_uint8", "intact", "meta",
           "open_media", "probe", "read", "read_bytes", "resize", "same_rate", "uint8_to_float"]  # fmt: skip
