"""What an earlier training left behind: a finished adapter, or a checkpoint.

Both are folders with a record, ``training.json``: what was asked for, and the SHA-256 of every
other file, so that damage is found, and nothing is replaced that a training did not write.
"""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from ..activations.store import differences
from ..adapters import WEIGHTS
from ..errors import InputError
from ..files import read_json, sha256, write_json

RECORD = "training.json"
MAKER = "mnskills_viz"


# ------------------------------------------------------------------------------------ the record


def write_record(folder: Path, request: dict[str, Any], **more: Any) -> None:
    """Write the record of a folder that is complete but for it."""
    files = {name: sha256(folder / name) for name in sorted(_present(folder))}
    write_json(folder / RECORD, {"made_by": MAKER, "request": request, "files": files} | more)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of an adapter or a checkpoint.

    Raises
    ------
    InputError
        None is there, or it is damaged.
    """
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no training (no {RECORD})")
    try:
        record = read_json(folder / RECORD)
    except InputError:
        record = None
    if not (
        isinstance(record, dict)
        and record.get("made_by") == MAKER
        and isinstance(record.get("request"), dict)
        and isinstance(record.get("files"), dict)
    ):
        raise InputError(
            f"{folder / RECORD} is damaged or not of this package: delete {folder} to train anew, "
            "or choose another folder"
        )
    return record


def _present(folder: Path) -> set[str]:
    """Names of all files but the record."""
    files = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {path.relative_to(folder).as_posix() for path in files} - {RECORD}


def _changed(folder: Path, record: dict[str, Any]) -> list[str]:
    """Files that were written and are not as they were."""
    present, written = _present(folder), record["files"]
    return sorted(n for n in present & written.keys() if sha256(folder / n) != written[n])


# ----------------------------------------------------------------------------------- the adapter


def earlier_record(target: Path) -> dict[str, Any] | None:
    """The record of the adapter that lies where another shall lie; None where nothing does.

    Raises
    ------
    InputError
        Something else lies there.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file, a folder was expected; choose another name")
    try:
        if not target.is_dir() or not any(target.iterdir()):
            return None
    except OSError as error:
        raise InputError(f"cannot read {target}: {error.strerror}") from error
    if not (target / RECORD).is_file():
        raise InputError(
            f"{target} is not empty and holds no earlier training (no {RECORD} of ours); choose "
            "another folder"
        )
    return read_record(target)


def require_replaceable(target: Path) -> None:
    """Refuse to replace anything that a training did not write."""
    record = earlier_record(target)
    if record is None:
        return
    added = _present(target) - record["files"].keys()
    found = sorted(added) + _changed(target, record)
    if found:
        named = ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
        raise InputError(
            f"{target} holds an earlier training and what came after it ({named}); move that away "
            "or choose another folder"
        )


def is_done(target: Path, record: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether `target` holds what is asked for; other versions of packages are only told."""
    found = differences(record["request"], request)
    if any(not difference.startswith("versions.") for difference in found):
        return False
    written = record["files"]
    if any(not (target / name).is_file() for name in written):
        return False
    if sha256(target / WEIGHTS) != written.get(WEIGHTS):
        return False
    if found:
        warnings.warn(f"{target} was trained with other {'; '.join(found)}", stacklevel=3)
    return True


def warn_of_replacement(target: Path, record: dict[str, Any], request: dict[str, Any]) -> None:
    """Say that the adapter of another training goes, and how it was trained."""
    found = differences(record["request"], request)
    if found:
        warnings.warn(
            f"{target} holds another training ({_shown(found)}): it is replaced when this one is "
            "done",
            stacklevel=3,
        )


def _shown(found: list[str]) -> str:
    return "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")


# -------------------------------------------------------------------------------- the checkpoint


def checkpoint_of(target: Path) -> Path:
    """Where the unfinished state of a training lies."""
    return target.with_name(f".{target.name}.checkpoint")


def has_begun(checkpoint: Path) -> bool:
    """Whether there is a state to go on from."""
    return (checkpoint / RECORD).is_file()


def drop_other(checkpoint: Path, request: dict[str, Any]) -> None:
    """Remove a checkpoint of another training, and say so; refuse one that is damaged."""
    if not has_begun(checkpoint):
        return
    record = read_record(checkpoint)
    found = differences(record["request"], request)
    if found:
        warnings.warn(
            f"{checkpoint} is of another training ({_shown(found)}): it is not used, and replaced",
            stacklevel=3,
        )
        shutil.rmtree(checkpoint)
        return
    missing = sorted(record["files"].keys() - _present(checkpoint))
    damaged = missing + _changed(checkpoint, record)
    if damaged:
        raise InputError(
            f"{checkpoint / damaged[0]} is damaged: delete {checkpoint} to train from the start"
        )


def remove_left_over(target: Path) -> None:
    """Remove half-written folders of a killed process; the lock says that none is under way."""
    begun = re.compile(
        rf"\.(?:{re.escape(target.name)}|\.{re.escape(target.name)}\.checkpoint)"
        r"\.[a-z0-9_]{8}\.tmp"
    )
    for path in target.parent.iterdir():
        if begun.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
