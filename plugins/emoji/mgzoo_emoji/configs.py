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
        f"relative frequency of {', '.join(MIXED)}; edit: all seven edits equally; animated: the same, a still pair with one random affine motion; "
        "a recipe replaces this map, a stage merges into the map of the recipe; 0 removes an entry",
    )
    scenes: int = option(240, "number of scenes per type of edit; fewer: faster encoding, more repetitions")
    texts: int = option(0, "number of text_to_video clips; 0: all")
    text_frames: int = option(0, "frames of text_to_video clips, in micro-batches of their own; 0: same as the edits")
    stills: str = option("", "folder of stills in the styles of several vendors, e.g. data/edits64 (scripts/prepare_edits.py); empty: no vendor styles")
    back_translated: str = option("", "folder of back-translated pairs with captions.jsonl; required if mix contains back_translated")
    held_out: tuple[str, ...] = option(("held_out_concepts.txt", "held_out_combinations.txt"), "files in `path` with the held-out clips")
    held_out_pairs: str = option("data/edits_held_out.txt", "file with held-out edits and wordings; empty: none")
    keep_mb: int = option(600, "memory for decoded and cut-out clips, in MB")
    license: str = option("mit", "licence of the media, lower case; checked against policy.licenses")

    def __post_init__(self):
        require_at_least(self, 1, "frames", "height", "width", "scenes")
        require_at_least(self, 0, "keep_mb", "texts", "text_frames")
        if strange := [name for name in self.mix if name not in MIXED]:
            raise ValueError(f"unknown entries of mix: {', '.join(map(repr, strange))}; known: {', '.join(MIXED)}")
        if any(not 0 <= share < float("inf") for share in self.mix.values()) or not sum(self.mix.values()) > 0:
            raise ValueError("mix must hold numbers of at least 0, at least one of them positive")
        if self.mix.get("animated") and self.frames == 1:
            raise ValueError("mix contains animated: frames must be greater than 1")
        if self.mix.get("back_translated") and not self.back_translated:
            raise ValueError("mix contains back_translated: set back_translated to the folder of the pairs")

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
