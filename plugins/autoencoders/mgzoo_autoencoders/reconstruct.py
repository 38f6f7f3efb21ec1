"""Training an autoencoder: reconstruction, Kullback-Leibler, outlier, perceptual and adversarial terms.

Shape letters: B batch, C latent channels, T H W latent axes, F frames, Y X pixel height/width, N = B*F pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mgzoo.parts import Clip, Example, Loss
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import ReconstructConfig


def outlier_penalty(z_BCTHW: Tensor, r: float = 3.0) -> Tensor:
    """Outlier penalty of Movie Gen, equation 1: mean over positions of max(|X_ij - Mean(X)| - r |Std(X)|, 0).

    Frames are folded into the batch; Mean and Std (biased) are taken per channel over the H*W positions of a frame, the
    norms over channels (our reading). Scalar float32; zero where no latent is further out than r deviations.
    """
    x_NCP = z_BCTHW.float().movedim(2, 1).flatten(0, 1).flatten(2)
    mean = x_NCP.mean(-1, keepdim=True)
    std_NC = (x_NCP - mean).square().mean(-1).sqrt()
    distance_NP = (x_NCP - mean).square().sum(1).add(1e-12).sqrt()
    return (distance_NP - r * std_NC.norm(dim=1)[:, None]).clamp_min(0).mean()


def edge_distance(error_NCYX: Tensor) -> Tensor:
    """Mean absolute spatial difference of an error picture at full, half and quarter size (our choice).

    It weighs fine structure more than the error itself does and needs no network."""
    total = error_NCYX.new_zeros(())
    scales = 0
    while scales < 3 and min(error_NCYX.shape[-2:]) > 1:
        total = total + error_NCYX.diff(dim=-1).abs().mean() + error_NCYX.diff(dim=-2).abs().mean()
        error_NCYX = F.avg_pool2d(error_NCYX, 2, ceil_mode=True)
        scales += 1
    return total / max(scales, 1)


def psnr(output: Tensor, media: Tensor) -> tuple[float, float]:
    """Peak signal-to-noise ratio in dB of media in [-1, 1], as if in [0, 1]: (mean over the batch, of the pooled error)."""
    error_B = ((output.clamp(-1, 1) - media) / 2).square().flatten(1).mean(1).clamp_min(1e-10)
    return (-10 * error_B.log10()).mean().item(), (-10 * error_B.mean().log10()).item()


class Features(nn.Module):
    """A frozen chain of 3x3 convolutions with ReLU and 2x mean pooling; the distance is the mean absolute difference of
    channel-normalised features over all layers."""

    def __init__(self, folder: str | Path):
        super().__init__()
        path = Path(folder) / "model.safetensors"
        if not path.is_file():
            remedy = "set perceptual_weights to a folder with model.safetensors, or perceptual to 0"
            raise MgzooError(f"no feature network at {path}", remedy=remedy)
        tensors = load_file(path)
        self.layers = nn.ModuleList()
        while (weight := tensors.get(f"{len(self.layers)}.weight")) is not None:
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.load_state_dict({"weight": weight, "bias": tensors[f"{len(self.layers)}.bias"]})
            self.layers.append(layer)
        if not self.layers:
            raise MgzooError(f"{path} holds no tensor '0.weight'", remedy="name the convolutions 0.weight, 0.bias, 1.weight, …")
        self.requires_grad_(False)

    def distance(self, a_NCYX: Tensor, b_NCYX: Tensor) -> Tensor:
        x = torch.cat([a_NCYX, b_NCYX]).to(self.layers[0].weight.dtype)
        total = a_NCYX.new_zeros(())
        for layer in self.layers:
            x = F.relu(layer(x))
            a, b = F.normalize(x.float(), dim=1).chunk(2)
            total = total + (a - b).abs().mean()
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        return total / len(self.layers)


class Discriminator(nn.Sequential):
    """Patch discriminator of pictures (N, 3, Y, X) -> (N, 1, Y/8, X/8), without normalisation (our choice)."""

    def __init__(self, width: int):
        layers, c_in = [], 3
        for c_out in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            c_in = c_out
        super().__init__(*layers, nn.Conv2d(c_in, 1, 3, padding=1))


class Reconstruct(nn.Module):
    """Train an autoencoder to give its media back (Movie Gen, section 3.1.1), and run one over a video."""

    def __init__(self, config: ReconstructConfig):
        super().__init__()
        self.config = config
        self.discriminator = Discriminator(config.discriminator_width) if config.adversarial else None
        # Held in a tuple: a frozen helper is no part of what is trained or saved.
        self._features = (Features(config.perceptual_weights),) if config.perceptual else ()

    def trained(self, model) -> Sequence[str]:
        return ["autoencoder", "task"] if self.discriminator is not None else ["autoencoder"]

    def prepare(self, model, clips: Sequence[Clip]) -> Example:
        """Clips of one size -> Example with latents = media float32 (B, 3, F, Y, X) in [-1, 1]."""
        sizes = sorted({(clip.frames, clip.height, clip.width) for clip in clips})
        if len(sizes) != 1:
            raise MgzooError(f"a batch mixes clips of different sizes (frames, height, width): {sizes}",
                             remedy="give the data one size, or buckets that put equal sizes into a batch")
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
            terms["edges"] = edge_distance(pictures(error))
        for features in self._features:
            terms["perceptual"] = features.to(media.device).distance(pictures(output), pictures(media))
        total = sum(getattr(c, name) * term for name, term in terms.items())
        if self.discriminator is not None:
            terms["adversarial"], terms["discriminator"] = self._adversarial(pictures(output), pictures(media))
            total = total + c.adversarial * terms["adversarial"] + terms["discriminator"]
        return Loss(total=total, terms={name: term.detach() for name, term in terms.items()})

    def _adversarial(self, fake_NCYX: Tensor, real_NCYX: Tensor) -> tuple[Tensor, Tensor]:
        """(generator's term, discriminator's hinge term): one backward pass serves both, as each sees the other detached."""
        net = self.discriminator
        dtype = next(net.parameters()).dtype
        fake, real = fake_NCYX.to(dtype), real_NCYX.to(dtype)
        fixed = {name: p.detach() for name, p in net.named_parameters()}
        generator_term = -torch.func.functional_call(net, fixed, (fake,)).float().mean()
        hinge = F.relu(1 - net(real).float()).mean() + F.relu(1 + net(fake.detach()).float()).mean()
        return generator_term, 0.5 * hinge

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


def pictures(media: Tensor) -> Tensor:
    """(B, C, F, Y, X) -> (B F, C, Y, X)."""
    return media.transpose(1, 2).flatten(0, 1)
