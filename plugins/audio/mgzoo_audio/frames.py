"""What a clip shows, frame by frame: a small encoder that trains with the model, or rests.

Each frame is seen beside its differences to the frame before and the one after, so that motion and its turns are visible in one frame
already (our choice; the paper's features are of single frames, from MetaCLIP).

Shape letters: B clips, F frames, N frames of the whole batch, Y X pixels, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.parts import Condition
from mgzoo_audio.configs import FramesConfig

DIFFERENCES = 4.0  # scale of what changes from frame to frame, which is small


class Frames(nn.Module):
    """Clips, a list of float (3, F, Y, X) in [-1, 1] or one tensor of them -> Condition of frames (B, longest F, D)."""

    def __init__(self, config: FramesConfig, name: str = "video"):
        super().__init__()
        self.config, self.spec = config, config.condition_spec(name)
        c, d = config.channels, config.width
        self.convolutions = nn.Sequential(
            nn.Conv2d(9, c, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.project = nn.Linear(4 * c * (config.size // 8) ** 2, d)
        self.norm = nn.LayerNorm(d)
        self.along = nn.Conv1d(d, d, 3, padding=1)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Condition:
        """Rows of shorter clips are filled up with zeros after their last frame."""
        weight = self.project.weight
        clips = [self.seen(clip.to(weight.device, torch.float32)).to(weight.dtype) for clip in inputs]
        x_ND = self.norm(self.project(self.convolutions(torch.cat(clips)).flatten(1)))
        x_BFD = nn.utils.rnn.pad_sequence(x_ND.split([len(clip) for clip in clips]), batch_first=True)
        y_BFD = self.along(F.silu(x_BFD).mT).mT
        ends = torch.tensor([len(clip) for clip in clips], device=weight.device)
        within_BF1 = (torch.arange(x_BFD.shape[1], device=weight.device) < ends[:, None])[..., None]
        values = torch.where(within_BF1, x_BFD + y_BFD, 0)
        return Condition(name=self.spec.name, values=values, mask=torch.ones(len(clips), dtype=torch.bool, device=weight.device))

    def seen(self, clip: Tensor) -> Tensor:
        """(3, F, Y, X) -> (F, 9, size, size): each frame and its two differences."""
        size = (self.config.size, self.config.size)
        x_FCYX = clip.transpose(0, 1)
        if x_FCYX.shape[2:] != size:
            x_FCYX = F.interpolate(x_FCYX, size=size, mode="bilinear", antialias=True, align_corners=False)
        change = DIFFERENCES * x_FCYX.diff(dim=0)
        none = torch.zeros_like(x_FCYX[:1])
        return torch.cat([x_FCYX, torch.cat([none, change]), torch.cat([change, none])], 1)
