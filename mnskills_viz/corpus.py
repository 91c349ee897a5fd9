"""A corpus: examples read from a file, a list or a data set, checked row by row.

Rows come in the shapes people have (GSM8K, SVAMP, MATH, Alpaca, ShareGPT, chat messages, plain
prompt and response); the shape is recognised by its columns. Nothing is guessed silently: a row
that does not fit is named, with all the others that do not.
"""

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, overload

from .errors import InputError

Message = dict[str, str]
Prompt = str | list[Message]

FIELDS = ("id", "prompt", "response", "answer", "category", "source")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a corpus.

    Attributes
    ----------
    id : str
        The data's own id, or a hash of prompt, response and answer.
    prompt : str or list of dict
        What the model is asked: text, or chat messages ``{"role", "content"}``.
    response : str
        The reference response; empty where the data has none.
    answer : str or None
        The final answer, for verifiers.
    category : str or None
        The human taxonomy's word for it.
    source : str or None
        Where the row comes from.
    meta : dict
        All other columns.
    """

    id: str
    prompt: Prompt
    response: str = ""
    answer: str | None = None
    category: str | None = None
    source: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[Message]:
        """The prompt as chat messages."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return self.prompt

    @property
    def prompt_text(self) -> str:
        """The prompt as plain text: the contents of its messages, a blank line between."""
        return "\n\n".join(message["content"] for message in self.messages)

    def as_dict(self) -> dict[str, Any]:
        """The example as a JSON-ready dict that `load_corpus` reads back."""
        own = {name: getattr(self, name) for name in FIELDS}
        return {k: v for k, v in own.items() if v is not None} | self.meta


