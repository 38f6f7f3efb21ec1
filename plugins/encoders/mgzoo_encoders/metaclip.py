"""CLIP towers through transformers: MetaCLIP's text and vision.

Shape letters: B batch, L tokens, D width, F frames, Y X pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.parts import Condition, Cut
from mgzoo_encoders.configs import MetaClipConfig, MetaClipVisionConfig
from mgzoo_encoders.pretrained import Tokenizer, build, dropless

TEXT = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "vocab": "vocab_size",
    "activation": "hidden_act",
    "max_len": "max_position_embeddings",
}
VISION = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "patch": "patch_size",
    "size": "image_size",
    "activation": "hidden_act",
    "projection": "projection_dim",
}
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures, in [0, 1]
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


class MetaClip(nn.Module):
    """Texts -> Condition of all tokens after the last norm."""

    def __init__(self, config: MetaClipConfig, name: str = "text"):
        super().__init__()
        import transformers

        self.config, self.spec = config, config.condition_spec(name)
        sizes = {attribute: getattr(config, field) for field, attribute in TEXT.items()}
        # the end mark of the byte tokenizer: it is where CLIP pools, which is not used here
        wanted = transformers.CLIPTextConfig(**sizes, bos_token_id=None, eos_token_id=1)
        self.encoder = build(transformers.CLIPTextModel, dropless(wanted), TEXT, config.source, "MetaClip")
        on_meta = self.encoder.device.type == "meta"
        self.tokenize = None if on_meta else Tokenizer(config.source, "MetaClip", config.max_len)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        """What it does not read of each text."""
        return self.tokenize.cut(texts)

    def forward(self, inputs: Sequence[str]) -> Condition:
        """B texts -> values (B, L, D) and mask (B, L), L the longest of the batch and at most max_len."""
        ids_BL, mask_BL = self.tokenize(inputs, self.encoder.device)
        values_BLD = self.encoder(input_ids=ids_BL, attention_mask=mask_BL.to(torch.long)).last_hidden_state
        return Condition(name=self.spec.name, values=values_BLD, mask=mask_BL)


class MetaClipVision(nn.Module):
    """Pictures -> Condition of tokens, or clips -> Condition of frames."""

    def __init__(self, config: MetaClipVisionConfig, name: str = "image"):
        super().__init__()
        import transformers

        self.config, self.spec = config, config.condition_spec(name)
        wanted = transformers.CLIPVisionConfig(**{attribute: getattr(config, field) for field, attribute in VISION.items()})
        frames = config.gives == "frames"
        model_class = transformers.CLIPVisionModelWithProjection if frames else transformers.CLIPVisionModel
        compared = VISION if frames else {field: attribute for field, attribute in VISION.items() if field != "projection"}
        self.encoder = build(model_class, dropless(wanted), compared, config.source, "MetaClipVision")

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Condition:
        """Media (B, 3, F, Y, X), or a list of (3, F, Y, X) of as many frames, in [-1, 1] -> tokens (B, L, D) of one frame (F = 1), or frames
        (B, F, D) in CLIP's joint space."""
        batch, frames = len(inputs), inputs[0].shape[1]
        pixels = torch.cat([self.pixels(one.transpose(0, 1)) for one in inputs])
        if self.config.gives == "frames":
            values = self.encoder(pixel_values=pixels).image_embeds.unflatten(0, (batch, frames))
            return Condition(name=self.spec.name, values=values, mask=torch.ones(batch, dtype=torch.bool, device=values.device))
        assert frames == 1, "tokens come from one frame"
        # CLIP norms only the class token; all tokens get that norm here, so that they arrive at one scale (our choice)
        values = self.encoder.post_layernorm(self.encoder(pixel_values=pixels).last_hidden_state)
        return Condition(name=self.spec.name, values=values, mask=torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    def pixels(self, pictures: Tensor) -> Tensor:
        """(N, 3, Y, X) in [-1, 1] -> CLIP's input (N, 3, size, size): short side scaled to size (bicubic), centre cropped, normalised."""
        size, (height, width) = self.config.size, pictures.shape[-2:]
        scale = size / min(height, width)
        scaled = (max(size, round(height * scale)), max(size, round(width * scale)))
        pictures = pictures.to(self.encoder.device, torch.float32)
        pictures = F.interpolate(pictures, scaled, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
        pictures = (pictures[..., top : top + size, left : left + size] + 1) / 2
        mean, std = (torch.tensor(values, device=pictures.device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        return ((pictures - mean) / std).to(self.encoder.dtype)
