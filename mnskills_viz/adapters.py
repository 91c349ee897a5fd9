"""LoRA adapters: what a folder of one says, and its weights merged into the model it belongs to."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .files import read_json, sha256

if TYPE_CHECKING:
    import torch

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RECORD = "training.json"
INSTALL = "pip install 'mnskills_viz[sft]'"

# Of LoRA's variants: one that names a module to import, one that is on for some tokens only, and
# one that chooses among several adapters.
_REFUSED = ("megatron_config", "alora_invocation_tokens", "arrow_config")

# PEFT takes a configuration at its word: what is odd in it comes to light anywhere.
_PEFT_ERRORS = (
    *(ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, ImportError, OSError),
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """The folder of an adapter, looked at but not loaded.

    Attributes
    ----------
    folder : Path
    base : str
        The model that it was trained on, as `load_model` takes it.
    revision : str
        Start of the SHA-256 of its weights.
    trained_on : dict
        What `sft` recorded of the base, a `ModelIdentity`; empty where nothing is recorded.
    """

    folder: Path
    base: str
    revision: str
    trained_on: dict[str, Any]

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside it, which then takes the place of the base's."""
        return (self.folder / "tokenizer_config.json").is_file()


def is_adapter(folder: Path) -> bool:
    """Whether `folder` is that of an adapter."""
    return (folder / CONFIG).is_file()


def read_adapter(folder: Path) -> Adapter:
    """Read what an adapter's configuration says.

    Raises
    ------
    InputError
        Not a LoRA adapter that can be merged, one that names no base, or one without safetensors.
    """
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise InputError(
            f"{folder}: the adapter is of the kind {kind!r}; only 'LORA' can be merged"
        )
    for feature in _REFUSED:
        if config.get(feature):
            raise InputError(
                f"{folder}: the adapter uses {feature}, which is not supported; "
                "expected plain LoRA weights"
            )
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise InputError(
            f"{folder}: {CONFIG} names no base model; write its name or folder under "
            "base_model_name_or_path"
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{folder}: no {WEIGHTS}; expected the adapter's weights as safetensors (pickled ones "
            "are not read)"
        )
    return Adapter(folder, base, sha256(folder / WEIGHTS)[:12], _recorded_base(folder / RECORD))


def _recorded_base(record: Path) -> dict[str, Any]:
    """The base in the record of a training, as far as there is one."""
    said = read_json(record) if record.is_file() else None
    for key in ("request", "model"):
        said = said.get(key) if isinstance(said, dict) else None
    return said if isinstance(said, dict) else {}


def adapter_chain(name: str) -> tuple[list[Adapter], str]:
    """The adapters that a name leads through, and the name of the plain model below them.

    Parameters
    ----------
    name : str
        As `load_model` takes it. What is no folder of an adapter leads through none.

    Returns
    -------
    list of Adapter
        That of `name` first; each is the base of the one before.
    str
        The plain model.

    Raises
    ------
    InputError
        An adapter that `read_adapter` refuses, or one that is its own base.
    """
    chain: list[Adapter] = []
    seen: set[Path] = set()
    while is_adapter(folder := Path(name).expanduser()):
        if folder.resolve() in seen:
            raise InputError(f"{name}: the adapter is its own base; correct its {CONFIG}")
        seen.add(folder.resolve())
        chain.append(read_adapter(folder))
        name = chain[-1].base
    return chain, name


def merge(adapter: Adapter, module: Any) -> Any:
    """Add an adapter's weights to those of its base.

    Parameters
    ----------
    adapter : Adapter
    module : transformers.PreTrainedModel
        The base, in float32 so that small updates are not lost; it is changed.

    Returns
    -------
    transformers.PreTrainedModel
        The plain model, its blocks where the base's are.

    Raises
    ------
    InputError
        PEFT is missing, or the adapter does not fit the model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise InputError(f"{adapter.folder}: adapters need PEFT; run: {INSTALL}") from error
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(adapter.folder / WEIGHTS, framework="numpy") as file:
            stored = set(file.keys())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is found below, by name
            with_adapter = PeftModel.from_pretrained(module, adapter.folder, torch_device="cpu")
            fitting = set(get_peft_model_state_dict(with_adapter, save_embedding_layers=False))
            merged = with_adapter.merge_and_unload(safe_merge=True)
    except (*_PEFT_ERRORS, SafetensorError) as error:
        raise InputError(
            f"{adapter.folder}: the adapter does not fit its base {adapter.base} ({_why(error)})"
        ) from error
    if stray := sorted(stored ^ fitting):
        raise InputError(
            f"{adapter.folder}: the adapter does not fit its base {adapter.base}: "
            f"{len(stray)} tensors have no counterpart, such as {stray[0]}"
        )
    return merged


def _why(error: Exception) -> str:
    """The reason in one line: of "Error(s) in loading state_dict for X:" the line below."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[lines[0].endswith(":") and len(lines) > 1].rstrip(".")


def cast_parameters(module: Any, dtype: "torch.dtype") -> None:
    """Give parameters another dtype; buffers, such as rotary frequencies, stay as precise."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
