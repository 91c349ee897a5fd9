"""The application, and how it speaks: what was found on stdout, notes and errors on stderr."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from ..study import Study

INTERRUPTED = 130

app = typer.Typer(
    name="mnskills",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Explore a language model's own skill axes, and export the SFT data they point to.",
)

StudyPath = Annotated[Path, typer.Argument(help="Folder of the study.", metavar="STUDY")]
BasisName = Annotated[str | None, typer.Option(help="Name of the basis, if there are several.")]


def main() -> None:
    """Run the command line: status 0 done, 2 wrong input, 130 interrupted."""
    warnings.showwarning = _note
    try:
        app()
    except InputError as error:
        print(f"mnskills: {_as_options(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"mnskills: {error.filename}: {error.strerror}; choose another folder or file",
            file=sys.stderr,
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("mnskills: interrupted; run the same command again to go on", file=sys.stderr)
        raise


def _as_options(message: str) -> str:
    """Name what to type here, where a message names the Python argument."""
    for python, option in (
        ('on_error="skip"', "--skip-bad"),
        ("truncate=True", "--truncate"),
        ('prompt="..."', "--prompt COLUMN"),
        ('load_model(..., blocks="PATH")', "--blocks PATH"),
    ):
        message = message.replace(python, option)
    return message


def _note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Show our own warnings as notes to the person, and those of libraries not at all."""
    if category is UserWarning:
        print(f"mnskills: note: {message}", file=sys.stderr)


def say(text: str) -> None:
    """Print a line of what was found."""
    typer.echo(text)


def show(table: "pd.DataFrame", most: int | None = None) -> None:
    """Print a table, the first `most` rows of it."""
    import pandas as pd

    with pd.option_context("display.width", 160, "display.max_columns", 20):
        say(table.head(most or len(table)).to_string(index=False, float_format="{:.4g}".format))


def open_study(path: Path) -> "Study":
    """Open a study; the package behind it loads now, not for ``--help``."""
    from ..study import Study

    return Study.open(path)


def axis_or_pole(text: str, option: str) -> int | tuple[int, int]:
    """What ``3``, ``3+`` or ``3-`` names: an axis, or one of its poles.

    Raises
    ------
    InputError
        Something else.
    """
    digits, sign = text.rstrip("+-"), text[len(text.rstrip("+-")) :]
    if not digits.isdecimal() or sign not in ("", "+", "-"):
        raise InputError(
            f"{option} {text}: expected a number such as 3, or a pole such as 3+ or 3-"
        )
    return (int(digits), -1 if sign == "-" else 1) if sign else int(digits)
