"""The linear block transform beside the network (our addition to Movie Gen's autoencoder): a DCT or principal components to start from.

Shape letters: B batch, F frames, Y X pixel height/width, T H W latent axes, C latent channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mgzoo_autoencoders.tae_resampling import from_channels, to_channels


class BlockTransform(nn.Module):
    """A linear codec of blocks of (time, space, space) pixels whose output is added to the network's: `analyse` and `synthesise`.

    It starts as the three-dimensional DCT of luma and two opponent colours, with the coefficients that are largest in natural
    images, each scaled to about unit deviation (our choice). The network's last layers start at zero, so training starts
    from a working codec and the network learns what a linear one cannot do.
    """

    def __init__(self, channels: int, in_channels: int, time: int, space: int):
        super().__init__()
        self.time, self.space = time, space
        basis, deviation = dct_basis(in_channels, time, space)
        keep = deviation.argsort(descending=True, stable=True)[:channels]
        basis, deviation = basis[keep], deviation[keep, None]
        self.analysis = nn.Linear(basis.shape[1], channels, bias=False)
        self.synthesis = nn.Linear(channels, basis.shape[1], bias=False)
        # Adam moves every weight by about the learning rate: dividing by sqrt(fan-in) keeps its first steps small.
        self.scale = basis.shape[1] ** -0.5
        with torch.no_grad():
            self.analysis.weight.copy_(basis / deviation)
            self.synthesis.weight.copy_((basis * deviation).T / self.scale)

    @torch.no_grad()
    def fit(self, media: Iterable[Tensor]) -> None:
        """Start from the principal components of real blocks instead, the best linear codec for them.

        media: batches (B, F, Y, X, 3). Components are taken about zero, each scaled to unit power."""
        size, count = self.analysis.in_features, 0
        moments = torch.zeros(size, size, dtype=torch.float64)
        for batch in media:
            blocks = to_channels(batch.float(), self.time, self.space, self.space).reshape(-1, size)
            moments += (blocks.T @ blocks).double().cpu()
            count += len(blocks)
        power, vectors = torch.linalg.eigh(moments / count)
        largest = slice(-self.analysis.out_features, None)  # eigenvalues come in ascending order
        power, vectors = power[largest].flip(0).clamp_min(1e-6), vectors[:, largest].flip(1)
        self.analysis.weight.copy_((vectors / power.sqrt()).T / self.scale)
        self.synthesis.weight.copy_(vectors * power.sqrt())

    def analyse(self, pixels_BTHWC: Tensor) -> Tensor:
        """Pixels (B, F, Y, X, 3) -> raw latents (B, T, H, W, C)."""
        return self.analysis(to_channels(pixels_BTHWC, self.time, self.space, self.space) * self.scale)

    def synthesise(self, z_BTHWC: Tensor) -> Tensor:
        """Raw latents -> pixels: the inverse of `analyse` up to the coefficients that were not kept."""
        return from_channels(self.synthesis(z_BTHWC), self.time, self.space, self.space)


def dct_basis(in_channels: int, time: int, space: int) -> tuple[Tensor, Tensor]:
    """Orthonormal rows (n, n) over (t, y, x, channel) and the deviation (n,) of their coefficients in typical videos.

    The deviations follow a power law fitted by eye to animated clips; they only choose and scale coefficients."""
    colours = torch.eye(in_channels)
    strength = torch.ones(in_channels)
    if in_channels == 3:
        colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
        colours, strength = colours / colours.norm(dim=1, keepdim=True), torch.tensor([1.0, 0.5, 0.2])
    basis, deviation = colours, strength
    for n, falloff in ((space, 1.6), (space, 1.6), (time, 2.5)):
        basis = torch.kron(dct_matrix(n), basis)
        deviation = torch.kron(torch.arange(1, n + 1) ** -falloff, deviation)
    return basis, deviation


def dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II (n, n), one row per frequency."""
    k = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(torch.pi / n * (k + 0.5) * k[:, None]) * (2 / n) ** 0.5
    rows[0] /= 2**0.5
    return rows.float()
