"""Output files: default names, and checks of suffix, size and rate."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgzoo.media.formats import WRITTEN, can_hold
from mgzoo.spec import FILE_KINDS, MgzooError, RequestOption

if TYPE_CHECKING:
    from mgzoo.media import Media

SLUG = 60
"""Most characters of a prompt in a file name (our choice)."""
HOLDS = {".wav": ("sound",), ".png": ("image",)}
"""Contents by suffix, other than video or images."""


def require_writable(out: Path) -> None:
    """Raise `MgzooError` if ``out`` is not a media file name, or not writable."""
    if out.suffix.lower() not in WRITTEN:
        raise MgzooError(f"{out} does not have the suffix of a media file", remedy=f"use one of {', '.join(WRITTEN)}")
    if out.is_dir():
        raise MgzooError(f"{out} is a folder", remedy="name a file")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise MgzooError(f"{out} cannot be written: {above} is not a writable folder", remedy="choose another path")


def require_holds(out: Path | None, request: Mapping[str, Any], task: str, config, modalities: Collection[str]) -> None:
    """Raise `MgzooError` if a file of this name cannot hold the output of the task, the requested ``frames``, size or rate.
    out: None for a default name."""
    suffix = out.suffix.lower() if out else ""
    if out and not set(HOLDS.get(suffix, ("video", "image"))) & set(modalities):
        can = ", ".join(name for name, kinds in ((".mp4", {"video"}), (".png", {"image"}), (".wav", {"sound"})) if kinds & set(modalities))
        raise MgzooError(f"{task} generates {' or '.join(modalities)}; a {suffix} file cannot hold that", remedy=f"use the suffix {can}")
    if suffix == ".png" and request.get("frames") not in (None, 1):
        raise MgzooError(f"a .png holds one frame, but --frames is {request['frames']}", remedy="use the suffix .mp4, or --frames 1")
    can_hold(out or "clip.mp4", **{name: request.get(name) or getattr(config, name, None) for name in ("fps", "height", "width")})


def default_path(media: Media, request: Mapping[str, Any], options: Sequence[RequestOption]) -> Path:
    """An unused file name, from the prompt or the first input file."""
    files = (Path(request[option.name]).stem for option in options if option.kind in FILE_KINDS and isinstance(request.get(option.name), str | Path))
    suffix = ".wav" if media.video is None else ".png" if len(media.video) == 1 else ".mp4"
    return unused_path(Path(slug(request.get("prompt") or next(files, "")) + suffix))


def slug(prompt: str) -> str:
    """A file name for a prompt: its letters and digits in lower case, joined by hyphens, at most `SLUG` characters."""
    words = re.sub(r"[^\w]+", "-", prompt.lower(), flags=re.UNICODE).strip("-_")
    return words[:SLUG].rstrip("-_") or "clip"


def unused_path(path: Path) -> Path:
    """The path, or its first free sibling ``name-2``, ``name-3`` …: a default name never overwrites."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return free
