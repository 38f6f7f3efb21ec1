"""Protocols of the component kinds, and the data passed between parts.

Shape letters: B batch, C channels, T H W latent time/height/width, L condition tokens, D condition width,
F frames, Y X pixel height/width. Latents are ``(B, C, *axes)``; axes are (T, H, W) for video and (T,) for sound.
A batch that mixes sizes is a list of ``(C, *axes)`` tensors. Time t runs from 0 (noise) to 1 (data).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mgzoo.spec import ConditionSpec, LatentSpec

if TYPE_CHECKING:
    from mgzoo.media import Media

Latents = Tensor | list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of a batch.

    values: ``tokens`` (B, L, D), ``vector`` (B, D) or ``frames`` (B, T, D), float.
    mask: bool, True for valid values: (B, L) for tokens, (B,) for vector and frames. A row that is all False is
        a dropped condition: the backbone uses its learned null condition.
    """

    name: str
    values: Tensor
    mask: Tensor

    def dropped(self, rows: Tensor | None = None) -> Condition:
        """The same condition with ``rows`` (bool (B,), default all) dropped."""
        if rows is None:
            return replace(self, mask=torch.zeros_like(self.mask))
        rows = rows.to(self.mask.device)
        return replace(self, mask=self.mask & ~(rows[:, None] if self.mask.ndim == 2 else rows))

    def to(self, *args, **kwargs) -> Condition:
        """Move values (device and dtype) and mask (device)."""
        values = self.values.to(*args, **kwargs)
        return replace(self, values=values, mask=self.mask.to(values.device))


