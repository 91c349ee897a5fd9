"""A row of a training file as its trainer reads it, and rules that several trainers share."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Turn = dict[str, Any]


class UnreadableRowError(Exception):
    """A row that its trainer cannot take apart, with the reason."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What comes before the loss, and what the loss is on.

    Attributes
    ----------
    prompt, completion : list of turns, or str
        Turns have ``role`` and ``content`` under these names, whatever the file calls them. Text
        goes to the model as it is, without a chat template.
    row : dict
        The row as it stands in the file.
    """

    prompt: list[Turn] | str
    completion: list[Turn] | str
    row: dict[str, Any]

    @property
    def is_parted(self) -> bool:
        """Whether the file keeps prompt and completion apart."""
        return "prompt" in self.row

    @property
    def turns(self) -> list[Turn]:
        """All turns in order; none where the row is plain text."""
        parts = (part for part in (self.prompt, self.completion) if isinstance(part, list))
        return [turn for part in parts for turn in part]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a data file: its number, from 0, and what it holds or what is wrong with it."""

    number: int
    value: Any = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the trainer would refuse, skip or cut. `row` None: the folder as a whole."""

    row: int | None
    rule: str
    message: str


RowRule = Callable[[Conversation], str | None]
"""What is wrong with a row, None if nothing is."""

FileRule = Callable[[Sequence[Row]], Iterator[Finding]]
"""What is wrong with all rows together."""


# ------------------------------------------------------------------------------------- reading


def conversation_of(messages: list[Turn], row: dict[str, Any]) -> Conversation:
    """A conversation whose last message is the completion."""
    return Conversation(messages[:-1], messages[-1:], row)


def turns_of(value: Any, column: str, role: str = "role", content: str = "content") -> list[Turn]:
    """A column's list of messages with `role` and `content` under these names.

    Raises
    ------
    UnreadableRowError
        Not a list of messages, or a message without role or content.
    """
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else type(value).__name__
        raise UnreadableRowError(f"{column!r} must be a list of messages, found {found}")
    return [
        _turn(message, f"message {i} of {column!r}", role, content)
        for i, message in enumerate(value)
    ]


def _turn(message: Any, where: str, role: str, content: str) -> Turn:
    if not isinstance(message, dict):
        raise UnreadableRowError(f"{where} is {type(message).__name__}, expected an object")
    if not isinstance(message.get(role), str):
        raise UnreadableRowError(f"{where} has no text {role!r}")
    said = message.get(content)
    calls = message.get("tool_calls") or message.get("function_call")
    if said is None and calls:
        said = ""
    if not isinstance(said, str) and not _is_parts(said):
        raise UnreadableRowError(f"{where} has no text {content!r}")
    # Parquet and `datasets` fill absent keys with null: a key without value is no key.
    others = {
        key: value
        for key, value in message.items()
        if key not in (role, content) and value is not None
    }
    return {"role": message[role], "content": said, **others}


def _is_parts(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(part, dict) for part in content)


def said(turn: Turn) -> str:
    """The text of a turn; of content in parts, the text parts joined."""
    content = turn["content"]
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)


def parts(turn: Turn) -> list[dict[str, Any]]:
    """The parts of a turn's content; none where it is text."""
    return turn["content"] if isinstance(turn["content"], list) else []


def _shows(turn: Turn) -> bool:
    """Whether a turn holds an image, or a part of any other kind than text."""
    return any(part.get("type") not in (None, "text") for part in parts(turn))


# --------------------------------------------------------------------------------- shared rules


def empty_turn(conversation: Conversation) -> str | None:
    """A message that says nothing: its turn trains on, or conditions on, the template alone."""
    for number, turn in enumerate(conversation.turns):
        calls = turn.get("tool_calls") or turn.get("function_call")
        if not said(turn).strip() and not calls and not _shows(turn):
            return f"message {number} ({turn['role']}) is empty"
    completion = conversation.completion
    if isinstance(completion, str) and not completion.strip():
        return "the completion is empty"
    return None


def content_parts(conversation: Conversation) -> str | None:
    """A message is text: content in parts comes out as Python's list where nobody joins them."""
    for number, turn in enumerate(conversation.turns):
        if isinstance(turn["content"], list):
            return (
                f"message {number} ({turn['role']}) has its content in parts, which many chat "
                "templates write as a list; write it as one text"
            )
    return None


def last_turn(conversation: Conversation) -> str | None:
    """The loss is on the last message: it must be the assistant's."""
    turns = conversation.turns
    if turns and turns[-1]["role"] != "assistant":
        return f"the last message is of role {turns[-1]['role']!r}, expected 'assistant'"
    return None


def roles_among(known: Collection[str]) -> RowRule:
    """A rule: every role is one of `known`."""

    def role(conversation: Conversation) -> str | None:
        for number, turn in enumerate(conversation.turns):
            if turn["role"] not in known:
                return (
                    f"message {number} has role {turn['role']!r}, expected one of "
                    f"{', '.join(known)}"
                )
        return None

    return role


def no_columns(stray: Collection[str], effect: str) -> RowRule:
    """A rule: none of the columns `stray` is there; `effect` says what they would do."""

    def stray_column(conversation: Conversation) -> str | None:
        row = conversation.row
        found = [name for name in stray if row.get(name) is not None]
        return f"column {found[0]!r} {effect}; remove it" if found else None

    return stray_column
