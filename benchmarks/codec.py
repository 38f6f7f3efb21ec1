"""The sound autoencoder: SI-SDR and spectral distance on held-out sounds, against Opus, MDCT codecs and the untrained network.

    python benchmarks/codec.py [--model registry/dacvae-tiny] [--sounds 60]

Held out: notes of pitches, samples and pieces of film that data/sounds48_held_out.txt keeps from training (scripts/prepare_sounds.py makes
data/sounds48), the first 1.6 s of each; at most --sounds of a kind.
Codecs: the model; its latents rounded to steps of a share of their deviation, with the bit rate that a perfect entropy coder of each channel
would need (fitted to these very sounds); Opus (libopus, constrained variable rate) at 6, 12 and 24 kb/s, aligned by the best lag; MDCT of the
same window with as many coefficients as the model has channels, the lowest (where training starts) or the largest of each frame (whose
places cost nothing here); the same architecture untrained and without the linear path.
SI-SDR: Le Roux et al. 2019, dB, mean over sounds. Distance: mean absolute difference of log magnitudes above -80 dB of full scale, dB, Hann
windows of 4096, 1024, 256 and 64 samples. Memory: peak beyond what stood before, encode and decode in a fresh process, chunked and in one piece.
Left out: listening tests, and perceptual measures that need a network that no package ships.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import common
import numpy as np
import torch
from torch import Tensor

import mgzoo
from mgzoo_autoencoders.audio_losses import log_spectral_distance, si_sdr
from mgzoo_autoencoders.dacvae import MDCT, DacVae, mdct_basis

RATE, SAMPLES, KINDS = 48_000, 76_800, ("note", "sample", "film")
ROOT = Path(__file__).parents[1]


def held_out(count: int) -> dict[str, list[Tensor]]:
    """Sounds (1, S) of each kind, in a fixed and mixed order."""
    from mgzoo_audio.sound_configs import SoundsConfig
    from mgzoo_audio.sounds import Sounds

    data = Sounds(SoundsConfig(path=str(ROOT / "data/sounds48"), kinds=KINDS, held_out=(str(ROOT / "data/sounds48_held_out.txt"),), keep_mb=0))
    found = {kind: [] for kind in KINDS}
    for clip in data.held_out():
        if len(found[clip.extra["kind"]]) < count:
            found[clip.extra["kind"]].append(clip.sound())
    return found


def opus(audio: Tensor, rate: int) -> tuple[Tensor, float]:
    """(1, S) through libopus at `rate` bits per second: (the sound aligned by the best lag, bits per second that were written)."""
    buffer, size = io.BytesIO(), 0
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", options={"vbr": "constrained"})
        stream.bit_rate = rate
        padded = torch.nn.functional.pad(audio, (0, 4800)).numpy()
        for start in [*range(0, padded.shape[1], 960), None]:
            frame = None
            if start is not None:
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(padded[:, start : start + 960]), format="flt", layout="mono")
                frame.sample_rate, frame.pts = RATE, start
            for packet in stream.encode(frame):
                size += packet.size
                container.mux(packet)
    buffer.seek(0)
    with av.open(buffer) as container:
        plain = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        heard = torch.from_numpy(np.concatenate([piece.to_ndarray() for frame in container.decode(audio=0) for piece in plain.resample(frame)], 1))
    heard = torch.nn.functional.pad(heard, (960, max(0, audio.shape[1] + 1920 - heard.shape[1])))
    size_fft = 2 * heard.shape[1]
    close = torch.fft.irfft(torch.fft.rfft(heard[0], size_fft) * torch.fft.rfft(audio[0], size_fft).conj(), size_fft)
    lag = int(close[:1920].argmax())
    return heard[:, lag : lag + audio.shape[1]], 8 * size * RATE / padded.shape[1]


def figures(codec: Callable[[Tensor], Tensor], sounds: dict[str, list[Tensor]]) -> dict[str, float]:
    row = {}
    for kind, some in sounds.items():
        pairs = [(codec(x), x) for x in some]
        row[f"{kind} SI-SDR"] = float(np.mean([si_sdr(y, x).item() for y, x in pairs]))
        row[f"{kind} distance"] = float(np.mean([log_spectral_distance(y, x).item() for y, x in pairs]))
    return row


def entropy(latents: Tensor) -> float:
    """Bits per latent position of whole numbers (C, N): the sum over channels of the entropy of each."""
    total = 0.0
    for channel in latents:
        share = torch.unique(channel, return_counts=True)[1].double() / channel.numel()
        total -= (share * share.log2()).sum().item()
    return total


def memory(model: str, seconds: int, chunk: int) -> float:
    """MB that encoding and decoding this much sound adds at its peak, in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--measure", f"{model},{seconds},{chunk}"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(model: str, seconds: int, chunk: int) -> float:
    part = mgzoo.load(model).autoencoder.float()
    part.config = dataclasses.replace(part.config, chunk=chunk)
    media = 0.1 * torch.randn(1, 1, seconds * RATE)
    part.decode(part.encode(media[..., :RATE]), (RATE,))  # what the first call alone takes
    before = peak()
    part.decode(part.encode(media), (seconds * RATE,))
    return peak() - before


