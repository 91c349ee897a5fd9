"""The static twin of the explorer: one HTML file that needs no kernel and no network."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.examples import poles
from ..corpus import Example
from ..errors import InputError
from ..files import read_json, write_text
from ..study import Study
from . import figures
from .figures import Markup, decimals, joined, shortened, signed, tag

HASH = re.compile("[0-9a-f]{12,}").fullmatch
CSS = resources.files(__package__).joinpath("static/report.css").read_text("utf-8")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

MOST_BYTES = 3_000_000
SHOWN = 360
"""Characters of a text in sight; what follows is folded away."""
OPEN_EXAMPLES, RECEIPTS = 3, 10

# An axis and its refit share the square of their cosine: four fifths at 0.9, half at 0.7.
STABLE, UNSTABLE = 0.9, 0.7
LENGTH_R2, NEAR_DUPLICATE = 0.25, 0.3
RELIABLE_PROBE = 400

WORDS = {
    "n_layers": "blocks",
    "d_model": "width",
    "n_axes": "axes asked for",
    "n_latents": "latents",
    "errors": "reference losses",
    "hash": "SHA-256",
}
SIDES = (("negative", "−", -1), ("positive", "+", 1))  # left to right, as on the scale

NULL = (
    "Utility says how much a small push along an axis raises the model's preference for right "
    "answers over slightly wrong ones, in nats per response token for one standard deviation of "
    "push; the line is its 95 % interval. Some axis always looks best by luck. So as many random "
    "directions as there are axes are drawn, the best of them is noted, and this is repeated: 95 "
    "of 100 such bests lie within the shaded band, the null. Only an axis whose mark leaves the "
    "band (◆) does more than luck. The interval says how well a number is known, the band "
    "whether it means anything."
)
WEAKNESS = (
    "Error of each pole: the mean error of the probe examples that lie on it, pulled towards the "
    "mean of all, the more so the fewer there are. Bars to the right: the model errs more there."
)
GLOSSARY = {
    "Axis": "One direction in the model's activations, at right angles to all others of its basis.",
    "Pole": "One of the two ends of an axis; each is named by what its extreme examples share.",
    "z": "Where an example lies on an axis, in standard deviations from the mean.",
    "Dose": "Strength of a push along an axis while the model reads and writes, in the same unit.",
    "Utility": "What a small push does for right answers over slightly wrong ones; its null is "
    "what the best of as many random directions would reach.",
    "Weakness": "Mean error of the model on the examples of a pole, pulled towards the mean of "
    "all by how little is known.",
}


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much of the examples there is room for: how many a pole, how many characters each."""

    examples: int
    characters: int


DETAILS = (_Detail(6, 2000), _Detail(4, 600), _Detail(2, 200), _Detail(0, 0))


@dataclass(slots=True)
class _Section:
    """A part of the page with its place in the navigation."""

    id: str
    title: str
    body: list[Markup] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)

    def part(self, title: str, *body: str) -> None:
        """Add a titled part that the navigation leads to."""
        place = f"{self.id}-{title.split()[0].lower()}"
        self.links.append((place, title))
        self.body.append(tag("section", tag("h3", title), *body, id=place))


@dataclass(frozen=True, slots=True)
class _View:
    """What is known of a basis."""

    name: str
    id: str
    rows: list[dict[Any, Any]]
    table: pd.DataFrame
    z: NDArray[np.floating]
    said: Mapping[Any, Mapping[Any, Any]]


def write_report(study: Study, path: str | Path = "report.html") -> Path:
    """Write what a study found as one HTML file.

    The same study gives the same bytes. The file stays under 3 MB: where there is much to show,
    fewer examples and less of each are.

    Parameters
    ----------
    study : Study
    path : path
        Where to write it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        It cannot be written.
    """
    views = [_view(study, name, f"b{i}") for i, name in enumerate(study.basis_names)]
    for detail in DETAILS:
        page = _page(study, views, detail)
        if len(page.encode()) < MOST_BYTES:
            write_text(Path(path), page)
            return Path(path)
    raise InputError(
        f"the report would be over 3 MB even without examples; it has {len(views)} bases"
    )


def _view(study: Study, name: str, place: str) -> _View:
    table, scale = study.axes(name), study.basis(name).scale_
    said = study.annotations.table()
    mine = said[said["basis"] == name].set_index("axis")
    z = study.coordinates(name) / np.where(scale > 0, scale, 1.0)
    return _View(name, place, table.to_dict("records"), table, z, mine.to_dict("index"))


