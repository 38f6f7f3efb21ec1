"""Make data/sounds48: captioned sounds at 48 kHz from packages, with exact labels. Nothing of it is committed but the held-out list.

    pip download --no-deps -d FOLDER pretty_midi==0.2.11.post0 tinysoundfont==0.3.7
    pip download --no-deps --no-binary :all: --no-build-isolation -d FOLDER moviepy==2.2.1
    npm pack supersonic-scsynth-samples@0.84.2 --pack-destination FOLDER
    python scripts/prepare_sounds.py FOLDER [--out data/sounds48]

Four kinds, each a FLAC (hits: an mp4 with sound) with a line in captions.jsonl:
- note: one note of the soundfont in pretty_midi, 24 instruments x 25 pitches x 3 velocities, 1.6 s; instrument, pitch (MIDI), velocity, onset.
- sample: the CC0 samples, at most 8 s of each, named by family and words.
- film: the sound track of Big Buck Bunny (CC BY 3.0, (c) Blender Foundation) in pieces of 2 s, at four times its level.
- hit: animated emoji of data/emoji64 (MIT) played at 10 frames per second, 1.6 s, with a drum sample at every turning point of the motion: where
  the first principal component of the frames has a local extreme that stands out by a quarter of its range. onsets in seconds.
Held out (`--list` writes data/sounds48_held_out.txt anew): 4 of the 25 pitches, every tenth sample, two runs of film, and the animations that
data/emoji64 holds out. Apart from these (data/sounds48_held_out_combinations.txt): three more pitches of each instrument, others of each, which
the other instruments play in training.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from blake3 import blake3

from mgzoo import media
from mgzoo.media import Media
from mgzoo.media.audio import mono, resample
from mgzoo.media.decode import read_audio
from mgzoo_audio.loudness import loudness

ROOT = Path(__file__).parents[1]
LIST, COMBINATIONS, EMOJI = ROOT / "data" / "sounds48_held_out.txt", ROOT / "data" / "sounds48_held_out_combinations.txt", ROOT / "data" / "emoji64"
RATE, SAMPLES = 48_000, 76_800
SOURCES = {
    "pretty_midi-0.2.11.post0-py3-none-any.whl": "pip download --no-deps -d {} pretty_midi==0.2.11.post0",
    "tinysoundfont-0.3.7-*.whl": "pip download --no-deps -d {} tinysoundfont==0.3.7",
    "supersonic-scsynth-samples-0.84.2.tgz": "npm pack supersonic-scsynth-samples@0.84.2 --pack-destination {}",
    "moviepy-2.2.1.tar.gz": "pip download --no-deps --no-binary :all: --no-build-isolation -d {} moviepy==2.2.1",
}
FILM = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip", "moviepy_10_minutes/resources/bbb.mp4"
INSTRUMENTS = {  # General MIDI programs, from 0
    "piano": 0, "harpsichord": 6, "glockenspiel": 9, "music box": 10, "vibraphone": 11, "marimba": 12, "tubular bells": 14, "church organ": 19,
    "accordion": 21, "acoustic guitar": 24, "electric guitar": 27, "overdriven guitar": 29, "acoustic bass": 32, "violin": 40, "cello": 42,
    "pizzicato strings": 45, "harp": 46, "choir": 52, "trumpet": 56, "french horn": 60, "alto sax": 65, "oboe": 68, "clarinet": 71, "flute": 73,
}  # fmt: skip
PITCHES, VELOCITIES = range(48, 73), {"soft": 50, "medium": 80, "loud": 115}
HELD_EACH = 3
HELD_PITCHES, FILM_SECONDS, HELD_FILM = (51, 58, 63, 68), 2, ((40, 60), (180, 200))
FILM_GAIN = 4.0  # the track is mixed quietly: its median piece is near -40 LUFS
NAMES = "C C# D D# E F F# G G# A A# B".split()
FAMILIES = {
    "ambi": "ambient sound", "arovane": "electronic beat", "bass": "bass", "bd": "bass drum", "drum": "drum", "elec": "electronic blip", "glitch": "glitch",
    "guit": "guitar", "hat": "hi-hat", "loop": "loop", "mehackit": "synthetic sound", "misc": "noise", "perc": "percussion", "ride": "ride cymbal",
    "sn": "snare drum", "tabla": "tabla drum", "tbd": "electronic sound", "vinyl": "vinyl noise",
}  # fmt: skip
HITS = {
    "drum_heavy_kick": "kick drum", "drum_snare_hard": "snare drum", "drum_cowbell": "cowbell", "drum_tom_mid_hard": "tom drum", "elec_triangle": "triangle",
    "elec_wood": "wood block", "tabla_na": "tabla drum", "drum_cymbal_closed": "closed cymbal",
}  # fmt: skip


def share(text: str) -> float:
    """A number in [0, 1) that is always the same for a text."""
    return int.from_bytes(blake3(text.encode()).digest(length=6), "little") / 2**48


def found(folder: Path) -> dict[str, Path]:
    paths = {name: next(iter(sorted(folder.glob(name))), None) for name in SOURCES}
    if missing := [f"{name} is missing\n    -> {SOURCES[name].format(folder)}" for name, path in paths.items() if path is None]:
        sys.exit("\n".join(missing))
    return {name.split("-")[0]: path for name, path in paths.items()}


def write(path: Path, audio: torch.Tensor) -> None:
    """float (1, S) as 16-bit FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = (audio.clamp(-1, 1) * 32767).round().short().numpy()
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        for start in range(0, pcm.shape[1], 4096):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[:, start : start + 4096]), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def notes(midi: Path, synth: Path, unpacked: Path) -> Iterator[tuple[str, torch.Tensor, dict]]:
    """(key, sound, labels) of each note."""
    with zipfile.ZipFile(synth) as archive:
        archive.extractall(unpacked)
    with zipfile.ZipFile(midi) as archive:
        font = archive.read("pretty_midi/TimGM6mb.sf2")
    sys.path.insert(0, str(unpacked))
    sys.modules.setdefault("pyaudio", types.ModuleType("pyaudio"))  # only for playing
    import tinysoundfont

    player = tinysoundfont.Synth(gain=3, samplerate=RATE)
    number = player.sfload(font)
    for name, program in INSTRUMENTS.items():
        for pitch in PITCHES:
            for word, velocity in VELOCITIES.items():
                key = f"note-{name.replace(' ', '_')}-{pitch}-{velocity}"
                begin = int(share(key) * 0.3 * RATE)
                player.sounds_off()
                player.generate(RATE // 2)
                player.program_select(0, number, 0, program)
                player.noteon(0, pitch, velocity)
                held = np.frombuffer(player.generate(int(0.9 * RATE)), np.float32).reshape(-1, 2).mean(1)
                player.noteoff(0, pitch)
                rest = np.frombuffer(player.generate(SAMPLES - begin - len(held)), np.float32).reshape(-1, 2).mean(1)
                audio = torch.from_numpy(np.concatenate([np.zeros(begin, np.float32), held, rest]))[None]
                if audio.abs().max() < 0.01:  # the font has no sample for this key
                    continue
                called = f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
                yield key, audio, {
                    "caption": f"a {word} note on the {name}, {called}", "instrument": name, "program": program, "pitch": pitch, "note": called,
                    "velocity": velocity, "dynamics": word, "onset": round(begin / RATE, 5), "family": name, "held_out": pitch in HELD_PITCHES,
                    "quality": 8.0, "speech": False, "music": True, "music_description": f"a single note of the {name}",
                }  # fmt: skip


def combinations(lines: list[dict]) -> Iterator[str]:
    """A line for each note of `HELD_EACH` pitches of every instrument, of those that are trained on."""
    for name in INSTRUMENTS:
        of_it = sorted((line for line in lines if line["kind"] == "note" and line["instrument"] == name and not line["held_out"]), key=lambda line: line["file"])
        chosen = sorted({line["pitch"] for line in of_it}, key=lambda pitch: share(f"{name} {pitch}"))[:HELD_EACH]
        yield from (f"{Path(line['file']).stem}\t{line['caption']}\n" for line in of_it if line["pitch"] in chosen)


def samples(archive: Path) -> Iterator[tuple[str, torch.Tensor, dict]]:
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if not member.name.endswith(".flac"):
                continue
            name = Path(member.name).stem
            read = media.read_bytes(tar.extractfile(member).read(), member.name)
            audio = resample(mono(read.audio), read.rate, RATE)[:, : 8 * RATE]
            family, _, rest = name.partition("_")
            words = re.sub(r"(\d+)$", "", rest).replace("_", " ").strip()
            kind = FAMILIES[family]
            yield f"sample-{name}", audio, {
                "caption": f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} sample" + (f": {words}" if words and words != kind else ""), "family": kind, "name": name, "held_out": share(name) < 0.1 and name not in HITS,
                "quality": 7.0, "speech": False, "music": family in ("loop", "guit", "bass", "arovane", "mehackit"), "music_description": "",
            }  # fmt: skip


