"""Parts of `good_configs`."""

import torch.nn.functional as F
from torch import nn


class SoundBlocks(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.spec = config.latent_spec()
        self.analysis = nn.Conv1d(1, self.spec.channels, self.spec.stride[0], self.spec.stride[0])
        self.synthesis = nn.ConvTranspose1d(self.spec.channels, 1, self.spec.stride[0], self.spec.stride[0])

    def encode(self, media):
        media = F.pad(media, (0, -media.shape[-1] % self.spec.stride[0]))
        return self.analysis(media.to(self.analysis.weight.dtype))

    def decode(self, latents, like):
        return self.synthesis(latents.to(self.synthesis.weight.dtype))[..., : like[0]]
