"""Files of steering vectors: our own (safetensors), llama.cpp's (GGUF), lm-evaluation-harness's."""

import importlib.metadata
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..bases.basis import plain
from ..errors import InputError
from ..files import write_bytes
from ..models import block_modules, torch_module
from .hooks import Mode

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Format = Literal["gguf", "lm-eval", "safetensors"]

FORMAT = 1
HOOK_POINT = "output of decoder block N: the residual stream, before the final norm"
OPERATIONS: dict[Mode, str] = {
    "add": "h + block.N",
    "ablate": "h - (h . block.N) block.N",
}
OWN_UNIT = "that of the residual stream"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a steering vector is made of, for files.

    Attributes
    ----------
    directions : dict of int to ndarray of float32, [d_model]
    mode : {"add", "ablate"}
    source : dict or None
    fingerprint : str
    """

    directions: dict[int, NDArray[np.float32]]
    mode: Mode
    source: dict[str, Any] | None
    fingerprint: str


def export(parts: Parts, path: str | Path, kind: Format, model: "TransformersModel | None") -> Path:
    """Write a steering vector in the format `kind`; see `SteeringVector.export`."""
    if kind not in _WRITERS:
        raise InputError(f"format must be one of {', '.join(_WRITERS)}, not {kind!r}")
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder; expected the name of a file")
    write_bytes(target, _WRITERS[kind](parts, target, model))
    return target


# --------------------------------------------------------------------------------- safetensors


def _safetensors(parts: Parts, target: Path, model: "TransformersModel | None") -> bytes:
    about = json.dumps(_about(parts), ensure_ascii=False)
    tensors = {f"block.{block}": vector for block, vector in parts.directions.items()}
    return bytes(save(tensors, metadata={"mnskills": about}))


def _about(parts: Parts) -> dict[str, Any]:
    """What a reader must know to use the numbers."""
    source = plain(parts.source, "the source of the steering vector")
    about = source or {}
    return {
        "format": FORMAT,
        "mode": parts.mode,
        "operation": OPERATIONS[parts.mode],
        "hook_point": HOOK_POINT,
        "layers": "0-based: block 0 is the first",
        "dose": about.get("dose"),
        "unit_of_dose": about.get("unit") or OWN_UNIT,
        "model_revision": (about.get("model") or {}).get("revision"),
        "source": source,
        "fingerprint": parts.fingerprint,
        "version": importlib.metadata.version("mnskills_viz"),
    }


def read_safetensors(path: str | Path) -> Parts:
    """What `export` wrote as safetensors; the fingerprint is as the file says.

    Raises
    ------
    InputError
        No such file, a damaged one, one that is no steering vector, or of a later version.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        reason = error.strerror or "no such file"
        raise InputError(f"cannot read {path}: {reason}") from error
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: not safetensors ({error})") from error
    if "mnskills" not in metadata:
        raise InputError(
            f"{path} is not a steering vector; expected a file of "
            'SteeringVector.export(path, "safetensors")'
        )
    try:
        about = json.loads(metadata["mnskills"])
        if about["format"] != FORMAT:
            raise InputError(
                f"{path} is of format {about['format']}, this version reads {FORMAT}; "
                "update mnskills_viz"
            )
        directions = {int(name.removeprefix("block.")): tensors[name] for name in tensors}
        return Parts(directions, about["mode"], about["source"], about["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: its metadata lacks or misnames {error}") from error


# --------------------------------------------------------------------------------- other engines


def _gguf(parts: Parts, target: Path, model: "TransformersModel | None") -> bytes:
    """A control vector of llama.cpp: ``direction.N`` is added to the output of block `N`, 0-based.

    Its reader takes `N` from 1, float32 only, and zeros for what is missing up to the last.
    """
    from gguf import GGUFWriter

    if parts.mode != "add":
        raise InputError(
            "llama.cpp can only add control vectors, and this one removes a component; export it "
            'as "safetensors" or "lm-eval"'
        )
    if 0 in parts.directions:
        raise InputError(
            "llama.cpp cannot steer block 0, which this vector does; leave it out: "
            "SteeringVector({b: v for b, v in vector.directions.items() if b > 0})"
        )
    about = _about(parts)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vector.gguf"
        writer = GGUFWriter(file, "controlvector")
        writer.add_string("controlvector.model_hint", _kind(parts, model))
        writer.add_uint32("controlvector.layer_count", len(parts.directions))
        writer.add_string("mnskills.about", json.dumps(about, ensure_ascii=False))
        for block, vector in parts.directions.items():
            writer.add_tensor(f"direction.{block}", vector)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file.read_bytes()


def _kind(parts: Parts, model: "TransformersModel | None") -> str:
    """The model's kind, such as ``"llama"``, or its name where nothing else is known."""
    if model is not None:
        return str(torch_module(model).config.model_type)
    return str(((parts.source or {}).get("model") or {}).get("name", "unknown"))


def _lm_eval(parts: Parts, target: Path, model: "TransformersModel | None") -> bytes:
    """What ``--model steered`` of lm-evaluation-harness reads: plain tensors and numbers.

    ``add`` adds coefficient times vector at every token; ``clamp`` sets the component along the
    vector, and 0 takes it out.
    """
    import torch

    if target.suffix not in (".pt", ".pth"):
        raise InputError(f"{target}: lm-eval reads .pt and .pth only; name the file so")
    if len(parts.directions) != 1:
        raise InputError(
            f"the vector steers {len(parts.directions)} blocks, and an lm-eval file holds one; "
            "choose it: SteeringVector({15: vector.directions[15]})"
        )
    ((block, vector),) = parts.directions.items()
    adds = parts.mode == "add"
    content = {
        _lm_eval_name(block, model): {
            "steering_vector": torch.tensor(vector),
            "steering_coefficient": 1.0 if adds else 0.0,
            "action": "add" if adds else "clamp",
            "bias": None,
            "head_index": None,
        }
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _lm_eval_name(block: int, model: "TransformersModel | None") -> str:
    """The block's path below ``base_model``, which is where lm-eval looks names up."""
    if model is None:
        return f"layers.{block}"
    wanted = block_modules(model)[block]
    below = torch_module(model).base_model.named_modules()
    found = next((name for name, module in below if module is wanted), None)
    if found is None:
        raise InputError(
            f"lm-eval looks for blocks below base_model, and {type(torch_module(model)).__name__} "
            "has them elsewhere"
        )
    return str(found)


_WRITERS: dict[str, Callable[[Parts, Path, "TransformersModel | None"], bytes]] = {
    "gguf": _gguf,
    "lm-eval": _lm_eval,
    "safetensors": _safetensors,
}
