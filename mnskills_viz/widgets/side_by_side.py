"""Two texts beside one another with their differences marked word by word."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from . import drawing as draw
from .markup import Markup, joined, tag

STYLE = """
.mn-sides{font:13px/1.6 var(--mn-font,system-ui,sans-serif)}
.mn-sides .texts{display:flex;flex-wrap:wrap;gap:12px}
.mn-sides .texts>div{flex:1 1 280px;min-width:0}
.mn-sides h4{margin:8px 0 2px;font-size:12px}
.mn-sides p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
.mn-sides .text{padding:8px 10px;border:1px solid color-mix(in srgb,currentColor 18%,transparent);
border-radius:4px}
.mn-sides .prompt{padding-inline-start:10px;
border-inline-start:3px solid color-mix(in srgb,currentColor 30%,transparent)}
.mn-sides .said{opacity:.7;font-size:12px;margin-top:6px}
.mn-sides del,.mn-sides ins{border-radius:2px;padding:1px 0;box-decoration-break:clone;
-webkit-box-decoration-break:clone}
.mn-sides del{text-decoration:line-through;text-decoration-color:var(--mn-orange,#c2590a);
background:color-mix(in srgb,var(--mn-orange,#c2590a) 16%,transparent)}
.mn-sides ins{text-decoration:underline 2px;text-underline-offset:3px;
text-decoration-color:var(--mn-blue,#0a6fb0);
background:color-mix(in srgb,var(--mn-blue,#0a6fb0) 16%,transparent)}
"""

LONGEST = 6_000
"""Characters of a text that are compared and shown; the rest is counted."""

COINCIDENCE = 2
"""So few words in common between two longer differences are taken for chance, not for text kept."""

# Scripts that do without spaces are compared sign by sign. A number is one word.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"(?:\d+(?:[.,]\d+)*|[{_SIGNS}]|[!-/:-@\[-^`{{-~]|[^\s{_SIGNS}!-/:-@\[-^`{{-~]+)\s*|\s+"
)

Piece = tuple[bool, str]
"""Whether a piece of a text is its own, and the piece."""


def side_by_side(
    unsteered: str,
    steered: str,
    prompt: str = "",
    names: tuple[str, str] = ("unsteered", "steered"),
) -> str:
    """Show two answers to one prompt, what differs struck in the first, underlined in the second.

    Words are compared, spaces are not. A word or two that two otherwise different passages have
    in common count as different too, so that what is marked can be read in one piece.

    Parameters
    ----------
    unsteered, steered : str
        Beyond 6,000 characters the rest is only counted.
    prompt : str
        Stands above; nothing does where it is empty.
    names : (str, str)
        Of the two texts.

    Returns
    -------
    str
        HTML.
    """
    left, right = differences(unsteered[:LONGEST], steered[:LONGEST])
    own = [sum(len(_words(text)) for mine, text in side if mine) for side in (left, right)]
    shared = sum(len(_words(text)) for mine, text in left if not mine)
    said = "The words are the same."
    if any(own):
        said = f"{own[0]:,} words struck, {own[1]:,} underlined, {shared:,} in both."
    sides = [
        _side(name, side, mark, max(0, len(text) - LONGEST))
        for name, side, mark, text in zip(
            names, (left, right), ("del", "ins"), (unsteered, steered), strict=True
        )
    ]
    asked = [tag("h4", "prompt"), tag("p", prompt, class_="prompt", dir="auto")] * bool(prompt)
    parts = (*asked, tag("div", *sides, class_="texts"), tag("p", said, class_="said"))
    return draw.alone(tag("div", *parts, class_="mn-sides"), style=STYLE)


def _side(name: str, pieces: Sequence[Piece], mark: str, cut: int) -> Markup:
    shown = [_marked(mark, text) if own else Markup(joined([text])) for own, text in pieces]
    if cut:
        shown.append(Markup(f" … {cut:,} more characters"))
    text = tag("p", *(shown or [Markup("<i>nothing</i>")]), class_="text", dir="auto")
    return tag("div", tag("h4", name), text)


def _marked(mark: str, text: str) -> Markup:
    """A piece between marks; the space after it is not its own."""
    words = text.rstrip()
    return joined([tag(mark, words), text[len(words) :]]) if words else joined([text])


def _words(text: str) -> list[str]:
    """Words with the space after each; together they are the text."""
    return _WORD.findall(text)


def differences(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Cut two texts into pieces that they share and pieces that only one of them has.

    Returns
    -------
    before, after : list of (bool, str)
        Whether a piece is the text's own, and the piece. The pieces of a side are its text; those
        that are not its own hold the same words on both sides.
    """
    words = _words(before), _words(after)
    bare = [[word.rstrip() for word in side] for side in words]
    matcher = SequenceMatcher(None, bare[0], bare[1], autojunk=False)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for own, *spans in _joined(matcher.get_opcodes()):
        for side, given, (start, stop) in zip(sides, words, spans, strict=True):
            if stop > start:
                side.append((own, "".join(given[start:stop])))
    return sides


Span = tuple[int, int]


def _joined(codes: Sequence[tuple[str, int, int, int, int]]) -> Iterator[tuple[bool, Span, Span]]:
    """Differences and what lies between them, coincidences made part of the difference."""
    open_: list[int] | None = None
    for i, (kind, a, b, c, d) in enumerate(codes):
        if kind != "equal" or _coincides(codes, i):
            open_ = [a, b, c, d] if open_ is None else [open_[0], b, open_[2], d]
            continue
        if open_ is not None:
            yield True, (open_[0], open_[1]), (open_[2], open_[3])
            open_ = None
        yield False, (a, b), (c, d)
    if open_ is not None:
        yield True, (open_[0], open_[1]), (open_[2], open_[3])


def _coincides(codes: Sequence[tuple[str, int, int, int, int]], i: int) -> bool:
    """Whether a few words in common stand between two differences that are longer than they."""
    length = codes[i][2] - codes[i][1]
    if length > COINCIDENCE or not 0 < i < len(codes) - 1:
        return False
    beside = (codes[i - 1], codes[i + 1])
    return all(max(b - a, d - c) > length for _, a, b, c, d in beside)
