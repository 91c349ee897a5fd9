"""The whole loop on the demo corpus and the embedded model, in minutes."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from .corpus import Corpus, load_corpus
from .errors import InputError
from .study import Study
from .widgets.report import write_report

ROWS, PROBE_ROWS = 1500, 400
BUDGET = 200
DOSE = 3.0
STEERED_PROMPTS = 4
SHOWN_AXES = 8


def demo_corpus(rows: int = ROWS) -> Corpus:
    """A fixed part of the demo corpus: pool and probe, 11 to 4, and the whole test set."""
    whole = load_corpus("demo")
    n_probe = max(2, round(rows * PROBE_ROWS / ROWS))
    pool, probe = whole.split("pool"), whole.split("probe")
    return Corpus([*pool[: rows - n_probe], *probe[:n_probe], *whole.split("test")], "demo")


def run_demo(path: Path, model: str = "embedded", rows: int = ROWS) -> Study:
    """Run every stage that is not done yet, and say what was found and where it is.

    Parameters
    ----------
    path : Path
        Folder of the study; one that an interrupted demo left is continued.
    model : str
        As `load_model` takes it.
    rows : int
        How many examples of the demo corpus to take.

    Returns
    -------
    Study
    """
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()

    def stage(name: str, work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        console.print(f"[bold]{name}[/bold]")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            result = work()
        for warning in caught:
            if warning.filename.startswith(str(Path(__file__).parent)):
                console.print(f"  note: {warning.message}", style="yellow", markup=False)
        console.print(f"  {time.monotonic() - start:.1f} s", style="dim")
        return result

    study: Study = stage(f"corpus and model ({model})", lambda: _open_or_create(path, model, rows))
    stage(f"activations of {len(study.corpus):,} examples, all layers", study.collect)
    pca = stage("basis: principal axes", lambda: study.fit("pca"))
    sae = stage("basis: sparse autoencoder", lambda: _fit_dictionary(study))
    names = {f"{kind}-{basis.source_['layer']}" for kind, basis in (("pca", pca), ("sae", sae))}
    for name in sorted(names):
        stage(f"proxy: first-order utility of {name}", partial(study.proxy, name))
    name = f"pca-{pca.source_['layer']}"
    stage(f"weakness of {name}, from its prompts", lambda: study.weakness(name))
    axes: pd.DataFrame = stage("axes", lambda: study.axes(name))
    axis, dose = strongest(axes)
    prompts = [study.corpus[int(i)].prompt for i in study.probe_rows[:STEERED_PROMPTS]]
    stage(
        f"steering: axis {axis} of {name}, dose {dose:+g}",
        lambda: study.steer(prompts, name, axis, dose, max_new_tokens=48, progress=True),
    )
    budget = min(BUDGET, len(study.pool_rows) // 2)
    for strategy in ("random", "top", "weakness"):
        options: dict[str, Any] = (
            {"axes": [(axis, 1 if dose > 0 else -1)]} if strategy == "top" else {}
        )
        work = partial(study.select, strategy, budget, name, **options)
        stage(f"selection: {strategy}, {budget} rows", work)
    exports = [
        stage(f"export: {kind}", partial(study.export, "weakness", kind)) for kind in ("trl", "hf")
    ]
    report = stage("report", lambda: write_report(study, study.path / "report.html"))
    _say_what_was_found(study, name, axes, [*exports, report], time.monotonic() - began)
    return study


def _open_or_create(path: Path, model: str, rows: int) -> Study:
    if not (path / "study.json").exists():
        corpus = demo_corpus(rows)
        return Study.begin(path, lambda study: study.model, model=model, corpus=corpus)
    study = Study.open(path)
    there = (study.about["model"]["name"], study.about["corpus"]["source"], len(study.corpus))
    if there != (model, "demo", rows):
        raise InputError(
            f"{path} holds another study ({there[0]} on {there[1]}, {there[2]:,} rows); "
            "choose another folder for the demo"
        )
    return study


def _fit_dictionary(study: Study) -> Any:
    bar = tqdm(desc="train", unit="epoch", leave=False)

    def show(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        bar.total = epochs
        bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
        bar.update(epoch - bar.n)

    with bar:
        return study.fit("sae", progress=show)


def strongest(axes: pd.DataFrame) -> tuple[int, float]:
    """Choose the axis with the largest utility beside chance, and a dose to the side that helps."""
    at = int(np.argmax((axes["utility"].abs() / axes["null_high"]).to_numpy()))
    return int(axes["axis"][at]), DOSE if axes["utility"][at] > 0 else -DOSE


def _say_what_was_found(
    study: Study, name: str, axes: pd.DataFrame, files: list[Path], seconds: float
) -> None:
    console = Console(highlight=False)
    model = study.about["model"]["name"]
    table = Table(title=f"What {model} varies along: {name}", min_width=78)
    for title, side in (
        ("axis", "right"),
        ("variance", "right"),
        ("+ pole", "left"),
        ("- pole", "left"),
        ("utility,\n10⁻³ nats/token", "right"),
        ("weakness + / -", "right"),
    ):
        table.add_column(title, justify=side)  # type: ignore[arg-type]
    for row in axes.head(SHOWN_AXES).to_dict("records"):
        table.add_row(
            str(row["axis"]),
            f"{row['variance']:.1%}",
            row["categories_positive"],
            row["categories_negative"],
            f"{1000 * row['utility']:+.1f}{' *' if row['special'] else ''}",
            f"{row['weakness_positive']:.2f} / {row['weakness_negative']:.2f}",
        )
    console.print(table)
    special = int(axes["special"].sum())
    console.print(
        f"{special} of {len(axes)} axes push the model towards the right answer more than the best "
        "of as many random directions would (marked *)."
    )
    picked = study.selection("weakness").receipts
    counts = pd.Series([study.corpus[int(study.pool_rows[i])].category for i in picked["index"]])
    shares = counts.value_counts(normalize=True).head(3)
    console.print(
        f"The {len(picked)} examples to train on come mostly from "
        + ", ".join(f"{category} ({share:.0%})" for category, share in shares.items())
        + "."
    )
    console.print(f"\nStudy: {study.path}", soft_wrap=True)
    for file in files:
        console.print(f"  {file}", soft_wrap=True)
    command = Path(sys.argv[0]).with_name("mnskills")
    shown = os.path.relpath(command) if command.exists() else "mnskills"
    console.print(f"Done in {seconds:.0f} s. Next: make lab, or {shown} lab {study.path}")
