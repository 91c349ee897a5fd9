"""What an earlier training left behind: a finished adapter, or a checkpoint."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from ..activations.store import differences
from ..adapters import WEIGHTS
from ..errors import InputError
from ..files import read_json, sha256

RECORD = "training.json"
REQUEST = "request.json"
MAKER = "mnskills_viz"


def require_ours(out: Path) -> None:
    """Refuse to replace anything that is not the folder of an earlier training."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, a folder was expected; choose another name")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file() or read_json(out / RECORD).get("made_by") != MAKER:
        raise InputError(
            f"{out} is not empty and holds no earlier training (no {RECORD} of ours); choose "
            "another folder"
        )


def is_done(target: Path, request: dict[str, Any]) -> bool:
    """Whether `target` holds what is asked for; other versions of packages are only told."""
    if not (target / RECORD).is_file():
        return False
    record = read_json(target / RECORD)
    found = differences(record["request"], request)
    if any(not difference.startswith("versions.") for difference in found):
        return False
    if not (target / WEIGHTS).is_file() or sha256(target / WEIGHTS) != record["weights"]:
        return False
    if found:
        warnings.warn(f"{target} was trained with other {'; '.join(found)}", stacklevel=3)
    return True


def checkpoint_of(target: Path) -> Path:
    """Where the unfinished state of a training lies."""
    return target.with_name(f".{target.name}.checkpoint")


def drop_other(checkpoint: Path, request: dict[str, Any]) -> None:
    """Remove a checkpoint of another training, and say so."""
    if not (checkpoint / REQUEST).is_file():
        return
    found = differences(read_json(checkpoint / REQUEST), request)
    if found:
        shown = "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")
        warnings.warn(
            f"{checkpoint} is of another training ({shown}): it is not used, and replaced",
            stacklevel=3,
        )
        shutil.rmtree(checkpoint)


def remove_left_over(target: Path) -> None:
    """Remove half-written folders of a killed process; the lock says that none is under way."""
    begun = re.compile(
        rf"\.(?:{re.escape(target.name)}|\.{re.escape(target.name)}\.checkpoint)"
        r"\.[a-z0-9_]{8}\.tmp"
    )
    for path in target.parent.iterdir():
        if begun.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