def film(archive: Path) -> Iterator[tuple[str, torch.Tensor, dict]]:
    with tarfile.open(archive) as tar, zipfile.ZipFile(io.BytesIO(tar.extractfile(FILM[0]).read())) as inner:
        data = inner.read(FILM[1])
    parts = []
    with av.open(io.BytesIO(data)) as container:
        rate, plain = container.streams.audio[0].rate, av.AudioResampler(format="fltp")
        for frame in container.decode(audio=0):
            parts += [piece.to_ndarray() for piece in plain.resample(frame)]
    audio = resample(mono(torch.from_numpy(np.concatenate(parts, 1))), rate, RATE)
    audio = (FILM_GAIN * audio).clamp(-1, 1)
    for i, start in enumerate(range(0, audio.shape[1] - FILM_SECONDS * RATE + 1, FILM_SECONDS * RATE)):
        piece = audio[:, start : start + FILM_SECONDS * RATE]
        if loudness(piece, RATE) < -55:
            continue
        yield f"film-{i:03}", piece, {
            "caption": f"film sound track, {i * FILM_SECONDS} seconds in", "family": "film", "start": i * FILM_SECONDS, "quality": 7.0, "speech": False, "music": True,
            "held_out": any(a <= i < b for a, b in HELD_FILM), "music_description": "light orchestral film music with sound effects",
        }  # fmt: skip


