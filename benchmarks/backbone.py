"""One transformer block, forward and backward: ours against a plain one and the blocks of five video models.

    python benchmarks/backbone.py [--runs 7] [--width 1024] [--heads 16] [--tokens 1024] [--text 128]

One sample of 1,024 video tokens with 128 text tokens, one thread, bfloat16 and float32 apart. Blocks are called in turn in one
process (A, B, C, A, …); a ratio is taken inside a round, more than 1 means that our block is faster. Gradients reach the weights,
the tokens, the text and the timestep. Peers are diffusers': Wan, HunyuanVideo (dual and single stream), CogVideoX, and Latte
(BasicTransformerBlock, `ada_norm_single`), with the options of the published models and a feed-forward width of 4 d. `plain` is our
llama3 block's mathematics and weights in torch's stock parts (nn.RMSNorm, apart q k v w1 w3, scaled_dot_product_attention).

They differ in work, so FLOPs (torch's counter, attention unfused) and parameters stand beside the times, and GFLOP/s beside the
rate of a bare square product taken in the same rounds, which is the limit. `error` is the relative distance (L2) of the
bfloat16 output, and the median one of all its gradients, from the same weights' float32. Left out: what is once per model
(embeddings, timestep MLP, optimiser), torch.compile, HunyuanVideo's text mask (which only slows it).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import functools
import statistics

import torch
import torch.nn.functional as F
from common import arguments, ratios, table, take_turns, write
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoSingleTransformerBlock, HunyuanVideoTransformerBlock
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mgzoo_backbones.attention import Segments
from mgzoo_backbones.configs import DiTConfig, Llama3Config
from mgzoo_backbones.dit import DiT
from mgzoo_backbones.llama3 import Llama3
from mgzoo_backbones.transformer import Block

OURS = ("llama3", "dit")
MATRIX = 2048
"""Rows and columns of the square product that is the measured limit."""


class Plain(nn.Module):
    """The llama3 block with torch's stock layers, and the weights of ours."""

    def __init__(self, ours: Block, heads: int):
        super().__init__()
        d, inner = ours.attention.out.in_features, ours.ffn.w2.in_features
        self.heads, self.table = heads, nn.Parameter(ours.table.clone())
        self.norm1, self.norm2 = nn.RMSNorm(d, eps=ours.attention_norm.eps), nn.RMSNorm(d, eps=ours.ffn_norm.eps)
        self.norm1.weight, self.norm2.weight = ours.attention_norm.weight, ours.ffn_norm.weight
        weights = {
            **dict(zip(("q", "k", "v"), ours.attention.qkv.weight.chunk(3))),
            "out": ours.attention.out.weight,
            "cross_q": ours.cross_attention.q.weight,
            **dict(zip(("cross_k", "cross_v"), ours.cross_attention.kv.weight.chunk(2))),
            "cross_out": ours.cross_attention.out.weight,
            **dict(zip(("w1", "w3"), ours.ffn.w13.weight.chunk(2))),
            "w2": ours.ffn.w2.weight,
        }
        for name, weight in weights.items():
            linear = nn.Linear(inner if name == "w2" else d, weight.shape[0], bias=False)
            linear.weight = nn.Parameter(weight.detach().clone())
            self.add_module(name, linear)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, positions: Tensor, text: Tensor, modulation: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.table + modulation).chunk(6, dim=1)
        x = x + positions
        y = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.out(self.attention(self.q(y), self.k(y), self.v(y)))
        x = x + self.cross_out(self.attention(self.cross_q(x), self.cross_k(text), self.cross_v(text)))
        y = self.norm2(x) * (1 + scale2) + shift2
        return x + gate2 * self.w2(F.silu(self.w1(y)) * self.w3(y))


