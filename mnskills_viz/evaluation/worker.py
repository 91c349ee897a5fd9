"""The process in which texts are judged that a verifier may think about for ever.

One JSON object a line comes in, one goes out: ``python -m mnskills_viz.evaluation.worker``. Started
and, if need be, ended by `grading`. What a model wrote is handed to sympy here, which evaluates
it: once the verifiers are loaded, this process may neither write, nor connect, nor start others.
That is a guard against accidents, not a prison.
"""

import contextlib
import json
import os
import sys
from typing import Any

from ..corpus import Example
from ..errors import InputError
from .verifiers import PACKAGES, _package, verify

MEMORY = 8_000_000_000
"""Bytes of address space: numbers like ``10^(10^10)`` would take all there is."""

FORBIDDEN: tuple[str, ...] = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.chmod",
    "subprocess.",
    "socket.",
    "shutil.",
    "pty.",
)
"""Beginnings of the names of audit events that are refused."""


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # a library that prints must not be taken for an answer
    sys.dont_write_bytecode = True
    _limit_memory()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        if "prepare" in question:
            for name in question["prepare"]:
                if name in PACKAGES:
                    _package(name)
            sys.addaudithook(_refuse)
            return {"ready": True}
        example = Example(**question["example"])
        return {"score": verify(question["verifier"], example, question["text"])}
    except InputError as error:
        return {"error": str(error)}
    except BaseException:  # what the text made of it, exit() and running out of memory included
        return {"score": 0.0}


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and (
        any(sign in str(arguments[1] or "") for sign in "wax+")
        or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    )
    if writes or event.startswith(FORBIDDEN):
        raise PermissionError(f"not in a verifier: {event}")


if __name__ == "__main__":
    main()