def peak() -> float:
    """MB that this process has held at most; unlike getrusage's figure, not that of the process it was started from."""
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    parser = common.arguments(__doc__, sounds=60)
    parser.add_argument("--model", default="registry/dacvae-tiny", help="an artifact with a sound autoencoder")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        model, seconds, chunk = options.measure.split(",")
        print(json.dumps(measure(model, int(seconds), int(chunk))))
        return
    part, sounds, rows = mgzoo.load(options.model).autoencoder.float(), held_out(options.sounds), []
    config, everything = part.config, [x for some in sounds.values() for x in some]

    def through(x: Tensor, step: float = 0.0, net: DacVae = part) -> Tensor:
        latents = net.encode(x[None])
        return net.decode((latents / step).round() * step if step else latents, (x.shape[1],))[0]

    def add(codec: str, kbps: float | None, act: Callable[[Tensor], Tensor]) -> None:
        rows.append({"codec": codec, "kb/s": None if kbps is None else round(kbps, 1)} | figures(act, sounds))
        print(common.table(rows[-1:]), flush=True)

    per_second = RATE / config.hop
    add(f"model, {per_second * config.channels:.0f} numbers/s", None, through)
    latents = torch.cat([part.encode(x[None])[0] for x in everything], 1)
    for step in (0.25, 0.5, 1.0):
        add(f"model, latents rounded to {step:g}", entropy((latents / step).round()) * per_second / 1000, lambda x, step=step: through(x, step))
    for kbps in (6, 12, 24):
        written = float(np.mean([opus(x, 1000 * kbps)[1] for x in everything[:12]])) / 1000
        add(f"Opus at {kbps} kb/s", written, lambda x, kbps=kbps: opus(x, 1000 * kbps)[0])
    lapped = MDCT(config)
    add("MDCT, the lowest coefficients", None, lambda x: lapped.synthesise(lapped.analyse(x[None]))[0])
    whole = MDCT(dataclasses.replace(config, channels=config.hop))
    whole._set(mdct_basis(config.hop), torch.ones(config.hop))

    def largest(x: Tensor) -> Tensor:
        found = whole.analyse(x[None])
        least = found.abs().topk(config.channels, dim=1).values[:, -1:]
        return whole.synthesise(found * (found.abs() >= least))[0]

    add("MDCT, the largest of each frame", None, largest)
    torch.manual_seed(0)
    untrained = DacVae(dataclasses.replace(config, linear=False)).eval()
    add("untrained, no linear path", None, lambda x: through(x, net=untrained))
    flat = [{"seconds": seconds, "chunked MB": round(memory(options.model, seconds, config.chunk)), "one piece MB": round(memory(options.model, seconds, 10**6))} for seconds in (20, 80)]
    print(common.table(rows), common.table(flat), sep="\n\n")
    shown = {row["codec"]: {kind: row[f"{kind} distance"] for kind in KINDS} for row in rows}
    common.bars(options.out, "codec", shown, unit="spectral distance in dB, less is better", title=__doc__.splitlines()[0])
    counts = {kind: len(some) for kind, some in sounds.items()}
    print(common.write(options.out, "codec", {"sounds": counts, "rows": rows, "memory": flat}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main()
