"""Raw rows from a file, a list or a data set, each with its place."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError

NOT_UTF8 = "not UTF-8"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """A raw row and the place that a person can go to: ``line 12`` or ``row 3``."""

    place: str
    value: Any = None
    problem: str | None = None


def open_rows(
    source: str | Path | Iterable[dict[str, Any]], split: str | None, config: str | None
) -> tuple[str, Iterator[Row]]:
    """Name a source and give its rows, read as they are asked for.

    Raises
    ------
    InputError
        No such file, an ending that is not known, or nothing in it.
    """
    if not isinstance(source, str | Path):
        return "list", (Row(f"row {i}", row) for i, row in enumerate(source))
    if source == "demo":
        return "demo", _rows_of_jsonl(demo_corpus_path())
    path = Path(source).expanduser()
    if path.is_file():
        readers: dict[str, Callable[[Path], Iterator[Row]]] = {
            ".jsonl": _rows_of_jsonl,
            ".json": _rows_of_json,
            ".csv": _rows_of_csv,
            ".parquet": _rows_of_parquet,
        }
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise InputError(
                f"{path}: cannot read a {path.suffix or 'file without ending'}; "
                f"expected one of {' '.join(SUFFIXES)}"
            )
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty; expected at least one row")
        return str(path), reader(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file in it that holds the rows")
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and path.suffix not in SUFFIXES
    if not is_hub_id:
        raise InputError(
            f"{source}: no such file; expected a {' '.join(SUFFIXES)} file, "
            '"demo", or a Hugging Face data set id such as openai/gsm8k'
        )
    return str(source), _rows_of_hub(str(source), split or "train", config)


def demo_corpus_path() -> Path:
    """Where the demo corpus lies: in the installed package, or in the checkout's ``data``."""
    packaged = Path(str(resources.files("mnskills_viz"))) / "data" / "demo.jsonl"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "data" / "demo.jsonl"


def _rows_of_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield Row(place, json.loads(text))
            except UnicodeDecodeError:
                yield Row(place, problem=NOT_UTF8)
            except ValueError:
                yield Row(place, problem="not JSON")


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8"
        ) from error


def _rows_of_json(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(_decode(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not JSON (line {error.lineno}: {error.msg}); "
            "for one object a line, name the file .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected an array of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows):
        yield Row(f"row {number}", row)


def _rows_of_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(io.StringIO(_decode(path), newline=""), restkey="\0extra", strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Row(f"line {first}", problem=f"not CSV ({error})")
            continue
        if row is None:
            return
        place = f"line {max(first, 2)}"
        if "\0extra" in row:
            yield Row(place, problem="more fields than the header has")
        else:
            yield Row(place, {k: v for k, v in row.items() if v is not None})


def _rows_of_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield Row(f"row {number}", row)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def _rows_of_hub(name: str, split: str, config: str | None) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{name}: no such file, and reading it from the Hugging Face hub needs "
            "pip install 'mnskills_viz[data]'"
        ) from error
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{name}: no such file, and the Hugging Face hub did not give it ({reason})"
        ) from error
    for number, row in enumerate(rows):
        # The split is chosen already: a row need not say it again.
        yield Row(f"row {number}", {"split": split} | row)
