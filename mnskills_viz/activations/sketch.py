"""What training on one example does for others: per-example gradients, sketched.

The gradient of a weight matrix is the sum, over an example's tokens, of outer products of the
gradient at the matrix's output with its input. Both are projected on a few random directions
before the product is formed, so that no gradient of a whole matrix ever is.
"""

import contextlib
import hashlib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus
from ..errors import InputError
from ..files import read_json, remove_left_over, write_bytes, write_json
from ..models import block_modules, exclusive, identity, longest_shared, torch_module
from . import store as stores
from .gradients import TOKEN_BUDGET
from .passes import Layers, chosen_layers
from .targets import Target, Targets, targets
from .tokens import Tokens
from .trace import padded, plan_batches, response_logprob

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

FORMAT = 1
# Influence on a mixed probe set varies by about 0.05 between examples: at 1,024 numbers the noise
# is more than half of that; at 4,096 the ranking agrees with exact products (Spearman 0.94 up).
WIDTH = 4096
BATCHES_A_PART = 16
HEADER = "sketch.json"


@dataclass(frozen=True, slots=True)
class GradientSketch:
    """Per-example gradients of a target over the weights of all layers, sketched.

    Inner products of rows are, but for noise of about ``1 / sqrt(width)`` of the product of their
    norms, those of the gradients themselves; rows of two sketches too, if they are of one model,
    with the same layers, width and seed. The influence of a row on a probe set is the cosine of
    its gradient with the mean gradient of the probe (`selection.influence`).

    Attributes
    ----------
    ids : list of str
        Examples, in corpus order; those that give no target are left out.
    values : ndarray of float32, [n, width]
        Nats per response token, per unit of a weight.
    skipped : list of str
        Ids without response, longer than the model's context, or, for the contrast, without an
        answer that can be corrupted.
    source : dict
        What made it: model, corpus, layers, target, width, seed, versions.
    """

    ids: list[str]
    values: NDArray[np.float32]
    skipped: list[str]
    source: dict[str, Any]

    @classmethod
    def open(cls, store: str | Path) -> "GradientSketch":
        """Read a finished sketch from its folder; no model is needed.

        Raises
        ------
        InputError
            There is none, it is not finished, or it is damaged.
        """
        parts = _Parts.open(Path(store))
        if parts.missing:
            raise InputError(
                f"{store} is not finished ({parts.missing} of {parts.n_parts} parts are missing); "
                "call gradient_sketch again to go on"
            )
        values = np.empty((len(parts.ids), parts.source["width"]), dtype=np.float32)
        for number in range(parts.n_parts):
            positions, rows = parts.read(number)
            values[positions] = rows
        return cls(parts.ids, values, parts.skipped, parts.source)


def gradient_sketch(
    model: "TransformersModel",
    corpus: Corpus,
    width: int = WIDTH,
    layers: Layers = "all",
    target: Target = "reference",
    seed: int = 0,
    store: str | Path | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: bool = True,
) -> GradientSketch:
    """Sketch every example's gradient over the weight matrices of all layers.

    Counted are the linear maps of the decoder blocks, those that LoRA trains; embeddings, the
    head, norms, and experts whose tokens are routed away from their rows are not. With ``g(t)``
    the gradient at such a map's output and ``x(t)`` its input, the sketch of an example is the sum
    over maps of ``sum_t (P g(t)) (Q x(t))'``, `P` and `Q` random directions of each map's own
    (Choe et al. 2024, "What is your data worth to GPT?"). Memory: a batch, and the result.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples with responses.
    width : int
        Numbers an example. The noise of cosines is about ``1 / sqrt(width)``.
    layers : "all" or list of int
    target : {"reference", "contrast"}
        As `gradients` takes them: ``"reference"``, the mean log-probability of response tokens,
        is what fine-tuning raises.
    seed : int
        Of the random directions: the same for sketches that are to be compared.
    store : path, optional
        A folder that keeps the sketch: parts are written as they are done, and a second call goes
        on where the first was stopped, or reads what is finished.
    token_budget : int
        Most tokens in a batch, padding included.
    progress : bool

    Returns
    -------
    GradientSketch

    Raises
    ------
    InputError
        No example gives a target, a gradient is not finite, `width` or `token_budget` below 1, or
        a `store` that something else made, or that is damaged.
    """
    if width < 1 or token_budget < 1:
        raise InputError(f"width ({width}) and token_budget ({token_budget}) must be at least 1")
    chosen = chosen_layers(model, layers)
    source = _source(model, corpus, width, chosen, target, seed, token_budget)
    if store is None:
        return _sketched(model, targets(model, corpus, target), source, None, progress)
    path = Path(store)
    with stores.held(path):
        parts = _Parts.open(path) if _is_begun(path) else None
        if parts is not None:
            stores.require_same(path, parts.source, source)
            if not parts.missing:
                return GradientSketch.open(path)
        found = targets(model, corpus, target)
        if parts is None:
            parts = _Parts.begin(path, found, source, len(_plan(model, found, token_budget)))
        return _sketched(model, found, source, parts, progress)


