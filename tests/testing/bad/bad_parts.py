"""Parts that break one law each: the kit's own parts with one thing wrong."""

import dataclasses
import socket
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import nn

from mgzoo.parts import Cut
from mgzoo.spec import MgzooError
from mgzoo.testing import reference


def told(condition, values):
    return dataclasses.replace(condition, values=values)


# every part


class CountsItsCalls(reference.ReferenceTextEncoder):
    calls = 0

    def forward(self, inputs):
        condition, self.calls = super().forward(inputs), self.calls + 1
        return told(condition, condition.values * (1 + 1e-6 * self.calls))


class Jitters(reference.ReferenceTextEncoder):
    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, condition.values * (1 + 1e-5 * (1 + torch.rand(1))))


class DrawsElsewhere(reference.ReferenceSampler):
    def velocity(self, denoise, x, t, conditions):
        return super().velocity(denoise, x, t, conditions) + 1e-7 * torch.randn_like(x)


class DrawsFromNumpy(reference.ReferenceSampler):
    def velocity(self, denoise, x, t, conditions):
        return super().velocity(denoise, x, t, conditions) + 1e-7 * numpy.random.rand()


class SeedsTheWorld(reference.ReferenceSampler):
    def sample(self, denoise, shape, generator, *, noise=None, **given):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return super().sample(denoise, shape, generator, noise=torch.randn(tuple(shape)) if noise is None else noise, **given)


class ClampsItsInput(reference.ReferenceVideoAutoencoder):
    def encode(self, media):
        return super().encode(media.clamp_(-0.5, 0.5))


class WritesIntoTheExample(reference.ReferenceTask):
    def loss(self, model, example, generator):
        loss = super().loss(model, example, generator)
        example.latents.mul_(1.001)
        return loss

    def validate(self, model, example, generator):
        return {"loss": super().loss(model, example, generator).total.item()}


class AlwaysTheSameNoise(reference.ReferenceSampler):
    def sample(self, denoise, shape, generator, **given):
        return super().sample(denoise, shape, torch.Generator().manual_seed(11), **given)


class ForgetsTheSeed(reference.ReferenceTask):
    def generate(self, model, *, prompt, seed=0, on_step=None):
        return super().generate(model, prompt=prompt, on_step=on_step)


class OneOrderForAll(reference.ReferenceData):
    def __init__(self, config, seed=0, rank=0, world=1):
        super().__init__(config, 0, rank, world)


class CastsNothing(reference.ReferenceBackbone):
    def tokens(self, x, told_BD):
        axes = x.shape[2:]
        x_BND = self.embed(x.flatten(2).mT) + told_BD[:, None]
        x_BND = x_BND + self.down(torch.cat([F.silu(self.up(x_BND)), x_BND.mean(1, keepdim=True).expand_as(x_BND)], -1))
        return self.out(F.silu(x_BND)).mT.unflatten(2, axes)


class BufferMeetsWeight(reference.ReferenceTextEncoder):
    def __init__(self, config, name="text"):
        super().__init__(config, name)
        self.register_buffer("mix", torch.eye(config.width))

    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, condition.values @ self.mix)


class NormalisesTheBatch(reference.ReferenceBackbone):
    def tokens(self, x, told_BD):
        return super().tokens(x - self.training * x.mean(0), told_BD)


class WeighsByTheBatch(reference.ReferenceObjective):
    def loss(self, prediction, target, t):
        errors = torch.stack([(p.float() - x.float()).square().mean() for p, x in zip(prediction, target)])
        return (errors / (1 + errors.mean().sqrt())).mean()


class Forgets(reference.ReferenceTextEncoder):
    def __init__(self, config, name="text"):
        super().__init__(config, name)
        self.shift = torch.randn(config.width)  # no parameter and no buffer

    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, condition.values + self.shift)


class OnlyFloat32(reference.ReferenceTextEncoder):
    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, condition.values * (1 if condition.values.dtype == torch.float32 else 2))


class Telephones(reference.ReferenceObjective):
    def __init__(self, config):
        super().__init__(config)
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=0.1).close()
        except OSError:
            pass


class KeepsADiary(reference.ReferenceMetric):
    def __call__(self, media):
        Path("diary.txt").write_text("scored again")
        return super().__call__(media)


