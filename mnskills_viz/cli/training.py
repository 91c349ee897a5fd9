"""Verbs that lead to a trained model: select, export, preflight, sft, eval, compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .app import BasisName, StudyPath, app, axis_or_pole, open_study, say, show

if TYPE_CHECKING:
    from ..selection.recipe import Selection

ADAPTER_OF = "Name of an adapter that sft made; default: the model itself."


@app.command()
def select(
    study: StudyPath,
    strategy: Annotated[
        str,
        typer.Option(
            help="random, top, weakness, d_optimal, k_center, facility_location, category, "
            "text_diversity or influence."
        ),
    ] = "weakness",
    budget: Annotated[int, typer.Option(help="Rows, or tokens, to choose.")] = 200,
    unit: Annotated[
        str, typer.Option(help="Of the budget: rows, or tokens of responses.")
    ] = "rows",
    basis: BasisName = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="Axis or pole: 3, 3+ or 3-; may be repeated.")
    ] = None,
    side: Annotated[
        str | None,
        typer.Option(help="Rows that count: prompt (default of weakness), samples or content."),
    ] = None,
    errors: Annotated[
        str, typer.Option(help="logprob, or verifier: what eval --split probe found.")
    ] = "logprob",
    utility: Annotated[
        bool, typer.Option("--utility", help="Weigh weak poles by their utility, from proxy.")
    ] = False,
    cap: Annotated[
        list[str] | None, typer.Option(help="Most rows of a category: NAME=ROWS; may be repeated.")
    ] = None,
    include: Annotated[
        Path | None, typer.Option(help="File of ids to take first, one a line.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of ids never to take, one a line.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    name: Annotated[str | None, typer.Option(help="Default: the strategy.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Replay this recipe.json and say whether it agrees.")
    ] = None,
) -> None:
    """Choose training examples from the pool."""
    opened = open_study(study)
    if recipe is not None:
        again = opened.replay(recipe)
        show(again.receipts[["rank", "id", "axis", "pole", "z"]], 10)
        say(
            f"{recipe}: replayed from the same inputs, {len(again)} rows{_agreement(recipe, again)}"
        )
        return
    options: dict[str, Any] = (
        {"axes": [axis_or_pole(text, "--axis") for text in axis]} if axis else {}
    )
    options |= {"caps": dict(_cap(text) for text in cap)} if cap else {}
    options |= {"include": _ids(include)} if include else {}
    options |= {"exclude": _ids(exclude)} if exclude else {}
    options |= {"side": side, "errors": errors, "unit": unit, "utility": utility, "seed": seed}
    chosen = opened.select(strategy, budget, basis, name, progress=True, **options)
    show(chosen.receipts[["rank", "id", "reason"]], 10)
    for note in chosen.recipe["notes"]:
        say(f"note: {note}")
    folder = opened.path / "selections" / (name or strategy)
    say(f"{len(chosen)} rows on {chosen.recipe['basis']}: {folder}")


def _agreement(recipe: Path, again: "Selection") -> str:
    """Compare a replay with the receipts that lie beside its recipe."""
    import pandas as pd

    receipts = recipe.with_name("receipts.parquet")
    if not receipts.exists():
        return ""
    if pd.read_parquet(receipts)["id"].tolist() != again.receipts["id"].tolist():
        raise InputError(f"{recipe}: the replay gives other rows than {receipts.name} beside it")
    return ", the same as in its receipts"


def _cap(text: str) -> tuple[str, int]:
    category, _, rows = text.rpartition("=")
    if not category or not rows.isdecimal():
        raise InputError(f"--cap {text}: expected CATEGORY=ROWS, such as arithmetic=20")
    return category, int(rows)


def _ids(file: Path) -> list[str]:
    """The ids in a file, one a line."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file of ids, one a line ({error})") from error
    return [line for line in text.splitlines() if line]


@app.command()
def export(
    study: StudyPath,
    selection: Annotated[str, typer.Option(help="Name of the selection.")] = "weakness",
    format: Annotated[  # noqa: A002
        str, typer.Option(help="trl, openai, axolotl, llama-factory or hf.")
    ] = "trl",
    name: Annotated[str | None, typer.Option(help="Default: selection and format.")] = None,
) -> None:
    """Write a selection for a trainer, and say what it would refuse or cut."""
    opened = open_study(study)
    folder = opened.export(selection, format, name)
    _show_findings(opened.preflight(folder.name), folder.name)
    say(str(folder))


