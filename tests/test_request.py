"""What a request to a task may hold: words of a command line, files of the right kind, and what a generated file tells of them."""

import dataclasses

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


LOOP = RequestOption(name="loop_it", kind="boolean", help="whether it loops")


@pytest.mark.parametrize("words, value", [
    (["--loop-it"], True), (["--no-loop-it"], False), (["--loop-it=false"], False), (["--loop-it", "TRUE"], True), (["--loop-it", "no", "--note", "n"], False),
])
def test_a_boolean_is_written_as_argparse_has_it(words, value):
    assert parse_flags((*ASKED, LOOP), words, "x.y.v1")["loop_it"] is value
    assert parse_request([LOOP], {"loop_it": value}) == {"loop_it": value}


def test_what_follows_a_boolean_is_not_its_value():
    left = []
    assert parse_flags([LOOP], ["--loop-it", "a red ball"], "x.y.v1", (), left) == {"loop_it": True} and left == ["a red ball"]
    for words, message in (
        (["--loop-it", "a red ball"], "--loop-it takes no value, and is followed by 'a red ball'\n    -> write --loop-it|--no-loop-it: whether it loops"),
        (["--loop-it=maybe"], "--loop-it is 'maybe', not true or false\n    -> write --loop-it|--no-loop-it: whether it loops"),
        (["--no-loop-it=true"], "--no-loop-it takes no value\n    -> write --loop-it|--no-loop-it: whether it loops"),
        (["--loop-it", "--no-loop-it"], "--no-loop-it is given twice\n    -> give it only once"),
        (["--lop-it"], "x.y.v1 has no option --lop-it\n    -> did you mean --loop-it?"),
    ):
        with pytest.raises(MgzooError) as caught:
            parse_flags([LOOP], words, "x.y.v1")
        assert str(caught.value) == message
    assert refused([LOOP], {"loop_it": 1}).startswith("--loop-it is '1', not true or false")


def test_a_boolean_is_recorded_as_json_has_it():
    from mgzoo.generation.record import is_recordable

    assert record_inputs([LOOP], {"loop_it": False}) == {"loop_it": False} and is_recordable("loop_it", False)


class Options:
    def __init__(self, *options):
        self.options = options

    def request_options(self):
        return self.options


@pytest.mark.parametrize("options, wrong", [
    ([RequestOption(name="tint", kind="colour", help="a colour")], "tint is of kind 'colour', which is none of image, video, sound, text, number, integer, boolean, choice"),
    ([RequestOption(name="seed", kind="integer", help="a seed")], "--seed is a flag of mgzoo generate"),
    ([RequestOption(name="width", kind="integer", help="pixels")], "width is a word of every request"),
    ([LOOP, LOOP], "loop_it is declared twice"),
    ([LOOP, RequestOption(name="no_loop_it", kind="text", help="why not")], "--no-loop-it is of loop_it and of no_loop_it"),
    ([RequestOption(name="--mode", kind="text", help="a mode")], "the name '--mode' is no word of lower-case letters, digits and '_'"),
    ([RequestOption(name="mode", kind="choice", help="a mode")], "mode is a choice without choices"),
    ([RequestOption(name="mode", kind="text", choices=("a",), help="a mode")], "mode has choices and is of kind 'text'"),
    (["mode"], "'mode' is no mgzoo.spec.RequestOption"),
    ([RequestOption(name="out", kind="x", help="two at once", choices=())],
     "out is of kind 'x', which is none of image, video, sound, text, number, integer, boolean, choice; --out is a flag of mgzoo generate"),
])
def test_options_that_cannot_be_asked_for_are_one_error_that_names_the_component(options, wrong):
    with pytest.raises(MgzooError) as caught:
        options_of(Options(*options))
    assert caught.value.what == f"the request options of {__name__}:Options are wrong: {wrong}"


def test_the_error_names_the_component_and_its_distribution(monkeypatch):
    from mgzoo.discovery import discover

    component = next(iter(discover().kind("task")))
    monkeypatch.setitem(discover().components, component.id, dataclasses.replace(component, config=f"{__name__}:Options"))
    with pytest.raises(MgzooError) as caught:
        options_of(Options(LOOP, LOOP))
    assert f"the request options of {component.id} are wrong" in str(caught.value) and str(discover().provider(component.id)) in str(caught.value)


def test_a_prompt_may_be_an_option_and_no_flag_of_generate_is_forgotten():
    from mgzoo.cli.parser import parser
    from mgzoo.generation.option_checks import OWN_FLAGS

    assert options_of(Options(RequestOption(name="prompt", kind="text", help="a prompt")))
    flags = {flag for flag in parser("generate")._option_string_actions if flag.startswith("--")}
    assert flags <= set(OWN_FLAGS) and set(OWN_FLAGS) - flags <= {"--json"}


def test_the_options_of_every_task_here_can_be_asked_for():
    from mgzoo.discovery import discover

    for component in discover().kind("task"):
        options_of(discover().config_class(component.id).tiny())


def test_a_prompt_after_a_boolean_is_the_prompt(capsys):
    from mgzoo.cli import Usage, _parse
    from mgzoo.cli.generate import _flags

    for words, prompt in ((["m", "--loop-it", "a ball", "--seed", "3"], "a ball"), (["m", "a cube", "--loop-it"], "a cube"), (["m", "a cube", "--no-loop-it", "--note", "n"], "a cube")):
        arguments = _parse("generate", words)
        asked = {"prompt": arguments.prompt} if arguments.prompt else {}
        assert _flags((*ASKED, LOOP), arguments, "x.y.v1", asked)["loop_it"] is ("--loop-it" in words) and asked == {"prompt": prompt}
    arguments = _parse("generate", ["m", "a cube", "--loop-it", "a ball"])
    with pytest.raises(Usage, match="unrecognized arguments: a ball"):
        _flags([LOOP], arguments, "x.y.v1", {"prompt": "a cube"})
