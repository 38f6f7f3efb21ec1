"""Sound generation on held-out notes and animations: match with prompt and video, and continuity of extended sounds.

    python benchmarks/audio.py [MODEL] [--notes 48] [--hits 32] [--ranked 16] [--twin runs/audio-dit/artifact]        (runs/audio)

Notes of 24 instruments, at pitches that only others played in training, are asked for in the words of the data: the share whose instrument an
independent judge hears (trained on other pitches, for sounds that went through the codec on notes that did) and the distance of the pitch in cents by YIN; beside it real notes, real ones through the
codec, and chance; and notes of four pitches that nobody played, and of training.
Hits at the turns of held-out animations, asked for by picture and words: distance of the onsets in milliseconds, against the same sounds with
other animations' onsets, and against real hits. Sounds extended by twice their length: steps of level and of spectrum across the windows' seams
and across the join, against steps between ordinary neighbours of the same sound, under triangle and uniform windows. The best ranked of
eight candidates against any of them (fewer requests: --ranked). A second model (dit) on the same notes and hits. What hears is in benchmarks/audio_judge.py.
Left out: listening people, and anything but notes and hits: this data has nothing else with exact labels.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

import audio_judge
import common
import torch
from audio_judge import RATE, SAMPLES, Heard
from torch import Tensor

import mgzoo
from mgzoo.discovery import discover
from mgzoo.media import Media
from mgzoo.tasks import override_sampler, window_starts
from mgzoo_autoencoders.dacvae_codec import codec_round_trip

BATCH, CANDIDATES = 24, 8


def made(model, notes: Sequence[Heard], *, steps: int, guidance: float, seed: int = 0, pictures: bool = False, words: bool = True, each: int = 1) -> list[list[Media]]:
    """`each` sounds for the caption of every one, and its clip where pictures are shown; sound i of them starts from the noise of seed + i."""
    from mgzoo_audio.task import SampleSpec
    from mgzoo_audio.video_features import Footage

    task, sampler, found = model.task, override_sampler(model.sampler, steps=steps, guidance=guidance), []
    times = model.autoencoder.config.latent_spec().axes(SAMPLES)[0]
    clips = [note.clip() if pictures else None for note in notes]
    wanted = []
    for place, (note, clip) in enumerate(zip(notes, clips)):
        shown = clip and Footage(load=lambda clip=clip: clip.video, frames=len(clip.video), fps=clip.fps)
        wanted += [SampleSpec(words=note.caption if words else None, footage=shown, seed=seed + 100 * place + i) for i in range(each)]
    for start in range(0, len(wanted), BATCH):
        found += [*task.sounds(model, wanted[start : start + BATCH], times, sampler=sampler)[:, None, :SAMPLES]]
    media = [
        Media(audio=one, rate=RATE, caption=notes[i // each].caption, **({"video": clips[i // each].video, "fps": clips[i // each].fps} if pictures else {}))
        for i, one in enumerate(found)
    ]
    return [media[i : i + each] for i in range(0, len(media), each)]


def of_notes(audio: Sequence[Tensor], notes: Sequence[Heard], codec=None) -> dict[str, float]:
    """Share of right instruments; share with a pitch, its median distance in cents among those, share within 50 cents of all. codec: what the
    sounds went through."""
    judge = audio_judge.judge(codec)
    right = [judge(one) == note.labels["instrument"] for one, note in zip(audio, notes, strict=True)]
    heard = [audio_judge.yin(one) for one in audio]
    off = [abs(audio_judge.cents(hertz, note.labels["pitch"])) for hertz, note in zip(heard, notes, strict=True) if not math.isnan(hertz)]
    return {
        "instrument": sum(right) / len(right), "pitched": len(off) / len(notes), "cents": statistics.median(off) if off else math.nan,
        "within_50_cents": sum(one < 50 for one in off) / len(notes),
    }  # fmt: skip


def of_hits(audio: Sequence[Tensor], hits: Sequence[Heard]) -> dict[str, float]:
    """Mean onset distance in ms to the own animation's turns, and to those of another animation (shuffled pairs)."""
    found = [audio_judge.onsets(one) for one in audio]
    turned = [hits[(i + len(hits) // 2) % len(hits)] for i in range(len(hits))]
    own, other = ([1000 * audio_judge.onset_error(o, hit.labels["onsets"], SAMPLES / RATE) for o, hit in zip(found, some, strict=True)] for some in (hits, turned))
    return {"own_ms": statistics.fmean(own), "shuffled_ms": statistics.fmean(other), "closer_to_own": sum(a < b for a, b in zip(own, other)) / len(own)}


def ranked(eight: Sequence[Sequence[Media]], asked: Sequence[Heard], metrics: Sequence[str], measure) -> dict[str, dict[str, float]]:
    """The best ranked of the candidates, and the mean over all of them, for the same requests."""
    from mgzoo_audio.ranking import choose_best

    every = [measure([some[i].audio for some in eight], asked) for i in range(CANDIDATES)]
    mean = {key: statistics.fmean(one[key] for one in every) for key in every[0]}
    return {"one of 8": mean, "best of 8": measure([some[choose_best(metrics, some)[0]].audio for some in eight], asked)}


def steps_at(audio: Tensor, places: Sequence[int], window: float = 0.04) -> tuple[list[float], list[float]]:
    """For each place (in samples) the change of level in dB and of log spectrum in dB between the windows on either side of it."""
    size, level, spectrum = round(window * RATE), [], []
    for place in places:
        before, after = audio[0, place - size : place], audio[0, place : place + size]
        level.append(abs(10 * math.log10((float(after.square().mean()) + 1e-8) / (float(before.square().mean()) + 1e-8))))
        a, b = (20 * (torch.fft.rfft(x * torch.hann_window(size)).abs() / size).clamp_min(1e-6).log10() for x in (before, after))
        spectrum.append(float((a - b).abs().mean()))
    return level, spectrum


def seams(model, notes: Sequence[Heard], *, steps: int, guidance: float, kind: str) -> dict[str, float]:
    """Median steps at the windows' ends, at the join, and at all other places every 0.1 s, of real notes extended by twice their length."""
    config = model.task.config
    model.task.config = dataclasses.replace(config, merge=kind)
    hop = model.autoencoder.config.latent_spec().stride[0]
    inside = {"seam": ([], []), "join": ([], []), "ordinary": ([], [])}
    try:
        for note in notes:
            given = note.audio()
            whole = model.generate(note.caption, audio=Media(audio=given, rate=RATE), extend="3.2s", steps=steps, guidance=guidance).audio
            window, lead = round(config.window * RATE / hop), max(1, int(config.context * config.window * RATE / hop))
            total, overlap = lead + -(-round(3.2 * RATE) // hop), round(config.overlap * RATE / hop)
            begins, origin = window_starts(total, window, overlap), SAMPLES - lead * hop
            ends = sorted({origin + place * hop for begin in begins for place in (begin, begin + window) if 0 < place < total and origin + place * hop > SAMPLES})
            ordinary = [p for p in range(SAMPLES + 9600, whole.shape[1] - 4800, 4800) if all(abs(p - end) > 2400 for end in ends)]
            for name, places in (("seam", ends), ("join", [SAMPLES]), ("ordinary", ordinary)):
                for into, values in zip(inside[name], steps_at(whole, places)):
                    into += values
    finally:
        model.task.config = config
    return {f"{name}_{what}_db": statistics.median(values) for name, both in inside.items() for what, values in zip(("level", "spectrum"), both) if values}


def main() -> None:
    parser = common.arguments(__doc__, notes=48, hits=32, ranked=16, extended=6, steps=16, seed=0)
    parser.add_argument("model", nargs="?", default="runs/audio")
    parser.add_argument("--twin", help="another model, for the same notes and hits")
    options = parser.parse_args()
    model = mgzoo.load(options.model).eval()
    guidance, steps = model.sampler.config.guidance, options.steps
    notes = audio_judge.evenly(audio_judge.sounds("note", "combinations"), options.notes)
    hits = audio_judge.evenly(audio_judge.sounds("hit", "held_out"), options.hits)
    chance = 1 / len(audio_judge.judge().names)
    report, rows = {"model": options.model, "steps": steps, "guidance": guidance}, []

    def say(what: str, of: str, **figures: float) -> None:
        rows.append({"sounds": what, "of": of, **figures})
        print(common.table(rows[-1:]), flush=True)

    real = [note.audio() for note in notes]
    coded = [codec_round_trip(model.autoencoder, one, RATE) for one in real]
    # a random permutation of the instruments is right by chance; of the pitches, how far those asked for lie apart
    apart = [abs(100 * (a.labels["pitch"] - b.labels["pitch"])) for a in notes for b in notes]

    def heard(audio: Sequence[Tensor], of: Sequence[Heard]) -> dict[str, float]:
        return of_notes(audio, of, model.autoencoder)

    report["notes"] = {"chance": {"instrument": chance, "cents": statistics.median(apart)}, "real": of_notes(real, notes), "through the codec": heard(coded, notes)}
    report["notes"]["generated"] = heard([some[0].audio for some in made(model, notes, steps=steps, guidance=guidance, seed=options.seed)], notes)
    for what, split in (("at pitches never heard", "held_out"), ("of training", "train")):
        some = audio_judge.evenly(audio_judge.sounds("note", split), options.notes // 2)
        report["notes"][f"generated, {what}"] = heard([one[0].audio for one in made(model, some, steps=steps, guidance=guidance, seed=options.seed)], some)
    few, metrics = audio_judge.evenly(notes, options.ranked), model.task.config.ranking
    eight = made(model, few, steps=steps, guidance=guidance, seed=options.seed, each=CANDIDATES)
    report["notes"] |= ranked(eight, few, metrics, heard)
    real_hits = [hit.audio() for hit in hits]
    report["hits"] = {"real": of_hits(real_hits, hits), "through the codec": of_hits([codec_round_trip(model.autoencoder, one, RATE) for one in real_hits], hits)}
    report["hits"]["generated"] = of_hits([some[0].audio for some in made(model, hits, steps=steps, guidance=guidance, seed=options.seed, pictures=True)], hits)
    few = audio_judge.evenly(hits, options.ranked)
    eight = made(model, few, steps=steps, guidance=guidance, seed=options.seed, pictures=True, each=CANDIDATES)
    report["hits"] |= ranked(eight, few, metrics, of_hits)
    silent = made(model, hits, steps=steps, guidance=guidance, seed=options.seed)
    report["hits"]["words alone"] = of_hits([some[0].audio for some in silent], hits)
    if options.twin:
        twin = mgzoo.load(options.twin).eval()
        report["notes"]["twin"] = heard([some[0].audio for some in made(twin, notes, steps=steps, guidance=guidance, seed=options.seed)], notes)
        report["hits"]["twin"] = of_hits([some[0].audio for some in made(twin, hits, steps=steps, guidance=guidance, seed=options.seed, pictures=True)], hits)
    for kind in ("notes", "hits"):
        for what, figures in report[kind].items():
            say(what, kind, **figures)
    report["seams"] = {kind: seams(model, audio_judge.evenly(notes, options.extended), steps=steps, guidance=guidance, kind=kind) for kind in ("triangle", "uniform")}
    for kind, figures in report["seams"].items():
        say(kind, "seams", **figures)
    groups = {
        "right instrument": {what: figures["instrument"] for what, figures in report["notes"].items()},
        "within 50 cents": {what: figures["within_50_cents"] for what, figures in report["notes"].items() if "within_50_cents" in figures},
        "closer to own turns": {what: figures["closer_to_own"] for what, figures in report["hits"].items()},
    }
    common.bars(options.out, "audio", groups, unit="share of sounds", title=f"What is heard in the sounds of {options.model}")
    print(common.write(options.out, "audio", {**report, "rows": rows}))


if __name__ == "__main__":
    discover()
    torch.set_num_threads(1)
    with torch.inference_mode():
        main()
