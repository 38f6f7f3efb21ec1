"""A built recipe: its parts wired together, ready to train, to generate, to save.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import logging
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor, nn

from mgzoo import adapters, asks
from mgzoo import cache as caches
from mgzoo.contracts import contract_of
from mgzoo.discovery import discover
from mgzoo.hub import refs
from mgzoo.media import uint8_to_float
from mgzoo.parts import Clip, Condition, Conditions, Cut, Denoise
from mgzoo.spec import MgzooError, as_seed, spread

log = logging.getLogger("mgzoo")
ENCODE_CLIPS = 4
SAID = 10_000
"""Texts that a model remembers having spoken of."""
QUOTED = 60
"""Characters of what is not read that a message repeats."""
PART_KINDS = ("autoencoder", "encoders", "backbone", "objective", "sampler", "task")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a frozen encoder as the cache knows it.

    value: what the encoder's forward takes in its list, or a function of nothing that gives it when it is needed. digest: hex,
    of exactly that.
    """

    value: Any
    digest: str

    @classmethod
    def text(cls, words: str) -> Input:
        """A text."""
        return cls(value=words, digest=blake3(words.encode()).hexdigest())


class Model(nn.Module):
    """The parts of one recipe. Roles that the recipe leaves empty are None; encoders is an `nn.ModuleDict`.

    recipe: the composed recipe. cache: `mgzoo.cache.Cache` for outputs of frozen parts. bases: part name ->
    `mgzoo.hub.manifest.Reference` to what its weights were when they were read. widened: part name -> its tensors that the base
    did not have, or not as wide. counting: while a model is trained, texts that an encoder does not read to their end are counted
    (`counts`) and no longer named in the log.
    """

    def __init__(self, recipe, parts: Mapping[str, Any], cache: caches.Cache):
        super().__init__()
        self.recipe, self.cache = recipe, cache
        encoders = {name.split(".", 1)[1]: part for name, part in parts.items() if name.startswith("encoders.")}
        self.encoders = nn.ModuleDict(encoders)
        for role in PART_KINDS:
            if role != "encoders":
                setattr(self, role, parts.get(role))
        self.bases: dict[str, Any] = {}
        self.widened: dict[str, tuple[str, ...]] = {}
        self.counting = False
        self._cut: Counter[str] = Counter()
        self._said: dict[tuple[str, str], None] = {}
        self._identities: dict[str, tuple[str, ...]] = {}

    def part_names(self) -> list[str]:
        """Names of the parts that hold weights, e.g. ``["autoencoder", "encoders.text", "backbone"]``."""
        return [name for name in self.recipe.parts if isinstance(part := self.part(name), nn.Module) and any(True for _ in part.state_dict())]

    def part(self, name: str):
        """The part of this name (``encoders.text``), or None."""
        role, _, key = name.partition(".")
        return self.encoders[key] if key else getattr(self, role)

    def take(self, task) -> None:
        """Put another task head in the place of the model's own, which may be a module and the other none."""
        del self.task
        self.task = task

    @property
    def device(self) -> torch.device:
        """Where the generating part (the backbone, or whatever weights there are) lives."""
        return next((self.backbone or self).parameters()).device

    def identity(self, name: str) -> tuple[str, ...]:
        """What a frozen part's output depends on: component, version, config and a digest of its weights."""
        if name not in self._identities:
            spec, digest = self.recipe.parts[name], blake3()
            for key, value in sorted(self.part(name).state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            config = json.dumps(dataclasses.asdict(spec.config), sort_keys=True, default=str)
            if spec.adapter:  # its scale is in no weight
                config += json.dumps(dataclasses.asdict(spec.adapter), sort_keys=True)
            self._identities[name] = (spec.component.id, spec.provider.version, config, digest.hexdigest())
        return self._identities[name]

    def forget_identities(self) -> None:
        """To be called where a frozen part's weights have changed: digests are taken once."""
        self._identities.clear()

    @torch.no_grad()
    def encode_clips(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Latents (C, *axes) float32 of each clip from the frozen autoencoder, of its picture or, where the autoencoder's layout is
        ``sound``, of the mean of its sound's channels; clips found in the cache are never decoded."""
        sound = self.autoencoder.spec.layout == "sound"

        def compute(missing: Sequence[Clip]) -> list[Tensor]:
            device = next(self.autoencoder.parameters()).device
            media = [clip.sound().mean(0, keepdim=True) if sound else uint8_to_float(clip.load()) for clip in missing]
            # Few at a time: one clip's activations are much larger than the clip.
            step = ENCODE_CLIPS if len({m.shape for m in media}) == 1 else 1
            batches = [torch.stack(media[i : i + step]).to(device) for i in range(0, len(media), step)]
            return [latents for batch in batches for latents in self.autoencoder.encode(batch).float().cpu()]

        return self.cache.cached(self.identity("autoencoder"), clips, compute)

    def encode_conditions(self, inputs: Mapping[str, Any]) -> dict[str, Condition]:
        """Run the encoders named in ``inputs`` (lists of length B) and key their conditions by name."""
        for name, values in inputs.items():
            self._look_for_cuts(name, values)
        conditions = [self.encoders[name](values) for name, values in inputs.items()]
        return {condition.name: condition for condition in conditions}

    def encode_texts(self, name: str, texts: Sequence[str]) -> Condition:
        """The condition of a frozen text encoder, each text through the cache: a text that was met before costs nothing."""
        return self.encode_inputs(name, [Input.text(words) for words in texts])

    @torch.no_grad()
    def encode_inputs(self, name: str, inputs: Sequence[Input]) -> Condition:
        """The condition of a frozen encoder, each input through the cache. Rows of ``tokens`` and ``frames`` may differ in length:
        shorter ones are filled up with what does not count."""
        encoder = self.encoders[name]
        vector = encoder.spec.kind == "vector"
        self._look_for_cuts(name, [one.value for one in inputs])  # a text that is in the cache was cut as well

        def compute(missing: Sequence[Input]) -> list[Tensor]:
            condition = encoder([one.value() if callable(one.value) else one.value for one in missing])
            if encoder.spec.kind == "tokens":
                return [values[mask] for values, mask in zip(condition.values, condition.mask, strict=True)]
            return list(condition.values)

        rows = self.cache.cached(self.identity(f"encoders.{name}"), inputs, compute)
        values = torch.stack(rows) if vector else nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.ones(len(rows), dtype=torch.bool)
        if encoder.spec.kind == "tokens":
            mask = torch.arange(values.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        return Condition(name=encoder.spec.name, values=values, mask=mask).to(self.device)

    def cuts(self, name: str, texts: Sequence[str]) -> list[Cut | None]:
        """What the encoder ``name`` does not read of each text; None where it reads all, as one without ``cut`` does."""
        encoder = self.encoders[name]
        return encoder.cut(texts) if hasattr(encoder, "cut") else [None] * len(texts)

    def counts(self) -> dict[str, int]:
        """How many texts an encoder did not read to their end while this model was trained: ``encoders.text.cut``. Never falls."""
        return {f"encoders.{name}.cut": self._cut[name] for name, encoder in self.encoders.items() if hasattr(encoder, "cut")}

    def _look_for_cuts(self, name: str, inputs: Sequence[Any]) -> None:
        """Count or, once for each text, say in the log what an encoder does not read."""
        texts = [one for one in inputs if isinstance(one, str)] if hasattr(self.encoders[name], "cut") else []
        found = {text: cut for text, cut in zip(texts, self.cuts(name, texts) if texts else (), strict=True) if cut}
        if self.counting:
            self._cut[name] += sum(text in found for text in texts)
            return
        for text, cut in found.items():
            if (name, text) not in self._said:
                rest = cut.rest.strip()
                log.warning("a text is longer than encoders.%s reads (%d of %d %s); not read: %r", name, cut.read, cut.whole, cut.unit,
                            rest if len(rest) <= QUOTED else rest[:QUOTED].rstrip() + "…")
                self._said[name, text] = None
        while len(self._said) > SAID:
            del self._said[next(iter(self._said))]

    def denoiser(self, conditions: Conditions, feeds: Mapping[str, Tensor] | None = None) -> Denoise:
        """The one closure a sampler sees: all branches of a step run as one batch of the backbone.

        feeds: name -> (B, C', *axes) extra input channels that a task head concatenates, in this order; a branch that drops the
        name has zeros there.
        """
        device, feeds = self.device, feeds or {}

        @functools.cache  # the same in every step
        def joined(branches: tuple[frozenset[str], ...]) -> tuple[dict[str, Condition], Tensor | None]:
            many = {
                name: Condition(
                    name=name,
                    values=torch.cat([condition.values.to(device)] * len(branches)),
                    mask=torch.cat([(condition.dropped() if name in branch else condition).mask.to(device) for branch in branches]),
                )
                for name, condition in conditions.items()
            }
            fed = [torch.cat([feed * (name not in branch) for branch in branches]).to(device) for name, feed in feeds.items()]
            return many, torch.cat(fed, 1) if fed else None

        def denoise(latents: Tensor, t: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
            known, fed = joined(tuple(branches))
            many = torch.cat([latents.to(device)] * len(branches))
            if fed is not None:
                many = torch.cat([many, fed.to(many.dtype)], 1)
            many = self.backbone(many, torch.cat([t.to(device)] * len(branches)), known)
            return [prediction.float() for prediction in many.chunk(len(branches))]

        return denoise

    @torch.inference_mode()
    def generate(self, prompt: str | None = None, **request):
        """Answer a request through the task head: ``generate("a rabbit hopping", seed=0)`` -> `mgzoo.media.Media`.

        What else a request may hold (frames, size, steps, guidance, on_step …) is the task's to say; what it asks for as a file may
        be a path or a `mgzoo.media.Media`. seed: 0 to 2^64 - 1, or ``random`` for one that is drawn and recorded.
        """
        self.eval()
        if prompt is not None:
            request["prompt"] = prompt
        if request.get("seed") is not None:
            request["seed"] = asks.seed(request["seed"])
        if self.task is None:
            raise MgzooError("this model has no task head, so it can be asked for nothing", remedy="add parts.task to its recipe")
        request = asks.read(asks.of(getattr(self.task, "config", None)), request)
        takes = dict(list(inspect.signature(self.task.generate).parameters.items())[1:])
        if not any(one.kind is one.VAR_KEYWORD for one in takes.values()):
            if "on_step" not in takes:  # a task without steps has no progress to tell
                request.pop("on_step", None)
            needs = [name for name, one in takes.items() if one.default is one.empty and name not in request]
            strange = [name for name in request if name not in takes]
            if needs or strange:
                said = [f"needs {', '.join(needs)}"] * bool(needs) + [f"takes no {', '.join(strange)}"] * bool(strange)
                raise MgzooError(f"the task {type(self.task).__name__} {' and '.join(said)}",
                                 remedy=f"ask for what it takes: {', '.join(takes)}; or choose another task")
        counting, self.counting = self.counting, False
        try:
            return self.task.generate(self, **request)
        finally:
            self.counting = counting

    def save(self, folder: str | Path, **details) -> Path:
        """Write the model as an artifact folder; see `save` below."""
        return save(self, folder, **details)


def build(recipe, device: str = "cpu", *, weights: bool = True, cache: caches.Cache | None = None) -> Model:
    """Build every part of a recipe on a device (``meta``, ``cpu``, ``cuda``).

    Each part is initialised from a seed of its own (recipe seed and part name), so swapping one part leaves the
    others' first weights as they were. weights: load the parts' `weights` artifacts (never on ``meta``). Adapters are put on
    last, untrained.
    """
    registry, wires, parts = discover(), contract_of(recipe), {}
    for name, part in recipe.parts.items():
        target = registry.build_class(part.component.id)
        extra = {}
        if part.kind == "backbone":
            extra = {"latent": wires.latent, "conditions": wires.conditions, "feeds": wires.feeds}
        elif part.kind == "encoder":
            extra = {"name": name.split(".", 1)[1]}
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(as_seed(spread(recipe.seed) * 1_000_003 + zlib.crc32(name.encode())))
            parts[name] = target(part.config, **extra)
    model = Model(recipe, parts, cache or caches.Cache())
    if weights and torch.device(device).type != "meta":
        with refs.licensed(recipe.policy.licenses):
            for name, part in recipe.parts.items():
                if part.weights:
                    load_part(model, name, part.weights)
    for name, part in recipe.parts.items():
        if part.adapter:
            adapters.adapt(model, name, part.adapter)
    return model


def load_part(model: Model, name: str, ref: str) -> None:
    """Fill one part from the artifact ``ref``, which is its base from then on. Names and shapes must agree exactly, but for what a
    part that has ``widened`` adds to a narrower base. An adapter on the part stays as it is."""
    from mgzoo.hub.artifact import base_of, weights_for

    _, state = weights_for(ref, name)
    part, base, new = model.part(name), base_of(ref, name), ()
    if hasattr(part, "widened"):
        state, new = part.widened(state)
    try:
        part.load_state_dict({**state, **adapters.state(part)}, strict=True)
    except RuntimeError as error:
        raise MgzooError(
            f"the weights of {name} in {ref} do not fit {model.recipe.parts[name].component.id} as configured: {error}",
            remedy="use the artifact's own config (leave `config` out beside `weights`), or drop `weights`",
            origin=str(model.recipe.source),
        ) from None
    model.bases.pop(name, None)
    model.widened[name] = tuple(new)
    if base:
        model.bases[name] = base


def save(model: Model, folder: str | Path, **details) -> Path:
    """Write the model as an artifact folder; see `mgzoo.hub.artifact.save` for the details it takes."""
    from mgzoo.hub import artifact

    return artifact.save(model, Path(folder), **details)


def load(ref: str | Path, device: str = "cpu", **details) -> Model:
    """Load an artifact: a folder, ``registry/NAME[@tag]`` or ``org/name[@revision]``."""
    from mgzoo.hub import artifact

    return artifact.load(ref, device=device, **details)
