"""A basis's part of the report: spectrum, axes, utility, weakness, steered answers, cards."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.badges import badges
from ..axes.examples import poles
from ..corpus import Example
from ..study import Study
from . import figures
from .basis_figures import spectrum
from .error_figures import weakness_figure
from .markup import (
    GLYPHS,
    MILLI,
    UTILITY_UNIT,
    Markup,
    Section,
    bidi,
    data_table,
    decimals,
    fact_list,
    folded_text,
    joined,
    readable,
    shortened,
    signed,
    tag,
)
from .proxy_figures import proxy_figure

SIDES = (("negative", "−", -1), ("positive", "+", 1))  # left to right, as on the scale
OPEN_EXAMPLES = 3
PUSHES, PROMPTS = 3, 4
"""Steered answers shown: pushes (an axis and a dose), and prompts of each."""

RELIABLE_PROBE = 400
"""Top 8 weak poles agree between halves to 0.7 at 400 probe examples a half, to 0.4 at 100."""

UTILITY = (
    "Utility says how much a small push along an axis raises the model's preference for right "
    "answers over slightly wrong ones, in thousandths of a nat per response token for one standard "
    "deviation of push; the line is its 95 % interval. Some axis always looks best by chance. So "
    "as many random directions as there are axes are drawn, the best of them is noted, and this is "
    "repeated: 95 of 100 such bests lie within the shaded band. Only an axis whose mark leaves the "
    "band (◆) does more than chance. The interval says how well a number is known, the band "
    "whether it means anything."
)
WEAKNESS = (
    "Error of each pole: the mean error of the probe examples whose prompts lie on it, pulled "
    "towards the mean of all, the more so the fewer there are."
)

OPEN_CARDS = 8
"""Cards of a basis that are open from the start."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of the examples there is room for: how many a pole, how many characters each."""

    examples: int
    characters: int


@dataclass(frozen=True, slots=True)
class BasisView:
    """What is known of a basis.

    Attributes
    ----------
    name, id : str
        In the study, and on the page.
    rows : list of dict
        `table` row by row.
    table : DataFrame
        As `Study.axes` gives it.
    z : ndarray, [n_rows, n_axes]
    said : mapping of int to mapping
        Labels, notes and state of the axes that something was said about.
    """

    name: str
    id: str
    rows: list[dict[Any, Any]]
    table: pd.DataFrame
    z: NDArray[np.floating]
    said: Mapping[Any, Mapping[Any, Any]]


def basis_view(study: Study, name: str, place: str) -> BasisView:
    """Read what a study knows of a basis."""
    table, scale = study.axes(name), study.basis(name).scale_
    said = study.annotations.table()
    mine = said[said["basis"] == name].set_index("axis")
    z = study.coordinates(name) / np.where(scale > 0, scale, 1.0)
    return BasisView(name, place, table.to_dict("records"), table, z, mine.to_dict("index"))


def study_name(study: Study) -> str:
    """Name of the study's folder, by which commands call it."""
    return study.path.resolve().name


def hint(what: str, command: str) -> Markup:
    """What is missing, and the command that makes it."""
    return tag("p", f"{what}: ", tag("code", f"mnskills {command}"), class_="hint")


def basis_section(study: Study, view: BasisView, detail: Detail) -> Section:
    """Write all that is known of a basis."""
    section = Section(view.id, f"Basis {view.name}")
    fitted = study.basis(view.name)
    source = fitted.source_ or {}
    choices = {k: v for k, v in fitted.get_params().items() if v is not None}
    facts = {"kind": type(fitted).__name__.removesuffix("Basis"), "layer": source.get("layer")}
    facts |= {"fitted on": f"{fitted.n_samples_:,} rows of the pool"}
    facts |= readable(choices) | {"fingerprint": fitted.fingerprint}
    section.body.append(fact_list(facts))
    if not getattr(fitted, "dictionary_accepted_", True):
        said = (
            f"The dictionary is not better than PCA: on held-out rows it leaves "
            f"{fitted.dictionary_fvu_:.2f} of the variance, as many principal axes "
            f"{fitted.pca_fvu_:.2f}."
        )
        section.body.append(_caution(said))
    section.part("Spectrum", Markup(spectrum(fitted.explained_variance_ratio_)))
    section.part("Axes", _axes_table(view, linked=bool(detail.examples)))
    steerable = isinstance(source.get("layer"), int)  # a push is made at one layer
    if "utility" in view.table:
        section.part("Pushing along each axis", *_utilities(view))
    elif steerable:
        command = f"proxy {study_name(study)} --basis {view.name}"
        section.body.append(hint("No utilities yet", command))
    if "weakness_positive" in view.table:
        section.part("Weakness of each pole", *_weakness(study, view))
    steered = study.results("steering", view.name)
    if steered is not None:
        section.part("Steered and unsteered", *_steering(view, steered, detail))
    elif steerable:
        command = f'steer {study_name(study)} "PROMPT" --axis 0 --basis {view.name}'
        section.body.append(hint("No steered answers yet", command))
    if detail.examples:
        jump = [tag("a", str(r["axis"]), href=f"#{view.id}-axis-{r['axis']}") for r in view.rows]
        cards = [_card(study, view, row, detail) for row in view.rows]
        more = cards[OPEN_CARDS:]
        # A link into folded cards unfolds them.
        folded = [tag("details", tag("summary", f"{len(more)} more axes"), *more)] if more else []
        section.part("Cards", tag("p", *jump, class_="jump"), *cards[:OPEN_CARDS], *folded)
    return section


