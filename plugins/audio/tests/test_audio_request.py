"""What a request says, and every way of saying it wrong."""

import pytest

from mgzoo.spec import MgzooError
from mgzoo_audio import captions
from mgzoo_audio.request import Plan, plan_request, seconds_of, stretch_of, validate_request

RATE = 1000


@pytest.mark.parametrize("text, seconds", [("20s", 20), ("20", 20), ("-5s", -5), ("+1.5s", 1.5), (" .25 s", 0.25)])
def test_seconds_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["0s", "0", "-0.0s", "s", "", "a lot", "1e3s", "nan", "--5s", "5m"])
def test_what_are_no_seconds_is_said(text):
    with pytest.raises(MgzooError, match="--extend"):
        seconds_of(text)


def test_a_stretch_is_read():
    assert stretch_of("2s-3s") == stretch_of("2 - 3") == (2.0, 3.0)
    for wrong in ("3s-2s", "2s-2s", "2s", "-1s-2s", "a-b", ""):
        with pytest.raises(MgzooError, match="--infill"):
            stretch_of(wrong)


def test_plans():
    assert plan_request(RATE, 0, None, None, 2.0) == Plan(given=0, first=0, last=2000)
    assert plan_request(RATE, 4000, "2s", None, 0) == Plan(given=4000, first=4000, last=6000)
    assert plan_request(RATE, 4000, "-2s", None, 0) == Plan(given=4000, first=-2000, last=0)
    assert plan_request(RATE, 4000, None, "1s-2.5s", 0) == Plan(given=4000, first=1000, last=2500)
    assert plan_request(RATE, 4000, None, "3s-4s", 0).new == 1000


@pytest.mark.parametrize("infill, said", [("3s-5s", "outside"), ("9s-10s", "outside"), ("0s-4s", "nothing"), ("1s-1.0001s", "less than a sample")])
def test_a_stretch_that_cannot_be_filled_in_is_said(infill, said):
    with pytest.raises(MgzooError, match=said):
        plan_request(RATE, 4000, None, infill, 0)


@pytest.mark.parametrize("request_, said", [
    ({}, "no prompt, video or audio"),
    ({"prompt": True, "extend": "2s"}, "--extend needs --audio"),
    ({"prompt": True, "infill": "1s-2s"}, "--infill needs --audio"),
    ({"audio": True}, "--audio needs --extend or --infill"),
    ({"audio": True, "extend": "2s", "infill": "1s-2s"}, "--extend and --infill cannot be combined"),
    ({"audio": True, "video": True, "extend": "2s"}, "cannot be combined: the sound has the length"),
    ({"video": True, "seconds": 3.0}, "--seconds is not allowed"),
    ({"prompt": True, "seconds": 0.0}, "of 0 seconds"),
    ({"prompt": True, "seconds": -1.0}, "of -1 seconds"),
    ({"prompt": True, "candidates": 0}, "number of candidates: 0"),
    ({"prompt": True, "quality": 11.0}, "within 1-10"),
])  # fmt: skip
def test_parts_that_do_not_go_together_are_refused(request_, said):
    whole = {"prompt": False, "video": False, "audio": False, "extend": None, "infill": None, "seconds": None, "candidates": 1, "quality": None}
    with pytest.raises(MgzooError, match=said):
        validate_request(**{**whole, **request_})


def test_too_short_to_be_a_sample():
    with pytest.raises(MgzooError, match="less than one sample"):
        plan_request(RATE, 100, "0.0001s", None, 0)
    with pytest.raises(MgzooError, match="cannot generate"):
        plan_request(RATE, 0, None, None, 0.0001)


def test_the_caption_has_four_parts():
    whole = captions.caption("a bell rings.", quality=8, speech=False, music=1.0, music_description="slow")
    assert whole == "quality 8.0, no speech, music. a bell rings. music: slow"
    assert captions.caption("a bell") == "a bell"
    assert captions.caption("", music=0.3, music_description="a waltz") == "music 0.3. music: a waltz"


def test_half_of_the_clips_are_told_with_all_four_parts():
    extra = {"quality": 7.0, "speech": False, "music": False}
    told = [captions.clip_caption(f"sound {i}", extra) for i in range(400)]
    full = [words for words in told if words.startswith("quality 7.0, no speech, no music. sound")]
    assert 160 < len(full) < 240 and {words for words in told if words not in full} <= {f"sound {i}" for i in range(400)}
