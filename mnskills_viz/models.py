"""A name -> an nnsight model, and where its residual stream is."""

import contextlib
import functools
import hashlib
import json
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import Adapter, adapter_chain, cast_parameters, merge
from .devices import fast_dtype, torch_device
from .embedded import EMBEDDED_SHA256, dequantised, embedded_gguf, quiet
from .errors import InputError

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """How a model was loaded: enough to load it again, in another process.

    Attributes
    ----------
    name, device : str
        As `load_model` takes them.
    dtype : str
        What ``"auto"`` stood for, if that was asked for.
    blocks : str or None
        Path of the list of decoder blocks, where the user named it.
    """

    name: str
    dtype: str
    device: str
    blocks: str | None


_SPECS: "weakref.WeakKeyDictionary[Any, ModelSpec]" = weakref.WeakKeyDictionary()


def load_model(
    name: str, dtype: str = "auto", device: str = "auto", blocks: str | None = None
) -> "TransformersModel":
    """Load a decoder for tracing.

    Parameters
    ----------
    name : str
        ``"embedded"`` (SmolLM2-135M-Instruct, no network), a local folder with a
        ``config.json``, a ``.gguf`` file, a Hugging Face model id, or the folder of a LoRA
        adapter (of `sft`, or any that PEFT reads): its base is loaded by the name that it
        recorded, and the adapter merged into it in float32.
    dtype : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"``: bfloat16 where the processor or GPU is fast at it, else float32.
    device : str
        ``"auto"``: a GPU if there is one, else the CPU; or a torch device such as ``"cuda:1"``.
    blocks : str, optional
        Path of the list of decoder blocks inside the model, such as ``"model.layers"``. Needed
        only where it cannot be found by structure.

    Returns
    -------
    nnsight.modeling.transformers.TransformersModel
        In evaluation mode, parameters frozen.

    Raises
    ------
    InputError
        Missing package, no such model or no network, not a decoder, unknown dtype or device, or
        no list of blocks under that path.
    """
    import torch
    from nnsight.modeling.transformers import TransformersModel

    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    place = torch_device(device)
    chosen = fast_dtype(place) if dtype == "auto" else getattr(torch, dtype)
    module, tokenizer = _load(name, chosen)
    module.to(place).eval().requires_grad_(False)
    _require_causal(module, name)
    module.config._name_or_path = name
    model = TransformersModel(module, tokenizer=tokenizer, task="text-generation")
    spec = ModelSpec(name, str(chosen).removeprefix("torch."), device, blocks)
    _SPECS[torch_module(model)] = spec
    if blocks is not None:
        blocks_path(model)  # a mistyped path is said now, not in the middle of a study
    return model


def spec_of(model: "TransformersModel") -> ModelSpec:
    """How a model of `load_model` was loaded.

    Raises
    ------
    InputError
        It was made some other way.
    """
    if torch_module(model) not in _SPECS:
        raise InputError("this model was not loaded by load_model: other processes cannot load it")
    return _SPECS[torch_module(model)]


def _load(name: str, dtype: "torch.dtype") -> tuple[Any, Any]:
    """Module and tokenizer of `name`, on the CPU; of an adapter, merged into its base."""
    import torch
    from transformers import AutoTokenizer

    chain, base = adapter_chain(name)
    if not chain:
        return _load_plain(name, dtype)
    try:
        module, tokenizer = _load_plain(base, torch.float32)
    except InputError as error:
        raise InputError(f"{name}: the adapter's base cannot be loaded: {error}") from error
    for adapter in reversed(chain):
        _warn_of_another_base(adapter, module)
        module = merge(adapter, module)
        if adapter.has_tokenizer:
            with _explained(str(adapter.folder), local=True):
                tokenizer = AutoTokenizer.from_pretrained(
                    adapter.folder, local_files_only=True, trust_remote_code=False
                )
    cast_parameters(module, dtype)
    module.config._commit_hash = chain[0].revision
    return module, tokenizer


def _warn_of_another_base(adapter: Adapter, module: Any) -> None:
    """Say so if the base's weights are not those that the adapter was trained on."""
    import torch

    dtype = getattr(torch, str(adapter.trained_on.get("dtype")), None)
    weights = adapter.trained_on.get("weights")
    if isinstance(dtype, torch.dtype) and weights not in (None, _weights_hash(module, dtype)):
        warnings.warn(
            f"{adapter.folder}: the weights of its base {adapter.base} are not those that the "
            "adapter was trained on; train it again, or put the earlier base back",
            stacklevel=4,
        )


def _load_plain(name: str, dtype: "torch.dtype") -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where, revision = _source(name)
    local = Path(where).is_dir()
    # Said each time: where nothing is said, transformers asks on the terminal and runs the code.
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    with _explained(name, local):
        config = AutoConfig.from_pretrained(where, **options)
        _require_decoder(config, name)
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        module = AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, use_safetensors=True, **options
        )
    if revision is not None:
        module.config._commit_hash = revision
    return module, tokenizer


