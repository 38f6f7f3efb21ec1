"""What the task heads of this plugin may be told; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mgzoo.spec import ConditionSpec, LatentSpec, RequestOption, TaskConfig, option, require
from mgzoo_edit.tasks import EDITS, TASKS

TOKENS = 4
"""Token embeddings of an edit task beside the text's (Movie Gen Edit, section 5; Emu Edit)."""

FED = "source"
"""The name under which guidance drops the source's latents."""

SOURCES = (
    RequestOption(name="source", kind="video", help="the clip to edit; size, frame rate, length and sound are kept"),
    RequestOption(name="picture", kind="image", help="the picture to edit, instead of a source clip"),
)


@dataclass(frozen=True, kw_only=True)
class _EditConfig(TaskConfig):
    """What both heads share."""

    frames: int = option(256, "frames of a window; longer sources are edited in overlapping windows, shorter ones are padded with their last frame")
    height: int = option(768, "pixels; a source is scaled to fit and padded with its border")
    width: int = option(768, "pixels")
    fps: float = option(16.0, "frames per second passed to the model for a picture")
    fps_token: bool = option(True, "put FPS-<rate> before the text, as in the training of the text-to-video model")
    overlap: float = option(0.5, "overlap of neighbouring windows as a share of a window, in latent frames rounded down")

    def __post_init__(self):
        require({f"{name} must be positive, not {getattr(self, name)}": getattr(self, name) > 0 for name in ("frames", "height", "width", "fps")})
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {self.overlap}")

    @classmethod
    def tiny(cls, **changes):
        """Windows of sixteen frames of 64x64."""
        return cls(**{"frames": 16, "height": 64, "width": 64, "fps": 5.0, **changes})

    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """(frames, height, width) of a window, and of a picture."""
        return ((self.frames, self.height, self.width), (1, self.height, self.width))


@dataclass(frozen=True, kw_only=True)
class InstructConfig(_EditConfig):
    """Instruction-guided editing. Defaults are our choice at the paper's size, except the four tokens."""

    dim: int = option(1024, "width of the task embedding, its tokens and its vector")
    anywhere: bool = option(True, "training: random time offset for single frames (stage one), if the backbone accepts it")
    text_dropout: float = option(0.05, "probability of dropping the text alone; both together: train.condition_dropout")
    source_dropout: float = option(0.05, "probability of dropping the source alone")

    def __post_init__(self):
        super().__post_init__()
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")
        for name in ("text_dropout", "source_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    @classmethod
    def tiny(cls, **changes):
        """Windows of sixteen frames of 64x64, task vectors of 64."""
        return super().tiny(**{"dim": 64, **changes})

    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Four tokens beside the text's, and a vector added to the timestep embedding."""
        return (
            ConditionSpec(name="edit_tokens", dim=self.dim, kind="tokens", max_len=TOKENS),
            ConditionSpec(name="edit_shift", dim=self.dim, kind="vector"),
        )

    def concat_channels(self, latent: LatentSpec) -> int:
        """The source's latents, on channels."""
        return latent.channels

    def fed(self) -> tuple[str, ...]:
        """What it feeds by name, for guidance."""
        return (FED,)

    def num_parameters(self) -> int:
        """The tasks' vectors and the two linear maps."""
        d = self.dim
        return len(TASKS) * d + TOKENS * (d * d + d) + d * d + d

    def request_options(self) -> tuple[RequestOption, ...]:
        """What a request may hold besides the instruction."""
        return (
            *SOURCES,
            RequestOption(name="edit", kind="choice", choices=EDITS, help="type of the edit (default: guessed from the words of the instruction)"),
            RequestOption(name="source_guidance", kind="number", help="guidance scale of the source; larger: closer to the source"),
        )


@dataclass(frozen=True, kw_only=True)
class SdeditConfig(_EditConfig):
    """SDEdit (Meng et al. 2022) with any text-to-video model that predicts a velocity."""

    strength: float = option(0.6, "strength of the edit, in (0, 1]: start at this noise level; 1: ignore the source")

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be in (0, 1], got {self.strength}")

    def request_options(self) -> tuple[RequestOption, ...]:
        """What a request may hold besides the text, which says what the result shows."""
        return (*SOURCES, RequestOption(name="strength", kind="number", help="strength of the edit, in (0, 1]; larger: further from the source"))


@dataclass(frozen=True, kw_only=True)
class DirectionConfig:
    """Whether an edit happened where it should and the rest was kept."""

    enough: float = option(0.06, "mean change inside the edited region, as a share of the pixel range, at a score of 1 - 1/e")
    least: float = option(0.55, "minimum score of a pair")

    def __post_init__(self):
        if self.enough <= 0:
            raise ValueError(f"enough must be positive, got {self.enough}")
        if not 0 <= self.least <= 1:
            raise ValueError(f"least must be in [0, 1], got {self.least}")

    @classmethod
    def tiny(cls):
        """The same at any size."""
        return cls()

    def num_parameters(self) -> int:
        """It holds no weights."""
        return 0

    def keeps(self, score: float) -> bool:
        """Whether a pair of this score stays."""
        return score >= self.least