def blocks(d: int, heads: int, tokens: int, text: int) -> dict[str, tuple[nn.Module, callable]]:
    """By name: the block in float32, and how it is called on (block, inputs)."""
    torch.manual_seed(0)
    queries, keys = (Segments(lengths=(n,), device=torch.device("cpu")) for n in (tokens, text))
    made = {}

    def call_ours(block, i):
        return block(i["x"], i["positions"], i["six"], queries, i["text"][0], keys)

    for name, target, config in (
        ("llama3", Llama3, Llama3Config(width=d, heads=heads, ffn=-(-8 * d // 3 // 64) * 64)),
        ("dit", DiT, DiTConfig(width=d, heads=heads, ffn=4 * d)),
    ):
        block = Block(config, target.Norm, target.FeedForward, cross=True)
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.02)
        for norm in (block.attention_norm, block.ffn_norm):
            for parameter in norm.parameters():
                nn.init.ones_(parameter)
        made[name] = block, call_ours
    made["plain"] = Plain(made["llama3"][0], heads), lambda block, i: block(i["x"], i["positions"], i["text"], i["six"])
    made["wan"] = (
        WanTransformerBlock(d, 4 * d, heads, cross_attn_norm=True),
        lambda block, i: block(i["x"], i["text"], i["six"], tuple(r[None, :, None] for r in i["rotary"])),
    )
    made["hunyuan dual"] = (
        HunyuanVideoTransformerBlock(heads, d // heads, mlp_ratio=4.0),
        lambda block, i: block(i["x"], i["text"], i["one"], freqs_cis=i["rotary"]),
    )
    made["hunyuan single"] = (
        HunyuanVideoSingleTransformerBlock(heads, d // heads, mlp_ratio=4.0),
        lambda block, i: block(i["x"], i["text"], i["one"], image_rotary_emb=i["rotary"]),
    )
    made["cogvideox"] = (
        CogVideoXBlock(d, heads, d // heads, time_embed_dim=512, attention_bias=True),
        lambda block, i: block(i["x"], i["text"], i["half"], image_rotary_emb=i["rotary"]),
    )
    made["latte"] = (
        BasicTransformerBlock(
            d, heads, d // heads, cross_attention_dim=d, activation_fn="gelu-approximate", attention_bias=True,
            norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
        ),
        lambda block, i: block(i["x"] + i["positions"], encoder_hidden_states=i["text"], timestep=i["six"]),
    )  # fmt: skip
    return made


def inputs(d: int, heads: int, tokens: int, text: int, dtype: torch.dtype) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
    """What the blocks are given; rotary angles stay in float32, as the peers keep them."""
    torch.manual_seed(1)
    shapes = {"x": (1, tokens, d), "positions": (1, tokens, d), "text": (1, text, d), "six": (1, 6, d), "one": (1, d), "half": (1, 512)}
    made = {name: torch.randn(shape).bfloat16().to(dtype).requires_grad_() for name, shape in shapes.items()}
    angles = torch.rand(tokens, d // heads // 2).repeat_interleave(2, dim=-1)
    return {**made, "rotary": (angles.cos(), angles.sin())}


def step(block: nn.Module, call, given) -> list[Tensor]:
    """Forward and backward of the mean square of all outputs; returns the outputs."""
    outputs = call(block, given)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
    return outputs


def clear(block: nn.Module, given) -> None:
    block.zero_grad(set_to_none=True)
    for tensor in given.values():
        if isinstance(tensor, Tensor):
            tensor.grad = None


def case(block, call, given):
    clear(block, given)
    step(block, call, given)


def error(block, call, sizes) -> dict[str, float]:
    """Relative L2 distance of the bfloat16 outputs and gradients from the float32 of the same (bfloat16) weights."""
    found = []
    low = copy.deepcopy(block).bfloat16()
    for dtype, module in ((torch.bfloat16, low), (torch.float32, copy.deepcopy(low).float())):
        given = inputs(*sizes, dtype)
        y = torch.cat([y.detach().flatten().float() for y in step(module, call, given)])
        leaves = [*module.parameters(), *(t for t in given.values() if isinstance(t, Tensor))]
        found.append((y, [leaf.grad.flatten().float() for leaf in leaves if leaf.grad is not None]))
    (y, grads), (y_exact, grads_exact) = found
    each = [((a - b).norm() / b.norm()).item() for a, b in zip(grads, grads_exact) if b.norm() > 0]
    return {"output": ((y - y_exact).norm() / y_exact.norm()).item(), "gradient": statistics.median(each)}


def main() -> None:
    options = arguments(__doc__, runs=7, width=1024, heads=16, tokens=1024, text=128).parse_args()
    torch.set_num_threads(1)
    sizes = options.width, options.heads, options.tokens, options.text
    made = blocks(*sizes)
    work, rows, rounds = {}, [], {}
    for name, (block, call) in made.items():
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            step(block, call, inputs(*sizes, torch.float32))
        work[name] = counter.get_total_flops(), sum(p.numel() for p in block.parameters()), error(block, call, sizes)
        block.zero_grad(set_to_none=True)
    for dtype in (torch.bfloat16, torch.float32):
        left, right = torch.randn(2, MATRIX, MATRIX).to(dtype)
        cases = {"product": functools.partial(torch.mm, left, right)}
        for name, (block, call) in made.items():
            cases[name] = functools.partial(case, copy.deepcopy(block).to(dtype), call, inputs(*sizes, dtype))
        seconds = {name: [cpu for _, cpu in taken] for name, taken in take_turns(cases, options.runs).items()}
        peak = 2 * MATRIX**3 / min(seconds["product"]) / 1e9
        key = str(dtype).removeprefix("torch.")
        rounds[key] = {name: [round(s, 5) for s in taken] for name, taken in seconds.items()}
        bare = {"ms": min(seconds["product"]) * 1e3, "GFLOP": 2 * MATRIX**3 / 1e9, "GFLOP/s": peak}
        rows.append({"dtype": key, "block": "(product)"} | bare)
        for name, (flops, parameters, errors) in work.items():
            rate = flops / min(seconds[name]) / 1e9
            row = {"dtype": key, "block": name, "ms": min(seconds[name]) * 1e3, "median ms": statistics.median(seconds[name]) * 1e3}
            row |= {"GFLOP": flops / 1e9, "GFLOP/s": rate, "of peak": rate / peak, "M parameters": parameters / 1e6}
            row |= {f"{ours} is x faster": ratios(seconds[ours], seconds[name]) for ours in OURS}
            row |= {f"error {what}": value for what, value in errors.items()} if dtype == torch.bfloat16 else {}
            rows.append(row)
    path = write(options.out, "backbone", {"rows": rows, "seconds": rounds}, ("dtype", "block", "GFLOP/s"))

    def shown(row):
        between = {ours: row.get(f"{ours} is x faster") for ours in OURS}
        between = {f"{ours} x": f"{r['median']:.2f} ({r['min']:.2f}-{r['max']:.2f})" if r else "" for ours, r in between.items()}
        wanted = ("dtype", "block", "ms", "median ms", "GFLOP", "GFLOP/s", "of peak", "M parameters", "error output", "error gradient")
        return {name: row.get(name, "") for name in wanted} | between

    print(table([shown(row) for row in rows]))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
