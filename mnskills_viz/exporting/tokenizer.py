"""The tokenizer of a model, without the model's weights."""

from pathlib import Path
from typing import Any

from ..adapters import adapter_chain
from ..embedded import dequantised, embedded_gguf, quiet
from ..errors import InputError
from ..models import OWN_CODE, context_length, needs_own_code

# Tokenizers that know no limit say 10^30.
NO_LIMIT = 10**9


def tokenizer_and_context(model: Any) -> tuple[Any, int | None]:
    """A tokenizer and the most tokens that its model takes, as far as they say.

    Parameters
    ----------
    model : str, TransformersModel or tokenizer
        A name as `load_model` takes it, a model that it gave, or a transformers tokenizer.

    Raises
    ------
    InputError
        Something else, or no tokenizer under that name.
    """
    if isinstance(model, str | Path):
        chain, base = adapter_chain(str(model))
        # The tokenizer beside an adapter takes the place of those below, as in `load_model`.
        beside = (str(adapter.folder) for adapter in chain if adapter.has_tokenizer)
        tokenizer = load_tokenizer(next(beside, base))
        return tokenizer, _shortest(tokenizer, _configured_context(_folder_or_id(base)))
    if hasattr(model, "apply_chat_template"):
        return model, _shortest(model, None)
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        found = type(model).__name__
        raise InputError(f"model must be a name, a loaded model or a tokenizer, not {found}")
    return tokenizer, _shortest(tokenizer, context_length(model))


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer that lies under a name.

    Parameters
    ----------
    name : str
        ``"embedded"``, a local folder, a ``.gguf`` file, or a Hugging Face id. Code that
        comes with a model is never run.

    Raises
    ------
    InputError
        No such model, or no tokenizer in it.
    """
    from transformers import AutoTokenizer

    where = _folder_or_id(name)
    local = Path(where).is_dir()
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(
                where, local_files_only=local, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        if needs_own_code(error):
            raise InputError(f"{name}: no tokenizer can be loaded: {OWN_CODE}") from error
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"{name}: no tokenizer can be loaded ({reason}); expected 'embedded', a model's "
            "folder, a .gguf file or a Hugging Face id"
        ) from error


def _folder_or_id(name: str) -> str:
    if name == "embedded":
        return str(dequantised(embedded_gguf()))
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected a GGUF model")
        return str(dequantised(path))
    return str(path) if path.is_dir() else name


def _configured_context(where: str) -> int | None:
    """``max_position_embeddings``, None where there is no configuration."""
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(
                where, local_files_only=Path(where).is_dir(), trust_remote_code=False
            )
    except (OSError, ValueError, KeyError):
        return None
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _shortest(tokenizer: Any, context: int | None) -> int | None:
    said = getattr(tokenizer, "model_max_length", None)
    lengths = [
        length for length in (said, context) if isinstance(length, int) and length < NO_LIMIT
    ]
    return min(lengths, default=None)