@app.command()
def preflight(
    study: StudyPath,
    export: Annotated[str, typer.Option(help="Name of the export.")] = "weakness-trl",
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a row; default: as the export's config says.")
    ] = None,
) -> None:
    """Say what the trainer would refuse, cut or skip of an export."""
    _show_findings(open_study(study).preflight(export, max_length), export)


def _show_findings(findings: Any, name: str) -> None:
    if len(findings):
        show(findings, 20)
        say(f"{name}: {len(findings)} findings in {findings['row'].nunique()} places")
    else:
        say(f"{name}: the trainer will take every row whole")


@app.command()
def sft(
    study: StudyPath,
    export: Annotated[str, typer.Option(help="Name of the export.")] = "weakness-trl",
    name: Annotated[str | None, typer.Option(help="Default: that of the export.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    lora_rank: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[float | None, typer.Option(help="Of the first step.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of an optimizer step.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Fine-tune the model on an export; a training that was stopped goes on."""
    options = {"learning_rate": learning_rate, "batch_size": batch_size}
    given: Any = {option: value for option, value in options.items() if value is not None}
    opened = open_study(study)
    out = opened.sft(export, name, epochs=epochs, lora_rank=lora_rank, seed=seed, **given)
    say(f"{out}: load it with --model {out}, or measure it with eval --adapter {out.name}")


@app.command(name="eval")
def evaluate(
    study: StudyPath,
    split: Annotated[str, typer.Option(help="test or probe.")] = "test",
    adapter: Annotated[str | None, typer.Option(help=ADAPTER_OF)] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with this adapter, or with 'base'.")
    ] = None,
    basis: Annotated[str | None, typer.Option(help="Also say it pole by pole.")] = None,
    n: Annotated[int, typer.Option(help="Answers a prompt.", min=1)] = 8,
    k: Annotated[list[int] | None, typer.Option(help="pass@k; default 1 and n.")] = None,
    temperature: Annotated[float, typer.Option(min=0)] = 0.8,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    verifier: Annotated[
        str,
        typer.Option(
            help="auto, exact, number, gsm8k, math-verify, reasoning-gym or regex:PATTERN."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Sample answers to held-out prompts and verify them; a run that was stopped goes on."""
    from ..evaluation.tables import paired_difference

    opened = open_study(study)
    held_out: Any = split
    options: dict[str, Any] = {
        "n": n,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "verifier": verifier,
        "seed": seed,
    }
    ks = k or sorted({1, n})
    other = None if against == "base" else against
    if other is not None:
        opened.require_adapter(other)
    show(opened.evaluate(held_out, adapter, k=ks, basis=basis, **options))
    if against is not None:
        before, after = (opened.graded(held_out, who, **options) for who in (other, adapter))
        groups = None if basis is None else opened.pole_groups(held_out, basis)
        difference = paired_difference(before, after, ks, seed, groups)
        say(f"from {against} to {adapter or 'base'}:")
        show(difference)


@app.command()
def compare(
    study: StudyPath,
    adapter: Annotated[
        str, typer.Argument(help="Name of an adapter of this study, or folder of another study.")
    ],
    basis: BasisName = None,
) -> None:
    """Say how each axis moved by a training, and the errors at its poles."""
    from ..comparison import changed_poles
    from ..comparison import compare as compared

    opened = open_study(study)
    is_there = adapter in opened.adapter_names
    after = opened.after(adapter, basis) if is_there else open_study(Path(adapter))
    table = compared(opened, after, basis)
    hidden = [c for c in table.columns if str(c).endswith(("_low", "_high"))]
    show(table.drop(columns=hidden))
    for word, poles in zip(("fell", "rose"), changed_poles(table), strict=True):
        say(
            f"errors {word} at {len(poles)} of {2 * len(table)} poles: {', '.join(poles) or 'none'}"
        )
    say(f"(by chance, about {0.05 * len(table):.1f} poles on either side)")
    before, now = (table.attrs[f"mean_error_{when}"] for when in ("before", "after"))
    say(f"mean error of the probe: {before:.3f} before, {now:.3f} after")
