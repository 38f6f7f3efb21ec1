"""The order of every stream stays what it was when runs were started with it: a checkpoint of an old run goes on with the same samples.

The digests were taken from the streams before they shared one sampler. The names that say how files are read (`CUT`, `MADE`) are set to what they were
then: they are raised when pixels change, and order and cuts stay all the same.
"""

import itertools
import json
from functools import cache
from pathlib import Path

import pytest
from blake3 import blake3

from mgzoo_audio import sounds
from mgzoo_audio.sound_configs import SoundsConfig
from mgzoo_audio.sounds import Sounds
from mgzoo_emoji.configs import PairsConfig as EditPairsConfig
from mgzoo_emoji.pairs import Pairs as EditPairs
from mgzoo_personalize import pairs
from mgzoo_personalize.configs import PairsConfig
from mgzoo_personalize.pairs import Pairs
from mgzoo_video import clips
from mgzoo_video.clips import Clips
from mgzoo_video.configs import ClipsConfig, ShapesConfig
from mgzoo_video.shapes import Shapes

ROOT = Path(__file__).parents[2]
LISTS = ("held_out_concepts.txt", "held_out_combinations.txt")
STREAMS = {
    "clips": (Clips, ClipsConfig(path=str(ROOT / "data/emoji64"), frames=1, image_frame="random", height=16, width=16, held_out=LISTS), 400),
    "sounds": (Sounds, SoundsConfig(path=str(ROOT / "data/sounds_demo"), samples=9600, crop="random", held_out=("held_out.txt",)), 7),
    "personalize": (Pairs, PairsConfig(path=str(ROOT / "data/emoji64"), frames=1, height=16, width=16, crop=16, jitter=0.1, held_out=LISTS), 400),
    "edit": (EditPairs, EditPairsConfig(path=str(ROOT / "data/emoji64"), frames=2, height=16, width=16, scenes=8, text_frames=1, held_out_pairs=str(ROOT / "data/edits_held_out.txt")), 7),
    "shapes": (Shapes, ShapesConfig(frames=2, height=16, width=16, clips=32), 7),
}
NAMES = [(clips, "CUT", "clips 2"), (sounds, "CUT", "sounds 1"), (pairs, "MADE", "pairs 1")]
FROZEN = {
    "clips": (["21db6b216f957204", "c3ebb1268032920c", "75105a6647dfc38c", "143471773186ba2a"], {"epoch": 1, "position": 6, "size": 400}),
    "sounds": (["aba6c2c0e78fbb9d", "6bdfa60d1e48f292", "1a7360d3788ee022", "c7df3fcee9df2abc"], {"epoch": 3, "position": 6, "size": 7}),
    "personalize": (["3bfa6cb4afe879dc", "5d9a33cae3221846", "90e935255f858be4", "5f57a1085bdbd926"], {"epoch": 1, "position": 6, "size": 400}),
    "edit": (["780ef4356a45d0ee", "068dd091f18c688b", "7dab94fd7711a635", "b349b7d2b119e853"], {"position": 6, "size": 7}),
    "shapes": (["18f0b194b0b48eec", "ab84ee1958a85438", "d6368fbf74e1905c", "6438419bd2f900fa"], {"samples": 42}),
}


def seen(clip):
    reference = clip.extra.get("reference")
    return [clip.key, clip.digest, clip.caption, *((reference.digest, reference.cross) if reference else ())]


def digest(thing):
    return blake3(json.dumps(thing).encode()).hexdigest()[:16]


@cache
def built(name, seed, rank, world):
    part, config, _ = STREAMS[name]
    return part(config, seed=seed, rank=rank, world=world)


def drawn(name, seed=0, rank=0, world=1, state=None, count=6):
    data, size = built(name, seed, rank, world), STREAMS[name][2]
    data.load_state_dict(state or {"position": 0, "size": 1})
    found = [[seen(clip) for clip in batch] for batch in itertools.islice(data.batches(size), count)]
    return found, data.state_dict()


def measured(name):
    plain, state = drawn(name)
    rank, _ = drawn(name, seed=3, rank=1, world=2, count=3)
    again, _ = drawn(name, state=state, count=2)
    apart = [seen(clip) for clip in built(name, 0, 0, 1).held_out()[:40]]
    return [digest(plain), digest(rank), digest(again), digest(apart)], state


@pytest.fixture(autouse=True)
def names_of_then(monkeypatch):
    for module, name, then in NAMES:
        monkeypatch.setattr(module, name, then)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_draws_what_it_always_drew(name):
    found, state = measured(name)
    assert found == FROZEN[name][0]
    assert state == FROZEN[name][1] or state["position"] * state["size"] == FROZEN[name][1]["samples"]
    assert drawn(name, state=FROZEN[name][1], count=2)[0] == drawn(name, state=state, count=2)[0]  # what an old checkpoint holds


@pytest.mark.parametrize(("name", "module", "constant"), [("clips", clips, "CUT"), ("sounds", sounds, "CUT"), ("personalize", pairs, "MADE")])
def test_what_is_read_otherwise_is_encoded_anew_in_the_same_order(name, module, constant, monkeypatch):
    before, _ = drawn(name, count=2)
    monkeypatch.setattr(module, constant, "read otherwise")
    after, _ = drawn(name, count=2)
    assert [clip[0] for batch in before for clip in batch] == [clip[0] for batch in after for clip in batch]
    assert all(one[1] != other[1] for old, new in zip(before, after) for one, other in zip(old, new))
