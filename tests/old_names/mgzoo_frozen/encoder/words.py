"""Texts -> tokens, one a word, by hashing: no vocabulary file, no download.

Shape letters: B batch, L tokens, D width.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mgzoo.parts import Condition, Cut
from mgzoo_frozen.encoder.configs import WordsConfig


def words(text: str) -> list[str]:
    """Lower-case words and single other signs: "A rabbit, hopping!" -> a · rabbit · , · hopping · !"""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def row(word: str, rows: int, seed: int) -> int:
    """A row in 1 … rows - 1, the same in every process and on every machine."""
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8, salt=bytes([seed])).digest()
    return 1 + int.from_bytes(digest, "little") % (rows - 1)


class Words(nn.Module):
    """A word is the sum of two hashed embeddings, so that two words seldom share both; then a feed-forward on each token."""

    def __init__(self, config: WordsConfig, name: str = "text"):
        super().__init__()
        self.config, self.spec = config, config.condition(name)
        d = config.width
        self.table = nn.Embedding(config.rows, d)
        self.positions = nn.Embedding(config.max_len, d)
        self.norm = nn.LayerNorm(d)
        self.up = nn.Linear(d, 2 * d)
        self.down = nn.Linear(2 * d, d)
        self.out_norm = nn.LayerNorm(d)
        for embedding in (self.table, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        """What it does not read of each text: mgzoo says it when it generates and counts it when it trains."""
        most, found = self.config.max_len, [words(text) for text in texts]
        return [Cut(read=most, whole=len(text), unit="words", rest=" ".join(text[most:])) if len(text) > most else None for text in found]

    def forward(self, inputs: Sequence[str]) -> Condition:
        """B texts -> values (B, L, D) and mask (B, L); an empty text is one token, since a row without any means "dropped"."""
        assert not isinstance(inputs, str), "give a list of texts"
        device = self.table.weight.device
        texts = [words(text)[: self.config.max_len] for text in inputs]
        rows = [[[row(word, self.config.rows, seed) for seed in (0, 1)] for word in text] or [[0, 0]] for text in texts]
        longest = max(map(len, rows))
        rows_BL2 = torch.tensor([text + [[0, 0]] * (longest - len(text)) for text in rows], device=device)
        lengths = torch.tensor([len(text) for text in rows], device=device)
        mask_BL = torch.arange(longest, device=device) < lengths[:, None]
        x_BLD = self.norm(self.table(rows_BL2).sum(2)) + self.positions(torch.arange(longest, device=device))
        x_BLD = x_BLD + self.down(F.gelu(self.up(x_BLD)))
        return Condition(name=self.spec.name, values=self.out_norm(x_BLD) * mask_BL[..., None], mask=mask_BL)