def turning_points(video: torch.Tensor) -> list[int]:
    """Frames of uint8 (F, Y, X, 3) at which its main motion turns round: extremes of the first principal component of the frames
    that stand out by a quarter of its range from the turn before and the turn after."""
    x = video.float().flatten(1)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x @ x.T)
    line = (vectors[:, -1] * values[-1].clamp_min(0).sqrt()).tolist()
    least = 0.25 * (max(line) - min(line))
    if least < 200:  # hardly anything moves
        return []
    turns, high, low, rising = [], 0, 0, None
    for i, value in enumerate(line):
        high, low = (i if value > line[high] else high), (i if value < line[low] else low)
        if rising is not False and line[high] - value >= least:
            if rising:
                turns.append(high)
            rising, low, high = False, i, i
        elif rising is not True and value - line[low] >= least:
            if rising is False:
                turns.append(low)
            rising, low, high = True, i, i
    return turns


def hits(drums: dict[str, torch.Tensor]) -> Iterator[tuple[str, Media, dict]]:
    """Animations with a sample at each turn of the motion."""
    apart = {line.split("\t")[0] for path in EMOJI.glob("held_out_*.txt") for line in path.read_text().splitlines() if not line.startswith("#")}
    for shard in sorted(EMOJI.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = {member.name: member for member in tar}
            for name in sorted(name for name in members if name.endswith(".mp4")):
                key = name.removesuffix(".mp4")
                video = media.read_bytes(tar.extractfile(members[name]).read(), name).video
                turns = turning_points(video)
                if not 1 <= len(turns) <= 4:
                    continue
                described = json.load(tar.extractfile(members[f"{key}.json"]))["caption"]
                drum = list(HITS)[int(share(key) * len(HITS))]
                audio = torch.zeros(1, SAMPLES)
                for turn in turns:
                    begin = turn * RATE // 10
                    piece = drums[drum][:, : SAMPLES - begin]
                    audio[:, begin : begin + piece.shape[1]] += piece
                yield f"hit-{key}", Media(video=video, fps=10.0, audio=audio.clamp(-1, 1), rate=RATE), {
                    "caption": f"a {HITS[drum]} hit at every turn of the motion", "picture": described, "family": HITS[drum], "name": drum,
                    "onsets": [turn / 10 for turn in turns], "held_out": key in apart, "frames": len(video), "height": 64, "width": 64, "fps": 10.0,
                    "quality": 7.0, "speech": False, "music": False, "music_description": "",
                }  # fmt: skip


DEMO = {
    "sample": ("drum_heavy_kick", "drum_snare_hard", "drum_cowbell", "hat_snap", "perc_bell", "elec_blip", "tabla_na", "elec_triangle"),
    "hit": ("1f431", "1f407", "1f680", "1f44b-1f3fb"), "film": ("120", "190"),
}  # fmt: skip


def demo(made: Path, folder: Path) -> None:
    """A few sounds of each kind, at most 0.8 s of each (clips whole), and notes made here by a formula, for tests and the documentation."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, known = [], {Path(line["file"]).stem: line for line in map(json.loads, (made / "captions.jsonl").read_text().splitlines())}
    for kind, names in DEMO.items():
        for name in names:
            line = dict(known[f"{kind}-{name}"])
            if kind == "hit":
                (folder / line["file"]).write_bytes((made / line["file"]).read_bytes())
            else:
                audio = read_audio(made / line["file"])[0][:, : int(0.8 * RATE)]
                write(folder / line["file"], audio)
                line["seconds"] = audio.shape[1] / RATE
            lines.append({**line, "held_out": name == names[-1]})
    for pitch in (57, 60, 64, 69):
        time = torch.arange(int(0.6 * RATE)) / RATE
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(torch.sin(2 * torch.pi * k * hertz * time) / k**1.5 for k in range(1, 7)) * torch.exp(-4 * time)
        audio, called = torch.cat([torch.zeros(int(0.1 * RATE)), 0.3 * tone])[None], f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
        write(folder / f"tone-{pitch}.flac", audio)
        lines.append({"file": f"tone-{pitch}.flac", "kind": "note", "seconds": audio.shape[1] / RATE, "caption": f"a note on a plucked string, {called}", "instrument": "string",
                      "pitch": pitch, "note": called, "onset": 0.1, "family": "string", "held_out": pitch == 64, "quality": 8.0, "speech": False, "music": True,
                      "music_description": "a single note"})  # fmt: skip
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "held_out.txt").write_text("".join(f"{Path(line['file']).stem}\t{line['caption']}\n" for line in lines if line["held_out"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the downloaded packages lie")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "sounds48")
    parser.add_argument("--list", action="store_true", help="write the two held-out lists anew")
    parser.add_argument("--kinds", nargs="*", default=["note", "sample", "film", "hit"], help="make only these; lines of the others stay")
    parser.add_argument("--demo", type=Path, help="make only this folder, a small selection of what lies in --out")
    options = parser.parse_args()
    if options.demo:
        return demo(options.out, options.demo)
    paths, lines, drums = found(options.folder), [], {}
    options.out.mkdir(parents=True, exist_ok=True)
    if (table := options.out / "captions.jsonl").is_file():
        lines += [line for line in map(json.loads, table.read_text().splitlines()) if line["kind"] not in options.kinds]

    def keep(kind: str, key: str, audio: torch.Tensor, labels: dict) -> None:
        write(options.out / f"{key}.flac", audio)
        lines.append({"file": f"{key}.flac", "kind": kind, "seconds": audio.shape[1] / RATE, **labels})

    for key, audio, labels in samples(paths["supersonic"]):
        if labels["name"] in HITS:
            drums[labels["name"]] = 0.7 * audio[:, :24_000] / audio.abs().max()
        if "sample" in options.kinds:
            keep("sample", key, audio, labels)
    if "note" in options.kinds:
        for key, audio, labels in notes(paths["pretty_midi"], paths["tinysoundfont"], options.out.parent / ".tinysoundfont"):
            keep("note", key, audio, labels)
    if "film" in options.kinds:
        for key, audio, labels in film(paths["moviepy"]):
            keep("film", key, audio, labels)
    if "hit" in options.kinds:
        for key, clip, labels in hits(drums):
            clip.save(options.out / f"{key}.mp4")
            lines.append({"file": f"{key}.mp4", "kind": "hit", "seconds": SAMPLES / RATE, **labels})
    table.write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["file"])))
    if options.list:
        text = "".join(f"{Path(line['file']).stem}\t{line['caption']}\n" for line in sorted(lines, key=lambda line: line["file"]) if line["held_out"])
        LIST.write_text("# sounds kept out of training: key, caption\n" + text)
        COMBINATIONS.write_text("# notes kept out of a sound model's training: key, caption\n" + "".join(combinations(lines)))
    for kind in dict.fromkeys(line["kind"] for line in lines):
        some = [line for line in lines if line["kind"] == kind]
        print(f"{kind}: {len(some)} files, {sum(line['seconds'] for line in some):.0f} s, {sum(line['held_out'] for line in some)} held out")


if __name__ == "__main__":
    main()