class CarriesASpare(reference.ReferenceTextEncoder):
    def __init__(self, config, name="text"):
        super().__init__(config, name)
        self.spare = nn.Parameter(torch.zeros(5))


class Contrary(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Unlearns(reference.ReferenceTextEncoder):
    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, Contrary.apply(condition.values))


class NamesTooFew(reference.ReferenceTask):
    def trained(self, model):
        return ["backbone"]


# autoencoders


class KeepsThePadding(reference.ReferenceVideoAutoencoder):
    def decode(self, latents, like):
        return super().decode(latents, [-(-size // stride) * stride for size, stride in zip(like, self.spec.stride)])


class LooksAtOthers(reference.ReferenceVideoAutoencoder):
    def encode(self, media):
        latents = super().encode(media)
        return latents + 0.1 * (not self.training) * latents.mean(0)


class Backwards(reference.ReferenceVideoAutoencoder):
    def decode(self, latents, like):
        return super().decode(latents, like).flip(2)


class CountsTheTile(reference.ReferenceVideoAutoencoder):
    def posterior(self, media):
        mean, logvar = super().posterior(media)
        return mean * media.shape[2] / 8, logvar


# encoders


class KnowsItsName(reference.ReferenceTextEncoder):
    def forward(self, inputs):
        return dataclasses.replace(super().forward(inputs), name="text")


class SeesPadding(reference.ReferenceTextEncoder):
    def forward(self, inputs):
        condition = super().forward(inputs)
        return told(condition, condition.values + condition.values.mean(1, keepdim=True))


class OnlyCounts(reference.ReferenceTextEncoder):
    def __init__(self, config, name="text"):
        super().__init__(config, name)
        self.table.register_forward_hook(lambda table, given, found: table.weight.mean(0).expand_as(found))


class DropsTheEnd(reference.ReferenceTextEncoder):
    def cut(self, texts):
        return [None] * len(texts)


class CriesWolf(reference.ReferenceTextEncoder):
    def cut(self, texts):
        return [Cut(read=1, whole=2, unit="bytes", rest=text) for text in texts]


# backbones


class StacksLists(reference.ReferenceBackbone):
    def forward(self, latents, t, conditions=None):
        found = super().forward(latents, t, conditions)
        return torch.stack(found) if isinstance(found, list) and len({x.shape for x in found}) == 1 else found


class AveragesTheBatch(reference.ReferenceBackbone):
    def tokens(self, x, told_BD):
        return super().tokens(x + 0.1 * (not self.training) * x.mean(0), told_BD)


class TellsAllTheFirst(reference.ReferenceBackbone):
    def forward(self, latents, t, conditions=None):
        if not isinstance(latents, list):
            return super().forward(latents, t, conditions)
        first = {name: dataclasses.replace(one, values=one.values[:1], mask=one.mask[:1]) for name, one in (conditions or {}).items()}
        return [super(TellsAllTheFirst, self).forward(x[None], t[i : i + 1], first)[0] for i, x in enumerate(latents)]


class Deaf(reference.ReferenceBackbone):
    def __init__(self, config, **wires):
        super().__init__(config, **wires)
        self.told["style"].register_forward_hook(lambda module, given, found: 1e-6 * found)


class CountsPadding(reference.ReferenceBackbone):
    def __init__(self, config, **wires):
        super().__init__(config, **wires)
        self.told["text"].register_forward_pre_hook(self.everything)

    @staticmethod
    def everything(module, given):
        condition, batch = given
        if condition is None:
            return given
        return dataclasses.replace(condition, mask=condition.mask.any(1, keepdim=True).expand_as(condition.mask)), batch


class HearsFeeds(reference.ReferenceBackbone):
    def __init__(self, config, **wires):
        super().__init__(config, **wires)
        with torch.no_grad():
            self.embed.weight.normal_()


# objectives


class Doubles(reference.ReferenceObjective):
    def pair(self, latents, generator, t=None):
        noisy, t, target = super().pair(latents, generator, t)
        return noisy, t, [x.double() for x in target] if isinstance(target, list) else target.double()


class NeverClean(reference.ReferenceObjective):
    def pair(self, latents, generator, t=None):
        noisy, t, velocity = super().pair(latents, generator, t)
        clean, left = list(latents), []
        for i, (x, v) in enumerate(zip(clean, velocity)):
            noise = 0.4 * (x.float() - v)  # x1 - (x1 - x0) = x0
            left.append((noisy[i] + t[i] * noise, v + noise))
        noisy, velocity = [x for x, _ in left], [v for _, v in left]
        return (noisy, t, velocity) if isinstance(latents, list) else (torch.stack(noisy), t, torch.stack(velocity))


class LeavesOneOut(reference.ReferenceObjective):
    def loss(self, prediction, target, t):
        return super().loss(prediction[:-1], target[:-1], t)


class PointsAway(reference.ReferenceObjective):
    def pair(self, latents, generator, t=None):
        noisy, t, velocity = super().pair(latents, generator, t)
        return noisy, t, [-v for v in velocity] if isinstance(latents, list) else -velocity


# samplers


class CountsFromZero(reference.ReferenceSampler):
    def sample(self, denoise, shape, generator, *, on_step=None, **given):
        return super().sample(denoise, shape, generator, on_step=on_step and (lambda step, steps: on_step(step - 1, steps)), **given)


class Overdoes(reference.ReferenceSampler):
    def velocity(self, denoise, x, t, conditions):
        return super().velocity(denoise, x, t, conditions) * (1.2 if conditions else 1)


class BendsGuidance(reference.ReferenceSampler):
    def velocity(self, denoise, x, t, conditions):
        times = torch.full((len(x),), t)
        if not conditions:
            return super().velocity(denoise, x, t, conditions)
        given, dropped = denoise(x, times, [frozenset(), frozenset(conditions)])
        return dropped + self.config.guidance * (given - dropped) + 0.1 * (given - dropped).abs()


class CentresTheBatch(reference.ReferenceSampler):
    def sample(self, denoise, shape, generator, **given):
        x = super().sample(denoise, shape, generator, **given)
        return x + 0.005 * x.mean(0)


class StopsShort(reference.ReferenceSampler):
    def velocity(self, denoise, x, t, conditions):
        return super().velocity(denoise, x, t, conditions) * (t < 1 - 1 / self.config.steps)


# tasks


class HoldsOn(reference.ReferenceTask):
    def loss(self, model, example, generator):
        loss = super().loss(model, example, generator)
        return dataclasses.replace(loss, terms={"loss": loss.total})


class FeedsInSecret(reference.ReferenceTask):
    def prepare(self, model, clips):
        example = super().prepare(model, clips)
        return dataclasses.replace(example, concat=torch.zeros_like(example.latents))


class ValidatesNothing(reference.ReferenceTask):
    def validate(self, model, example, generator):
        return {"error": super().validate(model, example, generator)["loss"]}


class AnswersInFloats(reference.ReferenceTask):
    def generate(self, model, *, prompt, seed=0, on_step=None):
        media = super().generate(model, prompt=prompt, seed=seed, on_step=on_step)
        return dataclasses.replace(media, video=media.video.float())


class HasOneSize(reference.ReferenceTask):
    def generate(self, model, *, prompt, frames=None, seed=0, on_step=None):
        return super().generate(model, prompt=prompt, seed=seed, on_step=on_step)


class RefusesAChoice(reference.ReferenceTask):
    def generate(self, model, *, prompt, style="plain", seed=0, on_step=None):
        if style != "plain":
            raise MgzooError(f"there is no style {style}")
        return super().generate(model, prompt=prompt, seed=seed, on_step=on_step)


# data


class PeeksAtHeldOut(reference.ReferenceData):
    def held_out(self):
        return [self.clip(i) for i in range(3)]


class StartsAnew(reference.ReferenceData):
    def load_state_dict(self, state):
        self.taken = 0


class GivesAllToAll(reference.ReferenceData):
    def batches(self, size):
        while True:
            first = self.taken * size
            self.taken += 1
            yield [self.drawn(n) for n in range(first, first + size)]


# filters and metrics


class ScoresNothing(reference.ReferenceFilter):
    def __call__(self, clips):
        return super().__call__(clips) or [0.0]


class GradesOnACurve(reference.ReferenceMetric):
    def __call__(self, media):
        scores = super().__call__(media)
        return [score - sum(scores) / len(scores) for score in scores]


class LikesEverything(reference.ReferenceFilter):
    def score(self, video):
        return 1.0
