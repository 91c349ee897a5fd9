"""The static twin of the explorer: one HTML file that needs no kernel and no network."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..corpus import Example
from ..embedded import EMBEDDED_FILE
from ..errors import InputError
from ..files import read_json, write_text
from ..selection.difference import composition
from ..study import Study
from .heat_strip import HEATED, SCRIPT, SCRIPT_HASH
from .markup import (
    Markup,
    Section,
    bidi,
    data_table,
    fact_list,
    joined,
    readable,
    shortened,
    signed,
    tag,
)
from .report_basis import basis_section, basis_view
from .report_view import SIDES, BasisView, Detail, hint, study_name
from .selection_figures import composition_figure

CSS = resources.files(__package__).joinpath("static/report.css").read_text("utf-8")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
SCRIPT_POLICY = f"{POLICY}; script-src 'sha256-{SCRIPT_HASH}'"

MOST_BYTES = 3_000_000
RECEIPTS = 10

GLOSSARY = {
    "Axis": "One direction in the model's activations, at right angles to all others of its basis.",
    "Pole": "One of the two ends of an axis; each is named by what its extreme examples share.",
    "z": "Where an example lies on an axis, in standard deviations from the mean.",
    "Dose": "Strength of a push along an axis while the model reads and writes, in the same unit.",
    "Utility": "What a small push does for right answers over slightly wrong ones; chance is "
    "what the best of as many random directions would reach.",
    "Weakness": "Mean error of the model on the examples of a pole, pulled towards the mean of "
    "all by how little is known.",
}

DETAILS = (Detail(6, 2000, 12), Detail(4, 600, 8), Detail(2, 200, 4), Detail(0, 0, 0))


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
    views = [basis_view(study, name, f"b{i}") for i, name in enumerate(study.basis_names)]
    for detail in DETAILS:
        page = _page(study, views, detail)
        if len(page.encode()) < MOST_BYTES:
            write_text(Path(path), page)
            return Path(path)
    raise InputError(
        f"the report would be over 3 MB even without examples; it has {len(views)} bases"
    )


# ---------------------------------------------------------------------------------------- page


def _page(study: Study, views: Sequence[BasisView], detail: Detail) -> str:
    sections = [_overview(study, views), *(basis_section(study, view, detail) for view in views)]
    sections += [_selections(study), _exports(study), _glossary()]
    title = f"Skill axes of {_model(study)}: {_corpus(study)}, {study_name(study)}"
    heated = any(HEATED in part for section in sections for part in section.body)
    policy = SCRIPT_POLICY if heated else POLICY
    head = (
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    body = (
        tag("a", "Skip to content", href="#content", class_="skip"),
        tag("nav", *(_nav(section) for section in sections), aria_label="Contents"),
        tag("main", *map(_section, sections), id="content", tabindex="-1"),
        tag("script", Markup(SCRIPT)) if heated else "",
    )
    return "<!doctype html>\n" + tag(
        "html", tag("head", *head), "\n", tag("body", *body), "\n", lang="en"
    )


def _section(section: Section) -> Markup:
    level = "h1" if section.id == "study" else "h2"
    return tag("section", tag(level, bidi(section.title)), *section.body, id=section.id)


def _nav(section: Section) -> Markup:
    links = [tag("li", tag("a", text, href=f"#{place}")) for place, text in section.links]
    top = tag("a", bidi(shortened(section.title, 40)), href=f"#{section.id}", class_="top")
    return joined([top, tag("ul", *links) if links else ""])


def _model(study: Study) -> str:
    name = str(study.about["model"]["name"])
    return EMBEDDED_FILE.partition(".")[0] if name == "embedded" else _without_folders(name)


def _corpus(study: Study) -> str:
    return _without_folders(str(study.about["corpus"]["source"]))


def _without_folders(name: str) -> str:
    """A name as it is; of a path, which says more of a machine than of the study, its end."""
    return Path(name).name if Path(name).is_absolute() else name


# ------------------------------------------------------------------------------------ overview


def _overview(study: Study, views: Sequence[BasisView]) -> Section:
    about, section = study.about, Section("study", f"Skill axes of {_model(study)}")
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
        special = sum(bool(row.get("special")) for v in views for row in v.rows)
        counts["axis beats chance" if special == 1 else "axes beat chance"] = special
    big = [tag("li", tag("b", f"{n:,}"), f" {what}") for what, n in counts.items()]
    subtitle = ("corpus ", bidi(_corpus(study)), " · study ", bidi(study_name(study)))
    lead = (
        "The directions in which the model's activations vary: what they hold, what a push along "
        "them does, and the data they point to."
    )
    where = {k: corpus[k] for k in ("source", "rows", "probe_rows", "probe_rule", "duplicates")}
    where |= {"source": _corpus(study)}
    where |= {"skipped": sum(map(len, corpus["skipped"].values())), "hash": corpus["hash"]}
    cards = [
        fact_list(readable(about["model"] | model | {"name": _model(study)}), "Model"),
        fact_list(readable(where), "Corpus"),
    ]
    section.body += [
        tag("p", *subtitle, class_="subtitle"),
        tag("p", lead, class_="lead"),
        tag("ul", *big, class_="counts"),
    ]
    if study.is_collected:
        source = study.activations.source_of_all
        options = {"layers": _ranges(source["layers"])} | source["options"]
        cards.append(fact_list(readable(options), "Activations"))
        cards.append(fact_list(source["versions"], "Versions"))
    else:
        section.body.append(hint("No activations yet", f"collect {study_name(study)}"))
    section.body.append(tag("div", *cards, class_="cards"))
    if study.is_collected and not views:
        section.body.append(hint("No basis yet", f"fit {study_name(study)}"))
    return section


def _ranges(layers: Sequence[int]) -> str:
    whole = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))


# --------------------------------------------------------------- selections, exports, glossary


def _selections(study: Study) -> Section:
    section = Section("selections", "Selections")
    for i, name in enumerate(study.selection_names):
        chosen = study.selection(name)
        recipe = chosen.recipe
        examples = [study.corpus[int(study.pool_rows[int(k)])] for k in chosen.indices]
        picked = {"strategy": recipe["strategy"], "basis": recipe.get("basis")}
        picked |= {"budget": f"{recipe['budget']:,} {recipe['unit']}", "picked": f"{len(chosen):,}"}
        picked |= {"seed": str(recipe["seed"]), "inputs": recipe["input_hash"]}
        made_of = composition([example.category for example in study.pool], {name: chosen.indices})
        notes = [tag("li", note) for note in recipe["notes"]]
        rows = list(zip(chosen.receipts.to_dict("records"), examples, strict=True))[:RECEIPTS]
        place = f"selection-{i}"
        section.links.append((place, shortened(name, 40)))
        section.body += [
            tag("h3", bidi(name), id=place),
            tag("p", recipe["how"]),
            tag("ul", *notes, class_="note") if notes else Markup(),
            fact_list(picked),
            Markup(composition_figure(made_of)),
            _receipts(name, rows),
        ]
    if not section.links:
        section.body.append(hint("No selection yet", f"select {study_name(study)}"))
    return section


def _receipts(name: str, rows: Sequence[tuple[Mapping[Any, Any], Example]]) -> Markup:
    head = {"Rank": "n", "Example": "", "Pole": "n", "z": "n", "Reason": ""}
    cells = []
    for row, example in rows:
        text = tag("bdi", shortened(example.prompt_text, 140))
        origin = tag("small", bidi(shortened(f"{example.category or ''} {example.id}", 80)))
        pole = f"{row['axis']} {'+' if row['pole'] > 0 else '−'}"
        known = (str(row["rank"]), joined([text, origin]), pole, signed(row["z"]), row["reason"])
        cells.append(known)
    return data_table(f"First receipts of {name}", head, cells)


def _exports(study: Study) -> Section:
    section = Section("exports", "Exports")
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
        section.body.append(data_table("What a trainer reads", head, rows))
    else:
        section.body.append(hint("No export yet", f"export {study_name(study)}"))
    return section


def _glossary() -> Section:
    terms = [tag("div", tag("dt", term), tag("dd", text)) for term, text in GLOSSARY.items()]
    return Section("glossary", "Glossary", [tag("dl", *terms, class_="glossary")])
