"""What readers of other projects make of the files that we write.

The change of logits that an exported vector makes in llama.cpp and in the lm-evaluation-harness
against ours, and the numbers that repeng and safetensors read. Reader and model are the real ones,
but for one step that llama.cpp's binding does not reach: see `control_vector`.
"""

import contextlib
import ctypes
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from steering_rivals import installed

import mnskills_viz as mn
from mnskills_viz.embedded import dequantised, embedded_gguf

ALIKE = 0.98  # correlation, also where llama.cpp rounds activations to 8 bits
CLOSE = 1e-3  # logits, in float32


def compare(model: Any, rows: list[list[int]]) -> None:
    """Print how each reader agrees; the exit status is 1 if one does not.

    Parameters
    ----------
    model : TransformersModel
        The embedded one, float32.
    rows : list of list of int
        Token ids of texts.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = (llama_cpp, lm_eval, repeng, safetensors)
        good = [part(model, rows, Path(folder)) for part in parts]
    if not all(good):
        sys.exit("a reader does not agree")


def there(package: str) -> bool:
    if not installed(package):
        print(f"  {package} is not installed")
    return installed(package)


def logits(model: Any, rows: list[list[int]], vector: Any = None) -> list[np.ndarray]:
    """Of every text, [n_tokens, vocabulary]."""
    with vector.apply(model) if vector else contextlib.nullcontext(), torch.inference_mode():
        return [model._module(torch.tensor([ids])).logits[0].numpy() for ids in rows]


def change(steered: list[np.ndarray], plain: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([(a - b).ravel() for a, b in zip(steered, plain, strict=True)])


def vectors(model: Any, ids: list[int]) -> list[Any]:
    """Random directions after one block and after two, a quarter of a usual token's norm there."""
    with torch.inference_mode():
        hidden = model._module(torch.tensor([ids]), output_hidden_states=True).hidden_states
    usual = [float(tokens[0].norm(dim=-1).median()) for tokens in hidden[1:]]
    generator, out = np.random.default_rng(0), []
    for blocks in ([1], [15], [28], [10, 20]):
        rows = generator.standard_normal((len(blocks), hidden[0].shape[-1]))
        rows *= 0.25 / np.linalg.norm(rows, axis=1, keepdims=True)
        out.append(
            mn.SteeringVector({b: usual[b] * row for b, row in zip(blocks, rows, strict=True)})
        )
    return out


def moved(vector: Any, by: int) -> Any:
    return mn.SteeringVector({block + by: row for block, row in vector.directions.items()})


def at(vector: Any) -> str:
    return f"{vector.mode} at {', '.join(map(str, vector.directions)):7}"


# --------------------------------------------------------------------------------- llama.cpp


def llama_cpp(model: Any, rows: list[list[int]], folder: Path) -> bool:
    """The embedded file as it is, where rounding hides small changes, and in float32."""
    if not there("llama_cpp"):
        return True
    with LlamaCpp(embedded_gguf()) as rounded, LlamaCpp(in_float32(folder)) as exact:
        engines = {"4-bit": rounded, "float32": exact}
        unsteered = {name: [e.logits(ids) for ids in rows] for name, e in engines.items()}
        plain, good = logits(model, rows), True
        for vector in vectors(model, rows[0]):
            file = vector.export(folder / "vector.gguf", format="gguf")
            ours = [change(logits(model, rows, moved(vector, by)), plain) for by in (-1, 0, 1)]
            line = f"  llama.cpp, {at(vector)} correlation with ours"
            for name, engine in engines.items():
                engine.steer(file)
                theirs = change([engine.logits(ids) for ids in rows], unsteered[name])
                engine.steer(None)
                before, here, after = (np.corrcoef(theirs, own)[0, 1] for own in ours)
                good &= bool(here > max(ALIKE, before, after))
                line += f", {name} {here:.5f}"
            print(f"{line}; with ours a block before {before:.2f}, after {after:.2f}", flush=True)
        gaps = [
            np.abs(change([engine.logits(ids) for ids in rows], unsteered[name])).max()
            for name, engine in engines.items()
        ]
        print(f"  llama.cpp, vector taken away: logits differ by {max(gaps):.1e}")
        return good


def in_float32(folder: Path) -> Path:
    """The embedded model with the same weights in 32 bits, written by llama.cpp."""
    from llama_cpp import llama_model_quantize, llama_model_quantize_default_params

    params = llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = 0, True  # LLAMA_FTYPE_ALL_F32
    file = folder / "float32.gguf"
    failed = llama_model_quantize(
        str(embedded_gguf()).encode(), str(file).encode(), ctypes.byref(params)
    )
    if failed:
        raise RuntimeError(f"llama.cpp cannot convert the model (status {failed})")
    return file


