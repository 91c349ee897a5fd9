"""Rows after the chat template: how long they are, and what the loss would be on."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .conversation import Conversation, parts, said

CHUNK = 512


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row as token ids.

    Attributes
    ----------
    prompt, whole : list of int
        The prompt with the mark that opens the answer, and the whole row.
    text : str
        The whole row as text, special tokens written out.
    """

    prompt: list[int]
    whole: list[int]
    text: str

    @property
    def shared(self) -> int:
        """How many tokens prompt and whole row have in common: TRL's loss begins there."""
        pairs = zip(self.prompt, self.whole, strict=False)
        differ = (i for i, (one, other) in enumerate(pairs) if one != other)
        return next(differ, min(len(self.prompt), len(self.whole)))


@dataclass(frozen=True, slots=True)
class Ruler:
    """What rows are measured with.

    Attributes
    ----------
    tokenizer : transformers tokenizer
    limit : int or None
        The most tokens of a row.
    limit_name : str
        What sets it, for people.
    special : re.Pattern or None
        Finds the tokenizer's special tokens in a text.
    marks : frozenset of int
        Tokens that no text is split into by itself: special ones, and others that were added.
    is_context : bool
        Whether the limit is the model's own: no trainer acts on it.
    """

    tokenizer: Any
    limit: int | None
    limit_name: str
    special: re.Pattern[str] | None
    marks: frozenset[int]
    is_context: bool

    @classmethod
    def of(
        cls, tokenizer: Any, limit: int | None, limit_name: str, *, is_context: bool = False
    ) -> "Ruler":
        """Measure with `tokenizer`."""
        added = getattr(tokenizer, "added_tokens_decoder", {})
        names = {*tokenizer.all_special_tokens, *(str(t) for t in added.values() if t.special)}
        longest_first = sorted(names - {""}, key=lambda name: (-len(name), name))
        special = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        # Some tokenizers add runs of spaces, which mark nothing.
        marks = {number for number, token in added.items() if str(token).strip()}
        marks.update(tokenizer.all_special_ids)
        return cls(tokenizer, limit, limit_name, special, frozenset(marks), is_context)

    def excess(self, tokens: Tokens, effect: str) -> str | None:
        """That a row is longer than the limit, and what becomes of it; None if it is not."""
        if self.limit is None or len(tokens.whole) <= self.limit:
            return None
        if self.is_context:
            effect = "the model does not know positions beyond"
        return f"{len(tokens.whole)} tokens, {self.limit_name} is {self.limit}: {effect}"

    def tokens(
        self, conversations: Sequence[Conversation]
    ) -> Iterator[tuple[Conversation, Tokens | str]]:
        """Each row as the trainer tokenises it, or what its chat template says against it.

        ``apply_chat_template(tokenize=True)`` renders, then tokenises without adding special
        tokens: the same here, many rows at a time. Rows of plain text get the special tokens.
        """
        for start in range(0, len(conversations), CHUNK):
            chunk = conversations[start : start + CHUNK]
            texts = [self._texts(conversation) for conversation in chunk]
            there = [text for text in texts if isinstance(text, _Texts)]
            templated, plain = (self._ids(there, kind) for kind in (True, False))
            for conversation, text in zip(chunk, texts, strict=True):
                if isinstance(text, str):
                    yield conversation, text
                else:
                    ids = templated if text.templated else plain
                    yield conversation, Tokens(next(ids), next(ids), text.whole)

    def _ids(self, texts: "Sequence[_Texts]", templated: bool) -> Iterator[list[int]]:
        """Ids of prompt and whole row in turn."""
        both = [part for t in texts if t.templated is templated for part in (t.prompt, t.whole)]
        if not both:
            return iter(())
        # Not verbose: rows beyond the context are what the rules are there to tell.
        encoded = self.tokenizer(both, add_special_tokens=not templated, verbose=False)
        return iter(encoded["input_ids"])

    def _texts(self, conversation: Conversation) -> "_Texts | str":
        import jinja2

        prompt, completion = conversation.prompt, conversation.completion
        if isinstance(prompt, str) or isinstance(completion, str):
            whole, end = f"{prompt}{completion}", self.tokenizer.eos_token or ""
            return _Texts(str(prompt), whole.removesuffix(end) + end, templated=False)
        if self.tokenizer.chat_template is None:
            # A trainer with templates of its own: contents alone are a lower bound.
            before, all_ = ("\n".join(map(said, part)) for part in (prompt, conversation.turns))
            return _Texts(before, all_, templated=True)
        render = self.tokenizer.apply_chat_template
        try:
            whole = render(conversation.turns, tokenize=False)
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            return _reason(error)
        try:
            opened = render(prompt, tokenize=False, add_generation_prompt=True) if prompt else ""
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            if conversation.is_parted:
                return _reason(error)
            opened = ""  # the trainer never renders the prompt alone
        return _Texts(opened, whole, templated=True)


