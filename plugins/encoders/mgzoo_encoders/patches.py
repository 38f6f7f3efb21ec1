"""A vision encoder small enough to learn with the model: convolutions down to patches, and a few transformer layers over them.

Shape letters: B batch, F frames, Y X pixels, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.parts import Condition
from mgzoo_encoders.bytes import Layer
from mgzoo_encoders.configs import PatchesConfig


class Patches(nn.Module):
    """Pictures -> Condition of tokens, one for each patch in reading order, in the dtype and on the device of the parameters."""

    def __init__(self, config: PatchesConfig, name: str = "image"):
        super().__init__()
        self.config, self.spec = config, config.condition_spec(name)
        # Overlapping 3x3 steps of stride 2 see across the patches' borders, where eyes and hairlines fall as they please.
        widths = [3, *config.channels()]
        self.stem = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:]))
        # a module of its own, as ZeRO-3 gathers a module's own weights only where its output is a tensor, and a Condition is none
        self.positions = nn.Embedding(config.num_tokens(), config.width)
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.positions.weight, std=0.02)
        # torch's own start shrinks what it is given at every step: after four of them all pictures' tokens are nearly the same (their spread is
        # 0.11 of a token's, and training took it to 0.04), and a backbone learns to look past them. With this it is 0.53.
        for convolution in self.stem:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        for layer in self.layers:
            for weight in layer.parameters():
                if weight.ndim == 2:
                    nn.init.normal_(weight, std=0.02)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Condition:
        """Pictures (B, 3, 1, Y, X), or a list of (3, 1, Y, X), in [-1, 1] -> tokens (B, L, D); a picture is scaled and cut to a square."""
        x = torch.stack([self._square(one) for one in inputs])
        for i, convolution in enumerate(self.stem):
            x = convolution(F.gelu(x) if i else x)
        x_BLD = x.flatten(2).transpose(1, 2)
        x_BLD = x_BLD + self.positions(torch.arange(x_BLD.shape[1], device=x.device))
        mask_BL = torch.ones(x_BLD.shape[:2], dtype=torch.bool, device=x.device)
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_BL)
        return Condition(name=self.spec.name, values=self.norm(x_BLD), mask=mask_BL)

    def _square(self, picture: Tensor) -> Tensor:
        """(3, 1, Y, X) -> (3, size, size): scaled to cover (bicubic, antialiased), cut from the centre."""
        assert picture.shape[1] == 1, "tokens come from one frame"
        size, (height, width) = self.config.size, picture.shape[2:]
        x = picture[:, 0].to(self.positions.weight.device, torch.float32)
        if (height, width) != (size, size):
            scale = size / min(height, width)
            scaled = (max(size, round(height * scale)), max(size, round(width * scale)))
            x = F.interpolate(x[None], scaled, mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)
            top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
            x = x[:, top : top + size, left : left + size]
        return x.to(self.positions.weight.dtype)
