"""Sound for video and from text, and more of a sound: the task head of Movie Gen Audio (section 6).

One model, five uses: text to sound, video to sound, both, extension at either end, infilling. The text is attended to, features of the
clip's frames are added to the latents of their time, and the given sound goes in beside the noisy latents on channels, masked where it is
to be made anew, with one channel more that says where it is given.

Shape letters as in `mgzoo.parts`; here A channels of a sound, N samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mgzoo import tasks
from mgzoo.media import Media
from mgzoo.model.model import EncoderInput
from mgzoo.parts import Clip, Condition, Conditions, Example, Latents, Loss
from mgzoo.spec import MgzooError, as_seed
from mgzoo_audio import request
from mgzoo_audio.captions import caption, clip_caption
from mgzoo_audio.configs import SoundConfig
from mgzoo_audio.loudness import normalize_loudness
from mgzoo_audio.masking import context_masks, draw_dropped
from mgzoo_audio.ranking import choose_best
from mgzoo_audio.splice import prepare_given, splice
from mgzoo_audio.video_features import Footage, frames_to_float, resample_features, shrink_frames

CONTEXT = "context"


@dataclass(frozen=True, kw_only=True)
class SoundExample(Example):
    """footage: for each sample its picture, or None. times: T of each sample. rows of ``inputs`` of video encoders are the samples with one."""

    footage: tuple[Footage | None, ...] = ()
    times: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """One sound to sample. words: what the text encoders see, None for nothing. context: (C + 1, T), the given latents and where they are."""

    words: str | None
    footage: Footage | None = None
    context: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """The latents that are sampled, and where they lie.

    lead, new, trail: latents of given sound before the new stretch, of the stretch, of given sound after it. origin: where the first of them
    begins, in samples of the given sound's time.
    """

    lead: int = 0
    new: int
    trail: int = 0
    origin: int = 0

    @property
    def times(self) -> int:
        return self.lead + self.new + self.trail


class Sound:
    """``audio.sound.v1``."""

    def __init__(self, config: SoundConfig):
        self.config = config

    # ------------------------------------------------------------------------------------------------------ training

    def trained(self, model) -> list[str]:
        """The backbone and every encoder; a recipe freezes those it takes ready-made."""
        return ["backbone", *(f"encoders.{key}" for key in model.encoders)]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Latents of the clips' sound, what the encoders read, and the whole sound as context, which `loss` masks anew each time."""
        latents = [self.compand(latent) for latent in model.encode_clips(clips)]
        words = [clip_caption(clip.caption, clip.extra) for clip in clips]
        shown = [self._footage(model, clip) for clip in clips]
        frozen, inputs, conditions, times = tasks.frozen_encoders(model), {}, {}, tuple(latent.shape[1] for latent in latents)
        for key in model.encoders:
            if tasks.input_modality(model, key) == "text":
                if key in frozen:
                    conditions[key] = model.encode_texts(key, words)
                else:
                    inputs[key] = words
            elif key not in frozen:
                inputs[key] = _batch([self._pixels(one) for one in _some(shown)])
            else:
                seen = [EncoderInput(value=partial(self._pixels, one), digest=f"{one.digest}-{self.config.picture}") for one in _some(shown)]
                conditions[key] = self._at_latents(model, model.encode_inputs(key, seen), shown, times)
        context = [torch.cat([latent, torch.ones_like(latent[:1])]) for latent in latents]
        return SoundExample(
            latents=tasks.stack_latents(latents), concat=tasks.stack_latents(context), inputs=inputs, conditions=conditions, footage=tuple(shown), times=times
        )

    def loss(self, model, example: SoundExample, generator: torch.Generator) -> Loss:
        """The objective's loss over the whole sound, given a random part of it, with conditions of a random share of samples dropped."""
        config, conditions = self.config, self._conditions(model, example)
        told = self._told(model)  # two encoders of one text lose it together
        everything, alone = draw_dropped(
            len(example.times), model.recipe.train.condition_dropout, config.drop_each, list(dict.fromkeys(told.values())), generator
        )
        conditions = {name: condition.dropped(alone[told[name]]) for name, condition in conditions.items()}
        masks = context_masks(example.times, config.full_mask, config.least_mask, generator)
        masks = [mask & ~gone for mask, gone in zip(masks, everything, strict=True)]
        return tasks.training_loss(model, example.latents, self._predict(model, conditions, _masked(example.concat, masks)), generator)

    @torch.no_grad()
    def validate(self, model, example: SoundExample, generator: torch.Generator) -> dict[str, float]:
        """Mean loss over ten equally spaced times, all of the sound masked; and the same without the text, and without the video."""
        conditions = self._conditions(model, example)
        nothing = _masked(example.concat, [torch.zeros(times, dtype=torch.bool) for times in example.times])
        state = generator.get_state()

        def measured(given: dict[str, Condition]) -> float:
            generator.set_state(state)  # the same noise, so that the difference is the condition's
            return tasks.validation_loss(model, example.latents, self._predict(model, given, nothing), generator)

        told = self._told(model)

        def without(what: str) -> dict[str, Condition]:
            return {name: condition.dropped() if told[name] == what else condition for name, condition in conditions.items()}

        return {"loss": measured(conditions), **{f"without_{what}": measured(without(what)) for what in dict.fromkeys(told.values())}}

    def _predict(self, model, conditions: Conditions, context: Latents) -> tasks.Predict:
        return lambda noisy, t: model.backbone(tasks.concat_channels(noisy, context), t, conditions)

    # ---------------------------------------------------------------------------------------------------- generation

    def generate(
        self,
        model,
        *,
        prompt: str | None = None,
        video: Media | None = None,
        audio: Media | None = None,
        extend: str | None = None,
        infill: str | None = None,
        seconds: float | None = None,
        music: str = "",
        quality: float | None = None,
        candidates: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Media:
        """A sound for a prompt, a clip with its sound, or a given sound with more of it.

        video: the clip is given back with its own picture, and a sound exactly as long. audio: with ``extend`` ("20s" after it, "-5s" before it)
        or ``infill`` ("2s-3s"); resampled to the model's rate where it has another; its samples are kept as they are but for the
        config's `fade` seconds next to the new sound. New sounds are brought to the config's loudness as far as its peak allows;
        what joins a given sound keeps its level. candidates: number i starts from the noise of seed + i; the best ranked is kept.
        """
        said = bool(prompt and prompt.strip())
        if prompt is not None and not said:
            raise MgzooError("the prompt is empty", remedy=f"describe the sound, e.g. {request.EXAMPLE}")
        request.validate_request(prompt=said, video=video is not None, audio=audio is not None, extend=extend, infill=infill, seconds=seconds,
                        candidates=candidates, quality=quality)  # fmt: skip
        config, rate = self.config, self._rate(model)
        given = prepare_given(audio, rate) if audio is not None else None
        length = len(video.video) / video.fps if video is not None else seconds if seconds is not None else config.seconds
        plan = request.plan_request(rate, given.shape[1] if given is not None else 0, extend, infill, length)
        if video is not None and given is not None and abs(plan.given - length * rate) > rate / video.fps:
            raise MgzooError(f"the clip has {length:.2f} s, but the sound has {plan.given / rate:.2f} s", remedy="give the sound of this clip")
        words = caption(prompt, quality=config.quality if quality is None else quality, music=1.0 if music else None,
                                 music_description=music) if said or music else None  # fmt: skip
        place = self._place(model, plan)
        begins = place.origin / rate
        shown = None if video is None else Footage(load=lambda: video.video, frames=len(video.video), fps=video.fps, start=begins)
        contexts = [None] if given is None else self._contexts(model, given, place)
        wanted = [SampleSpec(words=words, footage=shown, context=context, seed=as_seed(seed + i)) for i in range(candidates) for context in contexts]
        sampler = tasks.override_sampler(model.sampler, steps=steps, guidance=guidance)
        made = self.sounds(model, wanted, place.times, sampler=sampler, on_step=on_step).unflatten(0, (candidates, len(contexts)))
        if given is None:
            finished = [normalize_loudness(one[:, : plan.new], rate, config.loudness, config.peak) for one in made]
        else:
            fade = round(config.fade * rate)
            finished = [splice(given, one, plan, place.origin, fade, config.peak) for one in made]
        picture = {} if video is None else {"video": video.video, "fps": video.fps}
        answers = [Media(audio=one, rate=rate, caption=prompt or music, **picture) for one in finished]
        chosen, scores = choose_best(config.ranking, answers) if candidates > 1 else (0, {})
        asked = {"prompt": prompt, "seed": seed, "extend": extend, "infill": infill, "seconds": seconds, "music": music, "quality": quality, "candidates": candidates}
        meta = {name: value for name, value in asked.items() if value not in (None, "")}
        meta |= {"sampler": dataclasses.asdict(sampler.config)} | ({"chosen": chosen, "scores": scores} if scores else {})
        return Media(audio=finished[chosen], rate=rate, caption=prompt or music, meta=meta, **picture)

    def sounds(self, model, wanted: Sequence[SampleSpec], times: int, *, sampler=None, on_step=None) -> Tensor:
        """Sounds (B, samples) float32, of ``times`` latents each, as the model gives them: neither cut nor levelled."""
        latents = self.expand(self.sampled(model, wanted, times, sampler=sampler or model.sampler, on_step=on_step))
        dtype = next(model.autoencoder.parameters()).dtype
        size = (times * self._hop(model),)
        made = torch.cat([model.autoencoder.decode(latent[None].to(dtype), size)[:, 0].float().cpu() for latent in latents])
        if not made.isfinite().all():
            raise MgzooError("the model output has non-finite values", remedy="reduce the guidance scale, or check the weights with `mgzoo verify`")
        return made

    def sampled(self, model, wanted: Sequence[SampleSpec], times: int, *, sampler, on_step=None) -> Tensor:
        """Latents (B, C, T); what is longer than the config's window is made of overlapping windows, merged at every step."""
        config, shown, channels = self.config, [one.footage for one in wanted], model.autoencoder.spec.channels
        conditions = {}
        for key in model.encoders:
            if tasks.input_modality(model, key) == "text":
                (condition,) = model.encode_conditions({key: [one.words or "" for one in wanted]}).values()
                told = torch.tensor([one.words is not None for one in wanted])
            else:
                if not any(shown):
                    continue
                condition = self._at_latents(model, self._seen(model, key, _some(shown)), shown, [times] * len(wanted))
                told = torch.tensor([one is not None for one in shown])
            if told.any():
                conditions[condition.name] = condition.dropped(~told)
        context = torch.stack([torch.zeros(channels + 1, times) if one.context is None else one.context for one in wanted]).to(model.device)
        noise = tasks.initial_noise(model, [times], [one.seed for one in wanted])
        window, overlap = (max(1, round(seconds * self._rate(model) / self._hop(model))) for seconds in (config.window, config.overlap))
        denoise = tasks.windowed_denoiser(model.denoiser, conditions, {CONTEXT: context}, batch=len(wanted), length=times, window=window,
                                          overlap=min(overlap, window - 1), weights=config.merge)  # fmt: skip
        names = (*conditions, *((CONTEXT,) if any(one.context is not None for one in wanted) else ()))
        return tasks.sample_latents(model, sampler, denoise, noise, conditions=names, seed=wanted[0].seed, on_step=on_step)

    # ------------------------------------------------------------------------------------------------------- the given

    def compand(self, latents: Tensor) -> Tensor:
        """Latents as the model sees them. Those of a nearly linear codec are close to zero but for a few, which noise of one size serves badly."""
        config = self.config
        return latents if config.power == config.gain == 1.0 else config.gain * latents.sign() * latents.abs() ** config.power

    def expand(self, latents: Tensor) -> Tensor:
        """The inverse of `compand`."""
        config = self.config
        return latents if config.power == config.gain == 1.0 else latents.sign() * (latents.abs() / config.gain) ** (1 / config.power)

    def _hop(self, model) -> int:
        """Samples per latent."""
        return model.autoencoder.spec.stride[0]

    def _rate(self, model) -> int:
        """Samples per second, the codec's own."""
        return getattr(model.recipe.parts["autoencoder"].config, "rate", self.config.rate)

    def _place(self, model, plan: request.Plan) -> Place:
        """How many latents are new, and how many of the given sound on either side are shown: a config's share of a window in all.

        New latents are counted from the sound before them where there is one, else back from the sound after them."""
        hop, config = self._hop(model), self.config
        most, new = max(1, int(config.context * config.window * self._rate(model) / hop)), -(-plan.new // hop)
        if plan.first < 0:
            return Place(new=new, trail=min(plan.given // hop, most), origin=-new * hop)
        before, after = plan.first // hop, max(0, plan.given - plan.first - new * hop) // hop
        lead = min(before, max(most - most // 2, most - after))
        return Place(lead=lead, new=new, trail=min(after, most - lead), origin=plan.first - lead * hop)

    def _contexts(self, model, given: Tensor, place: Place) -> list[Tensor]:
        """For each channel of the given sound (C + 1, T): its latents beside the new stretch, zero in it, and where they are given."""
        hop, dtype = self._hop(model), next(model.autoencoder.parameters()).dtype
        channels, contexts = model.autoencoder.spec.channels, []
        for one in given:
            context = torch.zeros(channels + 1, place.times)
            for at, count in ((0, place.lead), (place.lead + place.new, place.trail)):
                if count:
                    first = place.origin + at * hop
                    sound = one[first : first + count * hop].clamp(-1, 1)[None, None]
                    context[:channels, at : at + count] = self.compand(model.autoencoder.encode(sound.to(model.device, dtype))[0].float().cpu())
                    context[channels, at : at + count] = 1
            contexts.append(context)
        return contexts

    # ----------------------------------------------------------------------------------------------------- the picture

    def _told(self, model) -> dict[str, str]:
        """Names of the conditions -> what their encoders take: ``text`` or ``video``."""
        return {encoder.spec.name: tasks.input_modality(model, key) for key, encoder in model.encoders.items()}

    def _footage(self, model, clip: Clip) -> Footage | None:
        """A clip's picture, made small once and then kept."""
        if clip.rate != self._rate(model):
            raise MgzooError(f"the sound of {clip.key} has {clip.rate} samples per second, the codec {self._rate(model)}", remedy="set the rate of the data")
        if clip.load is None or not clip.frames:
            return None
        identity = ("audio.sound.v1 pictures", "1", str(self.config.picture), "")

        def load() -> Tensor:
            return model.cache.get_or_compute(identity, [clip], lambda missing: [shrink_frames(one.load(), self.config.picture) for one in missing])[0]

        return Footage(load=load, frames=clip.frames, fps=clip.fps or 1.0, digest=clip.digest)

    def _pixels(self, shown: Footage) -> Tensor:
        """float (3, F, size, size) in [-1, 1]."""
        return frames_to_float(shown.load(), self.config.picture)

    def _seen(self, model, key: str, shown: Sequence[Footage]) -> Condition:
        """Features of clips that are not in the cache; a clip of more frames than the encoder takes goes through it in pieces."""
        encoder, found = model.encoders[key], {}
        most = encoder.spec.max_len if encoder.spec.kind == "frames" else None
        for one in {id(one): one for one in shown}.values():  # candidates share one clip
            pieces = self._pixels(one).split(most or one.frames, dim=1)
            found[id(one)] = torch.cat([encoder(piece[None]).values[0] for piece in pieces])
        values = nn.utils.rnn.pad_sequence([found[id(one)] for one in shown], batch_first=True)
        return Condition(name=encoder.spec.name, values=values, mask=torch.ones(len(values), dtype=torch.bool, device=values.device))

    def _conditions(self, model, example: SoundExample) -> dict[str, Condition]:
        """Conditions by name; those that video encoders made just now are brought to the latents' times."""
        fresh, found = set(example.inputs), tasks.encode_example(model, example)
        for key in model.encoders:
            name = model.encoders[key].spec.name
            if key in fresh and tasks.input_modality(model, key) != "text":
                found[name] = self._at_latents(model, found[name], example.footage, example.times)
        return found

    def _at_latents(self, model, seen: Condition, shown: Sequence[Footage | None], times: Sequence[int]) -> Condition:
        """Features of the clips that are there -> a row for every sample: (B, T, D) where they are of frames, nothing where there is no clip."""
        rate, longest, rows = self._rate(model) / self._hop(model), max(times), iter(seen.values)
        mask = torch.tensor([one is not None for one in shown], device=seen.values.device)
        made = []
        for one in shown:
            if seen.values.ndim == 2:
                made.append(next(rows) if one else torch.zeros_like(seen.values[0]))
            else:
                made.append(resample_features(next(rows), one, longest, rate) if one else seen.values.new_zeros(longest, seen.values.shape[2]))
        values = torch.stack(made)
        if not any(shown):  # the black frame that stood in for them takes part, so that every weight is in the graph
            values = values + 0 * seen.values.sum()
        return Condition(name=seen.name, values=values, mask=mask)


def _some(shown: Sequence[Footage | None]) -> list[Footage]:
    """The clips that are there, or one black frame where none is."""
    return [one for one in shown if one] or [Footage(load=lambda: torch.zeros(1, 8, 8, 3, dtype=torch.uint8), frames=1, fps=1.0, digest="black")]


def _batch(pixels: list[Tensor]) -> Tensor | list[Tensor]:
    return torch.stack(pixels) if len({one.shape for one in pixels}) == 1 else pixels


def _masked(context: Latents, masks: Sequence[Tensor]) -> Latents:
    """Contexts (C + 1, T) with zeros where the mask is False."""
    made = [one * mask.to(one) for one, mask in zip(context, masks, strict=True)]
    return torch.stack(made) if isinstance(context, Tensor) else made