class Corpus(Sequence[Example]):
    """Examples in order, with what was left out on the way.

    Attributes
    ----------
    name : str
        What it was read from.
    skipped : dict of str to list of str
        Reason -> places (lines or rows) of rows that were skipped, for ``on_error="skip"``.
    duplicates : int
        Identical rows that were dropped; the first of each is kept.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        name: str = "list",
        skipped: dict[str, list[str]] | None = None,
        duplicates: int = 0,
    ) -> None:
        self._examples = tuple(examples)
        self.name = name
        self.skipped = skipped or {}
        self.duplicates = duplicates

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Corpus": ...
    def __getitem__(self, index: int | slice) -> "Example | Corpus":
        if isinstance(index, slice):
            return Corpus(self._examples[index], self.name)
        return self._examples[index]

    def __len__(self) -> int:
        return len(self._examples)

    def __repr__(self) -> str:
        categories = len({e.category for e in self} - {None})
        left_out = sum(map(len, self.skipped.values()))
        return (
            f"Corpus({self.name!r}: {len(self):,} examples, {categories} categories, "
            f"{self.duplicates} duplicates dropped, {left_out} bad rows skipped)"
        )

    @property
    def ids(self) -> list[str]:
        """Ids in order."""
        return [example.id for example in self]

    @property
    def hash(self) -> str:
        """SHA-256 over all examples in order: the identity of this corpus."""
        digest = hashlib.sha256()
        for example in self:
            digest.update(_canonical(example.as_dict()))
            digest.update(b"\n")
        return digest.hexdigest()

    def take(self, indices: Iterable[int]) -> "Corpus":
        """The examples at `indices`, in that order."""
        return Corpus((self[int(i)] for i in indices), self.name)

    def split(self, name: str) -> "Corpus":
        """The examples whose column ``split`` says `name`."""
        return Corpus((e for e in self if e.meta.get("split") == name), f"{self.name}:{name}")


def load_corpus(
    source: str | Path | Iterable[dict[str, Any]],
    *,
    limit: int | None = None,
    split: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    config: str | None = None,
    **columns: str,
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
    name, rows = _open(source, split, config)
    return _read(rows, name, columns, limit, split, on_error)


# ---------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class _Row:
    """A raw row and the place that a person can go to: ``line 12`` or ``row 3``."""

    place: str
    value: Any = None
    problem: str | None = None


def _open(
    source: str | Path | Iterable[dict[str, Any]], split: str | None, config: str | None
) -> tuple[str, Iterator[_Row]]:
    if not isinstance(source, str | Path):
        return "list", (_Row(f"row {i}", row) for i, row in enumerate(source))
    if source == "demo":
        return "demo", _rows_of_jsonl(demo_corpus_path())
    path = Path(source).expanduser()
    if path.is_file():
        readers: dict[str, Callable[[Path], Iterator[_Row]]] = {
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
    return packaged if packaged.exists() else Path(__file__).parents[1] / "data" / "demo.jsonl"


def _rows_of_jsonl(path: Path) -> Iterator[_Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield _Row(place, json.loads(text))
            except UnicodeDecodeError:
                yield _Row(place, problem="not UTF-8")
            except ValueError:
                yield _Row(place, problem="not JSON")


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8"
        ) from error


def _rows_of_json(path: Path) -> Iterator[_Row]:
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
        yield _Row(f"row {number}", row)


def _rows_of_csv(path: Path) -> Iterator[_Row]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(io.StringIO(_decode(path), newline=""), restkey="\0extra", strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield _Row(f"line {first}", problem=f"not CSV ({error})")
            continue
        if row is None:
            return
        place = f"line {max(first, 2)}"
        if "\0extra" in row:
            yield _Row(place, problem="more fields than the header has")
        else:
            yield _Row(place, {k: v for k, v in row.items() if v is not None})


def _rows_of_parquet(path: Path) -> Iterator[_Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield _Row(f"row {number}", row)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def _rows_of_hub(name: str, split: str, config: str | None) -> Iterator[_Row]:
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
        yield _Row(f"row {number}", {"split": split} | row)


# -------------------------------------------------------------------------------------- shapes


class _BadRowError(Exception):
    """A row that does not fit, with the reason."""


def _text(row: dict[str, Any], column: str, *, required: bool = True) -> str:
    value = row.get(column)
    if value is None or value == "":
        if required:
            raise _BadRowError(f"no {column!r}" if column not in row else f"{column!r} is empty")
        return ""
    if not isinstance(value, str | int | float):
        raise _BadRowError(f"{column!r} is {type(value).__name__}, expected text")
    text = _number(value) if isinstance(value, int | float) else value
    if required and not text.strip():
        raise _BadRowError(f"{column!r} is empty")
    return text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _messages(
    value: Any, column: str, role: str = "role", content: str = "content"
) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise _BadRowError(f"{column!r} is not a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get(content), str):
            raise _BadRowError(f"a message in {column!r} has no text {content!r}")
        name = _ROLES.get(str(message.get(role)))
        if name is None:
            raise _BadRowError(
                f"a message in {column!r} has an unknown {role!r}: {message.get(role)!r}"
            )
        messages.append({"role": name, "content": message[content]})
    return messages


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}


def _conversation(messages: list[Message], column: str) -> dict[str, Any]:
    """A conversation's last assistant turn is the response, what comes before it the prompt."""
    if messages[-1]["role"] != "assistant":
        raise _BadRowError(f"{column!r} does not end with an assistant message")
    if len(messages) == 1:
        raise _BadRowError(f"{column!r} has no message before the assistant's")
    if not messages[-1]["content"].strip():
        raise _BadRowError(f"the last assistant message in {column!r} is empty")
    prompt: Prompt = messages[:-1]
    if len(messages) == 2 and messages[0]["role"] == "user":
        prompt = messages[0]["content"]
        if not prompt.strip():
            raise _BadRowError(f"the user message in {column!r} is empty")
    return {"prompt": prompt, "response": messages[-1]["content"]}


def _gsm8k(row: dict[str, Any]) -> dict[str, Any]:
    response = _text(row, "answer")
    _, mark, final = response.rpartition("####")
    if not mark:
        raise _BadRowError("'answer' has no '#### final answer'")
    return {
        "prompt": _text(row, "question"),
        "response": response,
        "answer": final.strip().replace(",", ""),
    }


def _svamp(row: dict[str, Any]) -> dict[str, Any]:
    answer = _text(row, "Answer")
    return {
        "id": _text(row, "ID", required=False) or None,
        "prompt": f"{_text(row, 'Body').strip()} {_text(row, 'Question').strip()}",
        "response": answer.removesuffix(".0"),
        "answer": answer.removesuffix(".0"),
        "category": _text(row, "Type", required=False) or None,
    }


def _math(row: dict[str, Any]) -> dict[str, Any]:
    solution = _text(row, "solution")
    return {
        "prompt": _text(row, "problem"),
        "response": solution,
        "answer": _boxed(solution),
        "category": _text(row, "type", required=False) or None,
    }


def _boxed(solution: str) -> str | None:
    """The content of the last ``\\boxed{...}``, braces balanced."""
    start = solution.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 0
    for end in range(start + 6, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start + 7 : end]
    return None