Conditions = Mapping[str, Condition]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One sample of a data stream, not yet decoded: a video, an image, a sound, or video with sound.

    key: unique name in its data set. digest: hex digest of the result of `load` and `sound` (file bytes, frame selection,
    size and rate): the key of cached outputs of frozen parts, without decoding.
    frames, height, width, fps: of the media that `load` returns; frames = 1 is an image; all 0 where there is no picture.
    load: decodes and returns uint8 (F, Y, X, 3); None where there is no picture.
    sound: decodes and returns float32 (channels, samples) in [-1, 1], None where there is none. samples, rate: of what it returns.
    """

    key: str
    digest: str
    caption: str
    frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    load: Callable[[], Tensor] | None = None
    sound: Callable[[], Tensor] | None = None
    samples: int = 0
    rate: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A batch prepared by a task for one training step; frozen parts are already applied.

    latents: clean latents (or, for an autoencoder task, the media itself, float (B, 3, F, Y, X) in [-1, 1]).
    inputs: raw encoder inputs by encoder name (e.g. a list of strings), for encoders that train.
    conditions: conditions already computed by frozen encoders.
    concat: extra input channels of the backbone, concatenated by the task head, (B, C', *axes), or None.
    """

    latents: Latents
    inputs: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=dict)
    concat: Latents | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A text truncated by an encoder. read, whole: numbers of ``unit``s (words, bytes, tokens) read, and in total.
    rest: the ignored text."""

    read: int
    whole: int
    unit: str
    rest: str


@dataclass(frozen=True, kw_only=True)
class Loss:
    """total: scalar to minimise. terms: named detached scalars for the log."""

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Autoencoder(Protocol):
    """An `nn.Module` built as ``Target(config)``. A sound has one channel: (B, 1, samples) in place of (B, 3, F, Y, X)."""

    spec: LatentSpec

    def encode(self, media: Tensor) -> Tensor:
        """Media float (B, 3, F, Y, X) in [-1, 1] -> normalised latents (B, C, T, H, W), posterior mean; sound -> (B, C, T)."""

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents -> media of size ``like`` = (F, Y, X), or (samples,); the excess is cropped."""


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` built as ``Target(config)``; its forward takes a list of length B: strings, or the other
    ``input_modality()`` of its config (image, video, sound). Encoders with a maximum text length have
    ``cut(texts) -> list[Cut | None]``, None for a text without truncation; `mgzoo.model.Model` logs or counts truncated texts."""

    spec: ConditionSpec

    def forward(self, inputs: Any) -> Condition: ...


@runtime_checkable
class Backbone(Protocol):
    """An `nn.Module` built as ``Target(config, latent=LatentSpec, conditions=tuple[ConditionSpec, ...], concat_channels=0)``.

    concat_channels: extra input channels concatenated by a task head; their input weights start at zero. Backbones that accept
    weights with fewer input channels or conditions have ``expand_state_dict(state) -> (state, names of the new or partly new tensors)``.
    Backbones with a time offset per sample take ``forward(…, time_offset=None)``: (B,) integers, the position of each
    sample's first latent along the first axis. Optional: tasks check the signature of forward.
    """

    def forward(self, latents: Latents, t: Tensor, conditions: Conditions) -> Latents:
        """Latents (B, C + concat_channels, *axes) (or a list), t (B,) in [0, 1] -> prediction of (B, C, *axes) (or a list)."""


@runtime_checkable
class Objective(Protocol):
    """Built as ``Target(config)``; no parameters. ``config.prediction_type()`` is the prediction type of the backbone."""

    def pair(self, latents: Latents, generator: torch.Generator, t: Tensor | None = None) -> tuple[Latents, Tensor, Latents]:
        """Clean latents -> (noisy, t (B,), target), noise and t drawn in float32 from the generator unless t is given."""

    def loss(self, prediction: Latents, target: Latents, t: Tensor) -> Tensor:
        """Weighted loss, mean over elements of each sample, then over samples: scalar float32."""


Denoise = Callable[[Tensor, Tensor, Sequence[frozenset[str]]], Sequence[Tensor]]
"""``denoise(latents (B,C,*axes), t (B,), branches)`` -> one prediction per branch.

A branch is a set of dropped condition names: ``frozenset()`` is fully conditional. All branches run in one call,
so that a backbone can batch them.
"""


@runtime_checkable
class Sampler(Protocol):
    """Built as ``Target(config)``; sees one closure and no model. ``config.prediction_types()`` lists the supported prediction types."""

    def sample(
        self,
        denoise: Denoise,
        shape: Sequence[int],
        generator: torch.Generator,
        *,
        conditions: Sequence[str] = (),
        noise: Tensor | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Latents of ``shape`` (B, C, *axes), float32. conditions: names of the conditions for guidance, in order."""


@runtime_checkable
class Task(Protocol):
    """Built as ``Target(config)``. A user-facing task: its training loss and its generation. It may be an `nn.Module` with its own
    weights. ``config.request_options()`` lists the task-specific request options, ``output_modalities()`` the outputs."""

    def trained(self, model) -> Sequence[str]:
        """Names of the trainable parts, before the recipe freezes some of them (e.g. ``backbone``, ``encoders.text``)."""

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Run frozen parts (through `model.cache`); no gradients."""

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """Training loss; all random numbers come from the generator."""

    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Held-out metrics by name, on fixed noise and a fixed t-grid; ``loss`` is required (lower is better)."""

    def generate(self, model, **request) -> Any:
        """Answer a request with a `mgzoo.media.Media` (or a list of them)."""


@runtime_checkable
class Data(Protocol):
    """Built as ``Target(config, seed=int, rank=int, world=int)``: a resumable, rank-aware stream of batches. `mgzoo.data` provides
    readers for folders, tables and shards, and `mgzoo.data.sampler.Stream`. Optional: ``counts() -> dict[str, int]``, numbers for the log
    such as ``skipped``."""

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless batches of ``size`` clips for this rank; micro-batch m of the run goes to rank ``m % world``."""

    def held_out(self) -> Sequence[Clip]:
        """The validation clips, in a fixed order; empty without a held-out list."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


@runtime_checkable
class Filter(Protocol):
    """Built as ``Target(config)``: scores clips for data curation. ``config.keeps(score)``, without torch: whether to keep a clip with this score."""

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        """One finite score per clip, in order; each depends on its clip alone."""


@runtime_checkable
class Metric(Protocol):
    """Built as ``Target(config)``: scores generated media. ``config.higher_is_better()`` is a bool."""

    def __call__(self, media: Sequence[Media]) -> list[float]:
        """One finite score per clip, picture or sound, in order; each depends on its own media (and caption) alone."""
