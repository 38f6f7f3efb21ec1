"""Specs shared by parts, recipes and plugins: plain dataclasses, standard library only.

No torch import, so that `list`, `check` and `plan` stay fast.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from mgzoo.errors import MgzooError, Origin, Problem, RecipeError  # noqa: F401  (what plugins raise and report is part of the words)

KINDS = ("autoencoder", "encoder", "backbone", "objective", "sampler", "task", "data", "filter", "metric")
SEED_LIMIT = 2**64
"""Exclusive upper limit of seeds."""


def as_seed(number: int) -> int:
    """An integer, e.g. seed + i, modulo `SEED_LIMIT`."""
    return number % SEED_LIMIT


def spread(seed: int) -> int:
    """Seed of a torch generator. torch's CPU generator uses the lower 32 bits only: 7 and 7 + 2^32 would
    be equal. Larger seeds are therefore hashed."""
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
    license: SPDX-style lower-case id of the part's code or packaged data, checked against `policy.licenses`.
    formerly: old ids of the component, in the same namespace; recipes and artifacts with them still load.
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
        """The id up to the first dot: the plugin's entry-point name."""
        return self.id.split(".", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """The distribution with the declaration of a component."""

    namespace: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """A named latent space.

    space: identity, e.g. ``autoencoders.tae16``; equal channel counts do not imply equal latents.
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
    """Shape and kind of a condition at the input of the backbone.

    name: key in the conditions dict, e.g. ``text``.
    dim: width D of its values before the backbone's own projection.
    kind: ``tokens`` (B, L, D; keys and values of cross-attention), ``vector`` (B, D; added to the timestep embedding)
        or ``frames`` (B, T, D; added to the latent tokens of the same time).
    max_len: maximum L (or T), None: unbounded.
    optional: whether samples may lack it.
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
    """A task-specific request option.

    name: the keyword of the task's ``generate``; on the command line ``--name``, underscores as hyphens.
    kind: one of `OPTION_KINDS`. image, video, sound: a file, passed to the task as a `mgzoo.media.Media`; integer was called ``whole`` before this release.
        boolean: ``--name`` and ``--no-name``, passed as True or False.
    help: one line, with its unit. choices: the values of a ``choice``.
    """

    name: str
    kind: str
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind == "whole":
            object.__setattr__(self, "kind", "integer")
            warnings.warn(f"the kind `whole` of the request option {self.name} is now called `integer`", DeprecationWarning, stacklevel=3)

    @property
    def flag(self) -> str:
        """The command line flag."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The interface of the backbone in a recipe; computed by `mgzoo.contracts.contract_of`, recorded in the manifest of an artifact.

    latent: latent space of the autoencoder, or None. conditions: those of the encoders in recipe order, then the
    task's own. concat_channels: extra input channels from the task.
    """

    latent: LatentSpec | None = None
    conditions: tuple[ConditionSpec, ...] = ()
    concat_channels: int = 0


def option(default=dataclasses.MISSING, help: str = "", **metadata):
    """A documented config field. Lists and dicts are copied per instance.

    help: description with unit and shape. formerly: old names of the field, a tuple; recipes with them still load, and so does Python
    where the class has `former_names`. former_values: value -> old name of the value; the config accepts it, and old locks stay valid.
    """
    metadata = {"help": help, **metadata}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def former_names(cls: type) -> type:
    """Class decorator above ``@dataclass``: the constructor takes the names of before too (`option`'s ``formerly``), with a `DeprecationWarning`.

    Raises TypeError where a field is given under two names. Subclasses that are dataclasses need it themselves. Our choice."""
    now, construct = {old: f.name for f in dataclasses.fields(cls) for old in f.metadata.get("formerly", ())}, cls.__init__

    @functools.wraps(construct)
    def __init__(self, *args, **named):
        for old in now.keys() & named.keys():
            if now[old] in named:
                raise TypeError(f"{cls.__name__}() got {now[old]!r} and its old name {old!r}")
            warnings.warn(f"{cls.__name__}({old}=…) is {now[old]}=… now", DeprecationWarning, stacklevel=2)
            named[now[old]] = named.pop(old)
        construct(self, *args, **named)

    cls.__init__ = __init__
    return cls


def require(claims: Mapping[str, bool]) -> None:
    """Raise ValueError with the message of every false claim, one per line; for the ``__post_init__`` of configs.

    claims: e.g. ``{f"fps must be positive, not {self.fps}": self.fps > 0}``; a message with a field name is reported at the recipe line of the field.
    """
    if wrong := [sentence for sentence, holds in claims.items() if not holds]:
        raise ValueError("\n".join(wrong))


def require_at_least(config, least: float, *names: str) -> None:
    """Raise ValueError unless each of these config fields has at least its minimum."""
    require({f"{name} must be at least {least}, not {getattr(config, name)}": getattr(config, name) >= least for name in names})


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Default methods of task configs, for a head without weights that generates latents from texts.

    Optional base class. Further methods: ``sizes()`` for a task with its own size, ``layout()`` for sound latents,
    ``request_options()``, and ``output_modalities()`` for outputs other than video and images.
    """

    @classmethod
    def tiny(cls, **changes):
        """The smallest useful config, for tests."""
        return cls(**changes)

    def required_parts(self) -> tuple[str, ...]:
        """Kinds of the required parts."""
        return ("autoencoder", "encoder", "backbone", "objective", "sampler")

    def modalities(self) -> tuple[str, ...]:
        """Modalities available to encoders."""
        return ("text",)

    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Specs of the conditions from the task itself, besides those of encoders."""
        return ()

    def concat_channels(self, latent: LatentSpec) -> int:
        """Extra input channels of the backbone."""
        return 0

    def num_parameters(self) -> int:
        """Number of its own weights."""
        return 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Default methods of data configs, for clips of one size: subclasses have the fields ``frames``, ``height`` and ``width``,
    or their own ``sizes()``. Optional base class, like `TaskConfig`."""

    @classmethod
    def tiny(cls, **changes):
        """The smallest useful config, for tests."""
        return cls(**changes)

    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """All possible sizes: (frames, height, width) of clips, (samples,) of sounds."""
        return ((self.frames, self.height, self.width),)

    def modalities(self) -> tuple[str, ...]:
        """Modalities: video, images and captions."""
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
    warnings.warn(f"mgzoo.spec.{name} is {_OLD[name]} now; the next release removes the old name", DeprecationWarning, stacklevel=2)
    return globals()[_OLD[name]]
