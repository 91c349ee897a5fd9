"""Judge many texts. What may never end is judged in a process that can be stopped."""

import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..corpus import Example
from ..errors import InputError
from .verifiers import PACKAGES, PASS, REGEX, Verifier, verifier_of, verify

SECONDS_A_TEXT = 30.0
"""More than any judgement takes: a scorer may load its data with the first text."""

SECONDS_TO_START = 120.0


def passes(
    verifier: Verifier, texts: Sequence[tuple[Example, str]], show: Any = None
) -> list[bool]:
    """Whether each text passes. Equal texts of an example are judged once.

    Parameters
    ----------
    verifier : str or callable
        As `verify` takes it. A function runs in this process.
    texts : sequence of (Example, str)
    show : callable, optional
        Takes an iterable and its length, and gives it back under a progress bar.

    Raises
    ------
    InputError
        As in `verify`, or a process for the verifiers cannot be started.
    """
    found: dict[tuple[str, str], bool] = {}
    todo = list({(example.id, text): (example, text) for example, text in texts}.items())
    names = [verifier] if isinstance(verifier, str) else []
    if verifier == "auto":
        names = sorted({verifier_of(example) for _, (example, _) in todo})
    with _Judge(names) as judge:
        for key, (example, text) in show(todo) if show is not None else todo:
            name = verifier_of(example) if verifier == "auto" else verifier
            if isinstance(name, str) and _may_hang(name):
                found[key] = judge.score(name, example, text) >= PASS
            else:
                found[key] = verify(name, example, text) >= PASS
    if judge.stopped:
        warnings.warn(
            f"{judge.stopped} of {len(todo)} texts took their verifier longer than "
            f"{SECONDS_A_TEXT:g} s, and count as wrong",
            stacklevel=2,
        )
    return [found[example.id, text] for example, text in texts]


def _may_hang(name: str) -> bool:
    """Whether a verifier's time is not bounded: algebra, scorers of others, patterns of others."""
    return name in PACKAGES or name.startswith(REGEX)


class _Judge:
    """A process that judges texts, started when it is first needed and again when it hung."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [name for name in names if _may_hang(name)]
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self.stopped = 0

    def __enter__(self) -> "_Judge":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def score(self, name: str, example: Example, text: str) -> float:
        """What `verify` says; 0 for a text that takes too long, or ends the process."""
        if self._process is None:
            self._start()
        answer = self._ask(
            {"verifier": name, "example": example.as_dict(), "text": text}, SECONDS_A_TEXT
        )
        if answer is None:
            self.stopped += 1
            self._end()
            return 0.0
        if "error" in answer:
            raise InputError(answer["error"])
        return float(answer["score"])

    def _start(self) -> None:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        # Not multiprocessing: that would run the caller's script again, or copy a model's threads.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mnskills_viz.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self._answers = queue.Queue()
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        answer = self._ask({"prepare": self._names}, SECONDS_TO_START)
        if answer is None or "error" in answer:
            self._end()
            raise InputError(
                (answer or {}).get("error")
                or "the process that runs verifiers did not start; is python -m "
                "mnskills_viz.evaluation.worker possible here?"
            )

    def _ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """The process's answer; None if it gives none in time."""
        if self._process is None or self._process.stdin is None:
            return None
        try:
            self._process.stdin.write(json.dumps(question, default=str) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except (queue.Empty, OSError):
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _read(process: "subprocess.Popen[str]", answers: "queue.Queue[str | None]") -> None:
    """Pass lines on; None when there are no more."""
    try:
        for line in process.stdout or ():
            answers.put(line)
    except ValueError:  # closed while it was read
        pass
    answers.put(None)
