"""How the model's preference for a right answer changes with its residual stream.

One backward pass gives, for every example and every layer at once, the gradient of a target with
respect to a vector added to the residual stream after that layer.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus
from ..errors import InputError
from ..files import write_bytes
from ..models import block_modules, d_model, exclusive, torch_module
from .forwards import wide_stream
from .pairs import PairRow, pair_rows, plan_rows, values_of
from .passes import Layers, chosen_layers
from .targets import Target, targets
from .trace import padded, residual

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

Phase = Literal["prompt", "generation"]
PHASES: tuple[Phase, ...] = ("prompt", "generation")

# Training keeps every activation of the batch: a quarter of what collecting takes.
TOKEN_BUDGET = 1024


@dataclass(frozen=True, slots=True)
class Gradients:
    """Per-example gradients of a target, one vector a layer.

    Attributes
    ----------
    ids : list of str
        Examples, in corpus order; those that give no target are left out.
    layers : list of int
    values : ndarray of float32, [n]
        The target itself, nats per response token.
    skipped : list of str
        Ids without response, longer than the model's context, or, for the contrast, without an
        answer that can be corrupted.
    """

    ids: list[str]
    layers: list[int]
    values: NDArray[np.float32]
    skipped: list[str]
    _by_phase: dict[Phase, NDArray[np.float32]]

    def matrix(self, layer: int, phases: Sequence[Phase] = PHASES) -> NDArray[np.float32]:
        """Gradient with respect to a vector added at `layer` to all tokens of `phases`.

        Returns
        -------
        ndarray of float32, [n, d_model]
            Nats per response token, per unit of the residual stream.
        """
        if layer not in self.layers:
            raise InputError(f"layer {layer} has no gradients; there are layers {self.layers}")
        at = self.layers.index(layer)
        total: NDArray[np.float32] = np.sum([self._by_phase[p][at] for p in phases], axis=0)
        return total

    def save(self, path: Path, source: dict[str, Any]) -> None:
        """Keep the gradients as safetensors, with what made them; see `load`."""
        from safetensors.numpy import save

        about = {"ids": self.ids, "layers": self.layers, "skipped": self.skipped, "source": source}
        tensors = {"values": self.values} | {str(p): g for p, g in self._by_phase.items()}
        write_bytes(path, save(tensors, metadata={"mnskills": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path, source: dict[str, Any]) -> "Gradients | None":
        """Read gradients that `save` kept; None if there are none, or others made them."""
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["mnskills"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it to compute again") from error
        if about["source"] != source:
            return None
        by_phase: dict[Phase, NDArray[np.float32]] = {p: tensors[p] for p in PHASES}
        return cls(about["ids"], about["layers"], tensors["values"], about["skipped"], by_phase)


def gradients(
    model: "TransformersModel",
    corpus: Corpus,
    layers: Layers = "all",
    target: Target = "contrast",
    token_budget: int = TOKEN_BUDGET,
    progress: bool = True,
) -> Gradients:
    """Differentiate a target with respect to vectors added at every layer.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples with responses; for the contrast also with answers, or numbers in the response.
    layers : "all" or list of int
    target : {"contrast", "reference"}
        ``"contrast"``: log-probability of the reference less that of the reference with its final
        answer changed wherever it occurs (skill, with the style of the text cancelled);
        ``"reference"``: log-probability of the reference. Both per response token.
    token_budget : int
        Most tokens in a batch, padding included.
    progress : bool

    Returns
    -------
    Gradients

    Raises
    ------
    InputError
        No example gives a target.
    """
    chosen = list(chosen_layers(model, layers))
    found = targets(model, corpus, target)
    rows = pair_rows(model, found)
    bar = tqdm(
        total=sum(map(len, rows)),
        desc="gradients",
        unit="tok",
        unit_scale=True,
        disable=not progress,
    )
    shape = (len(PHASES), len(chosen), len(found.ids), d_model(model))
    values, grads = np.zeros(len(found.ids), dtype=np.float32), np.zeros(shape, dtype=np.float32)
    backward = _Backward(model, chosen)
    with bar:
        for batch in plan_rows(model, rows, token_budget):
            value, grad = backward([rows[i] for i in batch])
            for at, row in enumerate(batch):
                example = rows[row].example
                values[example] += value[at]
                grads[:, :, example] += grad[:, :, at]
            bar.update(sum(len(rows[i]) for i in batch))
    return Gradients(
        found.ids, chosen, values, found.skipped, dict(zip(PHASES, grads, strict=True))
    )


# ---------------------------------------------------------------------------------- backward


class _Backward:
    """One backward pass over rows: gradients with respect to what every block puts out.

    That with respect to a vector added to all tokens of a phase is their sum over these tokens.
    """

    def __init__(self, model: "TransformersModel", layers: list[int]) -> None:
        self._model = model
        self._layers = layers
        self._width = d_model(model)

    def __call__(self, rows: Sequence[PairRow]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What rows add to their targets [b], gradients [n_phases, n_layers, b, d]."""
        import torch

        module = torch_module(self._model)
        places = torch.from_numpy(_phase_masks(rows)).to(module.device)
        found = torch.zeros(
            len(PHASES), len(self._layers), len(rows), self._width, device=module.device
        )
        start = torch.zeros((), dtype=module.dtype, device=module.device, requires_grad=True)
        with (
            exclusive(self._model),
            torch.enable_grad(),
            wide_stream(self._model),
            self._hooks(start, places, found),
        ):
            values = values_of(self._model, rows)
            torch.autograd.grad(values.sum(), start)
        return values.detach().cpu().numpy(), found.cpu().numpy()

    @contextlib.contextmanager
    def _hooks(
        self, start: "torch.Tensor", places: "torch.Tensor", found: "torch.Tensor"
    ) -> Iterator[None]:
        """Sum up gradients into `found`, as they come by.

        `start` is added after the lowest block: weights are frozen, and gradients must lead
        somewhere; below it nothing is kept.
        """
        import torch

        ids = places[0]  # for its shape, [n_rows, n_tokens]

        def hook(at: int, layer: int) -> Any:
            def read(_block: Any, _args: Any, output: Any) -> Any:
                hidden = residual(output, ids, self._width)
                if layer == self._layers[0]:
                    hidden = hidden + start

                def written(grad: "torch.Tensor") -> None:
                    there = places.to(grad.device)
                    sums = torch.einsum("pbt,btd->pbd", there, grad.float())
                    found[:, at] += sums.to(found.device)

                hidden.register_hook(written)  # type: ignore[no-untyped-call]
                if layer != self._layers[0]:
                    return None
                return (hidden, *output[1:]) if isinstance(output, tuple | list) else hidden

            return read

        modules = block_modules(self._model)
        handles = [
            modules[layer].register_forward_hook(hook(at, layer))
            for at, layer in enumerate(self._layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _phase_masks(rows: Sequence[PairRow]) -> NDArray[np.float32]:
    """Which tokens belong to each phase [n_phases, b, t]."""
    masks = {"prompt": [row.is_prompt for row in rows], "generation": [~r.is_prompt for r in rows]}
    return np.stack([padded(masks[phase]) for phase in PHASES]).astype(np.float32)
