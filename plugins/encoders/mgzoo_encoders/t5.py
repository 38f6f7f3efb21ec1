"""T5-style text encoders through transformers: UL2, T5, ByT5.

Shape letters: B batch, L tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn

from mgzoo.parts import Condition, Cut
from mgzoo_encoders.configs import RELATIVE_BUCKETS, ByT5Config, T5Config
from mgzoo_encoders.pretrained import RANDOM, Tokenizer, build, dropless

COMPARED = {
    "width": "d_model",
    "depth": "num_layers",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "hidden": "d_ff",
    "vocab": "vocab_size",
    "activation": "feed_forward_proj",
}


def quoted(prompt: str) -> str:
    """What a prompt has in straight or curly double quotes, joined by spaces: the text to be drawn (Movie Gen)."""
    return " ".join(straight or curly for straight, curly in re.findall(r'"([^"]*)"|“([^”]*)”', prompt))


class T5(nn.Module):
    """Texts -> Condition of tokens; every text ends with the end mark, so that an empty one has one token."""

    reads_bytes = False

    def __init__(self, config: T5Config, name: str = "text"):
        super().__init__()
        import transformers

        self.config, self.spec = config, config.condition_spec(name)
        wanted = transformers.T5Config(
            **{attribute: getattr(config, field) for field, attribute in COMPARED.items()}, relative_attention_num_buckets=RELATIVE_BUCKETS
        )
        # only the stack: the whole model holds the token embedding under two names, which safetensors refuses to save
        self.encoder = build(transformers.T5EncoderModel, dropless(wanted), COMPARED, config.source, type(self).__name__).encoder
        on_meta = self.encoder.device.type == "meta"
        self.tokenize = None if on_meta else Tokenizer(RANDOM if self.reads_bytes else config.source, type(self).__name__, config.max_len)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        """What it does not read of each text, or of the quoted part where it reads that alone."""
        return self.tokenize.cut([quoted(text) for text in texts] if self.config.quoted_only else texts)

    def forward(self, inputs: Sequence[str]) -> Condition:
        """B texts -> values (B, L, D) and mask (B, L), L the longest of the batch and at most max_len."""
        texts = [quoted(text) for text in inputs] if self.config.quoted_only else inputs
        ids_BL, mask_BL = self.tokenize(texts, self.encoder.device)
        values_BLD = self.encoder(input_ids=ids_BL, attention_mask=mask_BL.to(torch.long)).last_hidden_state
        return Condition(name=self.spec.name, values=values_BLD, mask=mask_BL)


class ByT5(T5):
    """A T5 that reads bytes and so needs no tokenizer file."""

    config: ByT5Config
    reads_bytes = True
