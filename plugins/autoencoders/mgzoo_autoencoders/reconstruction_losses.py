"""Loss terms of an autoencoder's training, and PSNR: the outlier penalty of Movie Gen (section 3.1.1), edges, perceptual, adversarial.

Shape letters: B batch, C latent channels, T H W latent axes, F frames, Y X pixel height/width, N = B*F images, P = H*W positions.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mgzoo.spec import MgzooError


def outlier_penalty(z_BCTHW: Tensor, r: float = 3.0) -> Tensor:
    """Outlier penalty of Movie Gen, equation 1: mean over positions of max(|X_ij - Mean(X)| - r |Std(X)|, 0).

    Frames are folded into the batch; Mean and Std (biased) are taken per channel over the H*W positions of a frame, the
    norms over channels (our reading). Scalar float32; zero if no latent is further than r deviations from the mean.
    """
    x_NCP = z_BCTHW.float().movedim(2, 1).flatten(0, 1).flatten(2)
    mean = x_NCP.mean(-1, keepdim=True)
    std_NC = (x_NCP - mean).square().mean(-1).sqrt()
    distance_NP = (x_NCP - mean).square().sum(1).add(1e-12).sqrt()
    return (distance_NP - r * std_NC.norm(dim=1)[:, None]).clamp_min(0).mean()


def edge_distance(error_NCYX: Tensor) -> Tensor:
    """Mean absolute spatial difference of an error image at full, half and quarter size (our choice).

    It weighs fine structure more than the error itself does, and needs no network."""
    total = error_NCYX.new_zeros(())
    scales = 0
    while scales < 3 and min(error_NCYX.shape[-2:]) > 1:
        total = total + error_NCYX.diff(dim=-1).abs().mean() + error_NCYX.diff(dim=-2).abs().mean()
        error_NCYX = F.avg_pool2d(error_NCYX, 2, ceil_mode=True)
        scales += 1
    return total / max(scales, 1)


class PerceptualFeatures(nn.Module):
    """A frozen network of 3x3 convolutions with ReLU and 2x mean pooling. Its distance is the mean absolute difference of
    channel-normalised features over all layers. folder: holds model.safetensors with 0.weight, 0.bias, 1.weight, …"""

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
            raise MgzooError(f"{path} has no tensor '0.weight'", remedy="name the convolutions 0.weight, 0.bias, 1.weight, …")
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
    """Patch discriminator of images (N, 3, Y, X) -> (N, 1, Y/8, X/8), without normalisation (our choice)."""

    def __init__(self, width: int):
        layers, c_in = [], 3
        for c_out in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            c_in = c_out
        super().__init__(*layers, nn.Conv2d(c_in, 1, 3, padding=1))


def adversarial_losses(discriminator: nn.Module, fake_NCYX: Tensor, real_NCYX: Tensor) -> tuple[Tensor, Tensor]:
    """(generator's term, discriminator's hinge term). One backward pass serves both, as each sees the other detached."""
    dtype = next(discriminator.parameters()).dtype
    fake, real = fake_NCYX.to(dtype), real_NCYX.to(dtype)
    fixed = {name: p.detach() for name, p in discriminator.named_parameters()}
    generator_term = -torch.func.functional_call(discriminator, fixed, (fake,)).float().mean()
    hinge = F.relu(1 - discriminator(real).float()).mean() + F.relu(1 + discriminator(fake.detach()).float()).mean()
    return generator_term, 0.5 * hinge


def psnr(output: Tensor, media: Tensor) -> tuple[float, float]:
    """Peak signal-to-noise ratio in dB of media in [-1, 1], as if in [0, 1]: (mean over the batch, of the pooled error)."""
    error_B = ((output.clamp(-1, 1) - media) / 2).square().flatten(1).mean(1).clamp_min(1e-10)
    return (-10 * error_B.log10()).mean().item(), (-10 * error_B.mean().log10()).item()


def frames_as_images(media: Tensor) -> Tensor:
    """(B, C, F, Y, X) -> (B F, C, Y, X)."""
    return media.transpose(1, 2).flatten(0, 1)