def _source(name: str) -> tuple[str, str | None]:
    """Folder or hub id that `name` stands for, and the revision where it is a file's hash."""
    if name == "embedded":
        return str(dequantised(embedded_gguf())), EMBEDDED_SHA256[:12]
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected a GGUF model")
        folder = dequantised(path)
        return str(folder), folder.name.rpartition("-")[2]
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"{name}: the folder has no config.json; expected a Hugging Face model"
            )
        return str(path), None
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(
            f"{name}: no such folder; expected 'embedded', a folder, a .gguf file or a "
            "Hugging Face id such as Qwen/Qwen3-0.6B"
        )
    return name, None


@contextlib.contextmanager
def _explained(name: str, local: bool) -> Iterator[None]:
    """Load quietly, and say in one line why it failed."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(_why_not_loaded(name, error, local)) from error


def needs_own_code(error: Exception) -> bool:
    """Whether a model was not loaded because that needs code that comes with it (``auto_map``)."""
    return "trust_remote_code" in str(error)


OWN_CODE = (
    "it brings code of its own (auto_map), which is never run; use a model whose architecture "
    "transformers has"
)


def _why_not_loaded(name: str, error: Exception, local: bool) -> str:
    if needs_own_code(error):
        return f"{name}: the model cannot be loaded: {OWN_CODE}"
    first = str(error).strip().split("\n")[0].rstrip(".")
    if local:
        return f"{name}: the model in this folder cannot be loaded ({first})"
    return (
        f"{name}: not a local folder, and the Hugging Face hub did not give it ({first}); check "
        "the name and the network, or use 'embedded' (SmolLM2-135M-Instruct, no network needed)"
    )


def _require_decoder(config: Any, name: str) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    architectures = getattr(config, "architectures", None) or []
    named_so = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
    is_decoder = (
        not getattr(config, "is_encoder_decoder", False)
        and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        and (not architectures or any(word in a for a in architectures for word in named_so))
    )
    if not is_decoder:
        found = architectures[0] if architectures else config.model_type
        raise InputError(
            f"{name} is a {found}, not a decoder language model; "
            "expected one that AutoModelForCausalLM loads for generation"
        )


def _require_causal(module: Any, name: str) -> None:
    """Refuse a model whose first token sees the second, such as BERT with a language head."""
    import torch

    pair = torch.tensor([[0, 0], [0, 1]], device=module.device)
    with torch.inference_mode():
        first = module(pair, attention_mask=torch.ones_like(pair)).logits[:, 0].float()
    if not torch.allclose(first[0], first[1], rtol=1e-2, atol=1e-2, equal_nan=True):
        raise InputError(
            f"{name} is a {type(module).__name__} that reads in both directions, not a decoder; "
            "expected a model that predicts each token from those before it"
        )


def processor() -> str:
    """Say what a model would run on here, and in which dtype."""
    import torch

    place = torch_device("auto")
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU"
    dtype = str(fast_dtype(place)).removeprefix("torch.")
    return f"{name}, {torch.get_num_threads()} threads, {dtype}"


# ----------------------------------------------------------------------------------- structure


_LOCKS: "weakref.WeakKeyDictionary[Any, threading.RLock]" = weakref.WeakKeyDictionary()


def exclusive(model: "TransformersModel") -> "threading.RLock":
    """Return the lock that whoever runs or changes `model` holds, as a context manager.

    A widget generates in a thread of its own: a cell that collects at the same time must not read
    a steered model, and nnsight runs one trace at a time.
    """
    return _LOCKS.setdefault(torch_module(model), threading.RLock())


def torch_module(model: "TransformersModel") -> Any:
    """The transformers model inside the nnsight one."""
    return model._module


def blocks_path(model: "TransformersModel") -> str:
    """Path of the list of decoder blocks, such as ``"model.layers"``.

    As the user named it, or found by structure: of the module lists that are as long as the
    configuration says there are layers, the one that lies least deep.

    Raises
    ------
    InputError
        None found, or several; the module lists that there are, are named.
    """
    import torch

    module = torch_module(model)
    spec = _SPECS.get(module)
    lists = {
        name: len(child)
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.ModuleList)
    }
    if spec is not None and spec.blocks is not None:
        if spec.blocks not in lists:
            raise InputError(
                f"{type(module).__name__} has no module list {spec.blocks!r}; {_candidates(lists)}"
            )
        return spec.blocks
    depth = getattr(module.config.get_text_config(), "num_hidden_layers", None)
    found = [name for name, length in lists.items() if length == depth]
    least = min((name.count(".") for name in found), default=0)
    shallowest = [name for name in found if name.count(".") == least]
    if len(shallowest) != 1:
        said = f"should be {depth} by its configuration" if depth else "its configuration says none"
        raise InputError(
            f"cannot find the decoder blocks of {type(module).__name__} ({said}); "
            f'{_candidates(lists)}; name them with load_model(..., blocks="PATH")'
        )
    return str(shallowest[0])


def _candidates(lists: dict[str, int]) -> str:
    """Module lists and their lengths, those inside other lists left out."""
    outer = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    shown = ", ".join(f"{name!r} of {lists[name]}" for name in outer)
    return f"it has the module lists {shown}" if shown else "it has no module list"


def blocks(model: "TransformersModel") -> list[Any]:
    """The decoder blocks as nnsight envoys, in forward order."""
    envoys = functools.reduce(getattr, blocks_path(model).split("."), model)
    return list(envoys)


def block_modules(model: "TransformersModel") -> list["torch.nn.Module"]:
    """The decoder blocks as torch modules, in forward order."""
    return list(torch_module(model).get_submodule(blocks_path(model)))


def d_model(model: "TransformersModel") -> int:
    """Width of the residual stream."""
    return int(torch_module(model).config.get_text_config().hidden_size)


def context_length(model: "TransformersModel") -> int | None:
    """Most tokens that the model takes, if its configuration says."""
    config = torch_module(model).config.get_text_config()
    return getattr(config, "max_position_embeddings", None)


def longest_shared(model: "TransformersModel") -> int | None:
    """Length above which a row must not share a batch, None if there is no such length.

    With dynamic or long RoPE scaling the rotation of every row depends on the longest of its
    batch, once that exceeds the length that the model was first trained on.
    """
    config = torch_module(model).config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    if not any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds):
        return None
    original = [kind.get("original_max_position_embeddings") for kind in kinds]
    known = [length for length in original if length] or [context_length(model) or 1]
    return int(min(known))


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What makes two loaded models the same, for stores and files to compare.

    Attributes
    ----------
    name, revision : str
        As it was asked for, and the hub's commit or the hash of the file it came from.
    dtype : str
    weights, tokenizer : str
        Hashes over all tensors' names, shapes and a sample of their values, and over the
        tokenizer's vocabulary and chat template.
    n_layers, d_model : int
    """

    name: str
    revision: str
    dtype: str
    weights: str
    tokenizer: str
    n_layers: int
    d_model: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def identity(model: "TransformersModel") -> ModelIdentity:
    """Say which model this is."""
    module = torch_module(model)
    return ModelIdentity(
        name=module.config._name_or_path or type(module).__name__,
        revision=getattr(module.config, "_commit_hash", None) or "none",
        dtype=str(module.dtype).removeprefix("torch."),
        weights=_weights_hash(module),
        tokenizer=_tokenizer_hash(model.tokenizer),
        n_layers=len(block_modules(model)),
        d_model=d_model(model),
    )


