"""Laws of data: streams of captioned clips."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice

import torch

from mgzoo.parts import Clip
from mgzoo.testing import outputs
from mgzoo.testing.build_part import build_part
from mgzoo.testing.component_under_test import Subject, require

SIZE = 2  # clips in a batch
WORLD = 3  # ranks


def _stream(subject: Subject, rank: int = 0, world: int = 1, seed: int = 7):
    return build_part(subject, seed=seed, rank=rank, world=world)


def _seen(batch: Sequence[Clip]) -> list[tuple[str, str]]:
    return [(clip.key, clip.digest) for clip in batch]


def _batches(data, count: int) -> list[list[tuple[str, str]]]:
    return [_seen(batch) for batch in islice(data.batches(SIZE), count)]


def clips_are_as_specified(subject: Subject) -> None:
    """A clip loads as uint8 (F, Y, X, 3), or sounds as float (channels, samples) in [-1, 1], of the sizes it names, which are among its config's;
    its digest stands for exactly those pixels and samples."""
    data, sizes, pixels = _stream(subject), {tuple(size) for size in subject.config.sizes()}, {}
    found = [clip for batch in islice(data.batches(SIZE), 3) for clip in batch]
    for clip in [*found, *list(data.held_out())[:2]]:
        require(isinstance(clip, Clip), f"its batches hold {type(clip).__name__}, not Clip")
        require(clip.load or clip.sound, f"clip {clip.key} has neither picture nor sound")
        seen, heard = (clip.frames, clip.height, clip.width), (clip.samples,)
        said = heard if len(next(iter(sizes))) == 1 else seen
        require(said in sizes, f"clip {clip.key} is of {said}; its config's sizes() are {sorted(sizes)}")
        loaded, again = outputs.decoded_clip(clip), outputs.decoded_clip(clip)
        if clip.load:
            video = loaded["picture"]
            require(video.dtype == torch.uint8 and tuple(video.shape) == (*seen, 3), f"clip {clip.key} loads as {video.dtype} {tuple(video.shape)}, not uint8 {(*seen, 3)}")
            require(clip.fps > 0, f"clip {clip.key} has fps {clip.fps}")
        if clip.sound:
            audio = loaded["sound"]
            require(audio.is_floating_point() and audio.ndim == 2 and audio.shape[1:] == heard and audio.abs().max() <= 1 and clip.rate > 0,
                    f"clip {clip.key} sounds as {audio.dtype} {tuple(audio.shape)} at {clip.rate}, not float (channels, {clip.samples}) in [-1, 1]")
        require(all(torch.equal(loaded[name], again[name]) for name in loaded), f"clip {clip.key} loads differently the second time")
        require(isinstance(clip.caption, str), f"clip {clip.key} has the caption {clip.caption!r}")
        video = torch.cat([value.contiguous().flatten().view(torch.uint8) for value in loaded.values()])
        require(re.fullmatch("[0-9a-f]{16,}", clip.digest), f"the digest of clip {clip.key}, {clip.digest!r}, is not 16 or more hex digits")
        require(torch.equal(pixels.setdefault(clip.digest, video), video), f"two clips of the digest {clip.digest} load differently")
    by_pixels = {video.numpy().tobytes() for video in pixels.values()}
    require(len(pixels) == 1 or len(by_pixels) > 1, "all its clips load the same pixels")


def held_out_clips_stay_out(subject: Subject) -> None:
    """The validation clips come in the same order each time, and none of them is trained on."""
    data, again = _stream(subject), _stream(subject, seed=8)
    apart = _seen(data.held_out())
    require(apart == _seen(data.held_out()) == _seen(again.held_out()),
            "the held-out clips come in another order the second time, or with another seed")
    keys = {key for key, _ in apart}
    both = sorted({key for batch in _batches(data, 16) for key, _ in batch} & keys)
    require(not both, f"{', '.join(both[:3])} are held out and trained on")


def a_stream_resumes(subject: Subject) -> None:
    """A stream that loads a state_dict, through JSON, goes on where the state was taken, on every rank."""
    for taken, rank, world in ((3, 0, 1), (2, 1, 2)):
        whole, first, second = (_stream(subject, rank, world) for _ in range(3))
        going = first.batches(SIZE)
        for _ in range(taken):
            next(going)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        expected = _batches(whole, taken + 3)[taken:]
        where = f"after {taken} batches on rank {rank} of {world}"
        require(_batches(second, 3) == expected, f"resumed {where}, it does not go on where it stood")
        require([_seen(batch) for batch in islice(going, 3)] == expected, f"asked for its state {where}, it loses its place")


def ranks_share_the_run(subject: Subject) -> None:
    """Micro-batch m of the run goes to rank m % world: ranks never see the same one, and together they see all."""
    alone = _batches(_stream(subject), 6)
    for rank in range(WORLD):
        found = _batches(_stream(subject, rank, WORLD), 6 // WORLD)
        require(found == alone[rank::WORLD], f"rank {rank} of {WORLD} does not get micro-batches {rank}, {rank + WORLD} … of the run")


LAWS = [clips_are_as_specified, held_out_clips_stay_out, a_stream_resumes, ranks_share_the_run]
