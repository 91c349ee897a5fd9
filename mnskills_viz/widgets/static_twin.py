"""The explorer as plain HTML, for readers without a kernel."""

from collections.abc import Sequence

from .markup import MILLI, UTILITY_UNIT, Markup, data_table, joined, signed, tag
from .state import Json

EXAMPLES = 3
"""Examples shown a pole."""

COLUMNS = (
    "axis",
    "− pole",
    "+ pole",
    "variance",
    f"utility, {UTILITY_UNIT}",
    "weakness − / +",
    "trust",
)


def static_html(axes: Sequence[Json], card: Json, marker: str) -> str:
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
    basis = tag("strong", card["basis"])
    said = f": {card['n_axes']} axes. Run the cell to explore them; as they were:"
    caption = f"The axes of {card['basis']}"
    poles = (_pole(card, sign, pole) for sign, pole in (("−", "negative"), ("+", "positive")))
    return tag(
        "div",
        tag("p", basis, said),
        data_table(caption, dict.fromkeys(COLUMNS, ""), map(_row, axes)),
        tag("details", tag("summary", f"Axis {card['axis']}"), *poles),
        class_=marker,
    )


def _row(entry: Json) -> list[str]:
    utility, weakness = entry["utility"], entry["weakness"]
    return [
        str(entry["axis"]),
        _name(entry, "negative"),
        _name(entry, "positive"),
        "" if entry["variance"] is None else f"{entry['variance']:.1%}",
        "" if utility is None else signed(MILLI * utility["value"], 1),
        "" if weakness is None else f"{weakness['negative']:.2f} / {weakness['positive']:.2f}",
        ", ".join(badge["text"] for badge in entry["badges"]),
    ]


def _name(entry: Json, pole: str) -> str:
    label, hint = entry[pole]["label"], entry[pole]["hint"]
    return label or (f"unnamed ({hint})" if hint else "unnamed")


def _pole(card: Json, sign: str, pole: str) -> Markup:
    shown = card[pole]["examples"][:EXAMPLES]
    items = (tag("li", f"{signed(e['z'], 1)}: {e['prompt']}") for e in shown)
    return joined([tag("p", f"{sign} {card[pole]['label'] or 'unnamed'}"), tag("ul", *items)])
