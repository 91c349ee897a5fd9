"""The shapes that rows come in, recognised by their columns.

Nothing is guessed silently: a row that does not fit says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .example import Message, Prompt


class BadRowError(Exception):
    """A row that does not fit, with the reason."""


def text(row: dict[str, Any], column: str, *, required: bool = True) -> str:
    """Read a column as text; numbers become their shortest decimal form."""
    value = row.get(column)
    if value is None or value == "":
        if required:
            raise BadRowError(f"no {column!r}" if column not in row else f"{column!r} is empty")
        return ""
    if not isinstance(value, str | int | float):
        raise BadRowError(f"{column!r} is {type(value).__name__}, expected text")
    text = _number(value) if isinstance(value, int | float) else value
    if required and not text.strip():
        raise BadRowError(f"{column!r} is empty")
    return text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _messages(
    value: Any, column: str, role: str = "role", content: str = "content"
) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRowError(f"{column!r} is not a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get(content), str):
            raise BadRowError(f"a message in {column!r} has no text {content!r}")
        name = _ROLES.get(str(message.get(role)))
        if name is None:
            raise BadRowError(
                f"a message in {column!r} has an unknown {role!r}: {message.get(role)!r}"
            )
        messages.append({"role": name, "content": message[content]})
    return messages


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}


def _conversation(messages: list[Message], column: str) -> dict[str, Any]:
    """A conversation's last assistant turn is the response, what comes before it the prompt."""
    if messages[-1]["role"] != "assistant":
        raise BadRowError(f"{column!r} does not end with an assistant message")
    if len(messages) == 1:
        raise BadRowError(f"{column!r} has no message before the assistant's")
    if not messages[-1]["content"].strip():
        raise BadRowError(f"the last assistant message in {column!r} is empty")
    prompt: Prompt = messages[:-1]
    if len(messages) == 2 and messages[0]["role"] == "user":
        prompt = messages[0]["content"]
        if not prompt.strip():
            raise BadRowError(f"the user message in {column!r} is empty")
    return {"prompt": prompt, "response": messages[-1]["content"]}


def _gsm8k(row: dict[str, Any]) -> dict[str, Any]:
    response = text(row, "answer")
    _, mark, final = response.rpartition("####")
    return {
        "prompt": text(row, "question"),
        "response": response,
        "answer": final.strip().replace(",", "") if mark else None,
    }


def _svamp(row: dict[str, Any]) -> dict[str, Any]:
    answer = text(row, "Answer")
    return {
        "id": text(row, "ID", required=False) or None,
        "prompt": f"{text(row, 'Body').strip()} {text(row, 'Question').strip()}",
        "response": answer.removesuffix(".0"),
        "answer": answer.removesuffix(".0"),
        "category": text(row, "Type", required=False) or None,
    }


def _math(row: dict[str, Any]) -> dict[str, Any]:
    solution = text(row, "solution")
    return {
        "prompt": text(row, "problem"),
        "response": solution,
        "answer": _boxed(solution),
        "category": text(row, "type", required=False) or None,
    }


def _boxed(solution: str) -> str | None:
    r"""The content of the last ``\boxed{...}``, braces balanced."""
    start = solution.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 0
    for end in range(start + 6, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start + 7 : end]
    return None


def _alpaca(row: dict[str, Any]) -> dict[str, Any]:
    context = text(row, "input", required=False)
    instruction = text(row, "instruction")
    return {
        "prompt": f"{instruction}\n\n{context}" if context.strip() else instruction,
        "response": text(row, "output"),
    }


def _sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    messages = _messages(row["conversations"], "conversations", role="from", content="value")
    return _conversation(messages, "conversations")


def _chat(row: dict[str, Any]) -> dict[str, Any]:
    return _conversation(_messages(row["messages"], "messages"), "messages")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Prompt and response (or TRL's completion), each a text or messages."""
    prompt = row.get("prompt")
    prompt = _messages(prompt, "prompt") if isinstance(prompt, list) else text(row, "prompt")
    column = "response" if "response" in row else "completion"
    response = row.get(column)
    if isinstance(response, list):
        turns = _messages(response, column)
        if len(turns) != 1 or turns[0]["role"] != "assistant":
            raise BadRowError(f"{column!r} is not one assistant message")
        response = turns[0]["content"]
    else:
        response = text(row, column, required=False)
    return {
        "id": text(row, "id", required=False) or None,
        "prompt": prompt,
        "response": response,
        "answer": text(row, "answer", required=False) or None,
        "category": text(row, "category", required=False) or None,
        "source": text(row, "source", required=False) or None,
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """A layout of columns and how to read it. `used` are the columns that do not go to meta."""

    name: str
    needs: frozenset[str]
    used: frozenset[str]
    read: Callable[[dict[str, Any]], dict[str, Any]]


def _shape(
    name: str, needs: str, read: Callable[[dict[str, Any]], dict[str, Any]], used: str = ""
) -> Shape:
    return Shape(name, frozenset(needs.split()), frozenset((needs + " " + used).split()), read)


SHAPES = (
    _shape("prompt", "prompt", _plain, "id response completion answer category source"),
    _shape("messages", "messages", _chat),
    _shape("ShareGPT", "conversations", _sharegpt),
    _shape("SVAMP", "Body Question Answer", _svamp, "ID Type"),
    _shape("MATH", "problem solution", _math, "type"),
    _shape("Alpaca", "instruction output", _alpaca, "input"),
    _shape("GSM8K", "question answer", _gsm8k),
)


def recognise(columns: set[str]) -> Shape | None:
    """Return the first shape whose columns are all there."""
    return next((shape for shape in SHAPES if shape.needs <= columns), None)