def _source(
    model: "TransformersModel",
    corpus: Corpus,
    width: int,
    layers: Sequence[int],
    target: Target,
    seed: int,
    token_budget: int,
) -> dict[str, Any]:
    packages = ("mnskills_viz", "torch", "transformers")
    return {
        "format": FORMAT,
        "model": identity(model).as_dict(),
        "corpus": {"hash": corpus.hash, "rows": len(corpus)},
        "layers": list(layers),
        "target": target,
        "width": width,
        "seed": seed,
        # Sums are rounded in another order in other batches.
        "token_budget": token_budget,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _plan(model: "TransformersModel", found: Targets, token_budget: int) -> list[list[list[int]]]:
    """Positions of examples: parts, of batches; fixed by the texts' lengths alone."""
    lengths = [len(row) for row in found.right]
    if found.wrong:
        lengths = [max(n, len(row)) for n, row in zip(lengths, found.wrong, strict=True)]
    plan = plan_batches(lengths, token_budget, longest_shared(model))
    return [plan[i : i + BATCHES_A_PART] for i in range(0, len(plan), BATCHES_A_PART)]


def _sketched(
    model: "TransformersModel",
    found: Targets,
    source: dict[str, Any],
    kept: "_Parts | None",
    progress: bool,
) -> GradientSketch:
    """Compute the parts that are not kept yet, and put all in their places."""
    sketcher = _Sketcher(model, source["layers"], source["width"], source["seed"])
    values = np.empty((len(found.ids), source["width"]), dtype=np.float32)
    bar = tqdm(
        total=found.n_tokens, desc="sketch", unit="tok", unit_scale=True, disable=not progress
    )
    with bar:
        for number, batches in enumerate(_plan(model, found, source["token_budget"])):
            if kept is not None and kept.has(number):
                positions, rows = kept.read(number)
                values[positions] = rows
                bar.update(sum(_n_tokens(found, batch) for batch in batches))
                continue
            for batch in batches:
                values[batch] = _of_batch(sketcher, found, batch)
                bar.update(_n_tokens(found, batch))
            if kept is not None:
                positions = np.concatenate([np.array(b, dtype=np.int64) for b in batches])
                kept.write(number, positions, values[positions])
    return GradientSketch(found.ids, values, found.skipped, source)


def _n_tokens(found: Targets, batch: Sequence[int]) -> int:
    return sum(len(texts[i]) for texts in (found.right, found.wrong) if texts for i in batch)


def _of_batch(sketcher: "_Sketcher", found: Targets, batch: Sequence[int]) -> NDArray[np.float32]:
    """Sketches of a batch of targets [b, width]."""
    sketch = sketcher([found.right[i] for i in batch])
    if found.wrong:
        ratio = found.ratio[batch][:, None]
        sketch = sketch - ratio * sketcher([found.wrong[i] for i in batch])
    finite = np.isfinite(sketch).all(axis=1)
    if not finite.all():
        raise InputError(
            f"example {found.ids[batch[int(np.argmin(finite))]]}: its gradient is not finite "
            "(NaN or infinite weights, or a dtype too narrow); try dtype='float32'"
        )
    return sketch


# --------------------------------------------------------------------------------- the sketch


class _Sketcher:
    """Texts in, sketches of the gradients of their responses' mean log-probability out.

    Plain hooks, not a trace: a module's input is projected as it is read and let go, the gradient
    at its output as it comes by, and neither is kept for the batch.
    """

    def __init__(
        self, model: "TransformersModel", layers: Sequence[int], width: int, seed: int
    ) -> None:
        self._model = model
        self._matrices = _matrices(model, layers)
        self._width = width
        # The sketch is the first `width` entries of a square of random products.
        self._side = math.isqrt(width - 1) + 1
        self._seed = seed
        # A few per cent of a large model, and the same for every batch.
        self._directions: dict[tuple[str, str], torch.Tensor] = {}

    def __call__(self, rows: Sequence[Tokens]) -> NDArray[np.float32]:
        """Sketches [b, width]."""
        import torch

        module = torch_module(self._model)
        ids = torch.tensor(padded([r.ids for r in rows]), dtype=torch.long, device=module.device)
        total = torch.zeros(len(rows), self._side, self._side, device=module.device)
        start = torch.zeros((), dtype=module.dtype, device=module.device, requires_grad=True)
        with exclusive(self._model), torch.enable_grad(), self._hooks(start, total, ids.numel()):
            # Padding stands on the right, where no real token sees it and no gradient comes from.
            output = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            value = response_logprob(output.logits, ids, rows).sum()
            del output
            torch.autograd.grad(value, start)
        sketch: NDArray[np.float32] = total.flatten(1)[:, : self._width].cpu().numpy()
        return sketch / np.float32(math.sqrt(self._width))

    @contextlib.contextmanager
    def _hooks(self, start: "torch.Tensor", total: "torch.Tensor", n_tokens: int) -> Iterator[None]:
        """Add the sketch of every matrix's gradient to `total` [b, r, r], as it comes by.

        `start` is added to the embeddings: weights are frozen, and gradients must lead somewhere.
        """
        embeddings = torch_module(self._model).get_input_embeddings()
        handles = [embeddings.register_forward_hook(lambda _m, _i, output: output + start)]

        def hook(name: str) -> Any:
            def read(_module: Any, args: tuple[Any, ...], output: "torch.Tensor") -> None:
                if output.shape[:-1].numel() != n_tokens:  # an expert's share of the tokens
                    return
                seen = self._projected(args[0].detach(), f"{name}/input", len(total))

                def written(grad: "torch.Tensor") -> None:
                    at = self._projected(grad, f"{name}/output", len(total))
                    total.baddbmm_(at.mT, seen)

                output.register_hook(written)  # type: ignore[no-untyped-call]

            return read

        handles += [m.register_forward_hook(hook(name)) for name, m in self._matrices.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _projected(self, vectors: "torch.Tensor", name: str, n_rows: int) -> "torch.Tensor":
        """Vectors of all tokens on random directions, [b, t, r] float32."""
        key = (name, str(vectors.dtype))
        if key not in self._directions:
            made = random_directions(f"{self._seed}/{name}", vectors.shape[-1], self._side)
            self._directions[key] = vectors.new_tensor(made)
        return (vectors @ self._directions[key]).float().reshape(n_rows, -1, self._side)


def _matrices(model: "TransformersModel", layers: Sequence[int]) -> dict[str, "torch.nn.Module"]:
    """The linear maps of the chosen blocks by name, ``3.mlp.down_proj``."""
    import torch
    from transformers.pytorch_utils import Conv1D  # the linear map of GPT-2

    blocks = block_modules(model)
    found = {
        f"{layer}.{name}": module
        for layer in layers
        for name, module in blocks[layer].named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    if not found:
        raise InputError(
            f"the blocks of {type(torch_module(model)).__name__} have no linear maps "
            "(torch.nn.Linear): there are no gradients to sketch"
        )
    return found


def random_directions(name: str, n: int, k: int) -> NDArray[np.float32]:
    """A random `D` [n, k] with ``E[D D'] = k I`` that depends on the name alone.

    Columns are orthogonal, or rows where there are more columns, and then ``D D' = k I``: less
    noise than independent signs, and none at all in a map that is narrower than the sketch.
    """
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    q, r = np.linalg.qr(rng.standard_normal((max(n, k), min(n, k))))
    q *= np.sign(np.diag(r))  # libraries differ in it
    return ((q if n >= k else q.T) * math.sqrt(max(n, k))).astype(np.float32)


# ----------------------------------------------------------------------------------- on disk


@dataclass(frozen=True, slots=True)
class _Parts:
    """The folder of a sketch: a header, and a file for each part of the plan that is done."""

    path: Path
    ids: list[str]
    skipped: list[str]
    source: dict[str, Any]
    n_parts: int

    @classmethod
    def begin(cls, path: Path, found: Targets, source: dict[str, Any], n_parts: int) -> "_Parts":
        about = {"source": source, "parts": n_parts, "ids": found.ids, "skipped": found.skipped}
        write_json(path / HEADER, about)
        return cls(path, found.ids, found.skipped, source, n_parts)

    @classmethod
    def open(cls, path: Path) -> "_Parts":
        about = read_json(path / HEADER)
        try:
            return cls(path, about["ids"], about["skipped"], about["source"], about["parts"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path / HEADER} is damaged ({error}); delete {path} to compute again"
            ) from error

    def _file(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.safetensors"

    @property
    def missing(self) -> int:
        return sum(not self.has(number) for number in range(self.n_parts))

    def has(self, number: int) -> bool:
        return self._file(number).exists()

    def read(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions of examples [m], and their sketches [m, width]."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        file = self._file(number)
        try:
            tensors = load_file(file)
            positions, rows = tensors["positions"], tensors["values"]
            if rows.shape != (len(positions), self.source["width"]):
                raise ValueError(f"values are {rows.shape}")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{file} is damaged ({error}); delete it to compute again") from error
        return positions, rows

    def write(self, number: int, positions: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        from safetensors.numpy import save

        remove_left_over(self._file(number))
        write_bytes(self._file(number), save({"positions": positions, "values": rows}))


def _is_begun(path: Path) -> bool:
    """Whether a sketch is kept there.

    Raises
    ------
    InputError
        Something else is.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, a folder was expected; choose another name")
    if (path / HEADER).exists():
        return True
    if path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir()):
        raise InputError(f"{path} is there and holds no sketch; choose another folder")
    return False
