"""A packed batch of images and videos of many sizes against the same batch padded to its longest sample.

    python benchmarks/packing.py [--runs 5] [--width 768] [--heads 12] [--depth 4]

Eight samples of 256 to 1,536 tokens (four images, four videos) with 16 to 128 text tokens go through one backbone, forward, and
forward and backward, bfloat16 and float32 apart, one thread, cases in turn; a ratio is taken inside a round, more than 1 means
that packing is faster. All cases share one model's weights and give the same predictions: `difference` is the largest from each
sample alone in float32, over the largest value, and `gradients' difference` the relative (L2) one of the median parameter.

    packed          a list of latents given to the backbone
    padded          every sample filled up to the longest, keys masked in torch's scaled_dot_product_attention, as video pipelines do
    padded, ours    the same with our attention in place of torch's, so that what is left is packing alone (bfloat16)
    one by one      eight calls of one sample each

The limit of packed against padded is the ratio of their FLOPs, printed beside. Left out: the encoder, the optimiser, and sorting
samples of like sizes together, which costs a batch its mixture.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import functools
import math
import statistics

import torch
import torch.nn.functional as F
from common import arguments, ratios, table, take_turns, write
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from mgzoo.parts import Condition
from mgzoo.spec import ConditionSpec, LatentSpec
from mgzoo_backbones.adaln import modulate, sinusoid
from mgzoo_backbones.chunked_attention import ChunkedAttention
from mgzoo_backbones.configs import Llama3Config
from mgzoo_backbones.llama3 import Llama3
from mgzoo_backbones.transformer import patchify, unpatchify

LATENT = LatentSpec(space="autoencoders.tae16", channels=16, stride=(8, 8, 8))
TEXT = ConditionSpec(name="text", dim=512, max_len=128)
SIZES = ((1, 32, 32), (1, 24, 48), (1, 40, 32), (1, 48, 32), (2, 32, 32), (3, 40, 24), (4, 32, 32), (6, 32, 32))
"""Latents (t, h, w); 256, 288, 320, 384, 512, 720, 1024 and 1536 tokens in patches of 1 x 2 x 2."""
TEXT_LENGTHS = (16, 64, 24, 128, 40, 96, 32, 77)


def batch(dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Condition]:
    torch.manual_seed(1)
    latents = [torch.randn(LATENT.channels, *size).bfloat16().to(dtype) for size in SIZES]
    mask = torch.arange(TEXT.max_len) < torch.tensor(TEXT_LENGTHS)[:, None]
    values = torch.randn(*mask.shape, TEXT.dim).bfloat16().to(dtype)
    return latents, torch.rand(len(SIZES)), Condition(name="text", values=values, mask=mask)


def packed(model: nn.Module, latents, t, text) -> list[Tensor]:
    return model(latents, t, {"text": text})


def one_by_one(model: nn.Module, latents, t, text) -> list[Tensor]:
    texts = [Condition(name="text", values=text.values[i : i + 1], mask=text.mask[i : i + 1]) for i in range(len(latents))]
    return [model(x[None], t[i : i + 1], {"text": own})[0] for i, (x, own) in enumerate(zip(latents, texts))]


def padded(model: nn.Module, latents, t, text, attention) -> list[Tensor]:
    """The same backbone on (B, longest, D): what our forward does to a uniform batch, with masks."""
    dtype, patch = model.table.dtype, model.config.patch
    grids = [tuple(n // p for n, p in zip(x.shape[1:], patch)) for x in latents]
    lengths = torch.tensor([math.prod(grid) for grid in grids])
    x_BSD = model.embed(pad_sequence([patchify(x[None].to(dtype), patch)[0] for x in latents], batch_first=True))
    positions_BSD = pad_sequence([model.positions(grid)[0] for grid in grids], batch_first=True)
    given_BS = torch.arange(x_BSD.shape[1]) < lengths[:, None]
    time_BD = model.timestep(sinusoid(1000 * t.float(), model.config.frequency_dim).to(dtype))
    modulation_B6D = model.modulation(F.silu(time_BD)).unflatten(-1, (6, -1))
    tokens_BLD, text_BL = model.conditions["text"](text, len(latents))

    for block in model.blocks:
        vectors = modulate(block.table, modulation_B6D, (1, 4), dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = (v_BD[:, None] for v_BD in vectors)
        x_BSD = x_BSD + positions_BSD
        own, other, heads = block.attention, block.cross_attention, block.attention.heads
        y_BSD = block.attention_norm(x_BSD, shift1, scale1)
        x_BSD = torch.addcmul(x_BSD, gate1, own.out(attention(*own.qkv(y_BSD).chunk(3, dim=-1), heads, given_BS)))
        x_BSD = x_BSD + other.out(attention(other.q(x_BSD), *other.kv(tokens_BLD).chunk(2, dim=-1), heads, text_BL))
        x_BSD = torch.addcmul(x_BSD, gate2, block.ffn(block.ffn_norm(x_BSD, shift2, scale2)))

    shift, scale = (v_BD[:, None] for v_BD in modulate(model.table, time_BD[:, None].expand(-1, 2, -1), (1,), dtype))
    y_BSP = model.output(model.norm(x_BSD, shift, scale))
    return [unpatchify(y[None, :n], grid, patch)[0] for y, n, grid in zip(y_BSP, lengths.tolist(), grids)]


def torchs_attention(q_BSD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int, given_BL: Tensor) -> Tensor:
    grids = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q_BSD, k_BLD, v_BLD))
    return F.scaled_dot_product_attention(*grids, attn_mask=given_BL[:, None, None]).transpose(1, 2).flatten(2)


def our_attention(q_BSD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int, given_BL: Tensor) -> Tensor:
    bias_BL = torch.zeros(given_BL.shape, dtype=q_BSD.dtype).masked_fill(~given_BL, -torch.inf)
    packed = (x.flatten(0, 1).unflatten(-1, (heads, -1)) for x in (q_BSD, k_BLD, v_BLD))
    lengths = ((x.shape[1],) * len(x) for x in (q_BSD, k_BLD))
    return ChunkedAttention.apply(*packed, *lengths, bias_BL).view(q_BSD.shape)


def run(forward, model: nn.Module, given, backward: bool) -> list[Tensor]:
    with torch.set_grad_enabled(backward):
        outputs = forward(model, *given)
        if backward:
            model.zero_grad(set_to_none=True)
            torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
    return outputs


def difference(outputs: list[Tensor], exact: list[Tensor]) -> float:
    return max((a.float() - b).abs().max().item() for a, b in zip(outputs, exact)) / max(b.abs().max().item() for b in exact)


def gradient_difference(model: nn.Module, exact: dict[str, Tensor]) -> float:
    """The median over the parameters of the relative (L2) distance of their gradients from those of samples alone in float32."""
    pairs = [(p.grad.float(), exact[name]) for name, p in model.named_parameters() if exact[name].any()]
    return statistics.median(((grad - true).norm() / true.norm()).item() for grad, true in pairs)


def main() -> None:
    options = arguments(__doc__, runs=5, width=768, heads=12, depth=4).parse_args()
    torch.set_num_threads(1)
    config = Llama3Config(
        width=options.width, heads=options.heads, depth=options.depth, ffn=-(-8 * options.width // 3 // 64) * 64, max_len=(8, 32, 32)
    )
    torch.manual_seed(0)
    model = Llama3(config, latent=LATENT, conditions=(TEXT,))
    for parameter in (model.output.weight, model.modulation.weight):  # off zero, so that every weight matters
        nn.init.normal_(parameter, std=0.02)
    ways = {
        "packed": packed,
        "padded": functools.partial(padded, attention=torchs_attention),
        "padded, ours": functools.partial(padded, attention=our_attention),
        "one by one": one_by_one,
    }
    low = copy.deepcopy(model).bfloat16()
    rows, rounds = [], {}
    for dtype, module in ((torch.bfloat16, low), (torch.float32, copy.deepcopy(low).float())):
        given = batch(dtype)
        found = {}
        exact = copy.deepcopy(module).float()
        exact_outputs = [y.detach() for y in run(one_by_one, exact, batch(torch.float32), backward=True)]
        exact_grads = {name: p.grad for name, p in exact.named_parameters()}
        here = {name: way for name, way in ways.items() if dtype == torch.bfloat16 or "ours" not in name}
        for name, way in here.items():
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                outputs = run(way, module, given, backward=True)
            found[name] = counter.get_total_flops(), difference(outputs, exact_outputs), gradient_difference(module, exact_grads)
        for backward in (False, True):
            cases = {name: functools.partial(run, way, module, given, backward) for name, way in here.items()}
            seconds = {name: [cpu for _, cpu in taken] for name, taken in take_turns(cases, options.runs).items()}
            what = "forward and backward" if backward else "forward"
            rounds[f"{dtype}, {what}".removeprefix("torch.")] = {name: [round(s, 5) for s in taken] for name, taken in seconds.items()}
            for name, (flops, apart, grads_apart) in found.items():
                row = {"dtype": str(dtype).removeprefix("torch."), "pass": what, "way": name, "s": min(seconds[name])}
                row |= {"median s": statistics.median(seconds[name]), "FLOPs x packed": flops / found["packed"][0]}
                row |= {"packed is x faster": ratios(seconds["packed"], seconds[name]), "difference": apart}
                rows.append(row | {"gradients' difference": grads_apart})
    tokens = [math.prod(size) // 4 for size in SIZES]
    path = write(options.out, "packing", {"tokens": tokens, "text": TEXT_LENGTHS, "rows": rows, "seconds": rounds}, ("dtype, pass", "way", "s"))

    def shown(row):
        r = row["packed is x faster"]
        return row | {"packed is x faster": f"{r['median']:.2f} ({r['min']:.2f}-{r['max']:.2f})"}

    print(table([shown(row) for row in rows]))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
