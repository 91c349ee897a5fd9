"""Files that are whole or not there: write beside, then rename into place."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError

OLD = ".old"


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def remove_left_over(path: Path) -> None:
    """Remove what a killed `write_bytes` left beside `path`; no other may be under way."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this package wrote.

    Raises
    ------
    InputError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: not JSON ({error})") from error


@contextmanager
def folder_in_place(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a new folder to fill; when the block ends well it takes the place of `target`.

    Parameters
    ----------
    target : Path
        The folder as others will see it.
    replace : bool
        Whether one that is there gives way. If not, one with something in it is an error, even
        if it came about while the block ran.

    Yields
    ------
    Path
        A folder beside `target`, removed if the block raises.

    Raises
    ------
    InputError
        The parent folder cannot be written, or `target` is a file or must not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file, a folder was expected; choose another name")
    restore_folders(target.parent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(
            tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        )
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror}; choose another folder"
        ) from error
    try:
        os.chmod(building, 0o755)  # noqa: S103 - as an ordinary new folder
        yield building
        if replace and target.exists():
            doomed = building.with_name(building.name + OLD)
            try:
                os.replace(target, doomed)
                os.replace(building, target)
            except BaseException:
                if doomed.exists() and not target.exists():
                    os.replace(doomed, target)
                raise
            shutil.rmtree(doomed)
        else:
            _move_into_place(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _move_into_place(building: Path, target: Path) -> None:
    try:
        os.rename(building, target)  # onto an empty folder, but never onto one that is not
    except OSError as error:
        if target.exists():
            raise InputError(f"{target} is there and not empty; choose another folder") from error
        raise


def restore_folders(parent: Path) -> None:
    """Put back folders whose replacement was killed between its two renames."""
    for left_over in parent.glob(f".*.tmp{OLD}"):
        target = parent / left_over.name[1:].rsplit(".", 3)[0]
        if target.exists():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            with suppress(OSError):  # another process was quicker
                os.rename(left_over, target)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
