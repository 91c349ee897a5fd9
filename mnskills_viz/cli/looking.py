"""Verbs that look into a model: demo, collect, fit, axes, proxy, steer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import InputError
from .app import BasisName, StudyPath, app, axis_or_pole, open_study, say, show

if TYPE_CHECKING:
    from ..activations.distributed import RayEngine


@app.command()
def demo(
    study: StudyPath = Path("demo_study"),
    model: Annotated[str, typer.Option(help="Model to look into.")] = "embedded",
    limit: Annotated[int, typer.Option(help="Examples of the demo corpus.", min=20)] = 1500,
) -> None:
    """Run the whole loop on the demo corpus: collect, fit, proxy, steer, select, export, report."""
    from ..demo import run_demo

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
    test: Annotated[
        str | None, typer.Option(help="Corpus to evaluate on at the end; default: split 'test'.")
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
    from ..study import Study

    where = _engine(engine, workers, address)
    columns = {"prompt": prompt, "response": response, "category": category}
    request: Any = columns | {
        "corpus": corpus,
        "model": model,
        "blocks": blocks,
        "probe": probe,
        "test": test,
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
    say(
        f"{opened.activations}: {len(opened.pool_rows):,} pool, {len(opened.probe_rows):,} probe; "
        f"{about['duplicates']} duplicates dropped, {skipped} bad rows skipped"
    )


def _engine(name: str, workers: int | None, address: str | None) -> "RayEngine | None":
    if name == "ray":
        from ..activations.distributed import RayEngine

        return RayEngine(workers or 2, address)
    if name != "local":
        raise InputError(f"--engine {name}: expected local or ray")
    if workers or address:
        raise InputError("--workers and --address belong to --engine ray: add it")
    return None


@app.command()
def fit(
    study: StudyPath,
    kind: Annotated[str, typer.Option(help="pca, sae, active or random.")] = "pca",
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
    within: Annotated[
        str | None, typer.Option(help="random: a basis whose span to draw in.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: kind and layer.")] = None,
) -> None:
    """Fit a basis on the pool's activations; a training that was stopped goes on."""
    from ..bases.active_subspace import ActiveSubspaceBasis
    from ..bases.sae import SAEBasis

    asked, n_axes = _layer(layer), _n_axes(axes)
    dictionary = {"n_latents": latents, "k": k, "variant": variant, "max_epochs": epochs}
    options = {name: value for name, value in dictionary.items() if value is not None}
    if options and kind != "sae":
        raise InputError("--latents, --k, --variant and --epochs belong to --kind sae: add it")
    opened = open_study(study)
    if asked == "auto":
        table = opened.layers()
        show(table)
        say(
            f"probe: {table.attrs['metric']} of {table.attrs['target']}, by chance "
            f"{table.attrs['chance']:.2g}"
        )
    basis = opened.fit(
        kind,  # type: ignore[arg-type]
        asked,
        n_axes,
        name,
        progress=True,
        within=within,
        **options,
    )
    share = float(basis.explained_variance_ratio_.sum())
    at = (basis.source_ or {})["layer"]
    say(f"{name or f'{kind}-{at}'}: {basis.n_axes_} axes at layer {at}, {share:.1%} of variance")
    if isinstance(basis, ActiveSubspaceBasis):
        say(
            f"{basis.gradient_share_total_:.1%} of the gradient, cross-fitted; as many random "
            f"directions hold {basis.gradient_share_chance_:.1%}"
        )
    if isinstance(basis, SAEBasis):
        say(
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
def axes(
    study: StudyPath,
    basis: BasisName = None,
    write_labels: Annotated[
        Path | None, typer.Option(help="Write all labels to this file, .csv or .json.")
    ] = None,
    read_labels: Annotated[
        Path | None, typer.Option(help="First take over the labels of this file.")
    ] = None,
) -> None:
    """Show what is known of every axis; take labels in and out as files."""
    opened = open_study(study)
    name = opened.basis_name(basis)
    if read_labels is not None:
        say(f"labels changed: {opened.read_labels(read_labels)}")
    if write_labels is not None:
        say(f"labels written to {opened.write_labels(write_labels)}")
    if opened.has_errors:
        opened.weakness(name)  # reads the prompts at the first time
    table = opened.axes(name)
    hidden = ["skewness", "max_offdiag_cosine", "low", "high"]
    texts = [c for c in table.columns if str(c).startswith(("label_", "categories_"))]
    hidden += [c for c in texts if not table[c].any()]
    show(table.drop(columns=hidden, errors="ignore"))


@app.command()
def proxy(
    study: StudyPath,
    basis: BasisName = None,
    examples: Annotated[int, typer.Option(help="Probe examples.", min=2)] = 64,
    method: Annotated[
        str, typer.Option(help="first-order (all axes at once), dose (measured) or pass@k.")
    ] = "first-order",
    dose: Annotated[
        list[float] | None,
        typer.Option(help="dose, pass@k: standard deviations, both signs; may be repeated."),
    ] = None,
    axis: Annotated[
        list[int] | None, typer.Option(help="dose, pass@k: only this axis; may be repeated.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="First order, for the principal axes of every layer.")
    ] = False,
    pilot: Annotated[
        list[str] | None,
        typer.Option(help="Fine-tune on the rows of this pole, 3+ or 3-; may be repeated."),
    ] = None,
    budget: Annotated[int, typer.Option(help="Rows of each pilot.", min=1)] = 256,
) -> None:
    """Rank axes by what a push along them does, or poles by pilot fine-tunings."""
    opened = open_study(study)
    if (dose or axis) and method == "first-order":
        raise InputError("--dose and --axis belong to --method dose or pass@k: add it")
    if layers:
        if method != "first-order" or pilot or basis:
            raise InputError("--layers fits axes of its own, first order: give nothing beside")
        table = opened.proxy_layers(n=examples)
        beyond = table[table["utility"].abs() > table["null_high"]]
        show(beyond.sort_values("utility", key=lambda u: -u.abs()).dropna(axis=1), most=20)
        n_layers = table["layer"].nunique()
        say(
            f"{len(beyond)} of {len(table)} axes, in {beyond['layer'].nunique()} of {n_layers} "
            "layers, go beyond the best of as many random directions; by chance one layer in 20 "
            "would have such an axis"
        )
        return
    name = opened.basis_name(basis)
    if pilot:
        table = opened.pilot(name, [_pole(text) for text in pilot], budget)
        show(table.drop(columns=["axis", "sign"]))
        say(f"as many rows at random gain {table.attrs['random_gain']:.4f} nats per token")
        return
    options: dict[str, Any] = {"doses": dose} if dose else {}
    table = opened.proxy(name, n=examples, method=method, axes=axis, **options)  # type: ignore[arg-type]
    show(table.sort_values("utility", key=lambda u: -u.abs()).dropna(axis=1))


def _pole(text: str) -> tuple[int, int]:
    pole = axis_or_pole(text, "--pilot")
    if isinstance(pole, int):
        raise InputError(f"--pilot {text}: say which pole, {text}+ or {text}-")
    return pole


@app.command()
def steer(
    study: StudyPath,
    prompt: Annotated[str | None, typer.Argument(help="What to ask the model.")] = None,
    axis: Annotated[int, typer.Option(help="Axis to push along.")] = 0,
    dose: Annotated[float, typer.Option(help="Standard deviations.")] = 3.0,
    basis: BasisName = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure many doses: what they do, and the safe band.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the vector: FILE.gguf (llama.cpp), .pt (lm-eval), .safetensors."),
    ] = None,
) -> None:
    """Push along an axis: one prompt with and without, many doses, or a vector for an engine."""
    from ..steering.safe_band import safe_band

    if prompt is None and not grid and export is None:
        raise InputError("steer: give a PROMPT, --grid or --export FILE")
    opened = open_study(study)
    name = opened.basis_name(basis)
    if export is not None:
        kinds = {".gguf": "gguf", ".pt": "lm-eval", ".safetensors": "safetensors"}
        if export.suffix not in kinds:
            raise InputError(f"--export {export}: expected a name in {', '.join(kinds)}")
        kind: Any = kinds[export.suffix]
        opened.vector(name, axis, dose).export(export, kind, opened.model)
        say(f"{export}: axis {axis} of {name}, dose {dose:+g}")
    if grid:
        table = opened.dose_response(name, axis, max_new_tokens=max_new_tokens)
        show(table.drop(columns=["texts"]))
        low, high = safe_band(table)
        say(f"doses from {low:+g} to {high:+g} keep the text whole")
    if prompt is not None:
        table = opened.steer([prompt], name, axis, dose, max_new_tokens, progress=True)
        say(f"unsteered: {table['unsteered'][0]}\n\nsteered {dose:+g}: {table['steered'][0]}")