@dataclass(frozen=True, slots=True)
class _Texts:
    prompt: str
    whole: str
    templated: bool


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


# ---------------------------------------------------------------------------------------- rules

TokenRule = Callable[[Conversation, Tokens, Ruler], str | None]
"""What is wrong with a row's tokens, None if nothing is."""


def longer_than_limit(effect: str) -> TokenRule:
    """A rule: no row is longer than the limit; `effect` says what becomes of one that is."""

    def too_long(_: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
        return ruler.excess(tokens, effect)

    return too_long


def double_bos(_: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """The mark of the beginning twice: a context that the model has never seen."""
    bos = ruler.tokenizer.bos_token_id
    if bos is not None and tokens.whole[:2] == [bos, bos]:
        return f"begins with {ruler.tokenizer.bos_token} twice: leave it out of the text"
    return None


def prompt_prefix(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """The prompt alone must be how the whole row begins, or the loss begins elsewhere."""
    lost = len(tokens.prompt) - tokens.shared
    if not conversation.is_parted or not lost:
        return None
    end = ruler.tokenizer.decode(tokens.prompt[tokens.shared :])
    return (
        f"the prompt's last {lost} tokens ({end[:60]!r}) are not in the whole row: the loss does "
        "not begin where the answer does"
    )


def empty_completion(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """Something must be left to learn once the template has been applied."""
    tail = tokens.whole[tokens.shared :]
    # Whitespace and marks are few tokens: long tails need not be decoded.
    if not tokens.prompt or len(tail) > 16:
        return None
    if not ruler.tokenizer.decode(tail, skip_special_tokens=True).strip():
        return "nothing of the completion is left after the chat template"
    return None


def no_end_mark(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """An answer must end with a mark, or the model never learns to stop."""
    tail = tokens.whole[tokens.shared :]
    after = next((i for i, token in enumerate(reversed(tail)) if token in ruler.marks), len(tail))
    if after and ruler.tokenizer.decode(tail[len(tail) - after :]).strip():
        return "no end mark follows the answer: the model does not learn to stop"
    return None


def special_token(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """Marks inside a message are read as marks: a turn ends or begins in its middle."""
    if ruler.special is None:
        return None
    for number, turn in enumerate(conversation.turns):
        mark = ruler.special.search(said(turn))
        if mark:
            return f"message {number} ({turn['role']}) holds the special token {mark[0]!r}"
    return None


def dropped_text(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """A template may leave out a role, or the thinking of an earlier turn, without a word."""
    if ruler.tokenizer.chat_template is None:
        return None
    written = "".join(tokens.text.split())
    for number, turn in enumerate(conversation.turns):
        if "".join(said(turn).split()) not in written:
            return f"the chat template leaves out text of message {number} ({turn['role']})"
    return None


def written_parts(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """A template that knows no content in parts writes Python's or JSON's form of them."""
    written = "".join(tokens.text.split())
    for number, turn in enumerate(conversation.turns):
        for part in parts(turn):
            forms = (str(part), json.dumps(part), json.dumps(part, ensure_ascii=False))
            text = "".join(str(part.get("text") or "").split())
            if not text or text not in written or any("".join(f.split()) in written for f in forms):
                return (
                    f"the chat template does not write the parts of message {number} "
                    f"({turn['role']}) as text; write its content as one text"
                )
    return None
