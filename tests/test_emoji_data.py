"""Laws of the committed data set data/emoji64 and of the script that makes it."""

import importlib.util
import json
import re
import tarfile
from pathlib import Path

import pytest

from mgzoo import media

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "emoji64"
TONES = {"light", "medium-light", "medium", "medium-dark", "dark"}


@pytest.fixture(scope="module")
def rows():
    found = {}
    for shard in sorted(DATA.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    found[member.name.removesuffix(".json")] = json.load(tar.extractfile(member))
    return found


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prepare_emoji", ROOT / "scripts" / "prepare_emoji.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(name):
    return [line.split("\t")[0] for line in (DATA / name).read_text().splitlines() if not line.startswith("#")]


def test_counts_are_those_of_the_readme(rows):
    text = (DATA / "README.md").read_text()
    concepts, combinations = listed("held_out_concepts.txt"), listed("held_out_combinations.txt")
    assert len(rows) == 2109 and f"{len(rows):,} animated emoji" in text
    assert f"| {len(concepts)} | 60 of {len({r['concept'] for r in rows.values()})} concepts" in text
    assert f"| {len(combinations)} | at most" in text and f"The other {len(rows) - len(concepts) - len(combinations):,} clips" in text
    assert f"({sum(bool(r['skintone']) for r in rows.values()):,} clips have one)" in text
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 29_000_000


def test_captions_tell_the_clips_apart(rows):
    assert len({row["caption"] for row in rows.values()}) == len(rows)
    assert all(row["caption"].strip() for row in rows.values())


def test_a_held_out_concept_is_held_out_whole(rows):
    concepts = listed("held_out_concepts.txt")
    apart = {rows[key]["concept"] for key in concepts}
    assert len(apart) == 60
    assert {key for key, row in rows.items() if row["concept"] in apart} == set(concepts)


def test_held_out_combinations_leave_every_tone_concept_and_person_to_training(rows):
    concepts, combinations = set(listed("held_out_concepts.txt")), set(listed("held_out_combinations.txt"))
    assert not concepts & combinations
    trained = [row for key, row in rows.items() if key not in concepts | combinations]
    assert {row["skintone"] for row in trained} == TONES | {None}
    seen = {(row["concept"], row["person"]) for row in trained}
    for key in combinations:
        row = rows[key]
        assert row["skintone"] and row["person"], key
        assert (row["concept"], row["person"]) in seen, key
        others = [r for r in trained if (r["concept"], r["person"]) == (row["concept"], row["person"]) and r["skintone"]]
        assert len(others) >= 4, key


def test_lists_are_what_the_script_chooses(rows, script):
    assert script.held_out(rows) == (listed("held_out_concepts.txt"), listed("held_out_combinations.txt"))


def test_clips_are_what_their_json_says(rows):
    with tarfile.open(DATA / "emoji64-00000.tar") as tar:
        members = [member for member in tar if member.name.endswith(".mp4")][:3]
        for member in members:
            clip, row = media.read_bytes(tar.extractfile(member).read(), member.name), rows[member.name.removesuffix(".mp4")]
            assert tuple(clip.video.shape) == (row["frames"], row["height"], row["width"], 3) == (16, 64, 64, 3)
            assert clip.fps == pytest.approx(row["fps"], rel=1e-3)
            assert clip.video[0, 0, 0].min() > 250, "the paper is white"


def test_digests_of_the_readme_are_those_of_the_shards():
    import hashlib

    written = dict(re.findall(r"`(emoji64-\d+\.tar)` \| ([0-9a-f]{64})", (DATA / "README.md").read_text()))
    assert written == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(DATA.glob("*.tar"))}


@pytest.mark.parametrize(
    ("hexcode", "concept"),
    [
        ("1F926-1F3FB-200D-2642-FE0F", "1f926"),
        ("1F468-1F3FF-200D-1F33E", "1f9d1-200d-1f33e"),
        ("1F468", "1f9d1"),
        ("1F469-1F3FB-200D-1F91D-200D-1F468-1F3FC", "1f9d1-200d-1f91d-200d-1f9d1"),
        ("2600-FE0F", "2600"),
    ],
)
def test_a_concept_is_without_skin_tone_and_gender(script, hexcode, concept):
    assert script.concept_of(hexcode) == concept


def test_a_missing_archive_is_named_with_the_command_that_fetches_it(script, tmp_path):
    (tmp_path / "openmoji-17.0.0.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit) as error:
        script.sources(tmp_path)
    assert f"npm pack @lobehub/fluent-emoji-anim-1@1.0.0 --pack-destination {tmp_path}" in str(error.value)
    assert "openmoji-17.0.0.tgz: sha256 is" in str(error.value) and "expected 55ee7d13485dec86" in str(error.value)
