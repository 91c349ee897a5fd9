"""How results are kept: as JSON gives them back, and under keys that tell them apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from ..corpus import Corpus, Prompt
from ..files import sha256


def as_json(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def named_source(option: str, corpus: str | Path | Corpus | None) -> dict[str, Any]:
    """What was asked for, so that it can be told from something else later."""
    if corpus is None:
        return {}
    if isinstance(corpus, Corpus):
        return {option: corpus.name}
    path = Path(corpus).expanduser()
    if not path.is_file():
        return {option: str(corpus)}
    return {option: str(path.resolve()), f"{option} SHA-256": sha256(path)}


def key_of(value: Any) -> str:
    """16 hexadecimal digits that tell one prompt, or what else JSON holds, from another."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def as_text(prompt: Prompt) -> str:
    """A prompt as one text, for people."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message["content"] for message in prompt)


def read_table(file: Path) -> pd.DataFrame | None:
    """A kept table; None where there is none or it is damaged: it will be computed anew."""
    if not file.exists():
        return None
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError):
        return None


def as_parquet(table: pd.DataFrame) -> bytes:
    """Parquet bytes of a table, its `attrs` with it."""
    return table.to_parquet(index=False)
