"""A text encoder that needs no download and no vocabulary file, and learns with the model.

A word is the sum of hashed embeddings of itself and of its byte n-grams (fastText: Bojanowski et al. 2017), so that words never
seen share what they have in common with seen ones; or, with `unit: byte`, a token is one byte (as in ByT5: Xue et al. 2022).

Shape letters: B batch, L tokens, D width, N words of the batch, H heads, K width of a head.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgzoo.parts import Condition, Cut
from mgzoo_encoders.configs import BytesConfig

EMPTY = (0,)  # the one token of a text that has none: a mask row of all False would mean a dropped condition
WORD = re.compile(r"\w+|[^\w\s]")
LONGEST_WORD = 64  # bytes of a word that give n-grams


def words(text: str) -> list[str]:
    """Lower-case words and single other signs, composed (NFC): "A rabbit, hopping!" -> a · rabbit · , · hopping · ! (our choice)."""
    return WORD.findall(composed(text))


def composed(text: str) -> str:
    """NFC and lower case."""
    return unicodedata.normalize("NFC", text).lower()


def bucket(data: bytes, kind: bytes, buckets: int) -> int:
    """A row in 1 … buckets - 1, the same in every process and on every machine (blake2b, keyed by `kind`)."""
    digest = hashlib.blake2b(data, digest_size=8, person=kind).digest()
    return 1 + int.from_bytes(digest, "little") % (buckets - 1)


@functools.lru_cache(maxsize=1 << 16)
def word_rows(word: str, buckets: int, ngrams: tuple[int, ...]) -> tuple[int, ...]:
    """Rows of a word: its own, then those of its byte n-grams, with < and > marking its ends."""
    data = word.encode("utf-8", "replace")
    marked = b"<" + data[:LONGEST_WORD] + b">"
    pieces = [marked[i : i + n] for n in ngrams for i in range(len(marked) - n + 1)]
    return (bucket(data, b"word", buckets), *(bucket(piece, b"ngram", buckets) for piece in pieces))


def cut(text: str, config: BytesConfig) -> Cut | None:
    """What lies beyond max_len tokens of a text, or None."""
    if config.unit == "byte":
        data = text.encode("utf-8", "replace")
        rest, whole = data[config.max_len :].decode("utf-8", "ignore"), len(data)
    else:
        plain = composed(text)
        starts = [match.start() for match in WORD.finditer(plain)]
        rest, whole = plain[starts[config.max_len] :] if len(starts) > config.max_len else "", len(starts)
    return Cut(read=config.max_len, whole=whole, unit=f"{config.unit}s", rest=rest) if whole > config.max_len else None


def token_rows(text: str, config: BytesConfig) -> list[tuple[int, ...]]:
    """For each token of a text (at least one, at most max_len) the embedding rows that it sums."""
    if config.unit == "byte":
        rows = [(1 + byte,) for byte in text.encode("utf-8", "replace")[: config.max_len]]
    else:
        rows = [word_rows(word, config.buckets, tuple(config.ngrams)) for word in words(text)[: config.max_len]]
    return rows or [EMPTY]


class Layer(nn.Module):
    """Pre-norm attention over all tokens and a GELU feed-forward of four times the width, without biases in the linear maps."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x_BLD)).chunk(3, dim=-1))
        y_BHLK = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BL[:, None, None, :])
        x_BLD = x_BLD + self.out(y_BHLK.transpose(1, 2).flatten(2))
        return x_BLD + self.down(F.gelu(self.up(self.norm2(x_BLD))))


class Bytes(nn.Module):
    """Texts -> Condition of tokens, or of their mean where `pooled`, in the dtype and on the device of the parameters."""

    def __init__(self, config: BytesConfig, name: str = "text"):
        super().__init__()
        self.config, self.spec = config, config.condition_spec(name)
        self.tokens = nn.EmbeddingBag(config.rows(), config.width, mode="sum")
        self.token_norm = nn.LayerNorm(config.width)
        self.positions = nn.Embedding(config.max_len, config.width) if config.positions else None
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    def cut(self, texts: Sequence[str]) -> list[Cut | None]:
        """What it does not read of each text."""
        return [cut(text, self.config) for text in texts]

    def forward(self, inputs: Sequence[str]) -> Condition:
        """B texts -> values (B, L, D) and mask (B, L), L the longest of the batch and at most max_len; an empty text is one token.
        Pooled: values (B, D) and mask (B,), all True."""
        assert not isinstance(inputs, str), "give a list of texts"
        device = self.tokens.weight.device
        texts = [token_rows(text, self.config) for text in inputs]
        lengths = torch.tensor([len(text) for text in texts], device=device)
        mask_BL = torch.arange(int(max(map(len, texts))), device=device) < lengths[:, None]

        bags = [rows for text in texts for rows in text]
        rows = torch.tensor([row for bag in bags for row in bag], device=device)
        starts = torch.tensor([0, *map(len, bags[:-1])], device=device).cumsum(0)
        # the norm makes a word's scale independent of its length, and keeps it above what the layers add at the start
        words_ND = self.token_norm(self.tokens(rows, starts))
        x_BLD = words_ND.new_zeros(*mask_BL.shape, words_ND.shape[-1]).masked_scatter(mask_BL[..., None], words_ND)
        if self.positions is not None:
            x_BLD = x_BLD + self.positions(torch.arange(mask_BL.shape[1], device=device))
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_BL)
        x_BLD = self.norm(x_BLD)
        if self.config.pooled:
            mean_BD = (x_BLD * mask_BL[..., None]).sum(1) / lengths[:, None]
            return Condition(name=self.spec.name, values=mean_BD.to(x_BLD), mask=mask_BL.any(1))
        return Condition(name=self.spec.name, values=x_BLD, mask=mask_BL)
