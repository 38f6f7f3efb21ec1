"""The words every part, recipe and plugin speaks: plain data, standard library only.

Nothing here imports torch, so that declaring, listing, checking and planning stay free.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from mgzoo.errors import MgzooError, Origin, Problem, RecipeError  # noqa: F401  (what plugins raise and report is part of the words)

KINDS = ("autoencoder", "encoder", "backbone", "objective", "sampler", "task", "data", "filter", "metric")
SEED_LIMIT = 2**64
"""Seeds are whole numbers from 0 to below this."""


def as_seed(number: int) -> int:
    """A whole number, e.g. seed + i, as a seed: after the last comes 0."""
    return number % SEED_LIMIT


def spread(seed: int) -> int:
    """What a generator of torch's is seeded with for a seed. Its CPU generator reads the lower 32 bits alone, so that 7 and 7 + 2^32 would
    draw the same: a seed that 32 bits do not hold is hashed."""
    return seed if seed < 2**32 else int.from_bytes(hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8).digest(), "little")


CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters and reversals of direction: in a stranger's text they could forge what a terminal shows."""


def one_line(text: str) -> str:
    """A stranger's text on one line, without control characters."""
    return " ".join(CONTROL_CHARACTERS.sub("", text).split())


@dataclass(frozen=True, kw_only=True)
class Component:
    """One interchangeable part, declared by strings so that declaring imports nothing.

    id: ``plugin.name.vN``; N changes when old weights would mean something else.
    kind: one of `KINDS`.
    config: ``module:Class`` of the frozen config dataclass; importing it must not import torch.
    target: ``module:Class`` of the part itself, imported only when the part is built.
    summary: one line for `mgzoo list`.
    license: SPDX-style lower-case id of the part's code or packaged data, held against `policy.licenses`.
    formerly: ids that this component had before, in the same namespace: recipes and artifacts that name them still load.
    """

    id: str
    kind: str
    config: str
    target: str
    summary: str
    license: str = "apache-2.0"
    formerly: tuple[str, ...] = ()

    @property
    def namespace(self) -> str:
        """The part of the id before the first dot: the plugin's entry-point name."""
        return self.id.split(".", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """The distribution that declares a component."""

    namespace: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """A named latent space.

    space: its identity, e.g. ``autoencoders.tae16``; equal channel counts do not make equal latents.
    channels: C of a latent ``(B, C, *axes)``.
    stride: media samples per latent along each axis, e.g. ``(8, 8, 8)`` for (T, H, W), ``(1920,)`` for sound.
    layout: ``video`` (axes T, H, W) or ``sound`` (axis T).
    """

    space: str
    channels: int
    stride: tuple[int, ...]
    layout: str = "video"

    def axes(self, *sizes: int) -> tuple[int, ...]:
        """Latent sizes of media of these sizes: ``ceil(size / stride)`` along each axis."""
        return tuple(math.ceil(size / stride) for size, stride in zip(sizes, self.stride, strict=True))


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """What a condition looks like when it reaches the backbone.

    name: the key under which it travels, e.g. ``text``.
    dim: width D of its values before the backbone's own projection.
    kind: ``tokens`` (B, L, D; keys and values of cross-attention), ``vector`` (B, D; added to the timestep embedding)
        or ``frames`` (B, T, D; added to the latent tokens of the same time).
    max_len: longest L (or T), None where unbounded.
    optional: whether a sample may come without it.
    """

    name: str
    dim: int
    kind: str = "tokens"
    max_len: int | None = None
    optional: bool = True


OPTION_KINDS = ("image", "video", "sound", "text", "number", "integer", "boolean", "choice")
FILE_KINDS = ("image", "video", "sound")


@dataclass(frozen=True, kw_only=True)
class RequestOption:
    """One thing that a request to a task may hold, besides what every request may.

    name: the keyword of the task's ``generate``; on the command line ``--name``, underscores as hyphens.
    kind: one of `OPTION_KINDS`. image, video, sound: a file, which the task is given as a `mgzoo.media.Media`; integer: a whole number (``whole`` until this release).
        boolean: yes or no, ``--name`` and ``--no-name``; the task is given True or False.
    help: one line, with its unit. required: whether a request must have it. choices: what a ``choice`` may be.
    """

    name: str
    kind: str
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind == "whole":
            object.__setattr__(self, "kind", "integer")
            warnings.warn(f"the kind of the request option {self.name} is integer now, not whole", DeprecationWarning, stacklevel=3)

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What meets at the backbone of a recipe; `mgzoo.contracts.contract_of` works it out, an artifact's manifest records it.

    latent: the autoencoder's space, None without one. conditions: those of the encoders in the recipe's order, then the
    task's own. concat_channels: extra input channels that the task concatenates.
    """

    latent: LatentSpec | None = None
    conditions: tuple[ConditionSpec, ...] = ()
    concat_channels: int = 0


def option(default=dataclasses.MISSING, help: str = "", **metadata):
    """A documented config field. Lists and dicts are copied per instance.

    help: what it is, with unit and shape. formerly: names that the field had before, a tuple; recipes that use them still load. former_values: value -> what it was called
    before; the config itself accepts it, and a lock of before still holds.
    """
    metadata = {"help": help, **metadata}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def require(claims: Mapping[str, bool]) -> None:
    """Raise ValueError with every sentence that does not hold, one a line; for a config's ``__post_init__``.

    claims: e.g. ``{f"fps must be positive, not {self.fps}": self.fps > 0}``; a sentence that names its field is shown at that line of the recipe.
    """
    if wrong := [sentence for sentence, holds in claims.items() if not holds]:
        raise ValueError("\n".join(wrong))


def require_at_least(config, least: float, *names: str) -> None:
    """Raise ValueError unless each of these fields of a config is at least so much."""
    require({f"{name} must be at least {least}, not {getattr(config, name)}": getattr(config, name) >= least for name in names})


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What recipes ask of a task's config, answered for the usual case: a head without weights that generates latents from texts.

    A convenience: a config that has these methods itself need not derive from it. A task with a size of its own also has ``sizes()``, one that
    needs sound ``layout()``, one with options ``request_options()``, one that gives anything but video and images ``output_modalities()``.
    """

    @classmethod
    def tiny(cls, **changes):
        """The smallest useful config, for tests."""
        return cls(**changes)

    def required_parts(self) -> tuple[str, ...]:
        """Kinds of part that it needs."""
        return ("autoencoder", "encoder", "backbone", "objective", "sampler")

    def modalities(self) -> tuple[str, ...]:
        """Modalities that it can feed to encoders."""
        return ("text",)

    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Conditions that it makes itself, beside those of encoders."""
        return ()

    def concat_channels(self, latent: LatentSpec) -> int:
        """Extra input channels of the backbone that it concatenates."""
        return 0

    def num_parameters(self) -> int:
        """Number of its own weights."""
        return 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What recipes ask of a data part's config, answered for clips of one size: a config derived from it has ``frames``, ``height`` and ``width``,
    or a ``sizes()`` of its own. A convenience, as `TaskConfig`."""

    @classmethod
    def tiny(cls, **changes):
        """The smallest useful config, for tests."""
        return cls(**changes)

    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """(frames, height, width) of every clip that it can emit, (samples,) of sounds."""
        return ((self.frames, self.height, self.width),)

    def modalities(self) -> tuple[str, ...]:
        """Modalities: moving pictures, single ones, and their captions."""
        frames = {size[0] for size in self.sizes()}
        return (*(("video",) if frames != {1} else ()), *(("image",) if 1 in frames else ()), "text")

    def num_parameters(self) -> int:
        """Data has no weights."""
        return 0


_OLD = {"Ask": "RequestOption", "ASKED": "OPTION_KINDS", "FILES": "FILE_KINDS", "UNSEEN": "CONTROL_CHARACTERS", "SEEDS": "SEED_LIMIT"}
"""Names of before, for one release."""


def __getattr__(name: str):
    if name not in _OLD:
        raise AttributeError(f"module 'mgzoo.spec' has no attribute {name!r}")
    warnings.warn(f"mgzoo.spec.{name} is {_OLD[name]} now; the old name goes with the next release", DeprecationWarning, stacklevel=2)
    return globals()[_OLD[name]]
