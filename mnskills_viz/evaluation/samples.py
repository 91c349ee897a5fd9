"""What a model answered, kept as it comes: a folder that a killed run goes on from.

`header.json` says what made it, `samples.jsonl` holds a completion a line, `logprobs.json` how
likely the references are, and a `grades-VERIFIER.json` each which completions passed.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..files import read_json, write_json
from .verifiers import NAMES

FORMAT = 1
HEADER, SAMPLES, LOGPROBS = "header.json", "samples.jsonl", "logprobs.json"
GRADES = "grades-{}.json"

Key = tuple[str, int]
"""Id of an example, number of a sample of it."""


class Kept:
    """Completions of an evaluation, in memory, and in a folder if there is one.

    Attributes
    ----------
    header : dict
        What made them: model, corpus, options, and the ids and categories of the examples.
    texts : dict
        Id and number of a sample -> what the model wrote.
    logprobs : dict or None
        Id -> mean log-probability of the reference response, once that was computed.
    """

    def __init__(self, header: dict[str, Any], path: Path | None = None) -> None:
        self.header = header
        self.path = path
        self.texts: dict[Key, str] = {}
        self.logprobs: dict[str, float] | None = None
        self._file: IO[bytes] | None = None
        if path is None:
            return
        if (path / HEADER).is_file():
            _require_same(path, header)
            self._read(path)
        elif path.exists() and (not path.is_dir() or _holds_files(path)):
            raise InputError(f"{path} is there and is not an evaluation; choose another folder")

    @property
    def is_whole(self) -> bool:
        """Whether every completion is there."""
        return len(self.texts) == len(self.header["examples"]) * len(self._samples)

    def __enter__(self) -> "Kept":
        """Begin to write; a line that a killed run left torn is cut off."""
        if self.path is not None:
            if not (self.path / HEADER).is_file():
                write_json(self.path / HEADER, self.header)
            with _writing(self.path):
                self._file = open(self.path / SAMPLES, "ab")
                self._file.truncate(_whole_lines(self.path / SAMPLES))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                _to_disk(file)

    def add(self, example: str, sample: int, text: str) -> None:
        """Keep a completion; the first of a sample stays."""
        if (example, sample) in self.texts:
            return
        if self._file is not None and self.path is not None:
            line = json.dumps({"id": example, "sample": sample, "text": text})
            with _writing(self.path):
                self._file.write(line.encode() + b"\n")
        self.texts[example, sample] = text

    def flush(self) -> None:
        """Have everything on the disk."""
        if self._file is not None and self.path is not None:
            with _writing(self.path):
                _to_disk(self._file)

    def add_logprobs(self, logprobs: dict[str, float]) -> None:
        """Keep the log-probabilities of the references."""
        self.logprobs = logprobs
        if self.path is not None:
            write_json(self.path / LOGPROBS, logprobs)

    def add_grades(self, verifier: str, versions: dict[str, str], passed: dict[Key, bool]) -> None:
        """Keep which completions passed, beside what other verifiers said."""
        if self.path is not None:
            grades = {
                example: [int(passed[example, sample]) for sample in self._samples]
                for example, _ in self.header["examples"]
            }
            about = {"verifier": verifier, "versions": versions, "passes": grades}
            write_json(_grades(self.path, verifier), about)

    def graded_by(
        self, verifier: str, versions: dict[str, str] | None = None
    ) -> dict[Key, bool] | None:
        """Which completions passed, if this verifier (of these versions) has judged them."""
        if self.path is None or not (file := _grades(self.path, verifier)).is_file():
            return None
        with _undamaged(file):
            found = read_json(file)
            if versions is not None and found["versions"] != versions:
                return None
            return {
                (example, sample): bool(found["passes"][example][sample])
                for example, _ in self.header["examples"]
                for sample in self._samples
            }

    def table(self, passed: Mapping[Key, bool]) -> pd.DataFrame:
        """One row an example: ``id category n c logprob``, in the order of the corpus."""
        ids = [example for example, _ in self.header["examples"]]
        right = [sum(passed[example, sample] for sample in self._samples) for example in ids]
        logprobs = self.logprobs or {}
        table = pd.DataFrame(
            {
                "id": ids,
                "category": pd.Series([c for _, c in self.header["examples"]], dtype=object),
                "n": np.full(len(ids), len(self._samples), dtype=np.int64),
                "c": np.array(right, dtype=np.int64),
                "logprob": np.array([logprobs.get(i, np.nan) for i in ids], dtype=np.float64),
            }
        )
        table.attrs |= {name: self.header[name] for name in ("model", "corpus", "options")}
        return table

    @property
    def _samples(self) -> range:
        return range(self.header["options"]["n"])

    def _read(self, path: Path) -> None:
        if (path / LOGPROBS).is_file():
            with _undamaged(path / LOGPROBS):
                self.logprobs = {i: float(one) for i, one in read_json(path / LOGPROBS).items()}
        if not (path / SAMPLES).is_file():
            return
        known = {example for example, _ in self.header["examples"]}
        whole = (path / SAMPLES).read_bytes()[: _whole_lines(path / SAMPLES)]
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                one = json.loads(line)
                key, text = (one["id"], one["sample"]), one["text"]
                if [type(part) for part in (*key, text)] != [str, int, str]:
                    raise TypeError(line)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path / SAMPLES}: line {number} is damaged; take that line out, or delete "
                    "the folder, and run the same again"
                ) from error
            if key[0] in known and key[1] in self._samples:
                self.texts.setdefault(key, text)


def read_samples(store: str | Path, verifier: str = "auto") -> pd.DataFrame:
    """Read a finished evaluation, without its model and its corpus.

    Parameters
    ----------
    store : path
        The folder that was given to `evaluate`.
    verifier : str
        Whose verdicts: a name that `evaluate` was given, there and then. What a function says is
        not kept.

    Returns
    -------
    DataFrame
        One row an example, in the order of the corpus: ``id``, ``category``, ``n`` samples, ``c``
        of them right, ``logprob`` of the reference (nats per response token, NaN without one).
        ``attrs`` says which model, corpus, options and verifier.

    Raises
    ------
    InputError
        No evaluation there, one that is not finished, a verifier that has not judged it, or a
        damaged file.
    """
    if not isinstance(verifier, str):
        raise InputError("what a function says of samples is not kept; evaluate with it again")
    kept = _finished(Path(store))
    passed = kept.graded_by(verifier)
    if passed is None:
        others = _judges(Path(store))
        raise InputError(
            f"{store}: verifier {verifier!r} has not judged these samples, "
            + (f"those that have: {', '.join(others)}" if others else "no named one has")
            + f"; run the same evaluate with verifier={verifier!r}"
        )
    table = kept.table(passed)
    table.attrs["verifier"] = verifier
    return table


def read_texts(store: str | Path) -> dict[str, list[str]]:
    """Read what the model wrote in a finished evaluation: id -> its samples, in their order.

    Raises
    ------
    InputError
        No evaluation there, one that is not finished, or a damaged file.
    """
    kept = _finished(Path(store))
    samples = range(kept.header["options"]["n"])
    return {
        example: [kept.texts[example, sample] for sample in samples]
        for example, _ in kept.header["examples"]
    }


def is_finished(store: str | Path, verifier: str = "auto") -> bool:
    """Whether `store` holds an evaluation that this verifier has judged, and so all of it."""
    path = Path(store)
    return (path / HEADER).is_file() and _grades(path, verifier).is_file()


def _finished(path: Path) -> Kept:
    if not (path / HEADER).is_file():
        raise InputError(f"{path}: no evaluation there; run evaluate with store={str(path)!r}")
    kept = Kept(_header(path), path)
    if not kept.is_whole:
        whole = len(kept.header["examples"]) * kept.header["options"]["n"]
        raise InputError(
            f"{path}: the evaluation is not finished ({len(kept.texts):,} of {whole:,} "
            "completions); run the same evaluate again to go on"
        )
    return kept


def _grades(path: Path, verifier: str) -> Path:
    """Where a verifier's verdicts are kept; a pattern is no name for a file."""
    is_name = verifier in NAMES
    return path / GRADES.format(
        verifier if is_name else hashlib.sha256(verifier.encode()).hexdigest()[:16]
    )


