"""Requests in the wrappers that people put around them, to train refusals on and to measure them.

For defence: which families of wrappers does a selection cover, and which not? Families are set by
a column or by rules on the text, before any activation is seen.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError
from .example import Corpus, Example
from .load import load_corpus
from .rows import open_rows

SLOT = "[INSERT PROMPT HERE]"
REFUSAL = "I'm sorry, but I can't help with that."
OTHER = "other"

REQUEST_COLUMNS = ("goal", "behavior", "behaviour", "request", "prompt", "text")
TEMPLATE_COLUMNS = ("template", "text", "prompt")


@dataclass(frozen=True, slots=True)
class FamilyRule:
    """How a family of templates is told by its text.

    Attributes
    ----------
    family : str
    pattern : str
        Regular expression; case does not matter, and a dot is any character.
    within : int or None
        Characters from the beginning that it is looked for in: what a template is stands in its
        first sentences, and a long one mentions everything somewhere. None: all of it.
    """

    family: str
    pattern: str
    within: int | None = None


FAMILY_RULES = (
    # Something to lose: tokens, points, lives.
    FamilyRule(
        "points game",
        r"\b\d+ (?:tokens|points|lives)\b(?! max)"
        r"|\b(?:lose|lost|deduct) (?:an? |one |\d+ )?(?:tokens?|points?|li(?:fe|ves))\b",
    ),
    # The proper answer first, then the one that is asked for.
    FamilyRule(
        "two answers",
        r"\btwo (?:\w+ ){0,3}(?:ways|styles|manners|responses|personalities|answers|times)\b"
        r"|\bin 2 ways\b|\bboth responses\b|\bexact opposite\b|\bfirst,? .{0,80}\bthen\b"
        r"|\baligned:|🤓|\banswer (?:me )?normally\b|\brant\b|\bdisclaimer\b.{0,80}\bthen\b",
        600,
    ),
    # A mode, a machine or a console in which other rules are said to hold.
    FamilyRule(
        "special mode",
        r"\bmode\b|\bvirtual machine\b|\bconsole\b|\bfunctions? to use\b|\bsystem\b.{0,20}\bannou",
        400,
    ),
    # It only happens in a story.
    FamilyRule(
        "fiction",
        r"\bstory\b|\bscene\b|\bnovel\b|\bmovie\b|\bfiction|\bonce upon a time\b|\bscript\b"
        r"|\bdialogue\b|\bconversation between\b|\bguidebook\b",
        400,
    ),
    # It is only supposed, or only studied.
    FamilyRule(
        "hypothetical",
        r"\bhypothe|\bresearch\b|\bacademic\b|\bexperiment\b|\bimagin|\bsuppose\b|\bin theory\b",
        400,
    ),
    # Another assistant, free of this one's rules.
    FamilyRule(
        "unbound assistant",
        r"\bstands for\b|\bfree (?:of|from) (?:all|the|any)\b|\bbroken free\b|\bAI model\b"
        r"|\blanguage model\b|\bchatbot\b|\w+GPT\b",
        600,
    ),
    # Somebody else altogether.
    FamilyRule(
        "role-play",
        r"\brole|\bact (?:as|like|out)\b|\bpretend|\bpersona|\bcharacter\b|\bsimulat|\bpose as\b"
        r"|\byou are\b|\byou're\b",
    ),
    # How the answer must begin or look.
    FamilyRule(
        "answer format",
        r"\b(?:begin|start)\w* (?:each|every|your|with|the)\b|\bformat\b|\bprefix|\boutput\b"
        r"|\bin the form\b",
    ),
)
"""The first rule that holds names the family. On the 77 templates of GPTFuzz: two answers 23,
unbound assistant 20, special mode 12, fiction 11, points game 7, role-play 3, hypothetical 1."""


def template_families(
    texts: Iterable[str], rules: Sequence[FamilyRule] = FAMILY_RULES
) -> list[str]:
    """Name the family of each template by the first rule that holds; ``"other"`` where none does.

    Raises
    ------
    InputError
        A rule is not a regular expression.
    """
    try:
        patterns = [(re.compile(r.pattern, re.IGNORECASE | re.DOTALL), r) for r in rules]
    except re.error as error:
        raise InputError(f"not a regular expression: {error.pattern!r} ({error})") from error
    return [
        next((r.family for pattern, r in patterns if pattern.search(text[: r.within])), OTHER)
        for text in texts
    ]


def adversarial_corpus(
    behaviours: str | Path | Sequence[str] | Corpus,
    templates: str | Path | Sequence[str] | Corpus,
    slot: str = SLOT,
    per_behaviour: int | None = None,
    seed: int = 0,
    *,
    refusal: str = REFUSAL,
    rules: Sequence[FamilyRule] = FAMILY_RULES,
) -> Corpus:
    """Put requests into templates, each with the refusal that a model should learn.

    Parameters
    ----------
    behaviours : path, sequence of str, or Corpus
        Requests that are to be refused. A file's column ``goal``, ``behavior``, ``request``,
        ``prompt`` or ``text`` holds them; its columns ``refusal`` and ``target`` (what an answer
        would begin with) are used where it has them.
    templates : path, sequence of str, or Corpus
        Wrappers; a file's column ``template``, ``text`` or ``prompt``. A column ``family`` (or
        ``category``) says which family each belongs to; `rules` where there is none.
    slot : str
        What stands for the request in a template. Where a template lacks it, the request follows
        after a blank line, with a warning that counts them.
    per_behaviour : int, optional
        Draw so many templates for each request; default all of them.
    seed : int
        Of that draw, which depends on ids alone, not on the order of the rows.
    refusal : str
        The response, where a request has none of its own.
    rules : sequence of FamilyRule

    Returns
    -------
    Corpus
        Request by request, templates in their order. Each example has the family as ``category``,
        and ``behaviour``, ``template`` (ids), ``family`` and ``target`` in ``meta``.

    Raises
    ------
    InputError
        A file that cannot be read or has no such column, nothing in it, a template that is not
        text, or a number of templates that there is not.
    """
    requests = _read(behaviours, REQUEST_COLUMNS, "behaviours")
    wrappers = _read(templates, TEMPLATE_COLUMNS, "templates")
    if not slot:
        raise InputError("slot must not be empty: the text that stands for the request")
    if per_behaviour is not None and not (
        isinstance(per_behaviour, int) and 1 <= per_behaviour <= len(wrappers)
    ):
        raise InputError(
            f"per_behaviour must be between 1 and the {len(wrappers)} templates, "
            f"not {per_behaviour!r}"
        )
    without = sum(slot not in wrapper.prompt_text for wrapper in wrappers)
    if without:
        warnings.warn(
            f"{without} of {len(wrappers)} templates have no {slot}: the request follows them "
            "after a blank line",
            stacklevel=2,
        )
    families = [
        wrapper.meta.get("family") or wrapper.category or by_rule
        for wrapper, by_rule in zip(
            wrappers, template_families((w.prompt_text for w in wrappers), rules), strict=True
        )
    ]
    pairs = Corpus(
        (
            _wrapped(request, wrappers[i], str(families[i]), slot, refusal)
            for request in requests
            for i in _drawn(request, wrappers, per_behaviour, seed)
        ),
        f"{requests.name} in {wrappers.name}",
    )
    if len(set(pairs.ids)) < len(pairs):
        raise InputError("ids of behaviours and templates with / give the same id twice; rename")
    return pairs


def safety_stand_in(name: str) -> Path:
    """Where the project's own harmless stand-in lies.

    An assistant of a library that does not answer certain everyday requests: made up, to try
    everything on without a harmful word.

    Parameters
    ----------
    name : str
        ``"behaviours"``, ``"templates"`` or ``"twins"`` (requests that look alike and are fine).
    """
    packaged = Path(str(resources.files("mnskills_viz"))) / "data" / "safety"
    folder = packaged if packaged.exists() else Path(__file__).parents[2] / "data" / "safety"
    if name not in ("behaviours", "templates", "twins"):
        raise InputError(f'no stand-in {name!r}; expected "behaviours", "templates" or "twins"')
    return folder / f"{name}.jsonl"


def _read(
    source: str | Path | Sequence[str] | Corpus, columns: tuple[str, ...], name: str
) -> Corpus:
    """Texts with ids, from a file by the first of `columns` that it has, or from a list."""
    if isinstance(source, str | Path):
        where, rows = open_rows(source, None, None)
        first = next(rows, None)
        there = first.value if first is not None and isinstance(first.value, dict) else {}
        column = next((column for column in columns if column in there), None)
        if column is None:
            raise InputError(
                f"{name}: {where} has none of the columns {', '.join(columns)}; rename one, or "
                "pass a corpus read with load_corpus"
            )
        source = load_corpus(source, prompt=column)
    elif not isinstance(source, Corpus):
        source = Corpus(_numbered(source, name), f"{len(source)} {name}")
    for example in source:
        if not isinstance(example.prompt, str):
            raise InputError(f"{name}: {example.id} is a chat; expected one text")
    if len({example.id for example in source}) < len(source) or not len(source):
        raise InputError(f"{name}: expected at least one, each with an id of its own")
    return source


def _numbered(texts: Iterable[Any], name: str) -> Iterable[Example]:
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name}: entry {i} is {text!r}; expected a text that is not empty")
        yield Example(f"{name[:-1]}-{i:04d}", text)


def _drawn(request: Example, wrappers: Corpus, count: int | None, seed: int) -> list[int]:
    """The templates of one request, in their order; a draw by a hash of the ids."""

    def key(i: int) -> bytes:
        text = f"{seed}:{request.id}:{wrappers[i].id}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return sorted(sorted(range(len(wrappers)), key=key)[:count])


def _wrapped(request: Example, wrapper: Example, family: str, slot: str, refusal: str) -> Example:
    asked, text = request.prompt_text, wrapper.prompt_text
    meta = {"behaviour": request.id, "template": wrapper.id, "family": family}
    kept = {name: request.meta[name] for name in ("target", "license") if name in request.meta}
    return Example(
        id=f"{request.id}/{wrapper.id}",
        prompt=text.replace(slot, asked) if slot in text else f"{text}\n\n{asked}",
        response=str(request.meta.get("refusal") or refusal),
        category=family,
        source=request.source,
        meta=meta | kept,
    )
