"""JSON lines: written so that every reader sees the same lines, read so that bad ones are named."""

import json
from collections.abc import Iterable
from typing import Any

from ..progress import tell
from .conversation import Row

# JSON allows these raw, but some readers take them for the end of a line.
_LINE_ENDS = "\x85\u2028\u2029"

BLANK = "the line is empty"


def json_lines(values: Iterable[Any]) -> bytes:
    """One line a value, as UTF-8."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines: list[str] = []
    for value in values:
        tell()
        lines.append(encode(value) + "\n")
    text = "".join(lines)
    for mark in _LINE_ENDS:
        if mark in text:
            text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode()


def longest_line(lines: bytes) -> int:
    """Bytes of the longest line."""
    return max(map(len, lines.split(b"\n")))


def read_json_lines(content: bytes) -> list[Row]:
    """Every line as a row, numbered from 0; those that are no JSON object say so.

    Lines end as for `datasets`: with a line feed, a carriage return, or both. A byte order mark at
    the start belongs to no line.
    """
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [_row(number, line) for number, line in enumerate(lines)]


def _row(number: int, line: bytes) -> Row:
    tell()
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Row(number, problem=f"not UTF-8 (byte {error.start} of the line)")
    if not text.strip(" \t"):  # JSON knows no other whitespace
        return Row(number, problem=BLANK)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Row(number, problem=f"not JSON ({error})")
    if not isinstance(value, dict):
        return Row(number, problem=f"not an object but {type(value).__name__}")
    if half := _half_character(text, value):
        return Row(number, problem=f"not Unicode ({half} is half of a character)")
    return Row(number, value)


def _half_character(text: str, value: Any) -> str | None:
    """An escaped surrogate without its other half: JSON allows it, and no tokenizer takes it."""
    if "\\ud" not in text and "\\uD" not in text:
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    return None
