"""The protocols of the kinds: what each part must do, and the data that passes between parts.

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
    mask: bool, True where a value counts: (B, L) for tokens, (B,) for vector and frames. A row that is all False is
        a dropped condition: the backbone puts its learned null in its place.
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
    """One sample of a data stream, not yet decoded: a picture that moves or not, a sound, or both.

    key: unique name in its data set. digest: hex digest of exactly what `load` and `sound` will return (file bytes and the cut,
    size and rate asked for), so that frozen parts' outputs can be found without decoding.
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
    """What a task makes of a batch for one training step: inputs only, frozen parts already applied.

    latents: clean latents (or, for an autoencoder task, the media itself, float (B, 3, F, Y, X) in [-1, 1]).
    inputs: raw encoder inputs by encoder name (e.g. a list of strings), for encoders that train.
    conditions: conditions already computed by frozen encoders.
    concat: extra input channels for a head that widens the backbone's input, (B, C', *axes), or None.
    """

    latents: Latents
    inputs: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=dict)
    concat: Latents | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A text of which an encoder does not read all. read, whole: how many ``unit``s (words, bytes, tokens) it reads, and that there
    are. rest: what it does not read, as text."""

    read: int
    whole: int
    unit: str
    rest: str


@dataclass(frozen=True, kw_only=True)
class Loss:
    """total: scalar to descend. terms: named detached scalars for the log."""

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Autoencoder(Protocol):
    """An `nn.Module` built as ``Target(config)``. A sound has one channel: (B, 1, samples) in place of (B, 3, F, Y, X)."""

    spec: LatentSpec

    def encode(self, media: Tensor) -> Tensor:
        """Media float (B, 3, F, Y, X) in [-1, 1] -> normalised latents (B, C, T, H, W), posterior mean; sound -> (B, C, T)."""

    def decode(self, latents: Tensor, like: Sequence[int]) -> Tensor:
        """Normalised latents -> media of size ``like`` = (F, Y, X), or (samples,): what lies beyond it is dropped."""


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` built as ``Target(config)``; its forward takes a list of length B: strings, or what else its config's
    ``input_modality()`` names (image, video, sound) as the task gives it. One that reads only so much of a text has
    ``cut(texts) -> list[Cut | None]``, None for a text that is read to its end; `mgzoo.model.Model` says it or counts it."""

    spec: ConditionSpec

    def forward(self, inputs: Any) -> Condition: ...


@runtime_checkable
class Backbone(Protocol):
    """An `nn.Module` built as ``Target(config, latent=LatentSpec, conditions=tuple[ConditionSpec, ...], concat_channels=0)``.

    concat_channels: extra input channels that a task head concatenates; their new input weights start at zero. A backbone that can go on
    from weights of a narrower one has ``expand_state_dict(state) -> (state, names of the tensors that are new, or new in part)``.
    One whose samples may lie at different times takes ``forward(…, time_offset=None)``: (B,) integers, the position of each
    sample's first latent along the first axis. It is optional: a task looks for it in the signature of forward.
    """

    def forward(self, latents: Latents, t: Tensor, conditions: Conditions) -> Latents:
        """Latents (B, C + concat_channels, *axes) (or a list), t (B,) in [0, 1] -> prediction of (B, C, *axes) (or a list)."""


@runtime_checkable
class Objective(Protocol):
    """Built as ``Target(config)``; no parameters. ``config.prediction_type()`` names what the backbone predicts."""

    def pair(self, latents: Latents, generator: torch.Generator, t: Tensor | None = None) -> tuple[Latents, Tensor, Latents]:
        """Clean latents -> (noisy, t (B,), target), noise and t drawn in float32 from the generator unless t is given."""

    def loss(self, prediction: Latents, target: Latents, t: Tensor) -> Tensor:
        """Weighted loss, mean over elements of each sample, then over samples: scalar float32."""


Denoise = Callable[[Tensor, Tensor, Sequence[frozenset[str]]], Sequence[Tensor]]
"""``denoise(latents (B,C,*axes), t (B,), branches)`` -> one prediction per branch.

A branch is the set of condition names that are dropped in it: ``frozenset()`` is fully conditional. All branches run
in one call, so that a backbone may batch them.
"""


@runtime_checkable
class Sampler(Protocol):
    """Built as ``Target(config)``; sees one closure and no model. ``config.prediction_types()`` lists what it can integrate."""

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
        """Latents of ``shape`` (B, C, *axes), float32. conditions: the names guidance may drop, in order."""


@runtime_checkable
class Task(Protocol):
    """Built as ``Target(config)``. What a user asks a model to do, and how that is trained. It may be an `nn.Module` with weights
    of its own. Its config's ``request_options()`` says what a request may hold besides the usual, ``output_modalities()`` what it can give."""

    def trained(self, model) -> Sequence[str]:
        """Names of the parts this task trains unless the recipe freezes them (e.g. ``backbone``, ``encoders.text``)."""

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Run frozen parts (through `model.cache`); no gradients."""

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """One training loss; every random draw comes from the generator."""

    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Named held-out measures on fixed noise and a fixed t-grid; ``loss`` must be among them (lower is better)."""

    def generate(self, model, **request) -> Any:
        """Answer a request with a `mgzoo.media.Media` (or a list of them)."""


@runtime_checkable
class Data(Protocol):
    """Built as ``Target(config, seed=int, rank=int, world=int)``: a resumable, rank-aware stream of batches. `mgzoo.data` has most of one:
    a reader of folders, tables and shards, and `mgzoo.data.sampler.Stream`. It may have ``counts() -> dict[str, int]``, numbers for the log
    such as ``skipped``."""

    def batches(self, size: int) -> Iterator[list[Clip]]:
        """Endless batches of ``size`` clips for this rank; micro-batch m of the run goes to rank ``m % world``."""

    def held_out(self) -> Sequence[Clip]:
        """The validation clips, always in the same order; empty where there is no held-out list."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


@runtime_checkable
class Filter(Protocol):
    """Built as ``Target(config)``: scores clips for curation. ``config.keeps(score)`` says, without torch, whether a clip of this score stays."""

    def __call__(self, clips: Sequence[Clip]) -> list[float]:
        """One finite score per clip, in order; a clip's score depends on that clip alone."""


@runtime_checkable
class Metric(Protocol):
    """Built as ``Target(config)``: scores what was generated. ``config.higher_is_better()`` says which way is better."""

    def __call__(self, media: Sequence[Media]) -> list[float]:
        """One finite score per clip, picture or sound, in order; each depends on that medium (and its caption) alone."""
