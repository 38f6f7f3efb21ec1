"""The words that a sound model is told: Movie Gen Audio's caption of four parts (section 6). No torch.

Quality score, whether there is speech and how likely music is, the sound, the music. The exact wording is our choice, the paper's is not
published. What is not known is left out; half of the training captions are the sound's description alone, so that a prompt may be that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

MUSIC = {0.0: "no music", 1.0: "music"}


def caption(
    sound: str, *, quality: float | None = None, speech: bool | None = None, music: float | None = None, music_description: str = ""
) -> str:
    """``quality 8.0, no speech, music. a bell rings. music: slow and calm``.

    sound: description of the sounds, may be empty. quality: 1-10. music: how likely there is music, 0-1. music_description: always last.
    """
    flags = [] if quality is None else [f"quality {quality:.1f}"]
    flags += [] if speech is None else ["speech" if speech else "no speech"]
    flags += [] if music is None else [MUSIC.get(music, f"music {music:.1f}")]
    parts = [", ".join(flags), sound.strip(), f"music: {music_description.strip()}" if music_description.strip() else ""]
    return ". ".join(part.rstrip(".") for part in parts if part)


def clip_caption(words: str, extra: Mapping[str, Any]) -> str:
    """The caption of a clip of a data stream: its own caption, and from ``extra`` quality, speech, music (0-1) and music_description.

    Of two clips one, chosen by its words, is told its own caption alone.
    """
    if crc32(words.encode()) % 2:
        return words
    music = extra.get("music")
    return caption(
        words,
        quality=extra.get("quality"),
        speech=extra.get("speech"),
        music=None if music is None else float(music),
        music_description=extra.get("music_description") or "",
    )