def _judges(path: Path) -> list[str]:
    """The verifiers whose verdicts are kept."""
    found = []
    for file in sorted(path.glob(GRADES.format("*"))):
        with _undamaged(file):
            found.append(str(read_json(file)["verifier"]))
    return found


def _header(path: Path) -> dict[str, Any]:
    """The header of an evaluation, of the form that everything here relies on."""
    try:
        found: dict[str, Any] = read_json(path / HEADER)
        of_this_form = (
            found["format"] == FORMAT
            and found.keys() >= {"model", "corpus"}
            and type(found["options"]["n"]) is int
            and all(isinstance(i, str) for i, _ in found["examples"])
        )
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        of_this_form = False
    if not of_this_form:
        raise InputError(
            f"{path / HEADER} is damaged, or not of an evaluation that this version reads; delete "
            f"the folder {path} and run the same again"
        )
    return found


def _require_same(path: Path, header: dict[str, Any]) -> None:
    from ..activations.store import differences

    found = _header(path)
    # Without a model there is nothing to compare its own with.
    names = [name for name in ("model", "corpus", "options") if header[name] is not None]
    other = differences({n: found[n] for n in names}, {n: header[n] for n in names})
    if other:
        raise InputError(
            f"{path} was made by something else ({'; '.join(other)}); use the same model, corpus "
            "and options, or another folder"
        )


def _holds_files(path: Path) -> bool:
    """Whether there is more than what a run left that was killed while it wrote its header."""
    return any(not file.name.startswith(".") for file in path.iterdir())


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1 if path.is_file() else 0


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; what was written before is intact: make room "
            "or choose another folder, then run the same again"
        ) from error


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    """Say of a file that can be made again how: whatever else is in it than what was written."""
    try:
        yield
    except (InputError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is damaged; delete it and run the same evaluate again") from error
