"""`Model`: the built parts of a recipe, for training, generation and saving.

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
"""Maximum number of truncated texts remembered for one warning each."""
QUOTED = 60
"""Maximum characters of the ignored text in a warning."""
PART_KINDS = ("autoencoder", "encoders", "backbone", "objective", "sampler", "task")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """One input of a frozen encoder, for the cache.

    value: element of the encoder's input list, or a function without arguments that returns it. digest: hex digest of
    the value.
    """

    value: Any
    digest: str

    @classmethod
    def text(cls, words: str) -> EncoderInput:
        """A text."""
        return cls(value=words, digest=blake3(words.encode()).hexdigest())


class Model(nn.Module):
    """The parts of one recipe. Missing roles are None; encoders is an `nn.ModuleDict`.

    recipe: the composed recipe. cache: `mgzoo.model.feature_cache.Cache` for outputs of frozen parts. bases: part name ->
    `mgzoo.artifact.manifest.WeightsReference` of the loaded weights. widened: part name -> tensors missing in the base
    or wider than there. artifact: the loaded artifact, None for a built model;
    loaded_weights: `mgzoo.model.generate.weights_state` after loading. task_id: component id of the task
    head. counting: in training, truncated texts are counted (`counts`) instead of logged.
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
        """Names of the parts with weights, e.g. ``["autoencoder", "encoders.text", "backbone"]``."""
        return [name for name in self.recipe.parts if isinstance(part := self.part(name), nn.Module) and any(True for _ in part.state_dict())]

    def part(self, name: str):
        """The part with this name (``encoders.text``), or None."""
        role, _, key = name.partition(".")
        return self.encoders[key] if key else getattr(self, role)

    def set_task(self, task, component_id: str | None = None) -> None:
        """Replace the task head. component_id: id of the new head; without it, generated media have no
        generation record."""
        del self.task
        self.task, self.task_id = task, component_id

    @property
    def device(self) -> torch.device:
        """Device of the backbone, or of the first part with weights."""
        return next((self.backbone or self).parameters()).device

    def fingerprint(self, name: str) -> tuple[str, ...]:
        """Fingerprint of a frozen part for the cache: component, version, config and digest of the weights."""
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
        """Reset the cached fingerprints; required after a change of frozen weights."""
        self._fingerprints.clear()

    @torch.no_grad()
    def encode_clips(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Latents (C, *axes) float32 of each clip from the frozen autoencoder, of its frames or, for the layout ``sound``,
        of the mean of its sound channels; cached clips are never decoded."""
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
        """The condition of a frozen text encoder; each text is cached."""
        return self.encode_inputs(name, [EncoderInput.text(words) for words in texts])

    @torch.no_grad()
    def encode_inputs(self, name: str, inputs: Sequence[EncoderInput]) -> Condition:
        """The condition of a frozen encoder; each input is cached. Rows of ``tokens`` and ``frames`` of different lengths are
        padded and masked."""
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
        """Truncation of each text by the encoder ``name``; None without truncation."""
        encoder = self.encoders[name]
        return encoder.cut(texts) if hasattr(encoder, "cut") else [None] * len(texts)

    def counts(self) -> dict[str, int]:
        """Numbers of texts truncated in training, by encoder: ``encoders.text.cut``. Never decreases."""
        return {f"encoders.{name}.cut": self._cut[name] for name, encoder in self.encoders.items() if hasattr(encoder, "cut")}

    def _look_for_cuts(self, name: str, inputs: Sequence[Any]) -> None:
        """Count truncated texts or, once per text, log them."""
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
        """The denoising closure for samplers: all branches of a step run as one batch of the backbone.

        concat: name -> (B, C', *axes) extra input channels, concatenated in this order; zeros in branches that drop
        the name.
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
