"""A basis's part of the report: spectrum, axes, utility, weakness, steering, doses, cards."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..study import Study
from . import figures
from .basis_figures import spectrum
from .error_figures import weakness_figure
from .markup import (
    MILLI,
    UTILITY_UNIT,
    Markup,
    Section,
    data_table,
    fact_list,
    folded_text,
    joined,
    readable,
    signed,
    tag,
)
from .proxy_figures import proxy_figure
from .report_cards import axis_cards
from .report_doses import dose_curves, kept_doses
from .report_view import (
    SIDES,
    BasisView,
    Detail,
    badge_list,
    hint,
    pole_name,
    pole_names,
    standing,
    study_name,
    utility_digits,
)

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


def basis_view(study: Study, name: str, place: str) -> BasisView:
    """Read what a study knows of a basis."""
    table, spread = study.axes(name), study.basis(name).scale_
    scale = np.where(spread > 0, spread, 1.0)
    said = study.annotations.table()
    mine = said[said["basis"] == name].set_index("axis")
    return BasisView(
        name,
        place,
        table.to_dict("records"),
        table,
        study.coordinates(name) / scale,
        scale,
        mine.to_dict("index"),
        kept_doses(study, name),
        functools.cache(lambda row: study.kept_heat(name, row)),  # read once, shown on many cards
    )


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
    if view.doses and detail.curves:
        section.part("Doses", *dose_curves(view, detail))
    if detail.examples:
        section.part("Cards", *axis_cards(study, view, detail))
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
    digits = utility_digits(view)
    if "utility" in view.table:
        head[f"Utility, {UTILITY_UNIT}"] = "n"
    if "weakness_positive" in view.table:
        head["Weakness − / +"] = "n"
    head["Trust"] = ""
    rows = []
    for row in view.rows:
        number = str(row["axis"])
        link = tag("a", number, href=f"#{view.id}-axis-{number}") if linked else number
        cells = [link, _named(view, row), f"{row['variance']:.1%}", _known(row["stability"])]
        if "utility" in row:
            cells.append(_utility(row, digits))
        if "weakness_positive" in row:
            cells.append(" / ".join(f"{row[f'weakness_{pole}']:.2f}" for pole, *_ in SIDES))
        rows.append([*cells, badge_list(row)])
    return data_table(f"The {len(view.rows)} axes of {view.name}", head, rows)


def _named(view: BasisView, row: Mapping[Any, Any]) -> Markup:
    """Both poles, and how sure somebody is of their names."""
    marks = standing(view.said.get(row["axis"], {}))
    return joined([pole_names(row), *(tag("small", ", ".join(marks)) for _ in marks[:1])])


def _known(value: float) -> Markup:
    return tag("span", "–", class_="faint") if pd.isna(value) else Markup(f"{value:.2f}")


def _utility(row: Mapping[Any, Any], digits: int) -> Markup:
    if pd.isna(row["utility"]):
        return _known(row["utility"])
    value, low, high = (signed(MILLI * row[name], digits) for name in ("utility", "low", "high"))
    return joined([tag("b", value), tag("small", f"{low} to {high}")])


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
    towards = tag("span", mark, class_=f"mark {pole}"), pole_name(view.rows[axis], pole)
    return joined([f"Axis {axis}, dose {signed(dose, 1)} σ, towards ", *towards])


def _steered(row: Mapping[Any, Any], detail: Detail) -> Markup:
    most = max(detail.characters, 400)
    columns = [
        tag("div", tag("h5", side.capitalize()), folded_text(row[side], most, "response"))
        for side in ("unsteered", "steered")
    ]
    pair = tag("div", *columns, class_="pair")
    return tag("article", folded_text(row["prompt"], most, "prompt"), pair, class_="sample")