def _caution(text: str) -> Markup:
    return tag("p", tag("b", "Caution. "), text, class_="note")


def _utilities(view: BasisView) -> list[Markup]:
    special = sum(bool(row["special"]) for row in view.rows)
    verb = "beats" if special == 1 else "beat"
    verdict = f"{special or 'None'} of the {len(view.rows)} axes {verb} chance."
    labels = figures.pole_labels(view.table)
    figure = Markup(proxy_figure(view.table, labels, most=len(view.table)))
    return [tag("p", tag("b", verdict)), tag("p", UTILITY), figure]


def _weakness(study: Study, view: BasisView) -> list[Markup]:
    parts = [tag("p", WEAKNESS)]
    if len(study.probe_rows) < RELIABLE_PROBE:
        said = (
            f"The probe has {len(study.probe_rows)} examples; which poles are weak is known "
            f"reliably from about {RELIABLE_PROBE}."
        )
        parts.append(_caution(said))
    labels = figures.pole_labels(view.table)
    return [*parts, Markup(weakness_figure(study.weakness(view.name), labels))]


# ------------------------------------------------------------------------------- table of axes


def _axes_table(view: BasisView, linked: bool) -> Markup:
    head = {"Axis": "n", "Poles": "", "Variance": "n", "Stability": "n"}
    digits = _utility_digits(view)
    if "utility" in view.table:
        head[f"Utility, {UTILITY_UNIT}"] = "n"
    if "weakness_positive" in view.table:
        head["Weakness − / +"] = "n"
    head["Trust"] = ""
    rows = []
    for row in view.rows:
        number = str(row["axis"])
        link = tag("a", number, href=f"#{view.id}-axis-{number}") if linked else number
        cells = [link, _pole_names(row), f"{row['variance']:.1%}", _known(row["stability"])]
        if "utility" in row:
            cells.append(_utility(row, digits))
        if "weakness_positive" in row:
            cells.append(" / ".join(f"{row[f'weakness_{pole}']:.2f}" for pole, *_ in SIDES))
        rows.append([*cells, _badges(row)])
    return data_table(f"The {len(view.rows)} axes of {view.name}", head, rows)


def _pole_names(row: Mapping[Any, Any]) -> Markup:
    return joined(
        tag("div", tag("span", mark, class_=f"mark {pole}"), _pole_name(row, pole), class_="pole")
        for pole, mark, _ in SIDES
    )


def _pole_name(row: Mapping[Any, Any], pole: str) -> Markup:
    """The label; where there is none, the categories that stand out."""
    if label := row[f"label_{pole}"]:
        return tag("bdi", shortened(label, 120), class_="label")
    return tag("bdi", _typical(row, pole) or "unnamed", class_="unnamed")


def _typical(row: Mapping[Any, Any], pole: str) -> str:
    """Categories that stand out, each kept on one line with its share."""
    return re.sub(r" (?=\d+%)", "\N{NO-BREAK SPACE}", row[f"categories_{pole}"])


def _known(value: float) -> Markup:
    return tag("span", "–", class_="faint") if pd.isna(value) else Markup(f"{value:.2f}")


def _utility_digits(view: BasisView) -> int:
    columns = view.table.columns.intersection(["low", "high", "utility"])
    return decimals(MILLI * float(view.table[columns].abs().max().max())) if len(columns) else 0


def _utility(row: Mapping[Any, Any], digits: int) -> Markup:
    if pd.isna(row["utility"]):
        return _known(row["utility"])
    value, low, high = (signed(MILLI * row[name], digits) for name in ("utility", "low", "high"))
    return joined([tag("b", value), tag("small", f"{low} to {high}")])


def _badges(row: Mapping[Any, Any]) -> Markup:
    shown = (
        tag("span", GLYPHS[b.kind] + b.text, class_=f"badge {b.kind}", title=b.explanation)
        for b in badges(row)
    )
    return tag("span", *shown, class_="badges")


# ------------------------------------------------------------------------------------ steering


