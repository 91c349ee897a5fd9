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
INSTALL = "pip install 'mnskills_viz[sft]'"

# Of LoRA's variants: one that names a module to import, and one that is on for some tokens only.
_REFUSED = ("megatron_config", "alora_invocation_tokens")


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
    """

    folder: Path
    base: str
    revision: str

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
    return Adapter(folder, base, sha256(folder / WEIGHTS)[:12])


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
    except (ValueError, RuntimeError, KeyError, TypeError, OSError, SafetensorError) as error:
        first = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"{adapter.folder}: the adapter does not fit its base {adapter.base} ({first})"
        ) from error
    if stray := sorted(stored ^ fitting):
        raise InputError(
            f"{adapter.folder}: the adapter does not fit its base {adapter.base}: "
            f"{len(stray)} tensors have no counterpart, such as {stray[0]}"
        )
    return merged


def cast_parameters(module: Any, dtype: "torch.dtype") -> None:
    """Give parameters another dtype; buffers, such as rotary frequencies, stay as precise."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
