"""What the parts of this plugin may be told; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

from mgzoo.spec import ConditionSpec, LatentSpec, RequestOption, TaskConfig, option, require

EXTEND, INFILL = "seconds to add after the sound; negative: before it: 20s, -5s", "the interval of the sound to regenerate: 2s-3s"


@dataclass(frozen=True, kw_only=True)
class SoundConfig(TaskConfig):
    """Sound from text and from video, and more of a sound (Movie Gen Audio, section 6). Defaults are the paper's where it
    says them; window, overlap, loudness, fade and the share of a window that is given as context are our choice."""

    rate: int = option(48_000, "samples per second of the codec and the data")
    seconds: float = option(10.0, "default length of a generated sound, in seconds")
    window: float = option(30.0, "window of the backbone, in seconds; longer sounds are generated in overlapping windows")
    overlap: float = option(10.0, "overlap of neighbouring windows, in seconds")
    merge: Literal["triangle", "uniform"] = option("triangle", "blending weight along a window; windows are blended at every step")
    context: float = option(0.25, "maximum share of a window for the given sound in extension and infilling")
    power: float = option(1.0, "exponent for the magnitude of latents; below 1: compresses the range")
    gain: float = option(1.0, "factor after `power`, for a standard deviation of about 1")
    full_mask: float = option(0.5, "training: probability of masking the whole audio context")
    least_mask: float = option(0.75, "training: minimum masked share of the context otherwise; uniform up to 1")
    drop_each: float = option(0.1, "training: probability of dropping the text alone, and the video alone; all together: train.condition_dropout")
    quality: Optional[float] = option(None, "default quality score (1-10) in the caption; None: no score")
    picture: int = option(64, "height and width of the frames for a video encoder, in pixels; the aspect ratio is not kept")
    loudness: float = option(-16.0, "integrated loudness of generated sounds, in LUFS")
    peak: float = option(-1.0, "maximum true peak of generated sounds, in dBFS")
    fade: float = option(0.04, "length of the crossfade from the given sound to the new one, in seconds; the rest of the given sound is unchanged")
    ranking: tuple[str, ...] = option(("audio.sync.v1", "audio.caption.v1"), "metrics for ranking candidates, by the mean of their standardised scores")

    def __post_init__(self):
        values = vars(self)
        claims = {f"{name} must be positive, not {values[name]}": values[name] > 0 for name in ("rate", "seconds", "window", "picture", "power", "gain")}
        claims |= {f"{name} must be in [0, 1], not {values[name]}": 0 <= values[name] <= 1 for name in ("full_mask", "least_mask", "drop_each")}
        claims |= {
            f"overlap must be at least 0 and less than the window of {self.window} s, not {self.overlap}": 0 <= self.overlap < self.window,
            f"merge must be triangle or uniform, not {self.merge!r}": self.merge in ("triangle", "uniform"),
            f"context must be in (0, 1), not {self.context}": 0 < self.context < 1,
            f"fade must not be negative, not {self.fade}": self.fade >= 0,
            f"loudness must be in [-70, 0] LUFS, not {self.loudness}": -70 <= self.loudness <= 0,
            f"peak must be in [-20, 0] dB, not {self.peak}": -20 <= self.peak <= 0,
            f"quality must be in [1, 10], not {self.quality}": self.quality is None or 1 <= self.quality <= 10,
        }
        require(claims)

    @classmethod
    def tiny(cls, **changes):
        """Two seconds at a time."""
        return cls(**{"seconds": 2.0, "window": 2.0, "overlap": 0.5, "picture": 32, **changes})

    def sizes(self) -> tuple[tuple[int], ...]:
        """(samples,) of the longest stretch that the backbone sees."""
        return ((round(self.window * self.rate),),)

    def modalities(self) -> tuple[str, ...]:
        """What it can feed to encoders."""
        return ("text", "video")

    def concat_channels(self, latent: LatentSpec) -> int:
        """The audio context's channels, and one that says where there is context."""
        return latent.channels + 1

    def layout(self) -> str:
        """It needs latents of sound."""
        return "sound"

    def request_options(self) -> tuple[RequestOption, ...]:
        """What a request may hold besides seed, steps and guidance."""
        return (
            RequestOption(name="prompt", kind="text", help="text prompt; optional with a video"),
            RequestOption(name="video", kind="video", help="the clip to add sound to; its frames are kept"),
            RequestOption(name="audio", kind="sound", help="the sound to extend or infill, one or two channels, any rate"),
            RequestOption(name="extend", kind="text", help=EXTEND),
            RequestOption(name="infill", kind="text", help=INFILL),
            RequestOption(name="seconds", kind="number", help="length of the sound without video and audio, in seconds"),
            RequestOption(name="music", kind="text", help="description of the music"),
            RequestOption(name="quality", kind="number", help="quality score in the caption, 1-10"),
            RequestOption(name="candidates", kind="integer", help="number of candidates; the best ranked is kept (default 1)"),
        )

    def output_modalities(self) -> tuple[str, ...]:
        """A sound, or the given clip with its sound."""
        return ("sound", "video")


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """A small encoder of every frame of a clip together with how it differs from its neighbours, trained with the model (our choice)."""

    size: int = option(32, "height and width of the input, in pixels; a multiple of 8")
    channels: int = option(24, "channels of the first of three convolutions; each of the next two doubles them")
    width: int = option(128, "D, width of a frame's features")
    most: int = option(512, "maximum number of frames of a clip")

    def __post_init__(self):
        claims = {f"{name} must be at least 1, not {getattr(self, name)}": getattr(self, name) >= 1 for name in ("channels", "width", "most")}
        require(claims | {f"size must be a positive multiple of 8, not {self.size}": self.size >= 8 and self.size % 8 == 0})

    @classmethod
    def tiny(cls):
        """Under a hundred thousand parameters."""
        return cls(size=16, channels=8, width=64)

    def input_modality(self) -> str:
        """Clips: float (3, F, Y, X) in [-1, 1] each."""
        return "video"

    def condition_spec(self, name: str) -> ConditionSpec:
        """One row of features a frame; the task resamples them to the latents."""
        return ConditionSpec(name=name, dim=self.width, kind="frames", max_len=self.most)

    def num_parameters(self) -> int:
        c, d = self.channels, self.width
        convolutions = 9 * (9 * c + c * 2 * c + 2 * c * 4 * c) + 7 * c
        return convolutions + 4 * c * (self.size // 8) ** 2 * d + d + 2 * d + 3 * d * d + d


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """How well a clip's onsets of sound follow its turns of motion."""

    tolerance: float = option(0.08, "tolerance between an onset and a motion reversal, in seconds; Gaussian weight")

    def __post_init__(self):
        require({f"tolerance must be positive, not {self.tolerance}": self.tolerance > 0})

    @classmethod
    def tiny(cls):
        return cls()

    def higher_is_better(self) -> bool:
        return True

    def num_parameters(self) -> int:
        return 0


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """How well a sound agrees with what its caption says can be measured: the pitch it names, and that there is a sound at all."""

    @classmethod
    def tiny(cls):
        return cls()

    def higher_is_better(self) -> bool:
        return True

    def num_parameters(self) -> int:
        return 0
