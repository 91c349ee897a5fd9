"""A steering vector: directions by decoder block, added to the residual stream."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..activations.gradients import PHASES, Phase
from ..bases.basis import Basis
from ..errors import InputError
from ..models import block_modules, exclusive, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel


class SteeringVector:
    """What is added to the residual stream, block by block.

    Vectors compose: ``a + b``, ``a - b``, ``2 * a``.

    Parameters
    ----------
    directions : mapping of int to array_like, [d_model]
        Decoder block, 0-based -> what is added to its output.
    axis : dict, optional
        Where it comes from: axis, layer, dose (standard deviations), basis.

    Raises
    ------
    InputError
        Nothing to add, a direction that is not a vector of finite numbers, or unequal widths.
    """

    def __init__(
        self, directions: Mapping[int, ArrayLike], axis: dict[str, Any] | None = None
    ) -> None:
        self.directions: dict[int, NDArray[np.float32]] = {}
        for block, values in sorted(directions.items()):
            vector = np.asarray(values, dtype=np.float32)
            if vector.ndim != 1 or not np.isfinite(vector).all():
                raise InputError(
                    f"steering vector, block {block}: expected a vector of finite numbers, "
                    f"found an array of shape {vector.shape}"
                    + ("" if vector.ndim != 1 else " with NaN or infinite values")
                )
            self.directions[int(block)] = vector
        if len({len(v) for v in self.directions.values()}) != 1:
            raise InputError("a steering vector needs directions of one width, at least one")
        self.axis = axis

    @classmethod
    def from_axis(
        cls, basis: Basis, axis: int, layer: int | None = None, dose: float = 1.0
    ) -> "SteeringVector":
        """Make the vector that moves the coordinate on an axis.

        Parameters
        ----------
        basis : Basis
        axis : int
        layer : int, optional
            Block to add it after; default the layer that the basis was fitted at.
        dose : float
            Standard deviations of the axis's pooled coordinate; negative for the other pole.

        Raises
        ------
        InputError
            No such axis, or a layer that is neither given nor known.
        """
        if not 0 <= axis < basis.n_axes_:
            raise InputError(
                f"axis {axis} is not there; the basis has axes 0 to {basis.n_axes_ - 1}"
            )
        fitted = (basis.source_ or {}).get("layer")
        if layer is None:
            if not isinstance(fitted, int):
                raise InputError("the basis does not say its layer; give layer=")
            layer = fitted
        if fitted == "concat":
            raise InputError("axes of concatenated layers cannot be steered yet; fit one layer")
        direction = dose * basis.scale_[axis] * basis.components_[axis]
        return cls(
            {layer: direction},
            {"axis": axis, "layer": layer, "dose": dose, "basis": basis.fingerprint},
        )

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        mine, theirs = self.directions, other.directions
        zero = np.float32(0)
        return SteeringVector(
            {b: mine.get(b, zero) + theirs.get(b, zero) for b in mine.keys() | theirs.keys()}
        )

    def __mul__(self, factor: float) -> "SteeringVector":
        return SteeringVector({b: np.float32(factor) * v for b, v in self.directions.items()})

    __rmul__ = __mul__

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        return self + other * -1.0

    def __repr__(self) -> str:
        parts = ", ".join(f"{b}: |{np.linalg.norm(v):.3g}|" for b, v in self.directions.items())
        return f"SteeringVector({parts})"

    @contextlib.contextmanager
    def apply(self, model: "TransformersModel", phases: Sequence[Phase] = PHASES) -> Iterator[None]:
        """Steer `model` inside this context: traces, forward passes and generation alike.

        A trace that reads the output of a steered block itself reads it as it was before the
        addition; the next block's input, and all that follows, has it.

        Parameters
        ----------
        model : TransformersModel
        phases : sequence of {"prompt", "generation"}
            ``"prompt"``: the first pass over a text; ``"generation"``: the tokens that a cached
            generation adds to it. A plain forward pass is all prompt.

        Raises
        ------
        InputError
            A block that the model does not have, another width, or an unknown phase.
        """
        modules = block_modules(model)
        self._check(modules, torch_module(model), phases)
        reader = _Phase()
        with exclusive(model), contextlib.ExitStack() as hooks:
            top = torch_module(model).register_forward_pre_hook(reader, with_kwargs=True)
            hooks.callback(top.remove)
            for block, direction in self.directions.items():
                adder = _Adder(direction, reader, frozenset(phases))
                hooks.callback(modules[block].register_forward_hook(adder).remove)
            yield

    def _check(
        self, modules: list["torch.nn.Module"], module: Any, phases: Sequence[Phase]
    ) -> None:
        if not phases or set(phases) - set(PHASES):
            raise InputError(f"phases must be among {PHASES}, not {tuple(phases)}")
        width = module.config.get_text_config().hidden_size
        for block, direction in self.directions.items():
            if not 0 <= block < len(modules):
                raise InputError(
                    f"block {block} is not there; the model has 0 to {len(modules) - 1}"
                )
            if len(direction) != width:
                raise InputError(
                    f"the steering vector has width {len(direction)}, the model {width}: "
                    "it was made for another model"
                )


class _Phase:
    """Before each pass of the whole model, notes whether it begins a text or continues one."""

    def __init__(self) -> None:
        self.now: Phase = "prompt"

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        continues = cache is not None and cache.get_seq_length() > 0
        self.now = "generation" if continues else "prompt"


class _Adder:
    """A forward hook on a block: adds its direction to the block's output."""

    def __init__(
        self, direction: NDArray[np.float32], phase: _Phase, wanted: frozenset[Phase]
    ) -> None:
        import torch

        self._direction = torch.from_numpy(direction)
        self._phase, self._wanted = phase, wanted

    def __call__(self, module: Any, args: Any, output: Any) -> Any:
        if self._phase.now not in self._wanted:
            return output
        hidden = output[0] if isinstance(output, tuple | list) else output
        steered = hidden + self._direction.to(hidden.device, hidden.dtype)
        return (steered, *output[1:]) if isinstance(output, tuple | list) else steered
