"""HTML and SVG from values: elements that escape what is put in them, tables, numbers as text."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UTILITY_UNIT = "10⁻³ nats/token"
"""The unit that utilities are shown in; a study keeps them in nats per response token."""

MILLI = 1000
"""Utilities are multiplied by it to be shown."""

SHOWN = 360
"""Characters of a long text in sight; what follows is folded away."""

GLYPHS = {"good": "✓ ", "warn": "! ", "plain": ""}
"""What stands before a badge of each kind: its colour alone would not do."""

WORDS = {
    "n_layers": "blocks",
    "d_model": "width",
    "n_axes": "axes asked for",
    "n_latents": "latents",
    "errors": "reference losses",
    "hash": "SHA-256",
}

_HASH = re.compile("[0-9a-f]{12,}").fullmatch

# What neither XML nor a UTF-8 file can hold, and control characters that show as nothing.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


# ------------------------------------------------------------------------------------ elements


class Markup(str):
    """Text that is markup already. Any other text is escaped where `tag` puts it."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Escape text for HTML and XML; what cannot be printed becomes a replacement character."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))))


def joined(parts: Iterable[str]) -> Markup:
    """Markup and text one after the other, text escaped."""
    return Markup("".join(escaped(part) for part in parts))


def tag(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Parameters
    ----------
    name : str
    *children : str
        Put inside, escaped unless they are `Markup`.
    **attributes
        ``class_`` is read as ``class`` and ``font_size`` as ``font-size``; None and False are left
        out, True stands for a name alone, and numbers are rounded to hundredths.
    """
    written = "".join(
        f' {key.strip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def _value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return ""
    return escaped(value) if isinstance(value, str) else rounded(value)


def bidi(text: str) -> Markup:
    """Text of unknown direction, kept from turning its neighbours round."""
    return tag("bdi", text)


# ----------------------------------------------------------------------------- numbers and text


def rounded(value: float) -> str:
    """A number to hundredths, no longer than it must be."""
    return f"{round(float(value), 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0: no -0


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, a real minus sign where it is negative."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text.replace("−", "+")


def decimals(largest: float) -> int:
    """Digits after the point that show three figures of the largest of some numbers."""
    if not math.isfinite(largest) or largest <= 0:
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(largest))))


def shortened(text: str, most: int) -> str:
    """At most `most` characters on one line, with an ellipsis where something is left out."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def folded_text(text: str, most: int, kind: str) -> Markup:
    """A long text: the beginning in sight, the rest folded away, what was cut off counted.

    Parameters
    ----------
    text : str
    most : int
        Characters, of which `SHOWN` are in sight.
    kind : str
        Class of its paragraphs.
    """
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


# ---------------------------------------------------------------------------- parts of a page


@dataclass(slots=True)
class Section:
    """A part of a page with its place in the navigation.

    Attributes
    ----------
    id, title : str
    body : list of Markup
    links : list of (str, str)
        Place and title of its parts.
    """

    id: str
    title: str
    body: list[Markup] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)

    def part(self, title: str, *body: str) -> None:
        """Add a titled part that the navigation leads to."""
        place = f"{self.id}-{title.split()[0].lower()}"
        self.links.append((place, title))
        self.body.append(tag("section", tag("h3", title), *body, id=place))


def fact_list(facts: Mapping[str, Any], title: str = "") -> Markup:
    """Names and values; what is None or empty is left out."""
    entries = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", tag("code" if _HASH(str(value)) else "bdi", str(value))),
        )
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    listed = tag("dl", *entries, class_="facts")
    return tag("div", tag("h2", title), listed) if title else listed


def readable(facts: Mapping[str, Any]) -> dict[str, str]:
    """Names and values of our own files as people say them, for a `fact_list`."""
    return {
        WORDS.get(name, name.replace("_", " ")): _plainly(value)
        for name, value in facts.items()
        if value is not None
    }


def _plainly(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def data_table(caption: str, head: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table whose rows begin with their head.

    Parameters
    ----------
    caption : str
    head : mapping of str to str
        Titles of the columns, and their class.
    rows : iterable of sequence of str
    """
    classes = [name or None for name in head.values()]
    titles = [tag("th", t, scope="col", class_=c or None) for t, c in head.items()]
    body = []
    for first, *rest in rows:
        cells = [tag("td", cell, class_=c) for cell, c in zip(rest, classes[1:], strict=True)]
        body.append(tag("tr", tag("th", first, scope="row", class_=classes[0]), *cells))
    parts = (tag("thead", tag("tr", *titles)), tag("tbody", *body))
    table = tag("table", tag("caption", caption), *parts)
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)