def _alpaca(row: dict[str, Any]) -> dict[str, Any]:
    context = _text(row, "input", required=False)
    instruction = _text(row, "instruction")
    return {
        "prompt": f"{instruction}\n\n{context}" if context.strip() else instruction,
        "response": _text(row, "output"),
    }


def _sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    messages = _messages(row["conversations"], "conversations", role="from", content="value")
    return _conversation(messages, "conversations")


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    return _conversation(_messages(row["messages"], "messages"), "messages")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Prompt and response (or TRL's completion), each a text or messages."""
    prompt = row.get("prompt")
    prompt = _messages(prompt, "prompt") if isinstance(prompt, list) else _text(row, "prompt")
    column = "response" if "response" in row else "completion"
    response = row.get(column)
    if isinstance(response, list):
        turns = _messages(response, column)
        if len(turns) != 1 or turns[0]["role"] != "assistant":
            raise _BadRowError(f"{column!r} is not one assistant message")
        response = turns[0]["content"]
    else:
        response = _text(row, column, required=False)
    return {
        "id": _text(row, "id", required=False) or None,
        "prompt": prompt,
        "response": response,
        "answer": _text(row, "answer", required=False) or None,
        "category": _text(row, "category", required=False) or None,
        "source": _text(row, "source", required=False) or None,
    }


@dataclass(frozen=True, slots=True)
class _Shape:
    """A layout of columns and how to read it. `used` are the columns that do not go to meta."""

    name: str
    needs: frozenset[str]
    used: frozenset[str]
    read: Callable[[dict[str, Any]], dict[str, Any]]


def _shape(
    name: str, needs: str, read: Callable[[dict[str, Any]], dict[str, Any]], used: str = ""
) -> _Shape:
    return _Shape(name, frozenset(needs.split()), frozenset((needs + " " + used).split()), read)


_SHAPES = (
    _shape("prompt", "prompt", _plain, "id response completion answer category source"),
    _shape("messages", "messages", _chat),
    _shape("ShareGPT", "conversations", _sharegpt),
    _shape("SVAMP", "Body Question Answer", _svamp, "ID Type"),
    _shape("MATH", "problem solution", _math, "type"),
    _shape("Alpaca", "instruction output", _alpaca, "input"),
    _shape("GSM8K", "question answer", _gsm8k),
)


def _recognise(columns: set[str]) -> _Shape | None:
    return next((shape for shape in _SHAPES if shape.needs <= columns), None)


def _parse(row: dict[str, Any], columns: dict[str, str]) -> Example:
    """Turn a raw row into an example; `columns` maps our fields to the row's."""
    absent = [column for column in columns.values() if column not in row]
    if absent:
        raise _BadRowError(f"no column {absent[0]!r}")
    shape = _recognise(set(row))
    if "prompt" in columns or shape is None:
        # The user's own mapping: rename their columns to ours, and read those.
        shape = _SHAPES[0]
        if "prompt" not in columns:
            raise _BadRowError(
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
        fields |= {ours: _text(row, theirs) for ours, theirs in columns.items()}
    meta = {k: v for k, v in row.items() if k not in used}
    for name in ("id", "category", "source"):
        if not fields.get(name) and name in meta:
            fields[name] = _text(row, name, required=False) or None
            del meta[name]
    identity = {k: fields.get(k) for k in ("prompt", "response", "answer")}
    own_id = fields.pop("id", None)
    return Example(
        id=own_id or hashlib.sha256(_canonical(identity)).hexdigest()[:16],
        meta=json.loads(_canonical(meta)),
        **fields,
    )


def _canonical(value: Any) -> bytes:
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str
    ).encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------- reading


def _read(
    rows: Iterator[_Row],
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
                raise _BadRowError(row.problem)
            if not isinstance(row.value, dict):
                raise _BadRowError(f"not an object but {type(row.value).__name__}")
            example = _parse(row.value, columns)
        except _BadRowError as error:
            bad.setdefault(str(error), []).append(row.place)
            continue
        if split is not None and example.meta.get("split") != split:
            continue
        first = kept.get(example.id)
        if first is None:
            kept[example.id] = example
            places[example.id] = row.place
        elif replace(example, meta={}) == replace(first, meta={}):
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


def category_counts(corpus: Iterable[Example]) -> dict[str, int]:
    """How many examples each category has, the largest first; examples without one are left out."""
    counts = Counter(e.category for e in corpus if e.category is not None)
    return dict(counts.most_common())