# ---------------------------------------------------------------------------------------- page


def _page(study: Study, views: Sequence[_View], detail: _Detail) -> str:
    sections = [_overview(study, views), *(_basis(study, view, detail) for view in views)]
    sections += [_selections(study), _exports(study), _glossary()]
    title = f"{_name(study)}: skill axes of {_model(study)}"
    head = (
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    body = (
        tag("a", "Skip to content", href="#content", class_="skip"),
        tag("nav", *(_nav(section) for section in sections), aria_label="Contents"),
        tag("main", *map(_section, sections), id="content", tabindex="-1"),
    )
    return "<!doctype html>\n" + tag(
        "html", tag("head", *head), "\n", tag("body", *body), "\n", lang="en"
    )


def _section(section: _Section) -> Markup:
    level = "h1" if section.id == "study" else "h2"
    return tag("section", tag(level, _bdi(section.title)), *section.body, id=section.id)


def _nav(section: _Section) -> Markup:
    links = [tag("li", tag("a", text, href=f"#{place}")) for place, text in section.links]
    top = tag("a", _bdi(shortened(section.title, 40)), href=f"#{section.id}", class_="top")
    return joined([top, tag("ul", *links) if links else ""])


def _name(study: Study) -> str:
    return study.path.resolve().name


def _model(study: Study) -> str:
    name = str(study.about["model"]["name"])
    return Path(name).name if Path(name).is_absolute() else name


def _bdi(text: str) -> Markup:
    """Text of unknown direction, kept from turning its neighbours round."""
    return tag("bdi", text)


def _hint(what: str, command: str) -> Markup:
    return tag("p", f"{what}: ", tag("code", f"mnskills {command}"), class_="hint")


def _facts(facts: Mapping[str, Any], title: str = "") -> Markup:
    entries = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", tag("code" if HASH(str(value)) else "bdi", str(value))),
        )
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    listed = tag("dl", *entries, class_="facts")
    return tag("div", tag("h2", title), listed) if title else listed