def differs(
    model: "TransformersModel", other: Mapping[str, Any], *, weights: bool = True
) -> str | None:
    """Say what tells a loaded model from another that was written down, if anything does.

    Parameters
    ----------
    model : TransformersModel
    other : mapping
        A `ModelIdentity` as a dict; what it lacks is not compared, nor are name and revision.
    weights : bool
        Whether to compare weights: rounded to the other's dtype, if the model's dtype holds that
        (the float32 weights of what was bfloat16, but not the other way round).

    Returns
    -------
    str or None
        The first difference, such as ``"n_layers 30 there, 4 here"``.
    """
    import torch

    module = torch_module(model)
    here: dict[str, Callable[[], Any]] = {
        "n_layers": lambda: len(block_modules(model)),
        "d_model": lambda: d_model(model),
        "weights": lambda: _weights_hash(module, None if dtype == module.dtype else dtype),
        "tokenizer": lambda: _tokenizer_hash(model.tokenizer),
    }
    dtype = getattr(torch, str(other.get("dtype")), None)
    holds = isinstance(dtype, torch.dtype) and torch.promote_types(dtype, module.dtype) == (
        module.dtype
    )
    if not weights or not holds or any(p.is_meta for p in module.parameters()):
        del here["weights"]
    for name, of_model in here.items():
        there = other.get(name)
        if there is not None and there != (found := of_model()):
            return f"{name} {there} there, {found} here"
    return None


def _weights_hash(module: Any, dtype: "torch.dtype | None" = None) -> str:
    """Hash of the parameters, rounded to `dtype`; by default as they are."""
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        flat = parameter.detach().reshape(-1)
        # A sample is enough to tell two fine-tunes apart, and costs nothing on a large model.
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        if not parameter.is_meta:  # a model that runs elsewhere has no values here
            sample = flat[:: max(1, flat.numel() // 4096)].to(dtype or flat.dtype)
            digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _tokenizer_hash(tokenizer: Any) -> str:
    content = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
