r"""The final answer of a text: what is stated last, whole.

A text that names several answers must not pass because one of them is right. So an answer is never
searched for: it is what stands after the last mark of an answer. What follows it is another matter:
whether prose takes an answer back is only known where it says so in plain words.
"""

import re
from fractions import Fraction

LONGEST_TEXT = 20_000
"""Characters at the end of a text that are looked at: what is searched stays bounded."""

LONGEST_ANSWER = 300

STRICT_MARK = "Answer:"

_MARK = re.compile(
    r"(?P<box>\\(?:boxed|fbox)\s*\{)"
    r"|(?P<tag><answer>)"
    r"|####"
    r"|\banswer\b\*{0,2}\s?(?:is|:|=)\s?:?\*{0,2}",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"[\s$)\]*\\,;]*(?:\b(?:or|nor|not)\b|\b(?:and|but|maybe|instead)\b.*[0-9\\]|[,;/]\s*[-0-9$\\(])",
    re.IGNORECASE,
)
"""What after a box shows that the box was not all of the answer."""

_TAKES_BACK = re.compile(
    r"(?:but\s+)?(?:no\s*(?:[-,:;\u2013\u2014]|$)|(?:wait|actually|correction|oops|hm+)\b)"
    r"|(?:(?:text|mathrm|mbox)\s*\{\s*)?(?:(?:that|this|it|which)\s+)?"
    r"(?:is|was)\s+(?:wrong|incorrect|not\s+(?:right|correct))\b",
    re.IGNORECASE,
)
"""How a sentence begins that takes back what was said before it."""

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_RATIONAL = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[0-9]+/[0-9]+)")


def strict_answer(text: str) -> str | None:
    """What follows the last ``Answer:``, less white space around it and one full stop at its end.

    The rule of the demo corpus; None for a text without ``Answer:``.
    """
    _, mark, answer = text.rpartition(STRICT_MARK)
    return answer.strip().removesuffix(".") if mark else None


def tagged_answer(text: str) -> str | None:
    """What the last ``<answer>...</answer>`` holds, None if there is none.

    Empty if it is taken back after that.
    """
    before, end, after = text.rpartition("</answer>")
    _, start, answer = before.rpartition("<answer>")
    if not start or not end:
        return None
    return "" if _takes_back(after) else answer.strip()


def final_answer(text: str) -> str | None:
    r"""What a text states last: the content of ``\boxed{}``, or the line after a mark.

    Marks are ``\boxed{``, ``####``, ``<answer>``, and ``answer`` with ``is``, ``:`` or ``=``. A
    text without any is judged by its last line. Several boxes on one line are one answer, and so
    is a box with what it is joined to by "or", "and" or the like.

    Returns
    -------
    str or None
        Without the marks of mathematics or emphasis around it; None if there is none, it is longer
        than any answer, or a later sentence takes it back: one that begins with "No,", "Wait",
        "Actually" or the like. Other text after an answer is not understood.
    """
    text = text[-LONGEST_TEXT:].rstrip()
    marks = list(_MARK.finditer(text))
    if not marks:
        answer: str | None = text.rpartition("\n")[2]
    elif marks[-1]["box"]:
        answer = _boxes(text, marks)
    elif marks[-1]["tag"]:
        answer = tagged_answer(text)
    else:
        answer, _, after = text[marks[-1].end() :].strip().partition("\n")
        answer = None if _takes_back(after) else answer
    answer = None if answer is None else _unwrapped(answer)
    return answer if answer and len(answer) <= LONGEST_ANSWER else None


def _boxes(text: str, marks: list[re.Match[str]]) -> str | None:
    """The content of the last box and of those before it on its line, with what goes on from it."""
    line = text.rfind("\n", 0, marks[-1].start()) + 1
    contents, end = [], 0
    for mark in marks:
        if mark["box"] and mark.start() >= max(line, end):
            end = _closing_brace(text, mark.end())
            if not end:
                return None
            contents.append(_unwrapped(text[mark.end() : end - 1]))
    if _takes_back(text[end:]):
        return None
    rest = text[end:].partition("\n")[0]
    if _GOES_ON.match(rest):
        contents.append(_unwrapped(rest))
    return ", ".join(dict.fromkeys(contents))


def _takes_back(after: str) -> bool:
    """Whether a sentence of what follows an answer says that it is none."""
    sentences = re.split(r"[.!?\n]", after)
    return any(_TAKES_BACK.match(sentence.lstrip(" \t$)]}*\\,;:-")) for sentence in sentences)


def _closing_brace(text: str, start: int) -> int:
    """Where the brace that was opened just before `start` has closed; 0 if it does not."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place + 1
    return 0


def _unwrapped(answer: str) -> str:
    before = None
    while answer != before:
        before = answer
        answer = answer.strip().removesuffix(".").removesuffix("**").strip()
        for left, right in _WRAPPERS:
            if (
                len(answer) > len(left + right)
                and answer.startswith(left)
                and answer.endswith(right)
            ):
                inside = answer[len(left) : -len(right)]
                if left not in inside and right not in inside:
                    answer = inside
    return answer


def rational(text: str) -> Fraction | None:
    """``-7``, ``0.65`` or ``3/4`` as an exact number; None for anything else."""
    if len(text) > LONGEST_ANSWER or not _RATIONAL.fullmatch(text):
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None
