"""A built recipe: its parts wired together, ready to train, to generate, to save.

Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor, nn

from mgzoo.generation.record import LoadedFrom
from mgzoo.media import uint8_to_float
from mgzoo.model.feature_cache import Cache
from mgzoo.parts import Clip, Condition, Conditions, Cut, Denoise

log = logging.getLogger("mgzoo")
ENCODE_CLIPS = 4
SAID = 10_000
"""Texts that a model remembers having spoken of."""
QUOTED = 60
"""Characters of what is not read that a message repeats."""
PART_KINDS = ("autoencoder", "encoders", "backbone", "objective", "sampler", "task")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """One input of a frozen encoder as the cache knows it.

    value: what the encoder's forward takes in its list, or a function of nothing that gives it when it is needed. digest: hex,
    of exactly that.
    """

    value: Any
    digest: str

    @classmethod
    def text(cls, words: str) -> EncoderInput:
        """A text."""
        return cls(value=words, digest=blake3(words.encode()).hexdigest())


class Model(nn.Module):
    """The parts of one recipe. Roles that the recipe leaves empty are None; encoders is an `nn.ModuleDict`.

    recipe: the composed recipe. cache: `mgzoo.model.feature_cache.Cache` for outputs of frozen parts. bases: part name ->
    `mgzoo.artifact.manifest.WeightsReference` to what its weights were when they were read. widened: part name -> its tensors that the base
    did not have, or not as wide. artifact: what it was loaded from, None for a model that was built;
    loaded_weights: `mgzoo.model.generate.weights_state` then. task_id: component id of the task
    head. counting: while a model is trained, texts that an encoder does not read to their end are counted
    (`counts`) and no longer named in the log.
    """

    def __init__(self, recipe, parts: Mapping[str, Any], cache: Cache):
        super().__init__()
        self.recipe, self.cache = recipe, cache
        encoders = {name.split(".", 1)[1]: part for name, part in parts.items() if name.startswith("encoders.")}
        self.encoders = nn.ModuleDict(encoders)
        for role in PART_KINDS:
            if role != "encoders":
                setattr(self, role, parts.get(role))
        self.artifact: LoadedFrom | None = None
        self.loaded_weights: tuple[int, int] | None = None
        self.task_id = recipe.parts["task"].component.id if "task" in recipe.parts else None
        self.base_models: dict[str, Any] = {}
        self.expanded_tensors: dict[str, tuple[str, ...]] = {}
        self.counting = False
        self._cut: Counter[str] = Counter()
        self._said: dict[tuple[str, str], None] = {}
        self._fingerprints: dict[str, tuple[str, ...]] = {}

    def part_names(self) -> list[str]:
        """Names of the parts that hold weights, e.g. ``["autoencoder", "encoders.text", "backbone"]``."""
        return [name for name in self.recipe.parts if isinstance(part := self.part(name), nn.Module) and any(True for _ in part.state_dict())]

    def part(self, name: str):
        """The part of this name (``encoders.text``), or None."""
        role, _, key = name.partition(".")
        return self.encoders[key] if key else getattr(self, role)

    def set_task(self, task, component_id: str | None = None) -> None:
        """Put another task head in the place of the model's own, which may be a module and the other none. component_id: of that head; without
        it what the head gives carries no record of what made it."""
        del self.task
        self.task, self.task_id = task, component_id

    @property
    def device(self) -> torch.device:
        """Where the generating part (the backbone, or whatever weights there are) lives."""
        return next((self.backbone or self).parameters()).device

    def fingerprint(self, name: str) -> tuple[str, ...]:
        """What a frozen part's output depends on: component, version, config and a digest of its weights."""
        if name not in self._fingerprints:
            spec, digest = self.recipe.parts[name], blake3()
            for key, value in sorted(self.part(name).state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            config = json.dumps(dataclasses.asdict(spec.config), sort_keys=True, default=str)
            if spec.adapter:  # its scale is in no weight
                config += json.dumps(dataclasses.asdict(spec.adapter), sort_keys=True)
            self._fingerprints[name] = (spec.component.id, spec.provider.version, config, digest.hexdigest())
        return self._fingerprints[name]

    def clear_fingerprints(self) -> None:
        """To be called where a frozen part's weights have changed: digests are taken once."""
        self._fingerprints.clear()

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

        return self.cache.get_or_compute(self.fingerprint("autoencoder"), clips, compute)

    def encode_conditions(self, inputs: Mapping[str, Any]) -> dict[str, Condition]:
        """Run the encoders named in ``inputs`` (lists of length B) and key their conditions by name."""
        for name, values in inputs.items():
            self._look_for_cuts(name, values)
        conditions = [self.encoders[name](values) for name, values in inputs.items()]
        return {condition.name: condition for condition in conditions}

    def encode_texts(self, name: str, texts: Sequence[str]) -> Condition:
        """The condition of a frozen text encoder, each text through the cache: a text that was met before costs nothing."""
        return self.encode_inputs(name, [EncoderInput.text(words) for words in texts])

    @torch.no_grad()
    def encode_inputs(self, name: str, inputs: Sequence[EncoderInput]) -> Condition:
        """The condition of a frozen encoder, each input through the cache. Rows of ``tokens`` and ``frames`` may differ in length:
        shorter ones are filled up with what does not count."""
        encoder = self.encoders[name]
        vector = encoder.spec.kind == "vector"
        self._look_for_cuts(name, [one.value for one in inputs])  # a text that is in the cache was cut as well

        def compute(missing: Sequence[EncoderInput]) -> list[Tensor]:
            condition = encoder([one.value() if callable(one.value) else one.value for one in missing])
            if encoder.spec.kind == "tokens":
                return [values[mask] for values, mask in zip(condition.values, condition.mask, strict=True)]
            return list(condition.values)

        rows = self.cache.get_or_compute(self.fingerprint(f"encoders.{name}"), inputs, compute)
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
                log.warning("text truncated by encoders.%s (%d of %d %s); ignored: %r", name, cut.read, cut.whole, cut.unit,
                            rest if len(rest) <= QUOTED else rest[:QUOTED].rstrip() + "…")
                self._said[name, text] = None
        while len(self._said) > SAID:
            del self._said[next(iter(self._said))]

    def denoiser(self, conditions: Conditions, concat: Mapping[str, Tensor] | None = None) -> Denoise:
        """The one closure a sampler sees: all branches of a step run as one batch of the backbone.

        concat: name -> (B, C', *axes) extra input channels that a task head concatenates, in this order; a branch that drops the
        name has zeros there.
        """
        device, concat = self.device, concat or {}

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
            fed = [torch.cat([extra * (name not in branch) for branch in branches]).to(device) for name, extra in concat.items()]
            return many, torch.cat(fed, 1) if fed else None

        def denoise(latents: Tensor, t: Tensor, branches: Sequence[frozenset[str]]) -> list[Tensor]:
            known, fed = joined(tuple(branches))
            many = torch.cat([latents.to(device)] * len(branches))
            if fed is not None:
                many = torch.cat([many, fed.to(many.dtype)], 1)
            many = self.backbone(many, torch.cat([t.to(device)] * len(branches)), known)
            return [prediction.float() for prediction in many.chunk(len(branches))]

        return denoise