def _table(caption: str, head: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table; `head` maps the titles of the columns to their class. A row begins with its head."""
    classes = [name or None for name in head.values()]
    titles = [tag("th", t, scope="col", class_=c or None) for t, c in head.items()]
    body = []
    for first, *rest in rows:
        cells = [tag("td", cell, class_=c) for cell, c in zip(rest, classes[1:], strict=True)]
        body.append(tag("tr", tag("th", first, scope="row", class_=classes[0]), *cells))
    parts = (tag("thead", tag("tr", *titles)), tag("tbody", *body))
    table = tag("table", tag("caption", caption), *parts)
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)


def _long(text: str, most: int, kind: str) -> Markup:
    """A text: the beginning in sight, the rest folded away, and what was cut off counted."""
    most = max(most, 1)
    shown, folded = text[: min(SHOWN, most)], text[SHOWN:most]
    cut = len(text) - most
    parts = [tag("p", shown, *(["…"] if len(text) > len(shown) else []), class_=kind, dir="auto")]
    if folded:
        more = tag("summary", f"{len(folded):,} more characters")
        parts.append(tag("details", more, tag("p", folded, class_=kind, dir="auto")))
    if cut > 0:
        said = f"Cut: {cut:,} of {len(text):,} characters are not in this file."
        parts.append(tag("p", said, class_="cut"))
    return joined(parts)


# ------------------------------------------------------------------------------------ overview


def _overview(study: Study, views: Sequence[_View]) -> _Section:
    about, section = study.about, _Section("study", _name(study))
    corpus, model = about["corpus"], about["identity"] or {}
    axes = sum(len(view.rows) for view in views)
    named = sum(bool(r[f"label_{p}"]) for v in views for r in v.rows for p, *_ in SIDES)
    counts = {
        "examples in the pool": len(study.pool_rows),
        "in the probe": len(study.probe_rows),
        f"axes in {len(views)} bas{'i' if len(views) == 1 else 'e'}s": axes,
        "poles named": named,
    }
    if any("special" in view.table for view in views):
        counts["axes beat the null"] = sum(
            bool(row.get("special")) for v in views for row in v.rows
        )
    big = [tag("li", tag("b", f"{n:,}"), f" {what}") for what, n in counts.items()]
    lead = (
        f"The skill axes of {_model(study)}, read off its activations on {corpus['source']}: what "
        "they hold, what a push along them does, and the data they point to."
    )
    where = {k: corpus[k] for k in ("source", "rows", "probe_rows", "probe_rule", "duplicates")}
    where |= {"skipped": sum(map(len, corpus["skipped"].values())), "hash": corpus["hash"]}
    cards = [
        _facts(_readable(about["model"] | model | {"name": _model(study)}), "Model"),
        _facts(_readable(where), "Corpus"),
    ]
    section.body += [tag("p", lead, class_="lead", dir="auto"), tag("ul", *big, class_="counts")]
    if study.is_collected:
        source = study.activations.source_of_all
        options = {"layers": _ranges(source["layers"])} | source["options"]
        cards.append(_facts(_readable(options), "Activations"))
        cards.append(_facts(source["versions"], "Versions"))
    else:
        section.body.append(_hint("No activations yet", f"collect {_name(study)}"))
    section.body.append(tag("div", *cards, class_="cards"))
    if study.is_collected and not views:
        section.body.append(_hint("No basis yet", f"fit {_name(study)}"))
    return section


def _readable(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        WORDS.get(name, name.replace("_", " ")): _plainly(value)
        for name, value in facts.items()
        if value is not None
    }


def _plainly(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _ranges(layers: Sequence[int]) -> str:
    whole = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))


# --------------------------------------------------------------------------------------- basis


def _basis(study: Study, view: _View, detail: _Detail) -> _Section:
    section = _Section(view.id, f"Basis {view.name}")
    fitted = study.basis(view.name)
    source = fitted.source_ or {}
    choices = {k: v for k, v in fitted.get_params().items() if v is not None}
    facts = {"kind": type(fitted).__name__.removesuffix("Basis"), "layer": source.get("layer")}
    facts |= {"fitted on": f"{fitted.n_samples_:,} rows of the pool"}
    section.body.append(_facts(facts | _readable(choices) | {"fingerprint": fitted.fingerprint}))
    if not getattr(fitted, "dictionary_accepted_", True):
        said = (
            f"The dictionary is not better than PCA: on held-out rows it leaves "
            f"{fitted.dictionary_fvu_:.2f} of the variance, as many principal axes "
            f"{fitted.pca_fvu_:.2f}."
        )
        section.body.append(tag("p", tag("b", "Caution. "), said, class_="note"))
    spectrum = Markup(figures.spectrum(fitted.explained_variance_ratio_))
    section.part("Spectrum", spectrum)
    section.part("Axes", _axes_table(view))
    if "utility" in view.table:
        section.part("Pushing along each axis", *_proxy(view))
    elif isinstance(source.get("layer"), int):  # the proxy pushes at one layer
        section.body.append(_hint("No utilities yet", f"proxy {_name(study)} --basis {view.name}"))
    if "weakness_positive" in view.table:
        section.part("Weakness of each pole", *_weakness(study, view))
    steered = study.results(f"steering-{view.name}")
    if steered is not None:
        samples = [_steered(view, row, detail) for row in steered.to_dict("records")]
        section.part("Steered and unsteered", *samples)
    if detail.examples:
        jump = [tag("a", str(r["axis"]), href=f"#{view.id}-axis-{r['axis']}") for r in view.rows]
        cards = [_card(study, view, row, detail) for row in view.rows]
        section.part("Cards", tag("p", *jump, class_="jump"), *cards)
    return section


def _proxy(view: _View) -> list[Markup]:
    special = sum(bool(row["special"]) for row in view.rows)
    verb = "beats" if special < 2 else "beat"
    verdict = f"{special or 'None'} of the {len(view.rows)} axes {verb} the null."
    forest = Markup(figures.forest(view.table))
    return [tag("p", tag("b", verdict)), tag("p", NULL), forest]


def _weakness(study: Study, view: _View) -> list[Markup]:
    mean = float(study.weakness(view.name).attrs["mean_error"])
    parts = [tag("p", WEAKNESS)]
    if len(study.probe_rows) < RELIABLE_PROBE:
        said = (
            f"The probe has {len(study.probe_rows)} examples; which poles are weak is known "
            f"reliably from about {RELIABLE_PROBE}."
        )
        parts.append(tag("p", tag("b", "Caution. "), said, class_="note"))
    return [*parts, Markup(figures.weakness(view.table, mean))]


def _axes_table(view: _View) -> Markup:
    head = {"Axis": "n", "Poles": "", "Variance": "n", "Stability": "n"}
    digits = _utility_digits(view)
    if "utility" in view.table:
        head["Utility"] = "n"
    if "weakness_positive" in view.table:
        head["Weakness − / +"] = "n"
    head["Trust"] = ""
    rows = []
    for row in view.rows:
        number = str(row["axis"])
        cells = [tag("a", number, href=f"#{view.id}-axis-{number}"), _pole_names(row)]
        cells += [Markup(f"{row['variance']:.1%}"), _known(row["stability"])]
        if "utility" in row:
            cells.append(_utility(row, digits))
        if "weakness_positive" in row:
            both = (f"{row[f'weakness_{pole}']:.2f}" for pole, *_ in SIDES)
            cells.append(Markup(" / ".join(both)))
        rows.append([*cells, _badges(row)])
    return _table(f"The {len(view.rows)} axes of {view.name}", head, rows)


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


def _utility_digits(view: _View) -> int:
    columns = view.table.columns.intersection(["low", "high", "utility"])
    return decimals(float(view.table[columns].abs().max().max())) if len(columns) else 0


def _utility(row: Mapping[Any, Any], digits: int) -> Markup:
    if pd.isna(row["utility"]):
        return _known(row["utility"])
    interval = f"{signed(row['low'], digits)} to {signed(row['high'], digits)}"
    return joined([tag("b", signed(row["utility"], digits)), tag("small", interval)])


def _badges(row: Mapping[Any, Any]) -> Markup:
    found = []
    stability = row["stability"]
    if stability >= STABLE:
        found.append(("good", "✓ stable"))
    elif stability < UNSTABLE:
        found.append(("warn", "! unstable"))
    if not pd.isna(row.get("utility", np.nan)):
        special = row["special"]
        found.append(("good", "◆ beats the null") if special else ("plain", "○ within the null"))
    if row.get("length_r2", 0.0) >= LENGTH_R2:
        found.append(("warn", "! confounded by length"))
    if row["max_offdiag_cosine"] >= NEAR_DUPLICATE:
        found.append(("warn", "! near-duplicate"))
    return tag("span", *(tag("span", t, class_=f"badge {k}") for k, t in found), class_="badges")


def _steered(view: _View, row: Mapping[Any, Any], detail: _Detail) -> Markup:
    most = max(detail.characters, 400)
    towards = _pole_name(view.rows[int(row["axis"])], "positive" if row["dose"] > 0 else "negative")
    push = joined([f"Axis {row['axis']}, dose {signed(row['dose'], 1)}: ", towards])
    columns = [
        tag("div", tag("h4", title), _long(row[side], most, "response"))
        for side, title in (("unsteered", "Unsteered"), ("steered", push))
    ]
    pair = tag("div", *columns, class_="pair")
    return tag("article", _long(row["prompt"], most, "prompt"), pair, class_="sample")


# ---------------------------------------------------------------------------------------- card


def _card(study: Study, view: _View, row: Mapping[Any, Any], detail: _Detail) -> Markup:
    axis, z = row["axis"], view.z[:, row["axis"]]
    said = view.said.get(axis, {})
    facts = {"variance": f"{row['variance']:.1%}"}
    if "utility" in row and not pd.isna(row["utility"]):
        digits = _utility_digits(view)
        facts["utility"] = f"{signed(row['utility'], digits)}, null ±{row['null_high']:.{digits}f}"
    for pole, mark, _ in SIDES:
        if f"weakness_{pole}" in row:
            facts[f"weakness {mark}"] = f"{row[f'weakness_{pole}']:.2f}"
    state = tag("span", said["state"], class_="badge plain") if said.get("state") else ""
    ends, farthest = poles(z, detail.examples), float(np.abs(z).max()) or 1.0
    columns = []
    for pole, mark, sign in SIDES:
        shown = [(study.corpus[int(i)], float(z[i])) for i in ends.of(sign)]
        examples = [_example(e, at, farthest, detail) for e, at in shown]
        title = tag("h5", tag("span", mark, class_=f"mark {pole}"), _pole_title(row, pole))
        typical = _typical(row, pole)
        stand_out = tag("p", "stands out: ", _bdi(typical), class_="typical") if typical else ""
        parts = [tag("ol", *examples[:OPEN_EXAMPLES])]
        if more := examples[OPEN_EXAMPLES:]:
            folded = tag("ol", *more, start=str(OPEN_EXAMPLES + 1))
            parts.append(tag("details", tag("summary", f"{len(more)} more examples"), folded))
        columns.append(tag("div", title, stand_out, *parts, class_=pole))
    return tag(
        "article",
        tag("header", tag("h4", f"Axis {axis}"), _badges(row), state),
        _facts(facts),
        _long(said["notes"], 2000, "notes") if said.get("notes") else "",
        Markup(figures.histogram(z)),
        tag("div", *columns, class_="pair"),
        id=f"{view.id}-axis-{axis}",
        class_="card",
    )


def _pole_title(row: Mapping[Any, Any], pole: str) -> Markup:
    label = row[f"label_{pole}"]
    return _bdi(label[:500]) if label else tag("span", f"{pole} pole, unnamed", class_="unnamed")


def _example(example: Example, z: float, farthest: float, detail: _Detail) -> Markup:
    bar = tag("span", class_="bar", style=f"--share:{abs(z) / farthest:.2f}", aria_hidden="true")
    said = [tag("b", f"z {signed(z)}"), bar, _bdi(shortened(example.category or "", 60))]
    return tag(
        "li",
        tag("p", *said, class_="meta"),
        _long(example.prompt_text, detail.characters, "prompt"),
        _long(example.response, detail.characters, "response") if example.response else "",
    )


# --------------------------------------------------------------- selections, exports, glossary


def _selections(study: Study) -> _Section:
    section = _Section("selections", "Selections")
    for i, name in enumerate(study.selection_names):
        chosen = study.selection(name)
        recipe = chosen.recipe
        examples = [study.corpus[int(study.pool_rows[int(k)])] for k in chosen.indices]
        picked = {"strategy": recipe["strategy"], "basis": recipe.get("basis")}
        picked |= {"budget": f"{recipe['budget']:,} {recipe['unit']}", "picked": f"{len(chosen):,}"}
        picked |= {"seed": str(recipe["seed"]), "inputs": recipe["input_hash"]}
        counts = _categories(examples), _categories(study.corpus.take(study.pool_rows))
        notes = [tag("li", note) for note in recipe["notes"]]
        rows = list(zip(chosen.receipts.to_dict("records"), examples, strict=True))[:RECEIPTS]
        place = f"selection-{i}"
        section.links.append((place, shortened(name, 40)))
        section.body += [
            tag("h3", _bdi(name), id=place),
            tag("p", recipe["how"]),
            tag("ul", *notes, class_="note") if notes else Markup(),
            _facts(picked),
            Markup(figures.composition(*counts)),
            _receipts(name, rows),
        ]
    if not section.links:
        section.body.append(_hint("No selection yet", f"select {_name(study)}"))
    return section


def _categories(examples: Iterable[Example]) -> dict[str, int]:
    return dict(Counter(example.category or "no category" for example in examples))


def _receipts(name: str, rows: Sequence[tuple[Mapping[Any, Any], Example]]) -> Markup:
    head = {"Rank": "n", "Example": "", "Pole": "n", "z": "n", "Reason": ""}
    cells = []
    for row, example in rows:
        text = tag("bdi", shortened(example.prompt_text, 140))
        origin = tag("small", _bdi(shortened(f"{example.category or ''} {example.id}", 80)))
        pole = f"{row['axis']} {'+' if row['pole'] > 0 else '−'}"
        known = (str(row["rank"]), joined([text, origin]), pole, signed(row["z"]), row["reason"])
        cells.append(known)
    return _table(f"First receipts of {name}", head, cells)


def _exports(study: Study) -> _Section:
    section = _Section("exports", "Exports")
    rows = []
    for name in study.export_names:
        manifest = read_json(study.path / "exports" / name / "manifest.json")
        path = tag("code", f"exports/{name}")
        chosen = manifest["selection"]
        files = joined(
            tag("div", tag("code", file), " ", tag("small", tag("code", digest)))
            for file, digest in manifest["files"].items()
        )
        rows.append([path, manifest["format"], f"{chosen['examples']:,}", files])
    if rows:
        head = {"Path in the study": "", "Format": "", "Rows": "n", "Files and SHA-256": ""}
        section.body.append(_table("What a trainer reads", head, rows))
    else:
        section.body.append(_hint("No export yet", f"export {_name(study)}"))
    return section


def _glossary() -> _Section:
    terms = [tag("div", tag("dt", term), tag("dd", text)) for term, text in GLOSSARY.items()]
    return _Section("glossary", "Glossary", [tag("dl", *terms, class_="glossary")])