class LlamaCpp:
    """A GGUF model in llama.cpp, with or without a control vector."""

    def __init__(self, gguf: Path) -> None:
        from llama_cpp import Llama

        threads = torch.get_num_threads()
        self._llama = Llama(str(gguf), n_ctx=512, n_threads=threads, logits_all=True, verbose=False)

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *error: object) -> None:
        self._llama.close()

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Of all positions, [n_tokens, vocabulary]."""
        self._llama.reset()
        self._llama.eval(list(ids))
        return np.array(self._llama.scores[: len(ids)], dtype=np.float32)

    def steer(self, file: Path | None) -> None:
        """Load a control vector as ``--control-vector`` does, or take it away again."""
        from llama_cpp import llama_set_adapter_cvec

        pointer, size, width = None, 0, 0
        blocks = int(self._llama.metadata["llama.block_count"])
        if file is not None:
            rows = control_vector(file)
            width = len(next(iter(rows.values())))
            # All blocks: a shorter buffer leaves in place what an earlier vector did further up.
            data = np.zeros((blocks, width), dtype=np.float32)
            for number, row in rows.items():
                data[number - 1] = row
            pointer, size = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), data.size
        failed = llama_set_adapter_cvec(self._llama.ctx, pointer, size, width, 1, blocks)
        if failed:
            raise RuntimeError(f"llama.cpp refuses {file} (status {failed})")


def control_vector(file: Path) -> dict[int, np.ndarray]:
    """Number -> row of a control vector, read by llama.cpp's own GGUF parser.

    The binding does not reach ``common_control_vector_load_one`` of llama.cpp's programs: its
    checks, and above its layout, row ``N - 1`` for ``direction.N``, are repeated here.
    """
    ggml, content = _ggml(), ctypes.c_void_p()
    gguf = ggml.gguf_init_from_file(
        str(file).encode(), _ReadAll(no_alloc=False, ctx=ctypes.pointer(content))
    )
    if not gguf:
        raise RuntimeError(f"llama.cpp cannot read {file}")
    rows: dict[int, np.ndarray] = {}
    for index in range(ggml.gguf_get_n_tensors(gguf)):
        name = ggml.gguf_get_tensor_name(gguf, index)
        kind, _, number = name.decode().partition(".")
        tensor = ggml.ggml_get_tensor(content, name)
        is_float32 = ggml.gguf_get_tensor_type(gguf, index) == 0
        if kind != "direction" or int(number) < 1 or ggml.ggml_n_dims(tensor) != 1:
            raise RuntimeError(f"llama.cpp refuses tensor {name.decode()!r} of {file}")
        if not is_float32:
            raise RuntimeError(f"llama.cpp takes float32; {name.decode()!r} of {file} is not")
        values = ggml.ggml_get_data_f32(tensor)
        rows[int(number)] = np.ctypeslib.as_array(values, (ggml.ggml_nelements(tensor),)).copy()
    ggml.gguf_free(gguf)
    ggml.ggml_free(content)
    return rows


class _ReadAll(ctypes.Structure):
    """``gguf_init_params``: tensors are read as well, into a context of their own."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p)))


def _ggml() -> Any:
    """The functions of llama.cpp's GGUF parser, which the binding ships but does not declare."""
    from llama_cpp import _ctypes_extensions, _ggml

    library = _ctypes_extensions.load_shared_library("ggml-base", _ggml.libggml_base_path)
    whole, pointer, text = ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("gguf_init_from_file", pointer, [text, _ReadAll]),
        ("gguf_get_n_tensors", whole, [pointer]),
        ("gguf_get_tensor_name", text, [pointer, whole]),
        ("gguf_get_tensor_type", ctypes.c_int, [pointer, whole]),
        ("gguf_free", None, [pointer]),
        ("ggml_get_tensor", pointer, [pointer, text]),
        ("ggml_get_data_f32", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("ggml_n_dims", ctypes.c_int, [pointer]),
        ("ggml_nelements", whole, [pointer]),
        ("ggml_free", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


# ----------------------------------------------------------------------------- the others


def lm_eval(model: Any, rows: list[list[int]], folder: Path) -> bool:
    """The harness's own ``--model steered``: what its tasks ask goes through the same call."""
    if not there("lm_eval"):
        return True
    from lm_eval.models.hf_steered import SteeredModel

    where, plain, good = str(dequantised(embedded_gguf())), logits(model, rows), True
    single = [vector for vector in vectors(model, rows[0]) if len(vector.directions) == 1]
    single.append(mn.SteeringVector(single[1].directions, mode="ablate"))
    for vector in single:
        file = vector.export(folder / "vector.pt", format="lm-eval")
        reader = SteeredModel(
            pretrained=where, steer_path=str(file), device="cpu", dtype="float32", batch_size=1
        )
        with torch.inference_mode():
            theirs = [reader._model_call(torch.tensor([ids]))[0].numpy() for ids in rows]
        ours = logits(model, rows, vector)
        gap = float(np.abs(change(theirs, ours)).max())
        good &= gap < CLOSE
        print(
            f"  lm-eval, {at(vector)} logits differ from ours by at most {gap:.1e}, unsteered by "
            f"{np.abs(change(ours, plain)).max():.1f}",
            flush=True,
        )
    return good


def repeng(model: Any, rows: list[list[int]], folder: Path) -> bool:
    if not there("repeng"):
        return True
    np.float_ = np.float64  # repeng 0.4 names a type that NumPy 2 took away
    from repeng import ControlVector

    good = True
    for vector in vectors(model, rows[0]):
        file = vector.export(folder / "vector.gguf", format="gguf")
        good &= same("repeng, GGUF", dict(ControlVector.import_gguf(file).directions), vector)
    return good


def safetensors(model: Any, rows: list[list[int]], folder: Path) -> bool:
    from safetensors import safe_open

    good = True
    for vector in vectors(model, rows[0]):
        file = vector.export(folder / "vector.safetensors", format="safetensors")
        with safe_open(file, framework="numpy") as opened:
            names = opened.keys()
            read = {int(name.split(".")[1]): opened.get_tensor(name) for name in names}
        good &= same("safetensors", read, vector)
    return good


def same(reader: str, read: dict[int, np.ndarray], vector: Any) -> bool:
    equal = read.keys() == vector.directions.keys() and all(
        np.array_equal(row, vector.directions[block]) for block, row in read.items()
    )
    print(f"  {reader}, {at(vector)} {'bit for bit ours' if equal else 'NOT what was written'}")
    return equal
