"""Decoding a video: time and memory of our temporal autoencoder against those of diffusers.

    python benchmarks/decode.py        [--runs 5] [--frames 17] [--size 128] [--peers cogvideox,hunyuan,wan,ltx]

Every decoder turns latents into 17 frames of 128x128 at widths 64-128-256-256, from 16 channels at 8 pixels a latent, with random
weights. Ours compresses time by 8 (Movie Gen) and, to match the peers, by 4; CogVideoX, HunyuanVideo and Wan compress it by 4. LTX is
as published (128 channels at 32 pixels a latent, six times the parameters): matched in output only.

One thread; CPU seconds, as other work shares the machine; the models take turns. Peers run as shipped and with their weights in
channels_last_3d. FLOPs are those of the products really made (counted by torch, two a multiply-add), so that less work is visible:
ours makes fewer, as a temporal convolution after a spatial one has 12 taps and not 27. Memory is the high-water mark of a fresh
process during its first decode, above what it held with the weights loaded; it includes what libraries allocate at first use.

Left out: quality (see the reconstruction benchmark for ours), encoding, tiling, GPUs, the peers' published widths.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import statistics
import subprocess
import sys

import torch
from common import arguments, ratios, table, take_turns, write
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mgzoo_autoencoders.configs import TaeConfig
from mgzoo_autoencoders.tae import Tae
from mgzoo_autoencoders.tae_convolutions import TemporalConv

WIDTHS = (64, 128, 256, 256)
OURS = {"ours 8x8x8": (2, 2, 2), "ours 4x8x8": (1, 2, 2)}
PEERS = ("cogvideox", "hunyuan", "wan", "ltx")
LAST = " channels_last_3d"
MATRIX = 2048


def model(name: str) -> nn.Module:
    """A new model in the default dtype, in inference mode."""
    torch.manual_seed(0)
    if name in OURS:
        made = Tae(TaeConfig(widths=WIDTHS, time_strides=OURS[name]))
        for module in made.modules():
            if isinstance(module, TemporalConv):
                module.reset_parameters()  # they start as the identity
        return made.eval()
    import diffusers

    peer = name.removesuffix(LAST)
    if peer == "wan":
        made = diffusers.AutoencoderKLWan(base_dim=WIDTHS[0], dim_mult=[w // WIDTHS[0] for w in WIDTHS], z_dim=16)
    elif peer == "ltx":
        made = diffusers.AutoencoderKLLTXVideo()
    else:
        kind = {"cogvideox": diffusers.AutoencoderKLCogVideoX, "hunyuan": diffusers.AutoencoderKLHunyuanVideo}[peer]
        made = kind(block_out_channels=WIDTHS, latent_channels=16)
    if name.endswith(LAST):  # by hand: .to(memory_format=...) refuses a model that has weights of pictures too
        for parameter in made.parameters():
            if parameter.ndim in (4, 5):
                last = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=last)
    return made.eval()


def latents(name: str, frames: int, size: int) -> Tensor:
    time, space, channels = 4, 8, 16
    if name in OURS:
        time = 2 ** sum(s == 2 for s in OURS[name])
        return torch.randn(1, channels, -(-frames // time), size // space, size // space)
    if name.startswith("ltx"):
        time, space, channels = 8, 32, 128
    z = torch.randn(1, channels, (frames - 1) // time + 1, size // space, size // space)
    return z.contiguous(memory_format=torch.channels_last_3d) if name.endswith(LAST) else z


@torch.no_grad()
def decode(name: str, module: nn.Module, z: Tensor, frames: int, size: int) -> Tensor:
    """Latents -> (1, 3, frames, size, size)."""
    out = module.decode(z, (frames, size, size)) if name in OURS else module.decode(z).sample
    assert out.shape == (1, 3, frames, size, size), out.shape
    return out


def resident(what: str) -> int:
    """Bytes of this process: VmRSS, what it holds now, or VmHWM, the most that it held (getrusage would count the parent's before exec)."""
    line = next(line for line in open("/proc/self/status") if line.startswith(what))
    return int(line.split()[1]) * 1024


def memory(name: str, frames: int, size: int) -> None:
    """Print the bytes that the first decode adds; run in a process of its own."""
    module, z = model(name), latents(name, frames, size)
    before = resident("VmRSS")
    decode(name, module, z, frames, size)
    print(json.dumps(resident("VmHWM") - before))


def extra(name: str, dtype: str, frames: int, size: int) -> float:
    """MB that the first decode adds, measured in a fresh process."""
    command = [sys.executable, __file__, "--frames", str(frames), "--size", str(size), "--memory", name, "--dtype", dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout.splitlines()[-1]) / 1e6


def work(name: str, frames: int, size: int) -> dict[str, float]:
    """FLOPs of one decode, and parameters of the decoder."""
    in_place = {torch.ops.aten.addmm_: lambda out, left, right, **rest: 2 * left[0] * left[1] * right[1]}  # torch's counter omits it
    with torch.device("meta"), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        module = model(name)
        decode(name, module, latents(name, frames, size), frames, size)
    parameters = sum(p.numel() for name, p in module.named_parameters() if name.startswith("decoder"))
    flops = counter.get_total_flops()
    return {"GFLOP": flops / 1e9, "kFLOP a pixel": flops / frames / size**2 / 1e3, "M parameters": parameters / 1e6}


def main() -> None:
    parser = arguments(__doc__, runs=5, frames=17, size=128)
    parser.add_argument("--peers", default=",".join(PEERS), help="default all: %(default)s")
    parser.add_argument("--memory", help="print the bytes that decoding with this model adds, and end")
    parser.add_argument("--dtype", help="dtype of --memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = options.frames, options.size
    if options.memory:
        torch.set_default_dtype(getattr(torch, options.dtype))
        return memory(options.memory, *shape)
    peers = [peer for peer in options.peers.split(",") if peer]
    names = [*OURS, *peers, *(peer + LAST for peer in peers)]
    works = {name: work(name, *shape) for name in (*OURS, *peers)}
    rows, rounds, outputs = [], {}, {}
    torch.set_default_dtype(torch.bfloat16)
    low = {name: model(name) for name in names}
    torch.set_default_dtype(torch.float32)
    given = {name: latents(name, *shape).bfloat16() for name in names}

    def case(key: str, name: str, module: nn.Module, z: Tensor) -> None:
        outputs[key, name] = decode(name, module, z, *shape).float()

    for dtype in (torch.bfloat16, torch.float32):
        key = str(dtype).removeprefix("torch.")
        left, right = torch.randn(2, MATRIX, MATRIX).to(dtype)
        cases = {"product": functools.partial(torch.mm, left, right)}
        for name in names:
            module = low[name] if dtype == torch.bfloat16 else copy.deepcopy(low[name]).float()
            cases[name] = functools.partial(case, key, name, module, given[name].to(dtype))
        seconds = {name: [cpu for _, cpu in taken] for name, taken in take_turns(cases, options.runs).items()}
        rounds[key] = {name: [round(s, 4) for s in taken] for name, taken in seconds.items()}
        peak = 2 * MATRIX**3 / min(seconds["product"]) / 1e9
        for name in names:
            did = works[name.removesuffix(LAST)]
            row = {"dtype": key, "decoder": name, "s": min(seconds[name]), "median s": statistics.median(seconds[name])}
            row |= {"extra MB": extra(name, key, *shape), **did}
            row["of peak"] = did["GFLOP"] / min(seconds[name]) / peak
            row |= {f"{ours} is x faster": ratios(seconds[ours], seconds[name]) for ours in OURS}
            rows.append(row)
    for row in rows[: len(names)]:
        exact = outputs["float32", row["decoder"]]
        row["error"] = ((outputs["bfloat16", row["decoder"]] - exact).norm() / exact.norm()).item()
    path = write(options.out, "decode", {"rows": rows, "seconds": rounds}, ("dtype", "decoder", "s"))

    def shown(row):
        wanted = ("dtype", "decoder", "s", "median s", "extra MB", "GFLOP", "kFLOP a pixel", "M parameters", "of peak", "error")
        between = {ours: row[f"{ours} is x faster"] for ours in OURS}
        return {name: row.get(name, "") for name in wanted} | {
            f"{ours} x": f"{r['median']:.2f} ({r['min']:.2f}-{r['max']:.2f})" for ours, r in between.items()
        }

    print(table([shown(row) for row in rows]))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
