"""Dictionaries in the files of SAELens: ``cfg.json`` and ``sae_weights.safetensors``."""

import importlib.metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load

from ..errors import InputError
from ..files import folder_in_place, read_json, write_bytes, write_json
from .basis import plain

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

# The layout of the configuration that is written and read; earlier ones named things otherwise.
SAE_LENS_VERSION = "6.0.0"

Array = npt.NDArray[np.floating[Any]]


class Autoencoder(NamedTuple):
    """The numbers of a dictionary, float32."""

    encoder: Array
    """[d, m]"""
    encoder_bias: Array
    """[m]"""
    decoder: Array
    """[m, d]"""
    mean: Array
    """[d] taken from rows before they are encoded, and added when they are decoded."""
    threshold: Array | None
    """[m] what a score has to exceed; None where the `k` largest are active."""
    k: int | None


def write_sae_lens(folder: Path, parts: Autoencoder, about: dict[str, Any]) -> None:
    """Make `folder` a dictionary of SAELens; one there is replaced.

    Parameters
    ----------
    folder : Path
    parts : Autoencoder
    about : dict
        Kept under ``metadata.mnskills_viz``; its ``source`` also tells SAELens where to hook.
    """
    with folder_in_place(folder) as building:
        write_dictionary(building, parts, about)


def write_dictionary(folder: Path, parts: Autoencoder, about: dict[str, Any]) -> None:
    """The two files of `write_sae_lens` in a folder that is there."""
    d, m = parts.encoder.shape
    source = about.get("source") or {}
    layer = source.get("layer")
    metadata = {
        "sae_lens_version": SAE_LENS_VERSION,
        "hook_name": f"blocks.{layer}.hook_resid_post" if isinstance(layer, int) else None,
        "mnskills_viz": about | {"version": importlib.metadata.version("mnskills_viz")},
    }
    config = {
        "architecture": "topk" if parts.threshold is None else "jumprelu",
        "d_in": d,
        "d_sae": m,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    tensors = {
        "W_enc": parts.encoder,
        "b_enc": parts.encoder_bias,
        "W_dec": parts.decoder,
        "b_dec": parts.mean,
    }
    if parts.threshold is None:
        config |= {"k": parts.k, "rescale_acts_by_decoder_norm": False}
    else:
        tensors["threshold"] = parts.threshold
    content = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_bytes(folder / WEIGHTS_FILE, save(content))
    write_json(folder / CONFIG_FILE, plain(config, "the dictionary"))


def read_sae_lens(folder: Path) -> tuple[Autoencoder, dict[str, Any]]:
    """What `write_sae_lens` or SAELens wrote, and its ``metadata.mnskills_viz``, if any.

    The codes are those of SAELens: what it does at run time by its options is folded into the
    numbers here.

    Raises
    ------
    InputError
        A file is missing or damaged, or the dictionary is of a kind that is not read.
    """
    config = read_json(folder / CONFIG_FILE)
    weights = folder / WEIGHTS_FILE
    try:
        stored = load(weights.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {weights}: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"{weights} is damaged: not safetensors ({error})") from error
    try:
        kind, k = _activation(config, folder)
        names = ("W_enc", "b_enc", "W_dec", "b_dec")
        encoder, bias, decoder, mean = (_float64(stored[name]) for name in names)
        threshold = _float64(stored["threshold"]) if kind == "jumprelu" else np.zeros(len(bias))
        shape = (config["d_in"], config["d_sae"])
        about = (config.get("metadata") or {}).get("mnskills_viz") or {}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is not a whole dictionary: it lacks {error}") from error
    m = len(bias)
    found = (encoder.shape, decoder.T.shape, (len(mean), m), (len(mean), len(threshold)))
    if any(one != tuple(shape) for one in found) or (k or 0) > m:
        raise InputError(f"{weights} is not of the shape {shape} that {CONFIG_FILE} says")
    if config.get("rescale_acts_by_decoder_norm"):
        lengths = np.linalg.norm(decoder, axis=1)
        encoder, bias, decoder = encoder * lengths, bias * lengths, decoder / lengths[:, None]
    if not config.get("apply_b_dec_to_input", True):
        bias = bias + mean @ encoder  # it is encoded without taking the mean first
    parts = Autoencoder(
        encoder.astype(np.float32),
        bias.astype(np.float32),
        decoder.astype(np.float32),
        mean.astype(np.float32),
        None if kind == "topk" else threshold.astype(np.float32),
        k,
    )
    return parts, about


def _activation(config: dict[str, Any], folder: Path) -> tuple[str, int | None]:
    """Which kind of dictionary it is, and its `k`; refuses what cannot be folded into numbers."""
    kind, k = config.get("architecture", "standard"), config.get("k")
    function = config.get("activation_fn_str", config.get("activation_fn", "relu"))  # before 6.0
    if function == "topk":
        kind, k = "topk", config["activation_fn_kwargs"]["k"]
    elif function != "relu":
        raise InputError(f"{folder}: the activation {function!r} is not read; expected relu")
    if kind not in ("topk", "jumprelu", "standard"):
        raise InputError(
            f"{folder}: a dictionary of the architecture {kind!r} is not read; expected topk, "
            "jumprelu or standard (of a training save the inference model)"
        )
    for option, harmless in (
        ("normalize_activations", ("none", None, False)),
        ("reshape_activations", ("none", None)),
        ("finetuning_scaling_factor", (False, None)),
    ):
        if config.get(option) not in harmless:
            raise InputError(
                f"{folder}: {option}={config[option]!r} cannot be read; fold it into the weights"
            )
    return kind, k if kind == "topk" else None


def _float64(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()
