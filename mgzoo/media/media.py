"""`Media`: video uint8 (T, H, W, 3) RGB and sound float32 (channels, samples) in [-1, 1], as in `mgzoo.parts`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgzoo.media import integrity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Media:
    """One clip, picture or sound.

    video: uint8 (T, H, W, 3) RGB, or None. fps: frames per second, None for a picture. audio: float32 (channels, samples)
    in [-1, 1], or None. rate: its samples per second. caption: text. meta: JSON data,
    embedded into the file by `save`.
    """

    video: Tensor | None = None
    fps: float | None = None
    audio: Tensor | None = None
    rate: int | None = None
    caption: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path, *, crf: float = 12) -> Path:
        """Write .mp4 (H.264, AAC), .png (one frame), .gif, .webp (moving picture) or .wav, atomically.

        crf: quantiser of H.264, 0-51; 12 is visually lossless. Odd sizes are written as yuv444p, since yuv420p cannot hold them.
        Raises MgzooError if such a file cannot hold this media.
        """
        from mgzoo.media import encode

        return encode.write(self, Path(path), crf)

    def metadata(self) -> dict[str, Any]:
        """The metadata embedded into a file."""
        return {key: value for key, value in {"caption": self.caption, **self.meta}.items() if key != integrity.KEY}

    def embedded(self) -> str:
        """The JSON that `save` writes into the file and `meta` reads, with room for the digest that `integrity.write_digest` puts there."""
        said = self.metadata()
        return json.dumps({integrity.KEY: integrity.placeholder(said), **said})  # ASCII, since Exif text is not UTF-8
