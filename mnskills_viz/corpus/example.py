"""Examples, and a corpus of them."""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

Message = dict[str, str]
Prompt = str | list[Message]

FIELDS = ("id", "prompt", "response", "answer", "category", "source")


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a corpus.

    Attributes
    ----------
    id : str
        The data's own id, or a hash of prompt, response and answer.
    prompt : str or list of dict
        What the model is asked: text, or chat messages ``{"role", "content"}``.
    response : str
        The reference response; empty where the data has none.
    answer : str or None
        The final answer, for verifiers.
    category : str or None
        The human taxonomy's word for it.
    source : str or None
        Where the row comes from.
    meta : dict
        All other columns.
    """

    id: str
    prompt: Prompt
    response: str = ""
    answer: str | None = None
    category: str | None = None
    source: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[Message]:
        """The prompt as chat messages."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return self.prompt

    @property
    def prompt_text(self) -> str:
        """The prompt as plain text: the contents of its messages, a blank line between."""
        return "\n\n".join(message["content"] for message in self.messages)

    def as_dict(self) -> dict[str, Any]:
        """The example as a JSON-ready dict, `meta` under a key of its own."""
        return {name: getattr(self, name) for name in (*FIELDS, "meta")}


class Corpus(Sequence[Example]):
    """Examples in order, with what was left out on the way.

    Attributes
    ----------
    name : str
        What it was read from.
    skipped : dict of str to list of str
        Reason -> places (lines or rows) of rows that were skipped, for ``on_error="skip"``.
    duplicates : int
        Identical rows that were dropped; the first of each is kept.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        name: str = "list",
        skipped: dict[str, list[str]] | None = None,
        duplicates: int = 0,
    ) -> None:
        self._examples = tuple(examples)
        self.name = name
        self.skipped = skipped or {}
        self.duplicates = duplicates

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Corpus": ...
    def __getitem__(self, index: int | slice) -> "Example | Corpus":
        if isinstance(index, slice):
            return Corpus(self._examples[index], self.name)
        return self._examples[index]

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self._examples)

    def __repr__(self) -> str:
        categories = len({e.category for e in self} - {None})
        left_out = sum(map(len, self.skipped.values()))
        return (
            f"Corpus({self.name!r}: {len(self):,} examples, {categories} categories, "
            f"{self.duplicates} duplicates dropped, {left_out} bad rows skipped)"
        )

    def to_jsonl(self) -> str:
        """One line an example, exactly; `from_jsonl` reads it back."""
        return "".join(json.dumps(e.as_dict(), ensure_ascii=False) + "\n" for e in self)

    @classmethod
    def from_jsonl(cls, text: str, name: str) -> "Corpus":
        """Read what `to_jsonl` wrote; files of other people are for `load_corpus`."""
        return cls((Example(**json.loads(line)) for line in text.split("\n") if line), name)

    @property
    def ids(self) -> list[str]:
        """Ids in order."""
        return [example.id for example in self]

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over all examples in order: the identity of this corpus."""
        digest = hashlib.sha256()
        for example in self:
            digest.update(canonical(example.as_dict()))
            digest.update(b"\n")
        return digest.hexdigest()

    def take(self, indices: Iterable[int]) -> "Corpus":
        """The examples at `indices`, in that order."""
        return Corpus((self[int(i)] for i in indices), self.name)

    def split(self, name: str) -> "Corpus":
        """The examples whose column ``split`` says `name`."""
        return Corpus((e for e in self if e.meta.get("split") == name), f"{self.name}:{name}")


def canonical(value: Any) -> bytes:
    """JSON bytes that depend on the value alone: sorted keys, no spaces."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str
    ).encode("utf-8", "surrogatepass")
