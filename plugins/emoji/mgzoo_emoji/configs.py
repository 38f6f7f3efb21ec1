"""The options of `edit.pairs.v1`; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import DataConfig, option, require_at_least

EDITS = ("local", "add", "remove", "background", "style", "texture", "segment")
"""Tasks of the pairs, as ``extra["task"]`` names them: those that `edit.instruct.v1` knows, in its order."""

MIXED = ("text_to_video", *EDITS, "edit", "animated", "back_translated")
"""What `PairsConfig.mix` may name: a task; all edits alike; all edits alike as stills that move; the pairs of a folder."""


@dataclass(frozen=True, kw_only=True)
class PairsConfig(DataConfig):
    """Editing pairs made of animated emoji, mixed with captioned clips."""

    path: str = option("data/emoji64", "folder of the animated emoji; relative to the working directory or the repository")
    frames: int = option(16, "frames of a clip; 1 gives pictures")
    height: int = option(64, "pixels")
    width: int = option(64, "pixels")
    mix: dict[str, float] = option(
        {"edit": 5.0, "text_to_video": 1.0},
        f"how often each comes, of {', '.join(MIXED)}; edit: all seven edits alike; animated: the same, a still pair moved by one random affine motion; "
        "what a recipe writes replaces this map, what a stage sets goes into the recipe's: 0 takes one out",
    )
    scenes: int = option(240, "different scenes for each kind of edit; fewer are encoded sooner, and seen more often")
    texts: int = option(0, "different clips that text_to_video shows; 0 takes all")
    text_frames: int = option(0, "frames of text_to_video where they are not those of the edits: whole micro-batches of it then alternate with the rest; 0: the same")
    stills: str = option("", "folder of stills in the styles of several vendors, e.g. data/edits64 (scripts/prepare_edits.py); empty leaves vendors' styles out")
    back_translated: str = option("", "folder of back-translated pairs with captions.jsonl; needed where mix names back_translated")
    held_out: tuple[str, ...] = option(("held_out_concepts.txt", "held_out_combinations.txt"), "files in `path` that list clips never trained on")
    held_out_pairs: str = option("data/edits_held_out.txt", "file that lists held-out edits and wordings; empty for none")
    keep_mb: int = option(600, "decoded and cut-out clips held in memory, in MB")
    license: str = option("mit", "licence of the media, lower case, held against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width", "scenes")
        require_at_least(self, 0, "keep_mb", "texts", "text_frames")
        if strange := [name for name in self.mix if name not in MIXED]:
            raise ValueError(f"mix names {', '.join(map(repr, strange))}; it may name {', '.join(MIXED)}")
        if any(not 0 <= share < float("inf") for share in self.mix.values()) or not sum(self.mix.values()) > 0:
            raise ValueError("mix must hold numbers of at least 0, one of them more")
        if self.mix.get("animated") and self.frames == 1:
            raise ValueError("mix names animated, which needs more than one frame: a single still does not move")
        if self.mix.get("back_translated") and not self.back_translated:
            raise ValueError("mix names back_translated: say in back_translated which folder holds the pairs")

    @classmethod
    def tiny(cls):
        """One-frame 16x16 pairs of the emoji that the repository holds."""
        return cls(frames=1, height=16, width=16, scenes=8)

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of every clip."""
        frames = {self.frames: None, (self.text_frames or self.frames) if self.mix.get("text_to_video") else self.frames: None}
        return tuple((n, self.height, self.width) for n in frames)

    def shares(self) -> dict[str, float]:
        """Share of each kind of sample, ``edit`` and ``animated`` spread over the seven edits: (``animated.`` +) task -> share, summing to 1."""
        found: dict[str, float] = {}
        for name, share in self.mix.items():
            names = EDITS if name == "edit" else tuple(f"animated.{task}" for task in EDITS) if name == "animated" else (name,)
            for one in names:
                found[one] = found.get(one, 0.0) + share / len(names)
        total = sum(found.values())
        return {name: share / total for name, share in found.items() if share}
