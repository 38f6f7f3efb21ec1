"""What belongs to a data set: every layout people have gives its samples and captions, and what is left out is told by reason."""

import csv
import io
import json
import logging
import os
import tarfile
import unicodedata

import pytest

from mgzoo.data import IMAGES, SOUND, VIDEO, held_out_keys, scan_data
from mgzoo.spec import MgzooError

BOM = b"\xef\xbb\xbf"
MEDIA = (*VIDEO, *IMAGES)


@pytest.fixture
def folder(tmp_path):
    """Two media that only scanning sees."""
    root = tmp_path / "clips"
    root.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (root / name).write_bytes(b"x")
    return root


def write(folder, **texts):
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())


def captions(root, **options):
    found = scan_data(root, MEDIA, **options)
    if found.problems:
        raise found.problems[0]
    return {sample.key: sample.caption for sample in found.samples}


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def said(root, caplog, level=logging.WARNING, **options):
    with caplog.at_level(level, "mgzoo"):
        scan_data(root, MEDIA, **options).left_out.tell(root)
    return caplog.text


# layouts


@pytest.mark.parametrize("mark", [b"", BOM])
def test_sidecars_with_or_without_a_mark(folder, mark):
    write(folder, a_txt=mark + b" a red square\r\n", b_json=mark + json.dumps({"caption": "blue", "id": 3}).encode())
    assert captions(folder) == {"a": "a red square", "b": "blue"}


def test_a_json_without_a_caption_is_facts_and_the_txt_is_the_caption(folder):
    write(folder, a_txt="a square", a_json='{"id": "x", "uploader": "y"}', b_txt="of the text", b_json='{"caption": "of the json"}')
    found = {sample.key: sample for sample in scan_data(folder, MEDIA).samples}
    assert found["a"].caption == "a square" and found["a"].fields == {"id": "x", "uploader": "y"}
    assert found["b"].caption == "of the json"


def test_sidecars_may_be_named_after_the_whole_file_and_in_capitals(folder):
    (folder / "a.mp4").rename(folder / "A.MP4")
    (folder / "A.TXT").write_text("large")
    (folder / "b.mp4.txt").write_text("whole name")
    assert captions(folder) == {"A": "large", "b": "whole name"}


def table(folder, name, field, rows, caption="caption"):
    text = "".join(json.dumps({field: file, caption: words}, ensure_ascii=False) + "\n" for file, words in rows)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "field", "caption"), [("captions.jsonl", "file", "caption"), ("metadata.jsonl", "file_name", "caption"), ("metadata.jsonl", "file_name", "text")]
)
def test_tables_name_media_relative_to_themselves(folder, name, field, caption):
    sub = folder / "more"
    sub.mkdir()
    (sub / "c.mp4").write_bytes(b"x")
    table(folder, name, field, [("./a.mp4", "line\u2028one"), ("b.mp4", "two\u0085")], caption)
    table(sub, name, field, [("c.mp4", "three")], caption)
    assert captions(folder) == {"a": "line\u2028one", "b": "two", "more/c": "three"}


def test_a_csv_of_metadata_is_read_too(folder):
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8-sig") as opened:
        csv.writer(opened).writerows([("file_name", "text"), ("a.mp4", 'a "quoted", long\nline'), ("b.mp4", "two")])
    assert captions(folder) == {"a": 'a "quoted", long\nline', "b": "two"}


def test_prompts_and_videos_line_by_line(folder):
    os.makedirs(folder / "videos")
    for name in ("a.mp4", "b.mp4"):
        (folder / name).rename(folder / "videos" / name)
    write(folder, prompts_txt=BOM + "first\u2028still first\r\nsecond\r\n".encode(), videos_txt="videos/b.mp4\nvideos\\a.mp4\n")
    assert captions(folder) == {"videos/b": "first\u2028still first", "videos/a": "second"}
    assert captions(folder, caption_key="words") == captions(folder)
    write(folder, prompts_txt="first\nsecond\nthird\n")
    with pytest.raises(MgzooError, match="videos.txt has 2 lines and prompts.txt has 3"):
        scan_data(folder, MEDIA)


