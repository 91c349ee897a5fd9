"""The folder of results: JSON files, small enough to be kept with the code that made them."""

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mnskills_viz import InputError
from mnskills_viz.files import read_json, write_text

DIGITS = 6
"""Significant digits of the numbers that are kept."""

PACKAGES = ("mnskills_viz", "torch", "transformers", "trl", "peft", "nnsight", "scikit-learn")


class Results:
    """What is known so far, part by part.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether a part is done."""
        return self._file(name).is_file()

    def read(self, name: str) -> Any:
        """What a part found, such as ``"cells/random-0"``."""
        return read_json(self._file(name))

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Keep what a part found; it is there as a whole or not at all."""
        self._file(name).parent.mkdir(parents=True, exist_ok=True)
        # A line a key: long lists of numbers would make long files, and no difference readable.
        lines = (f"{json.dumps(key)}: {json.dumps(one)}" for key, one in rounded(value).items())
        write_text(self._file(name), "{\n" + ",\n".join(lines) + "\n}\n")

    def require(self, name: str, value: dict[str, Any]) -> None:
        """Keep what must not change between runs; refuse to go on with anything else.

        Raises
        ------
        InputError
            Another value is there.
        """
        wanted = rounded(value)
        if not self.has(name):
            self.write(name, wanted)
            return
        there = self.read(name)
        differ = [key for key in wanted if there.get(key) != wanted[key]]
        if differ:
            raise InputError(
                f"{self._file(name)} was made otherwise ({', '.join(differ)} differ); choose "
                "another --results, or delete it to begin anew"
            )

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def rounded(value: Any) -> Any:
    """The same as JSON has it, numbers to six significant digits."""
    match value:
        case dict():
            return {str(key): rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
        case np.ndarray():
            return rounded(value.tolist())
        case bool() | None | str():
            return value
        case np.integer() | int():
            return int(value)
        case np.floating() | float():
            if not np.isfinite(value):
                return None
            return float(f"{float(value):.{DIGITS}g}")
    raise TypeError(f"no JSON for {type(value).__name__}")


def made_by(**seconds: float) -> dict[str, Any]:
    """Command, commit, machine and versions: what a figure cannot be read without."""
    return {
        "command": " ".join(["python -m benchmarks.reproduce", *sys.argv[1:]]),
        "commit": COMMIT,
        "machine": _machine(),
        "versions": VERSIONS,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


COMMIT = _commit()
VERSIONS = {name: metadata.version(name) for name in PACKAGES}
"""Of what was loaded: files that change while a part is run do not change it."""


def _machine() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": cuda,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