def _steering(view: BasisView, runs: pd.DataFrame, detail: Detail) -> list[Markup]:
    """The last pushes (an axis and a dose each), and the last prompts of each."""
    latest = runs.drop_duplicates(["axis", "dose", "prompt"], keep="last")
    pushes = latest[["axis", "dose"]].drop_duplicates(keep="last").tail(PUSHES)
    shown = latest.merge(pushes, on=["axis", "dose"]).groupby(["axis", "dose"]).tail(PROMPTS)
    parts = []
    if len(shown) < len(latest):
        file = tag("code", f"results/steering-{view.name}.parquet")
        said = f"The last {len(shown)} of {len(latest)} answers; all are in "
        parts.append(tag("p", said, file, ".", class_="faint"))
    for push in pushes.to_dict("records"):
        mine = shown[(shown["axis"] == push["axis"]) & (shown["dose"] == push["dose"])]
        parts.append(tag("h4", _push(view, int(push["axis"]), float(push["dose"])), class_="push"))
        parts += [_steered(row, detail) for row in mine.to_dict("records")]
    return parts


def _push(view: BasisView, axis: int, dose: float) -> Markup:
    mark, pole = ("+", "positive") if dose > 0 else ("−", "negative")
    towards = tag("span", mark, class_=f"mark {pole}"), _pole_name(view.rows[axis], pole)
    return joined([f"Axis {axis}, dose {signed(dose, 1)} σ, towards ", *towards])


def _steered(row: Mapping[Any, Any], detail: Detail) -> Markup:
    most = max(detail.characters, 400)
    columns = [
        tag("div", tag("h5", side.capitalize()), folded_text(row[side], most, "response"))
        for side in ("unsteered", "steered")
    ]
    pair = tag("div", *columns, class_="pair")
    return tag("article", folded_text(row["prompt"], most, "prompt"), pair, class_="sample")


# --------------------------------------------------------------------------------------- cards


def _card(study: Study, view: BasisView, row: Mapping[Any, Any], detail: Detail) -> Markup:
    axis, z = row["axis"], view.z[:, row["axis"]]
    said = view.said.get(axis, {})
    facts = {"variance": f"{row['variance']:.1%}"}
    if "utility" in row and not pd.isna(row["utility"]):
        digits = _utility_digits(view)
        value, band = signed(MILLI * row["utility"], digits), MILLI * row["null_high"]
        facts[f"utility, {UTILITY_UNIT}"] = f"{value}, chance ±{band:.{digits}f}"
    for pole, mark, _ in SIDES:
        if f"weakness_{pole}" in row:
            facts[f"weakness {mark}"] = f"{row[f'weakness_{pole}']:.2f}"
    state = tag("span", said["state"], class_="badge plain") if said.get("state") else ""
    ends, farthest = poles(z, detail.examples), float(np.abs(z).max()) or 1.0
    columns = []
    for pole, mark, sign in SIDES:
        shown = ((study.corpus[int(i)], float(z[i])) for i in ends.of(sign))
        examples = [_example(e, at, farthest, detail) for e, at in shown]
        title = tag("h5", tag("span", mark, class_=f"mark {pole}"), _pole_title(row, pole))
        columns.append(
            tag("div", title, *_typical_line(row, pole), *_listed(examples), class_=pole)
        )
    return tag(
        "article",
        tag("header", tag("h4", f"Axis {axis}"), _badges(row), state),
        fact_list(facts),
        folded_text(said["notes"], 2000, "notes") if said.get("notes") else "",
        Markup(figures.histogram(z)),
        tag("div", *columns, class_="pair"),
        id=f"{view.id}-axis-{axis}",
        class_="card",
    )


def _pole_title(row: Mapping[Any, Any], pole: str) -> Markup:
    label = row[f"label_{pole}"]
    return bidi(label[:500]) if label else tag("span", f"{pole} pole, unnamed", class_="unnamed")


def _typical_line(row: Mapping[Any, Any], pole: str) -> Iterable[Markup]:
    typical = _typical(row, pole)
    return [tag("p", "stands out: ", bidi(typical), class_="typical")] if typical else []


def _listed(examples: list[Markup]) -> Iterable[Markup]:
    """The first examples in sight, the others folded away."""
    parts = [tag("ol", *examples[:OPEN_EXAMPLES])]
    if more := examples[OPEN_EXAMPLES:]:
        folded = tag("ol", *more, start=str(OPEN_EXAMPLES + 1))
        parts.append(tag("details", tag("summary", f"{len(more)} more examples"), folded))
    return parts


def _example(example: Example, z: float, farthest: float, detail: Detail) -> Markup:
    bar = tag("span", class_="bar", style=f"--share:{abs(z) / farthest:.2f}", aria_hidden="true")
    said = [tag("b", f"z {signed(z)}"), bar, bidi(shortened(example.category or "", 60))]
    return tag(
        "li",
        tag("p", *said, class_="meta"),
        folded_text(example.prompt_text, detail.characters, "prompt"),
        folded_text(example.response, detail.characters, "response") if example.response else "",
    )
