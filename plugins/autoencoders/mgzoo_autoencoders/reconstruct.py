"""The task that trains an autoencoder (reconstruction, Kullback-Leibler and further terms, see `reconstruction_losses`), and passes a
video through one.

Shape letters: B batch, C latent channels, T H W latent axes, F frames, Y X pixel height/width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mgzoo.parts import Clip, Example, Loss
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import ReconstructConfig
from mgzoo_autoencoders.reconstruction_losses import (
    Discriminator,
    PerceptualFeatures,
    adversarial_losses,
    edge_distance,
    frames_as_images,
    outlier_penalty,
    psnr,
)


class Reconstruct(nn.Module):
    """Train an autoencoder to reconstruct its media (Movie Gen, section 3.1.1), and pass a video through one."""

    def __init__(self, config: ReconstructConfig):
        super().__init__()
        self.config = config
        self.discriminator = Discriminator(config.discriminator_width) if config.adversarial else None
        # Held in a tuple: a frozen helper is no part of what is trained or saved.
        self._features = (PerceptualFeatures(config.perceptual_weights),) if config.perceptual else ()

    def trained(self, model) -> Sequence[str]:
        return ["autoencoder", "task"] if self.discriminator is not None else ["autoencoder"]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Clips of one size -> Example with latents = media float32 (B, 3, F, Y, X) in [-1, 1]."""
        sizes = sorted({(clip.frames, clip.height, clip.width) for clip in clips})
        if len(sizes) != 1:
            raise MgzooError(f"a batch mixes clips of different sizes (frames, height, width): {sizes}",
                             remedy="use one size, or buckets with equal sizes per batch")
        return Example(latents=to_media(torch.stack([clip.load() for clip in clips]), model.autoencoder))

    def loss(self, model, example: Example, generator: torch.Generator) -> Loss:
        """One step on the clips, or, for `image_share` of the steps, on one random frame of each."""
        c, media = self.config, example.latents
        if torch.rand((), generator=generator, device=generator.device) < c.image_share:
            pick = torch.randint(media.shape[2], (len(media),), generator=generator, device=generator.device).to(media.device)
            media = media[torch.arange(len(media), device=media.device), :, pick].unsqueeze(2)
        mean, logvar = model.autoencoder.posterior(media)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        latents = mean + (0.5 * logvar).exp() * noise
        output = model.autoencoder.pixels(latents, media.shape[2])[..., : media.shape[3], : media.shape[4]]
        error = output - media
        terms = {
            "l1": error.abs().mean(),
            "kl": 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / media.numel(),
            "opl": outlier_penalty(latents, c.opl_r),
        }
        if c.mse:
            terms["mse"] = error.square().mean()
        if c.edges:
            terms["edges"] = edge_distance(frames_as_images(error))
        for features in self._features:
            terms["perceptual"] = features.to(media.device).distance(frames_as_images(output), frames_as_images(media))
        total = sum(getattr(c, name) * term for name, term in terms.items())
        if self.discriminator is not None:
            fake, real = frames_as_images(output), frames_as_images(media)
            terms["adversarial"], terms["discriminator"] = adversarial_losses(self.discriminator, fake, real)
            total = total + c.adversarial * terms["adversarial"] + terms["discriminator"]
        return Loss(total=total, terms={name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def validate(self, model, example: Example, generator: torch.Generator) -> Mapping[str, float]:
        """Posterior mean, no noise: loss = mean absolute error; psnr in dB, mean over clips and of the pooled error."""
        media = example.latents
        output = model.autoencoder.decode(model.autoencoder.encode(media), media.shape[2:])
        each, pooled = psnr(output, media)
        return {"loss": (output - media).abs().mean().item(), "psnr": each, "psnr_pooled": pooled}

    def start(self, model, examples: Iterable[Example]) -> None:
        """Fit the autoencoder's linear path to real blocks, unless the recipe gives it weights to start from."""
        if not model.recipe.parts["autoencoder"].weights:
            model.autoencoder.fit(example.latents for example in examples)

    @torch.no_grad()
    def finish(self, model, examples: Iterable[Example]) -> None:
        """Set the autoencoder's latent statistics from examples, once training is over and before it is saved."""
        model.autoencoder.calibrate(model.autoencoder.posterior(example.latents)[0] for example in examples)

    @torch.no_grad()
    def generate(self, model, *, video: Tensor, fps: float = 24.0):
        """A video uint8 (F, Y, X, 3) through the autoencoder and back: Media of the same size."""
        from mgzoo.media import Media

        if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != torch.uint8 or not len(video):
            raise MgzooError(f"reconstruct needs a video uint8 (F, Y, X, 3), not {video.dtype} {tuple(video.shape)}",
                             remedy="load it with mgzoo.media")
        media = to_media(video[None], model.autoencoder)
        output = model.autoencoder.decode(model.autoencoder.encode(media), media.shape[2:])
        return Media(video=to_uint8(output)[0].cpu(), fps=fps)


def to_media(video: Tensor, autoencoder: nn.Module) -> Tensor:
    """uint8 (B, F, Y, X, 3) -> float32 (B, 3, F, Y, X) in [-1, 1] on the autoencoder's device."""
    device = next(autoencoder.parameters()).device
    return (video.to(device).float() / 127.5 - 1).permute(0, 4, 1, 2, 3)


def to_uint8(media: Tensor) -> Tensor:
    """The inverse of `to_media`, clipped."""
    return ((media.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