@pytest.mark.parametrize("written", ["./é.mp4", ".\\é.mp4", unicodedata.normalize("NFD", "é.mp4"), "sub/../é.mp4"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_however_they_are_spelled(tmp_path, written, form):
    (tmp_path / unicodedata.normalize(form, "é.mp4")).write_bytes(b"x")
    table(tmp_path, "captions.jsonl", "file", [(written, "a word")])
    assert list(captions(tmp_path).values()) == ["a word"]
    (tmp_path / "held.txt").write_bytes(BOM + unicodedata.normalize("NFC", "é.mp4\tremark\r\n").encode())
    keys = [sample.key for sample in scan_data(tmp_path, MEDIA, held_out=["held.txt"]).samples]
    assert held_out_keys(["held.txt"], tmp_path, keys) == keys


def test_an_absolute_name_in_the_folder_is_found(folder):
    table(folder, "captions.jsonl", "file", [(str(folder / "a.mp4"), "one"), ("b.mp4", "two")])
    assert captions(folder) == {"a": "one", "b": "two"}


def test_a_shards_key_ends_at_the_last_dot_and_at_webdatasets_where_nothing_else_fits(tmp_path):
    members = {
        "./x/0001.v2.mp4": b"m", "./x/0001.v2.txt": b"second version", "./x/0001.v1.mp4": b"m", "./x/0001.v1.txt": b"first version",
        "0002.video.mp4": b"m", "0002.caption.txt": b"by the first dot", "__meta__.json": b"{}", "._0002.video.mp4": b"mac",
    }  # fmt: skip
    assert captions(shard(tmp_path / "s.tar", members)) == {"x/0001.v2": "second version", "x/0001.v1": "first version", "0002.video": "by the first dot"}
    unclear = {"3.left.mp4": b"m", "3.right.mp4": b"m", "3.txt": b"whose?"}
    assert [str(p) for p in scan_data(shard(tmp_path / "t.tar", unclear), MEDIA).problems if "no caption" in str(p)].__len__() == 2


def test_links_in_a_shard_are_the_members_they_point_to_and_holes_are_refused(tmp_path):
    path = shard(tmp_path / "s.tar", {"d/a.mp4": b"pixels", "d/a.txt": b"one", "b.txt": b"two", "c.txt": b"three"})
    with tarfile.open(path, "a") as tar:
        for name, kind, target in (("b.mp4", tarfile.LNKTYPE, "d/a.mp4"), ("c.mp4", tarfile.SYMTYPE, "d/a.mp4")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    found = scan_data(path, MEDIA)
    assert {s.key: (s.caption, s.bytes()) for s in found.samples} == {"d/a": ("one", b"pixels"), "b": ("two", b"pixels"), "c": ("three", b"pixels")}


def test_a_compressed_shard_is_said_to_be_one(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    (problem,) = scan_data(tmp_path, MEDIA).problems
    assert "compressed shards do not support" in str(problem) and "unpack it to a plain .tar" in str(problem)


def test_shards_in_folders_are_found(tmp_path):
    (tmp_path / "train").mkdir()
    shard(tmp_path / "train" / "0.tar", {"a.png": b"x", "a.txt": b"one"})
    shard(tmp_path / "train" / "._0.tar", {"a.png": b"x", "a.txt": b"one"})
    assert captions(tmp_path) == {"a": "one"}


# what is no data


def test_what_systems_leave_behind_is_no_data(folder, caplog):
    write(folder, a_txt="one", b_txt="two")
    for name in ("._a.mp4", "._a.txt", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / name).write_bytes(b"\0\5\26\7\xff")
    for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
        (folder / name).mkdir()
        (folder / name / "a-checkpoint.mp4").write_bytes(b"x")
        (folder / name / "a-checkpoint.txt").write_bytes(b"again")
    (folder / "README.md").write_text("about it")
    assert captions(folder) == {"a": "one", "b": "two"}
    assert said(folder, caplog) == ""
    assert "8 hidden files: .DS_Store …" in said(folder, caplog, logging.INFO) and "1 documents: README.md" in caplog.text


def test_what_is_left_out_is_told_by_reason_with_count_and_name(folder, caplog):
    write(folder, a_txt="one", b_txt="two", lost_txt="no medium", sub_srt="1", c_vtt="2", a_srt="3", old_zip="4")
    (folder / "noise.wav").write_bytes(b"x")
    text = said(folder, caplog)
    assert "4 files of unsupported types (.srt, .vtt, .wav): a.srt …" in text
    assert "1 captions without a media file: lost.txt" in text and "1 archives are ignored: old.zip" in text
    caplog.clear()
    assert "lost.txt" not in said(folder, caplog, held_out=["lost.txt"])


def test_media_beside_shards_are_told(tmp_path, caplog):
    shard(tmp_path / "0.tar", {"a.png": b"x", "a.txt": b"one"})
    (tmp_path / "b.mp4").write_bytes(b"x")
    (tmp_path / "b.txt").write_text("two")
    assert "1 media files next to shards are ignored: b.mp4" in said(tmp_path, caplog)


def test_links_are_followed_once(folder, tmp_path, caplog):
    write(folder, a_txt="one", b_txt="two")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("c.mp4", "c.txt"):
        (elsewhere / name).write_bytes(b"three")
    (elsewhere / "loop").symlink_to(folder)
    for name, target in (("part1", "../elsewhere"), ("part2", "../elsewhere"), ("self", "."), ("gone.mp4", "nowhere.mp4")):
        (folder / name).symlink_to(target)
    found = captions(folder)
    assert found == {"a": "one", "b": "two", "part1/c": "three"}
    text = said(folder, caplog)
    assert "3 links to a folder already read" in text and "1 broken links: gone.mp4" in text


@pytest.mark.parametrize("suffix", [".MP4", ".m4v", ".MPG", ".ts", ".flv", ".wmv", ".3gp", ".ogv", ".jfif", ".bmp", ".TIFF", ".avif"])
def test_usual_suffixes_are_known(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("one")
    assert captions(tmp_path) == {"a": "one"}
    assert {".m4a", ".aac", ".opus", ".ogg", ".wma", ".aif"} <= set(SOUND)


# what is wrong


def test_a_listed_file_that_is_missing_is_a_problem(folder):
    table(folder, "captions.jsonl", "file", [("a.mp4", "1"), ("b.mp4", "2"), ("gone.mp4", "3"), ("../out.mp4", "4")])
    (problem,) = scan_data(folder, MEDIA).problems
    assert "captions.jsonl lists 2 files that are missing, the first is ../out.mp4" in str(problem)


def test_a_file_listed_twice_must_be_listed_alike(folder):
    table(folder, "captions.jsonl", "file", [("a.mp4", "1"), ("./a.mp4", "1"), ("b.mp4", "2")])
    assert captions(folder) == {"a": "1", "b": "2"}
    table(folder, "captions.jsonl", "file", [("a.mp4", "1"), ("./a.mp4", "other"), ("b.mp4", "2")])
    with pytest.raises(MgzooError, match="a.mp4 has two different entries"):
        scan_data(folder, MEDIA)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("eine weiße Katze".encode("latin-1"), "a.mp4: its .txt cannot be read: byte 8 (0xdf) is not UTF-8"),
        ("a cat".encode("utf-16"), "a.mp4: its .txt cannot be read: it is UTF-16"),
        ("a cat".encode("utf-16-le"), "a.mp4: its .txt cannot be read: it contains zero bytes"),
    ],
)
def test_text_of_other_encodings_is_named(folder, data, message):
    write(folder, a_txt=data, b_txt="two")
    (problem,) = scan_data(folder, MEDIA).problems
    assert message in str(problem)
    (folder / "metadata.jsonl").write_bytes(data)
    with pytest.raises(MgzooError, match="metadata.jsonl: this file is not UTF-8 text"):
        scan_data(folder, MEDIA)


def test_a_line_that_names_nothing_is_told_with_its_number(folder):
    write(folder, metadata_jsonl='{"file_name": "a.mp4", "text": "x"}\n\n{"file": "b.mp4"}\n')
    with pytest.raises(MgzooError, match="metadata.jsonl:3: this line is not a JSON object with `file_name`"):
        scan_data(folder, MEDIA)


def test_of_a_medium_without_a_caption_it_is_said(folder):
    write(folder, a_txt="one", b_json='{"title": "x"}')
    (problem,) = scan_data(folder, MEDIA).problems
    assert "b.mp4: no caption: no .txt, and no field 'caption'" in str(problem)
    assert [sample.caption for sample in scan_data(folder, MEDIA, captioned=False).samples] == ["one", ""]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a", "d/e/a", "x" * 90 + "/" + "y" * 60, "z" * 130, "été"])
def test_a_shard_of_any_form_has_the_members_that_tarfile_sees(tmp_path, form, name):
    if form == tarfile.USTAR_FORMAT and len(name) == 130:
        return  # this form has no such names
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for suffix, data in (("png", b"p" * 700), ("txt", b"one")):
            info = tarfile.TarInfo(f"{name}.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (found,) = scan_data(path, MEDIA).samples
    with tarfile.open(path) as tar:
        member = tar.getmembers()[0]
    assert (found.key, found.caption, found.offset, found.size) == (name, "one", member.offset_data, 700) and found.bytes() == b"p" * 700


# what would be cut off, passed over or taken for another, in silence


def laid(root, files):
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def test_a_null_caption_is_none(tmp_path):
    made = laid(tmp_path, {"a.mp4": b"x", "a.json": b'{"caption": null, "shot": 3}', "a.txt": b"a hare", "b.mp4": b"x", "captions.jsonl": b'{"file": "b.mp4", "caption": null}'})
    found = scan_data(made, VIDEO)
    assert [(sample.caption, dict(sample.fields)) for sample in found.samples] == [("a hare", {"shot": 3})]
    assert "no caption" in str(found.problems[0])


@pytest.mark.parametrize(("one", "other"), [("a.txt", "a.TXT"), ("a.txt", "a.mp4.txt"), ("a.json", "a.mp4.json")])
def test_two_captions_that_differ_are_no_caption(tmp_path, one, other):
    texts = [b"a hare", b"a rabbit"] if one.endswith("txt") else [b'{"caption": "a hare"}', b'{"caption": "a rabbit"}']
    found = scan_data(laid(tmp_path, {"a.mp4": b"x", one: texts[0], other: texts[1]}), VIDEO)
    assert not found.samples and "two different captions" in str(found.problems[0])
    assert one in str(found.problems[0]) and other in str(found.problems[0])
    alike = scan_data(laid(tmp_path, {"a.mp4": b"x", one: texts[0], other: texts[0]}), VIDEO)
    assert [sample.caption for sample in alike.samples] == ["a hare"] and not alike.problems and not alike.left_out.names


@pytest.mark.parametrize(
    ("rows", "said"),
    [(b"a.mp4,red, big heart\n", "more cells than the header"), (b'a.mp4,"red\n', "invalid CSV"), (b"a.mp4," + b"x" * 200_000 + b"\n", "invalid CSV"), (b'a.mp4,"red" big\n', "invalid CSV")],
)
def test_a_row_of_which_a_part_would_be_lost_is_told(tmp_path, rows, said):
    with pytest.raises(MgzooError, match=said) as caught:
        scan_data(laid(tmp_path, {"a.mp4": b"x", "metadata.csv": b"file_name,caption\n" + rows}), VIDEO)
    assert "metadata.csv:" in str(caught.value)


def test_a_table_may_be_named_in_capitals(tmp_path):
    found = scan_data(laid(tmp_path, {"a.mp4": b"x", "Captions.JSONL": b'{"file": "a.mp4", "caption": "a hare"}'}), VIDEO)
    assert [sample.caption for sample in found.samples] == ["a hare"] and not found.left_out.names


@pytest.mark.parametrize("name", ["h.txt", "./h.txt", "{root}/h.txt"])
def test_a_held_out_list_is_no_caption_however_it_is_named(tmp_path, name):
    made = laid(tmp_path, {"h.txt": b"h\n", "h.mp4": b"x", "h.json": b'{"caption": "a hare"}'})
    found = scan_data(made, VIDEO, held_out=[name.format(root=made)])
    assert set(found.left_out.names) == {"held-out lists"} and found.samples[0].caption == "a hare"


def test_a_key_that_begins_as_a_remark_does_is_held_out(tmp_path):
    made = laid(tmp_path, {"h.txt": "\ufeff# not these\r\n#1\r\n\r\n#2.mp4\ta remark\r\n".encode(), "#1.mp4": b"x", "#2.mp4": b"x", "3.mp4": b"x"})
    assert held_out_keys(["h.txt"], made, ["#1", "#2", "3"]) == ["#1", "#2"]


def test_utf_32_is_called_so(tmp_path):
    found = scan_data(laid(tmp_path, {"a.mp4": b"x", "a.txt": "a hare".encode("utf-32")}), VIDEO)
    assert "UTF-32" in str(found.problems[0])
