"""The explorer as plain HTML, for readers without a kernel."""

from collections.abc import Mapping, Sequence
from typing import Any

from .markup import (
    MILLI,
    UTILITY_UNIT,
    Markup,
    bidi,
    data_table,
    joined,
    shortened,
    signed,
    tag,
)

EXAMPLES = 3
"""Examples shown a pole."""

LABEL, NOTES, PROMPT = 120, 600, 300
"""Characters that are shown of each, at most."""

Entry = Mapping[str, Any]
"""An axis of the list, or a card."""

COLUMNS = (
    "axis",
    "− pole",
    "+ pole",
    "variance",
    f"utility, {UTILITY_UNIT}",
    "weakness − / +",
    "state",
    "trust",
)


def static_html(axes: Sequence[Entry], card: Entry, marker: str) -> str:
    """Write the list and one card.

    Parameters
    ----------
    axes : sequence of dict
        As `axis_list` gives them.
    card : dict
        As `axis_card` gives it.
    marker : str
        Class of the outermost element, by which the live widget hides it.
    """
    said = f": {card['n_axes']} axes. Run the cell to explore them; as they were:"
    caption = f"The axes of {card['basis']}"
    poles = (_pole(card, sign, pole) for sign, pole in (("−", "negative"), ("+", "positive")))
    notes = [tag("p", shortened(card["notes"], NOTES), dir="auto")] if card["notes"] else []
    return tag(
        "div",
        tag("p", tag("strong", card["basis"]), said),
        data_table(caption, dict.fromkeys(COLUMNS, ""), map(_row, axes)),
        tag("details", tag("summary", _title(card)), *notes, *poles),
        class_=marker,
    )


def _title(card: Entry) -> str:
    quiz = card.get("quiz")
    told = [f"Axis {card['axis']}", card.get("state"), f"quiz {quiz}" if quiz else ""]
    return ", ".join(text for text in told if text)


def _row(entry: Entry) -> list[str]:
    utility, weakness = entry["utility"], entry["weakness"]
    return [
        str(entry["axis"]),
        _name(entry, "negative"),
        _name(entry, "positive"),
        "" if entry["variance"] is None else f"{entry['variance']:.1%}",
        "" if utility is None else signed(MILLI * utility["value"], 1),
        "" if weakness is None else f"{weakness['negative']:.2f} / {weakness['positive']:.2f}",
        entry.get("state", ""),
        ", ".join(badge["text"] for badge in entry["badges"]),
    ]


def _name(entry: Entry, pole: str) -> Markup:
    label, hint = entry[pole]["label"], entry[pole]["hint"]
    return bidi(shortened(label, LABEL) or (f"unnamed ({hint})" if hint else "unnamed"))


def _pole(card: Entry, sign: str, pole: str) -> Markup:
    shown = card[pole]["examples"][:EXAMPLES]
    items = (
        tag("li", f"{signed(e['z'], 1)}: ", bidi(shortened(e["prompt"], PROMPT))) for e in shown
    )
    label = shortened(card[pole]["label"], LABEL) or "unnamed"
    return joined([tag("p", f"{sign} ", bidi(label)), tag("ul", *items)])
