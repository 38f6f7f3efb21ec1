"""Text to video with the subject of a reference picture: Movie Gen's personalized video (section 4).

The reference, cut out on white, goes through a vision encoder whose tokens the backbone projects and puts beside the text's in
cross-attention. Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from blake3 import blake3
from torch import Tensor

from mgzoo import media, tasks
from mgzoo.media import Media, uint8_to_float
from mgzoo.model.model import EncoderInput
from mgzoo.parts import Clip, Condition, Example, Loss
from mgzoo.spec import MgzooError, as_seed
from mgzoo_personalize.configs import ReferenceConfig
from mgzoo_personalize.foreground import crop_subject, foreground
from mgzoo_personalize.subject_detectors import SUBJECT_DETECTORS, choose_subject

TEMPERATURE, TEXT_TEMPERATURE = 0.1, 0.2
EXAMPLE = 'mgzoo generate MODEL --task personalize --reference face.png "a person running"'


class Reference:
    """Flow matching on latents of captioned clips with a picture of their subject; generation from a prompt and a picture."""

    def __init__(self, config: ReferenceConfig):
        self.config = config

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe's stages freeze and unfreeze the vision encoder."""
        return ["backbone", *(f"encoders.{key}" for key in model.encoders)]

    def text(self, prompt: str, fps: float) -> str:
        """The words that the encoders see for a prompt at a frame rate."""
        return tasks.prompt_with_fps(prompt, fps) if self.config.fps_token else prompt

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents and frozen encoders' conditions through the cache; the other encoders' inputs. A clip without a reference of its own
        (``extra["reference"]``) is its own: the subject of its middle frame."""
        words = [EncoderInput.text(self.subject_text(clip) if self.is_contrastive_stage(model) else self.text(clip.caption, clip.fps)) for clip in clips]
        pictures = [self.reference_of(clip) for clip in clips]
        given = {key: words if tasks.input_modality(model, key) == "text" else pictures for key in model.encoders}
        if self.is_contrastive_stage(model):  # the other picture of each pair
            frames = [self.own_reference(clip) for clip in clips]
            given |= {key: pictures + frames for key in self.trainable_vision_encoders(model)}
        return tasks.prepare_example(model, clips, given)

    def is_contrastive_stage(self, model) -> bool:
        """Whether a stage trains vision encoders alone, by `contrastive_loss`: its backbone is frozen."""
        return model.recipe.parts["backbone"].frozen and bool(self.trainable_vision_encoders(model))

    def trainable_vision_encoders(self, model) -> list[str]:
        """Keys of the encoders that take pictures and are not frozen."""
        return [key for key in tasks.encoders_of(model, "image") if not model.recipe.parts[f"encoders.{key}"].frozen]

    def subject_text(self, clip: Clip) -> str:
        """The words for a clip's subject: ``extra["who"]``, else its caption."""
        return clip.extra.get("who") or clip.caption

    def contrastive_loss(self, model, example: Example) -> Tensor:
        """InfoNCE over the batch (CLIP's loss, between pictures): references against frames of their clips, and the reverse, on unit mean tokens
        at temperature 0.1. The targets are `soft_targets`, whose entropy is subtracted, so that 0 is the minimum.
        """
        losses, near = [], self.soft_targets(model, example)
        entropy = torch.special.entr(near).sum(1).mean()
        for key in self.trainable_vision_encoders(model):
            one, other = F.normalize(model.encoders[key](example.inputs[key]).values.float().mean(1), dim=-1).chunk(2)
            logits, target = one @ other.T / TEMPERATURE, near.to(one.device)
            losses.append((F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2 - entropy.to(one.device))
        return sum(losses) / len(losses)

    def soft_targets(self, model, example: Example) -> Tensor:
        """(B, B), rows summing to 1: the identity matrix, mixed by the config's `text_target_weight` with the softmax of text similarities. These are
        cosines of the frozen text encoders' mean tokens for the subject, less the batch's mean, at temperature 0.2 (our choice)."""
        itself, share = torch.eye(len(example.latents)), self.config.text_target_weight
        told = [example.conditions[name] for key in tasks.encoders_of(model, "text") if (name := model.encoders[key].spec.name) in example.conditions]
        tokens = [one for one in told if one.values.ndim == 3]
        if not share or not tokens:
            return itself
        means = [(one.values.float() * one.mask[..., None]).sum(1) / one.mask.sum(1, keepdim=True) for one in tokens]
        units = [F.normalize(mean - mean.mean(0), dim=-1) for mean in means]
        return (1 - share) * itself + share * (sum(unit @ unit.T for unit in units) / len(units) / TEXT_TEMPERATURE).softmax(1).cpu()

    def reference_of(self, clip: Clip) -> EncoderInput:
        """The picture that goes with a clip in training, float (3, 1, crop, crop) in [-1, 1] when it is needed."""
        known, size = clip.extra.get("reference"), self.config.crop
        if known is not None:
            return EncoderInput(value=lambda: uint8_to_float(media.fit(known.load()[None], size, size)), digest=blake3(f"{known.digest} {size}".encode()).hexdigest())

        return self.own_reference(clip)

    def own_reference(self, clip: Clip) -> EncoderInput:
        """The subject of a clip's middle frame."""
        digest = blake3(f"middle frame of {clip.digest} {self.config.crop}".encode()).hexdigest()
        return EncoderInput(value=lambda: self.crop_reference(clip.load()[clip.frames // 2]), digest=digest)

    def crop_reference(self, picture: Tensor) -> Tensor:
        """A training picture of one subject -> float (3, 1, crop, crop) in [-1, 1]; all of it where nothing stands out."""
        subject = foreground(picture) if self.config.finder == "paper" else None
        size = self.config.crop
        return uint8_to_float(crop_subject(picture, subject, size)[None] if subject else media.fit(picture[None], size, size))

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """The objective's loss; of a random share of samples all conditions are dropped, and each alone of as many more, for guidance.

        In a stage whose backbone rests the vision encoders learn alone, by `contrastive_loss`: Movie Gen's comes trained, a small one has to begin somewhere.
        """
        if self.is_contrastive_stage(model):
            total = self.contrastive_loss(model, example)
            return Loss(total=total, terms={"contrastive_loss": total.detach()})
        conditions = tasks.encode_example(model, example)
        conditions = tasks.drop_conditions(conditions, model.recipe.train.condition_dropout, generator, independently=list(conditions))
        return tasks.training_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Mean loss over ten equally spaced times with the generator's noise: ``loss``; and ``without_reference``, with the pictures
        dropped and the same noise, which a model that looks at them must do worse at. Of encoders that learn alone `contrastive_loss`."""
        if self.is_contrastive_stage(model):
            return {"loss": self.contrastive_loss(model, example).item()}
        conditions, state = tasks.encode_example(model, example), generator.get_state()
        found = {"loss": tasks.validation_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, conditions), generator)}
        blind = self.without_pictures(model, conditions)
        generator.set_state(state)
        found["without_reference"] = tasks.validation_loss(model, example.latents, lambda noisy, t: model.backbone(noisy, t, blind), generator)
        return found

    def without_pictures(self, model, conditions: Mapping[str, Condition]) -> dict[str, Condition]:
        """The conditions with those of pictures dropped."""
        pictures = tasks.encoders_of(model, "image")
        return {name: one.dropped() if name in pictures else one for name, one in conditions.items()}

    def generate(
        self,
        model,
        *,
        prompt: str | Sequence[str],
        reference: Media,
        subject: int | None = None,
        seed: int = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media | list[Media]:
        """A clip of the reference's subject doing what the prompt says; a list of prompts gives a list of clips.

        reference: one picture; its subject is found and cut out. subject: which of several, from the left, counted from 1; without it a
        picture of several raises MgzooError, as one of none and one that is too small do. The rest as in text to video: clip i of a
        list starts from the noise of seed + i.
        """
        if not tasks.encoders_of(model, "image"):  # it would be drawn, and the reference ignored
            raise MgzooError("this model has no encoder for a reference picture", remedy="use a personalized model, e.g. from tiny/personalize")
        prompts = tasks.as_prompts(prompt, EXAMPLE)
        size = tasks.resolve_size(model, self.config.sizes()[0], frames, height, width)
        picture = self.cut_reference(reference, subject)
        media = self.generate_clips(model, prompts, [picture] * len(prompts), size=size, seed=seed, fps=fps, steps=steps, guidance=guidance, on_step=on_step)
        return media[0] if isinstance(prompt, str) else media

    def cut_reference(self, reference: Media, subject: int | None = None) -> Tensor:
        """The subject of a picture, uint8 (crop, crop, 3)."""
        picture = reference.video[0]
        found = SUBJECT_DETECTORS[self.config.finder](picture)
        chosen = choose_subject(found, subject, self.config.smallest, "face" if self.config.finder == "faces" else "subject")
        return crop_subject(picture, chosen, self.config.crop)

    @torch.no_grad()
    def generate_clips(self, model, prompts: Sequence[str], pictures: Sequence[Tensor] | None, *, size: tuple[int, int, int] | None = None, seed: int = 0,
             fps: float | None = None, steps: int | None = None, guidance: float | None = None, on_step=None) -> list[Media]:  # fmt: skip
        """One clip for each prompt and picture, uint8 (crop, crop, 3) as `cut_reference` makes it; None for no picture at all, as a baseline."""
        size, fps = size or self.config.sizes()[0], fps or self.config.fps
        words = [self.text(p, fps) for p in prompts]
        blank = torch.full((self.config.crop, self.config.crop, 3), 255, dtype=torch.uint8)
        shown = [uint8_to_float(picture[None]) for picture in (pictures or [blank] * len(prompts))]
        conditions = model.encode_conditions({key: words if tasks.input_modality(model, key) == "text" else shown for key in model.encoders})
        if pictures is None:
            conditions = self.without_pictures(model, conditions)
        sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
        noise = tasks.initial_noise(model, tasks.latent_axes(model, size), range(seed, seed + len(prompts)))
        latents = tasks.sample_latents(model, sampler, model.denoiser(conditions), noise, conditions=tuple(conditions), seed=seed, on_step=on_step)
        request = {"frames": size[0], "height": size[1], "width": size[2], "fps": fps, "sampler": dataclasses.asdict(sampler.config)}
        return [
            Media(video=tasks.decode_frames(model, latent, size), fps=fps, caption=p, meta={"prompt": p, **request, "seed": as_seed(seed + i)})
            for i, (latent, p) in enumerate(zip(latents, prompts, strict=True))
        ]
