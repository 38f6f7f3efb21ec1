"""Text files of data sets: captions, sidecars, tables and lists. Standard library only."""

from __future__ import annotations

import codecs
import csv
import io
import json
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgzoo.spec import MgzooError

UTF16 = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
TABLES = {"captions.jsonl": "file", "metadata.jsonl": "file_name", "metadata.csv": "file_name"}
"""Tables of captions, and the field that names the medium. The last two are Hugging Face's imagefolder and videofolder layout."""
PROMPTS, MEDIA_LISTS = ("prompts.txt", "prompt.txt"), ("videos.txt", "images.txt")
"""Captions and media in two lists, line by line, as CogVideoX and finetrainers read them."""


class NotText(ValueError):
    """Bytes that are not UTF-8 text; the message describes them."""


def decode_text(data: bytes) -> str:
    """Bytes of a text file -> text: UTF-8 with or without a byte order mark, line ends as line feeds. Raises NotText."""
    for mark, name in UTF16.items():
        if data.startswith(mark):
            raise NotText(f"it is {name}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8") from None
    if "\0" in text:
        raise NotText("it contains zero bytes, like UTF-16 and binary files")
    return text.replace("\r\n", "\n")


def read_text(path: str | Path) -> str:
    """A text file, as `decode_text` reads it. Raises MgzooError for other files."""
    try:
        return decode_text(Path(path).read_bytes())
    except NotText as error:
        raise MgzooError(f"this file is not UTF-8 text: {error}", remedy="save it as UTF-8", origin=str(path)) from None


def split_lines(text: str) -> list[str]:
    """Lines of a text, split at line feeds alone: U+2028, U+0085 and form feeds are part of a line. A line feed at the end adds no line."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if not lines[-1] else lines


def read_list(path: str | Path) -> list[str]:
    """The lines of a text file without empty lines and comments (#)."""
    return [line for line in split_lines(read_text(path)) if line.strip() and not line.startswith("#")]


def read_jsonl(path: str | Path, needed: Sequence[str] = (), example: str = '{"file": "rabbit.mp4", "caption": "…"}') -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of a file of JSON lines; empty lines are skipped.

    needed: required text fields. Raises MgzooError for other lines, with `example` as the remedy.
    """
    for number, line in enumerate(split_lines(read_text(path)), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in needed):
            names = " and ".join(f"`{name}`" for name in needed)
            raise MgzooError("this line is not a JSON object" + (f" with {names}" if needed else ""), remedy=f"write {example}", origin=f"{path}:{number}")
        yield number, fields


def read_table(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name of the media file, place of the line, other fields) of a table of `TABLES`. Raises MgzooError for a line without a name."""
    field = TABLES[path.name.lower()]
    if path.suffix.lower() == ".csv":
        for number, fields in _csv_rows(path):
            if not fields.get(field):
                raise MgzooError(f"this line has no {field}", remedy=f"add a header line with the columns {field} and caption", origin=f"{path}:{number}")
            yield fields.pop(field), f"{path}:{number}", fields
        return
    for number, fields in read_jsonl(path, (field,), json.dumps({field: "rabbit.mp4", "caption": "…"}, ensure_ascii=False)):
        yield fields.pop(field), f"{path}:{number}", fields


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of its last line, fields by column) of each row. Raises MgzooError for a row with more cells than columns, e.g. with an
    unquoted comma in a caption."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in rows:
            if row.pop(None, None):
                raise MgzooError("this line has more cells than the header", remedy='quote text with commas: "red, big"', origin=f"{path}:{rows.line_num}")
            yield rows.line_num, {name: value for name, value in row.items() if name and value is not None}
    except csv.Error as error:
        raise MgzooError(f"invalid CSV: {error}", remedy="write it with a CSV library, or use metadata.jsonl", origin=f"{path}:{rows.line_num + 1}") from None


def read_line_pairs(media: Path, prompts: Path, caption_key: str = "caption") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The same for two parallel lists. Raises MgzooError if their lengths differ."""
    names, words = split_lines(read_text(media)), split_lines(read_text(prompts))
    while names and not names[-1].strip():
        names.pop()
    while len(words) > len(names) and not words[-1].strip():
        words.pop()
    if len(names) != len(words):
        raise MgzooError(f"{media.name} has {len(names)} lines and {prompts.name} has {len(words)}", remedy="both files need one line per media file", origin=str(media.parent))
    for number, (name, text) in enumerate(zip(names, words, strict=True), 1):
        if name.strip():
            yield name.strip(), f"{prompts}:{number}", {caption_key: text}


def composed(name: str) -> str:
    """A name with composed letters (NFC), equal on all systems."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def normal_name(name: str) -> str:
    """The normalised name of a file: composed letters (NFC), slashes, no ``./``."""
    return posixpath.normpath(composed(name).replace("\\", "/"))


def caption_of(fields: Mapping[str, Any], text: str | None, caption_key: str) -> tuple[str | None, str]:
    """(caption, its field or suffix): a JSON field `caption_key`, else the .txt, else a field ``text`` where the key is
    ``caption``. None without a caption or for null. Raises ValueError if the field is not text."""
    if fields.get(caption_key) is not None:
        if not isinstance(fields[caption_key], str):
            raise ValueError(f"{caption_key} is not text")
        return fields[caption_key].strip(), repr(caption_key)
    if text is not None:
        return text.strip(), ".txt"
    if caption_key == "caption" and isinstance(fields.get("text"), str):
        return fields["text"].strip(), "'text'"
    return None, ""
