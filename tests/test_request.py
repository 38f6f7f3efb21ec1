"""What a request to a task may hold: words of a command line, files of the right kind, and what a generated file tells of them."""

import pytest
import torch

from mgzoo import media
from mgzoo.generation.request import input_digest, locate_inputs, options_of, output_modalities, parse_flags, parse_request, record_inputs, requires_prompt
from mgzoo.media import Media
from mgzoo.spec import MgzooError, RequestOption

ASKED = (
    RequestOption(name="source", kind="video", help="the clip to change", required=True),
    RequestOption(name="face_picture", kind="image", help="a picture"),
    RequestOption(name="music", kind="sound", help="a sound"),
    RequestOption(name="strength", kind="number", help="how much, 0 to 1"),
    RequestOption(name="subject", kind="integer", help="which one"),
    RequestOption(name="edit", kind="choice", choices=("add", "remove"), help="what to do"),
    RequestOption(name="note", kind="text", help="a text"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A clip with sound, a silent clip, a picture and a sound."""
    folder = tmp_path_factory.mktemp("files")
    video = (torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    sound = 0.1 * torch.sin(torch.arange(4800) * 0.1)[None]
    Media(video=video, fps=8, audio=sound, rate=48000).save(folder / "clip.mp4")
    Media(video=video, fps=8).save(folder / "silent.mp4")
    Media(video=video[:1]).save(folder / "face.png")
    Media(audio=sound, rate=48000).save(folder / "music.wav")
    return folder


def refused(*arguments) -> str:
    with pytest.raises(MgzooError) as caught:
        parse_request(*arguments)
    return str(caught.value)


def test_words_become_a_request():
    words = ["--source", "clip.mp4", "--face-picture=a=b.png", "--strength", "-0.5"]
    assert parse_flags(ASKED, words, "x.y.v1") == {"source": "clip.mp4", "face_picture": "a=b.png", "strength": "-0.5"}


@pytest.mark.parametrize("words, message", [
    (["--sorce", "a"], "x.y.v1 has no option --sorce\n    -> did you mean --source?"),
    (["--sedd", "3"], "x.y.v1 has no option --sedd\n    -> did you mean --seed?"),
    (["--source", "a", "--source=b"], "--source is given twice\n    -> give it only once"),
    (["--edit"], "--edit has no value\n    -> write --edit add|remove: what to do"),
])
def test_words_that_are_none_of_a_task_are_refused(words, message):
    with pytest.raises(MgzooError) as caught:
        parse_flags(ASKED, words, "x.y.v1", ["--seed"])
    assert str(caught.value) == message


def test_files_are_read_and_numbers_made_of_texts(files):
    request = {"prompt": "p", "source": files / "clip.mp4", "face_picture": str(files / "face.png"), "music": files / "clip.mp4",
               "strength": "0.5", "subject": "2", "edit": "add", "note": "n", "seed": None}
    read = parse_request(ASKED, request)
    assert read["source"].video.shape == (4, 16, 16, 3) and read["source"].fps == 8 and read["source"].audio.shape[0] == 1
    assert read["face_picture"].video.shape == (1, 16, 16, 3) and read["music"].rate == 48000
    assert (read["prompt"], read["strength"], read["subject"], read["edit"], read["note"]) == ("p", 0.5, 2, "add", "n") and "seed" not in read
    given = Media(video=torch.zeros(2, 4, 4, 3, dtype=torch.uint8), fps=8)
    assert parse_request(ASKED, {"source": given})["source"] is given


@pytest.mark.parametrize("request_, message", [
    ({}, "missing in the request: source\n    -> add --source FILE.mp4: the clip to change"),
    ({"source": "face.png"}, "face.png: --source expects a clip; this file is a single image\n    -> give a clip of two frames or more"),
    ({"source": "music.wav"}, "music.wav: --source expects a clip; this file is a sound without video\n    -> give another file"),
    ({"source": "clip.mp4", "face_picture": "clip.mp4"}, "clip.mp4: --face-picture expects a picture; this file is a clip of 4 frames\n    -> extract a frame"),
    ({"source": "clip.mp4", "music": "silent.mp4"},
     "silent.mp4: --music expects a file with sound; this file has no sound\n    -> give a .wav, or a clip with a sound track"),
    ({"source": "nothing.mp4"}, "nothing.mp4: no such file\n    -> check the path"),
    ({"source": 5}, "source is a int\n    -> give the path of a file, or a mgzoo.media.Media"),
    ({"source": "clip.mp4", "strength": "much"}, "--strength is 'much', not a number\n    -> write --strength X: how much, 0 to 1"),
    ({"source": "clip.mp4", "strength": "nan"}, "--strength is 'nan', not a number\n    -> write --strength X: how much, 0 to 1"),
    ({"source": "clip.mp4", "subject": 1.5}, "--subject is '1.5', not an integer\n    -> write --subject N: which one"),
    ({"source": "clip.mp4", "edit": "remov"},
     "--edit is 'remov', not one of add, remove; did you mean remove?\n    -> write --edit add|remove: what to do"),
])
def test_what_is_of_another_kind_is_refused(files, monkeypatch, request_, message):
    monkeypatch.chdir(files)
    assert refused(ASKED, request_) == message


def test_a_generated_file_tells_names_and_digests_and_finds_the_very_files_again(files, tmp_path, monkeypatch):
    request = {"prompt": "p", "source": str(files / "clip.mp4"), "strength": 0.5}
    told = record_inputs(ASKED, request)
    assert told == {"prompt": "p", "source": {"file": "clip.mp4", "blake3": input_digest(files / "clip.mp4")}, "strength": 0.5}
    assert locate_inputs(ASKED, told, {}, files)["source"] == files / "clip.mp4"
    monkeypatch.chdir(files)
    assert str(locate_inputs(ASKED, told, {}, tmp_path)["source"]) == "clip.mp4"
    assert locate_inputs(ASKED, told, {"source": str(files / "clip.mp4")}, tmp_path)["source"] == files / "clip.mp4"
    monkeypatch.chdir(tmp_path)
    for given, message in (({}, "the recorded source clip.mp4 was not found"), ({"source": str(files / "silent.mp4")}, "the content differs")):
        with pytest.raises(MgzooError, match=message):
            locate_inputs(ASKED, told, given, tmp_path)
    for strange in ({**told, "on_step": "print"}, {**told, "source": "/etc/passwd"}):  # what a stranger's file might say
        with pytest.raises(MgzooError, match="do not use this record"):
            locate_inputs(ASKED, strange, {}, files)


def test_a_task_that_says_nothing_wants_a_prompt_and_gives_pictures():
    assert options_of(object()) == () and requires_prompt(object()) and output_modalities(object()) == ("video", "image")


def test_a_clip_of_uneven_frames_is_read_evenly_for_a_task(tmp_path):
    from test_media import moving, raw_video

    path = tmp_path / "uneven.mkv"
    path.write_bytes(raw_video(moving(6).numpy(), "yuv444p", "ffv1", pts=[0, 40, 80, 500, 540, 1000]))
    source = parse_request(ASKED, {"source": path})["source"]
    assert "variable_frame_rate" in media.read(path).meta and "variable_frame_rate" not in source.meta and len(source.video) == 6
