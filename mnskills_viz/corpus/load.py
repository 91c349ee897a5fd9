"""Read and check a corpus: all rows, or a list of everything that is wrong with them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

from ..errors import InputError
from .example import FIELDS, Corpus, Example, canonical
from .rows import NOT_UTF8, Row, open_rows
from .shapes import SHAPES, BadRowError, recognise, text


class Columns(TypedDict, total=False):
    """Which column of the data holds what."""

    id: str
    prompt: str
    response: str
    answer: str
    category: str
    source: str


def load_corpus(
    source: str | Path | Iterable[dict[str, Any]],
    /,
    *,
    limit: int | None = None,
    split: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    config: str | None = None,
    **columns: Unpack[Columns],
) -> Corpus:
    """Read and check a corpus.

    Parameters
    ----------
    source : path, list of dict, or str
        A ``.jsonl``, ``.json`` (array of objects), ``.csv`` or ``.parquet`` file, rows as dicts,
        ``"demo"`` for the corpus that comes with the package, or a Hugging Face data set id
        (needs ``pip install 'mnskills_viz[data]'`` and the network).
    limit : int, optional
        Read no more than this many examples.
    split : str, optional
        Keep the rows whose column ``split`` says so; for a Hugging Face id, the split to load
        (default ``"train"``).
    on_error : {"raise", "skip"}
        What to do with bad rows: name them all in one error, or leave them out and count them
        in `Corpus.skipped`.
    config : str, optional
        Configuration of a Hugging Face data set (``"main"`` for ``openai/gsm8k``).
    **columns : str
        Which column holds what, where it is not recognised: ``prompt="question"``; any of
        ``id prompt response answer category source``.

    Returns
    -------
    Corpus

    Raises
    ------
    InputError
        No such file, an unknown kind of file, no prompt column, bad rows (all of them named),
        or one id with two contents.
    """
    unknown = set(columns) - set(FIELDS)
    if unknown:
        raise InputError(
            f"load_corpus: unknown column keyword {sorted(unknown)}; expected one of {list(FIELDS)}"
        )
    if on_error not in ("raise", "skip"):
        raise InputError(f'on_error must be "raise" or "skip", not {on_error!r}')
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}")
    name, rows = open_rows(source, split, config)
    return _read(rows, name, cast(dict[str, str], columns), limit, split, on_error)


def _read(
    rows: Iterator[Row],
    name: str,
    columns: dict[str, str],
    limit: int | None,
    split: str | None,
    on_error: str,
) -> Corpus:
    kept: dict[str, Example] = {}
    places: dict[str, str] = {}
    bad: dict[str, list[str]] = {}
    duplicates = 0
    for row in rows:
        if limit is not None and len(kept) == limit:
            break
        try:
            if row.problem:
                raise BadRowError(row.problem)
            if not isinstance(row.value, dict):
                raise BadRowError(f"not an object but {type(row.value).__name__}")
            example, has_id = _parse(row.value, columns)
        except BadRowError as error:
            bad.setdefault(str(error), []).append(row.place)
            continue
        if split is not None and example.meta.get("split") != split:
            continue
        first = kept.get(example.id)
        if first is None:
            kept[example.id] = example
            places[example.id] = row.place
        elif example.meta.get("split") != first.meta.get("split"):
            there = f"{first.meta.get('split')!r} at {places[example.id]}"
            reason = f"the same example is in split {there}"
            bad.setdefault(reason, []).append(row.place)
        elif not has_id or replace(example, meta={}) == replace(first, meta={}):
            duplicates += 1
        else:
            reason = f"id {example.id!r} has other content than at {places[example.id]}"
            bad.setdefault(reason, []).append(row.place)
    if bad and on_error == "raise":
        raise InputError(_complaint(name, bad, bool(kept)))
    if not kept:
        found = (
            f"all {sum(map(len, bad.values()))} rows are bad: {_summary(bad)}"
            if bad
            else (f"no row has split {split!r}" if split else "no rows")
        )
        raise InputError(f"{name}: {found}")
    return Corpus(kept.values(), name, bad, duplicates)


def _complaint(name: str, bad: dict[str, list[str]], some_good: bool) -> str:
    count = sum(map(len, bad.values()))
    hint = '; correct them, or leave them out with on_error="skip"' if some_good else ""
    hint = f"; save the file as UTF-8{hint}" if NOT_UTF8 in bad else hint
    return f"{name}: {count} bad row{'s' * (count > 1)}: {_summary(bad)}{hint}"


def _summary(bad: dict[str, list[str]]) -> str:
    return "; ".join(f"{reason}: {_join(places)}" for reason, places in bad.items())


def _join(places: list[str]) -> str:
    """``["line 3", "line 4", "line 5", "line 9"]`` -> ``"lines 3-5, 9"``."""
    word = places[0].split()[0]
    numbers = [int(place.split()[1]) for place in places]
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"{word}{'s' * (len(numbers) > 1)} {listed}"


def _parse(row: dict[str, Any], columns: dict[str, str]) -> tuple[Example, bool]:
    """Turn a raw row into an example, and say whether it has an id of its own.

    `columns` maps our fields to the row's.
    """
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise BadRowError("not Unicode: half a surrogate pair") from error
    absent = [column for column in columns.values() if column not in row]
    if absent:
        raise BadRowError(f"no column {absent[0]!r}")
    shape = recognise(set(row))
    if "prompt" in columns or shape is None:
        # The user's own mapping: rename their columns to ours, and read those.
        shape = SHAPES[0]
        if "prompt" not in columns:
            raise BadRowError(
                f"no prompt column among {', '.join(map(repr, row)) or 'none'}: "
                'say which with prompt="..."'
            )
        taken = set(columns.values())
        row = {k: v for k, v in row.items() if k not in taken} | {
            ours: row[theirs] for ours, theirs in columns.items()
        }
        fields, used = shape.read(row), shape.used
    else:
        fields, used = shape.read(row), shape.used | set(columns.values())
        fields |= {ours: text(row, theirs) for ours, theirs in columns.items()}
    meta = {k: v for k, v in row.items() if k not in used}
    for name in ("id", "category", "source"):
        if not fields.get(name) and name in meta:
            fields[name] = text(row, name, required=False) or None
            del meta[name]
    identity = {k: fields.get(k) for k in ("prompt", "response", "answer")}
    own_id = fields.pop("id", None)
    example = Example(
        id=own_id or hashlib.sha256(canonical(identity)).hexdigest()[:16],
        meta=json.loads(canonical(meta)),
        **fields,
    )
    return example, bool(own_id)
