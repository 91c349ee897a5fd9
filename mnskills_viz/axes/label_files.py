"""Labels as files that other programs read and write: CSV for spreadsheets, JSON for the rest."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..files import write_text
from .changes import FIELDS, Change, checked

COLUMNS = ("basis", "axis", *FIELDS)
NEEDED = COLUMNS[:2]
FORMAT = "mnskills labels"
VERSION = 1

_GUARDED = re.compile(r"'*(?:[=+\-@＝＋－＠\t\r\n]|[0-9]+/[0-9]+$)")
"""Cells that a spreadsheet would take for a formula, or for a date: they get an apostrophe.

Those that begin with apostrophes before such a thing get one more, so that all come back as they
were. See OWASP, "CSV Injection".
"""

F = TypeVar("F", bound=Callable[..., Any])

Row = Mapping[Any, Any]
"""What a file says of one axis: ``basis``, ``axis``, and any of `FIELDS`."""


# --------------------------------------------------------------------------------------- write


def write_labels(rows: Sequence[Row], path: Path, about: Row | None = None) -> Path:
    """Write what was said about axes.

    Parameters
    ----------
    rows : sequence of mapping
        ``basis axis positive negative notes state quiz``.
    path : Path
        Its ending says how: ``.csv`` (UTF-8; a text that a spreadsheet would run or turn into a
        date has an apostrophe before it) or ``.json``.
    about : mapping, optional
        What a JSON file says of their origin; a CSV file has no room for it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        Another ending, or it cannot be written.
    """
    write_text(path, _of_kind(path, _as_csv, _as_json)(rows, about or {}))
    return path


def _as_csv(rows: Sequence[Row], about: Row) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([row["axis"] if c == "axis" else _guarded(row[c]) for c in COLUMNS])
    return text.getvalue()


def _guarded(text: str) -> str:
    return f"'{text}" if _GUARDED.match(text) else text


def _as_json(rows: Sequence[Row], about: Row) -> str:
    labels = [{name: row[name] for name in COLUMNS} for row in rows]
    whole = {"format": FORMAT, "version": VERSION, "about": dict(about), "labels": labels}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------------------------------- read


def read_labels(path: Path, bases: Mapping[str, int] | None = None) -> list[Change]:
    """Read what a file says about axes.

    Parameters
    ----------
    path : Path
        As `write_labels` writes it, or made by hand: the columns ``basis`` and ``axis``, and any
        of ``positive negative notes state quiz``.
    bases : mapping of str to int, optional
        Names of the bases that there are, and how many axes each has.

    Returns
    -------
    list of Change
        One for each value of the file, empty ones too.

    Raises
    ------
    InputError
        The first thing that is wrong, with its line: no such column, basis, axis or state, an
        axis that stands there twice, or no file of this kind.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error
    changes: list[Change] = []
    there: dict[tuple[str, int], int] = {}
    for line, row in _of_kind(path, _from_csv, _from_json)(path, text):
        try:
            new = _changes(row, bases)
            basis, axis = row["basis"], int(row["axis"])
            if (basis, axis) in there:
                raise InputError(f"axis {axis} of {basis} is in line {there[basis, axis]} already")
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        there[basis, axis] = line
        changes += new
    return changes


def _changes(row: Row, bases: Mapping[str, int] | None) -> list[Change]:
    """Values of one row."""
    _require_columns(row)
    basis, axis = row["basis"], row["axis"]
    if not isinstance(basis, str) or not basis:
        raise InputError(f"basis must be the name of a basis, not {basis!r}")
    if not isinstance(axis, int) or isinstance(axis, bool) or axis < 0:
        raise InputError(f"axis must be the number of an axis, from 0 on, not {axis!r}")
    if bases is not None:
        name, _, earlier_fit = basis.partition("@")
        if name not in bases:
            raise InputError(f"no basis {basis!r}; there are: {', '.join(bases) or 'none yet'}")
        if not earlier_fit and axis >= bases[name]:
            raise InputError(f"{basis} has axes 0 to {bases[name] - 1}, not {axis}")
    return [checked(Change(basis, axis, name, row[name])) for name in FIELDS if name in row]


def _require_columns(names: Sequence[str] | Row) -> None:
    if missing := [name for name in NEEDED if name not in names]:
        raise InputError(f"no {' and no '.join(missing)}; needed are: {', '.join(NEEDED)}")
    if unknown := [str(name) for name in names if name not in COLUMNS]:
        raise InputError(f"{unknown[0]!r} is none of {', '.join(COLUMNS)}")
    if len(set(names)) < len(names):
        raise InputError("a column is there twice")


def _from_csv(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Line and values of each row."""
    records = _records(path, text)
    _, titles = next(records, (1, []))
    head = [title.strip().lower() for title in titles]
    try:
        _require_columns(head)
    except InputError as error:
        raise InputError(f"{path}, line 1: {error}") from error
    for line, cells in records:
        if len(cells) != len(head):
            there = f"{len(cells)} cells, and the first line has {len(head)}"
            raise InputError(f"{path}, line {line}: {there}")
        yield line, _row_of(dict(zip(head, cells, strict=True)))


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines where records begin, and their cells."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    records = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in records:
            if cells:
                yield line, cells
            line = records.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {line}: {error}") from error


def _row_of(cells: dict[str, str]) -> Row:
    """Values of cells, guards taken off."""
    plain = {name: c[1:] if c[:1] == "'" and _GUARDED.match(c) else c for name, c in cells.items()}
    number = cells["axis"].strip()
    return plain | {"axis": int(number) if re.fullmatch("[0-9]{1,9}", number) else cells["axis"]}


def _from_json(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Line and values of each element of the list of labels."""
    try:
        whole = json.loads(text, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    known = isinstance(whole, dict) and (whole.get("format"), whole.get("version"))
    if known != (FORMAT, VERSION) or not isinstance(whole.get("labels"), list):
        raise InputError(
            f'{path}: "format": "{FORMAT}", "version": {VERSION} and a list "labels" were expected'
        )
    for at, row in _elements(text, "labels"):
        line = text.count("\n", 0, at) + 1
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {line}: an object was expected, not {row!r:.80}")
        yield line, row


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name is there twice among {', '.join(name for name, _ in pairs):.200}")
    return found


def _elements(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Elements of the list `name` of a JSON object, and where each begins."""
    read = json.JSONDecoder().raw_decode
    at = _after(text, 0, "{")
    while text[at] != "}":
        key, at = read(text, at)
        at = _after(text, _spaces(text, at), ":")
        if key != name:
            _, at = read(text, at)
        else:
            at = _after(text, at, "[")
            while text[at] != "]":
                begin = at
                element, at = read(text, at)
                yield begin, element
                at = _after(text, _spaces(text, at), ",")
            at += 1
        at = _after(text, _spaces(text, at), ",")


def _after(text: str, at: int, mark: str) -> int:
    """Where the next thing is, past a mark if it is here."""
    at = _spaces(text, at)
    return _spaces(text, at + 1) if text[at] == mark else at


def _spaces(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at


def _of_kind(path: Path, as_csv: F, as_json: F) -> F:
    kinds = {".csv": as_csv, ".json": as_json}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path}: a name that ends in .csv or .json was expected")
    return kinds[path.suffix.lower()]
