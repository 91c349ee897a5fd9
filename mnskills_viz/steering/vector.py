"""A steering vector: directions by decoder block, added to the residual stream or taken out."""

import contextlib
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..activations.gradients import PHASES, Phase
from ..bases.basis import Basis
from ..errors import InputError
from ..models import blocks
from .fitting import MADE_FOR as MADE_FOR
from .fitting import one_model, require_fit
from .folding import folded
from .formats import Format, Parts, export, read_safetensors
from .hooks import Change, Mode, When, Window, hooked

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

UNIT = "standard deviations of the pooled coordinate"
MODES: tuple[Mode, ...] = ("add", "ablate")


class SteeringVector:
    """What is done to the residual stream, block by block.

    Vectors that are added compose: ``a + b``, ``a - b``, ``2 * a``, ``-a``. Others act together
    where contexts are entered within each other.

    Parameters
    ----------
    directions : mapping of int to array_like, [d_model]
        Decoder block, 0-based -> direction at its output.
    mode : {"add", "ablate"}
        ``"add"``: ``h + v``. ``"ablate"``: ``h - (h.q) q`` with `q` the direction at unit length:
        the component along it is taken out.
    source : dict, optional
        Where it comes from, JSON-ready: ``axis layer dose unit basis model``. A vector whose
        ``model`` is known is refused by others.

    Attributes
    ----------
    directions : dict of int to ndarray of float32, [d_model]
        In ascending order of blocks; of unit length where they are ablated.
    mode, source

    Raises
    ------
    InputError
        Nothing to add, a direction that is not a vector of finite real numbers, unequal widths,
        a block that is no number from 0, nothing to ablate, an unknown mode, or a source that is
        no dict.
    """

    def __init__(
        self,
        directions: Mapping[int, ArrayLike],
        mode: Mode = "add",
        source: dict[str, Any] | None = None,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if not isinstance(directions, Mapping):
            raise InputError(
                "a steering vector takes a mapping of blocks to directions, such as {15: v}, not "
                f"a {type(directions).__name__}"
            )
        for name, about in (("source", source), ('source["model"]', _model_of(source))):
            if not isinstance(about, dict | None):
                raise InputError(
                    f"steering vector: {name} must be a dict or None, not a {type(about).__name__}"
                )
        for block in directions:
            if not is_whole(block) or block < 0:
                raise InputError(f"steering vector: blocks are numbered from 0, found {block!r}")
        self.directions: dict[int, NDArray[np.float32]] = {
            int(block): _direction(block, values, mode)
            for block, values in sorted(directions.items())
        }
        if len({len(v) for v in self.directions.values()}) != 1:
            raise InputError("a steering vector needs directions of one width, at least one")
        self.mode = mode
        self.source = source

    @classmethod
    def from_axis(
        cls,
        basis: Basis,
        axis: int,
        layer: int | None = None,
        dose: float = 1.0,
        mode: Mode = "add",
    ) -> "SteeringVector":
        """Make the vector that moves the coordinate on an axis.

        Parameters
        ----------
        basis : Basis
        axis : int
        layer : int, optional
            Block to steer after; default the layer that the basis was fitted at.
        dose : float
            Standard deviations of the axis's pooled coordinate; negative for the other pole.
        mode : {"add", "ablate"}
            An ablation takes the axis out whatever the dose.

        Raises
        ------
        InputError
            No such axis, a dose that is no finite number, a layer that is neither given nor
            known, or a basis of concatenated layers.
        """
        cls.require_axis(basis, axis, dose)
        fitted = (basis.source_ or {}).get("layer")
        if fitted == "concat":
            raise InputError(
                "an axis of concatenated layers is steered by increments from block to block; use "
                "study.vector, or concat_vector of mnskills_viz.steering.concat"
            )
        if layer is None:
            if not isinstance(fitted, int):
                raise InputError("the basis does not say its layer; give layer=")
            layer = fitted
        if not is_whole(layer):
            raise InputError(f"layer must be the number of a block, from 0, not {layer!r}")
        length = dose * float(basis.scale_[axis]) if mode == "add" else 1.0
        return cls(
            {layer: length * basis.components_[axis]},
            mode,
            cls.source_of(basis, axis, layer, dose if mode == "add" else None),
        )

    @staticmethod
    def require_axis(basis: Basis, axis: int, dose: float) -> None:
        """Refuse an axis that is not there, and a dose that is no finite number."""
        if not is_whole(axis) or not 0 <= axis < basis.n_axes_:
            raise InputError(
                f"axis {axis} is not there; the basis has axes 0 to {basis.n_axes_ - 1}"
            )
        if not is_finite(dose):
            raise InputError(f"dose must be a finite number of standard deviations, not {dose!r}")

    @staticmethod
    def source_of(basis: Basis, axis: int, layer: int | str, dose: float | None) -> dict[str, Any]:
        """What a vector along an axis says of itself."""
        source = {
            "axis": int(axis),
            "layer": layer if isinstance(layer, str) else int(layer),
            "dose": None if dose is None else float(dose),
            "unit": UNIT,
            "basis": basis.fingerprint,
        }
        model = (basis.source_ or {}).get("model")
        return source if model is None else source | {"model": model}

    # --------------------------------------------------------------------------------- algebra

    __array_ufunc__ = None  # numpy's numbers leave a product to the vector

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        if not isinstance(other, SteeringVector):
            return NotImplemented
        self._require_additive()
        other._require_additive()
        mine, theirs = self.directions, other.directions
        if self.width != other.width:
            raise InputError(
                f"steering vectors of width {self.width} and {other.width} cannot be added: they "
                "are of different models"
            )
        zero = np.float32(0)
        made_for = one_model(self._made_for, other._made_for)
        return SteeringVector(
            {b: mine.get(b, zero) + theirs.get(b, zero) for b in mine.keys() | theirs.keys()},
            source=None if made_for is None else {"model": made_for},
        )

    def __mul__(self, factor: float) -> "SteeringVector":
        self._require_additive()
        if not is_finite(factor):
            raise InputError(f"a steering vector can be multiplied by finite numbers, not {factor}")
        return SteeringVector(
            {b: np.float32(factor) * v for b, v in self.directions.items()},
            source=None if self._made_for is None else {"model": self._made_for},
        )

    __rmul__ = __mul__

    def __neg__(self) -> "SteeringVector":
        return self * -1.0

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        if not isinstance(other, SteeringVector):
            return NotImplemented
        return self + -other

    def _require_additive(self) -> None:
        if self.mode != "add":
            raise InputError(
                "vectors that are ablated have no sum or multiple; nest their contexts instead"
            )

    def __repr__(self) -> str:
        about = self.source or {}
        parts: list[str] = [] if self.mode == "add" else [self.mode]
        if "axis" in about:
            parts.append(f"axis {about['axis']}")
        if is_finite(about.get("dose")):
            parts.append(f"dose {about['dose']:+g}")
        norms = [f"{b}: |{np.linalg.norm(v):.3g}|" for b, v in self.directions.items()]
        shown = norms if len(norms) <= 4 else [*norms[:2], "...", norms[-1]]
        parts.append(f"{'block' if len(norms) == 1 else 'blocks'} {', '.join(shown)}")
        return f"SteeringVector({', '.join(parts)})"

    @property
    def width(self) -> int:
        """Numbers in each direction: the width of the residual stream."""
        return len(next(iter(self.directions.values())))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell vectors of other modes or directions apart."""
        digest = hashlib.sha256(self.mode.encode())
        for block, direction in self.directions.items():
            digest.update(f" {block} {len(direction)} ".encode())
            digest.update(direction.astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    # ------------------------------------------------------------------------------ in the model

    def apply(
        self,
        model: "TransformersModel",
        phases: Sequence[Phase] = PHASES,
        window: Window | None = None,
    ) -> contextlib.AbstractContextManager[None]:
        """Steer `model` inside this context: traces, forward passes and generation alike.

        Contexts nest, and act in the order in which they were entered. A trace that reads the
        output of a steered block itself reads it as it was before; the next block's input, all
        that follows, and what transformers gives as ``hidden_states``, is steered.

        Parameters
        ----------
        model : TransformersModel
        phases : sequence of {"prompt", "generation"}
            ``"prompt"``: passes over a text, the first and those that add a turn to it;
            ``"generation"``: passes that read one generated token a row, on a cache. A plain
            forward pass is all prompt.
        window : (int, int or None), optional
            Generated tokens to steer, half-open, from 0; ``(4, None)`` is all but the first four.
            A token is steered when the model reads it, so it shows in what comes after. The
            prompt does not care.

        Returns
        -------
        context manager
            For one use. Nothing is left behind when it ends, however it ends.

        Raises
        ------
        InputError
            A block that the model does not have, another width, a vector that says that it was
            made for another model, an unknown phase, or a window of no generated tokens.
        """
        when = _when(phases, window)
        self._require_fit(model)
        return hooked(model, self._changes(), when)

    def fold(
        self,
        model: "TransformersModel",
        phases: Sequence[Phase] = PHASES,
        window: Window | None = None,
    ) -> contextlib.AbstractContextManager[None]:
        """Steer `model` by biases in its weights inside this context: free of cost a token.

        The same as `apply` at all tokens, up to rounding. The bias acts within the block: what
        `apply` does to the same block comes after it. The parameters that were there are put back
        at the end, the same objects, also when something raises. Inside, the model's `identity`
        is another, as its weights are: stores of rows and evaluations keep apart.

        Parameters
        ----------
        model : TransformersModel
        phases, window
            As `apply` takes them; all phases and no window, or it is refused.

        Raises
        ------
        InputError
            What `apply` refuses; an ablation, phases or a window, which no bias can do; and a
            block where a norm, a factor or experts come after the last linear map.
        """
        if not _when(phases, window).is_always:
            raise InputError(
                "a bias acts on every token: fold takes all phases and no window; use apply"
            )
        if self.mode != "add":
            raise InputError("no bias takes a component out; use apply")
        self._require_fit(model)
        return folded(model, {b: v for b, v in self.directions.items() if v.any()})

    def edit(self, model: "TransformersModel") -> None:
        """Steer the pass that is being traced: for the body of an nnsight trace.

        The same as `apply`, but an intervention of nnsight like any other: it acts on the rows of
        its invoke, and what the body reads of the block afterwards is steered. In a generation the
        body says when, in passes: the first reads the prompt, pass ``i + 1`` generated token `i`::

            with model.generate(max_new_tokens=20) as tracer:
                with tracer.invoke(prompt):
                    for _ in tracer.all():           # every pass
                        vector.edit(model)
                with tracer.invoke():
                    tokens = tracer.result.save()

        Without a loop only the prompt is steered; ``tracer.iter[1:]`` is generation alone, and
        ``tracer.iter[start + 1 : stop + 1]`` the window ``(start, stop)``.

        Blocks are edited in forward order: what the body reads of earlier blocks it must read
        before.

        Raises
        ------
        InputError
            What `apply` refuses.
        """
        self._require_fit(model)
        envoys, changes = blocks(model), self._changes()
        for block in self.directions:
            output = envoys[block].output  # also where nothing is added: a loop waits for a pass
            if block in changes:
                envoys[block].output = changes[block].of_output(output)

    def _changes(self) -> dict[int, Change]:
        """What is done at each block; adding nothing is left out, and so changes not a bit."""
        return {b: Change(v, self.mode) for b, v in self.directions.items() if v.any()}

    def _require_fit(self, model: "TransformersModel") -> None:
        require_fit(model, list(self.directions), self.width, self._made_for)

    @property
    def _made_for(self) -> dict[str, Any] | None:
        """Identity of the model that it says that it was made for."""
        made_for: dict[str, Any] | None = _model_of(self.source)
        return made_for

    # -------------------------------------------------------------------------------------- files

    def export(
        self,
        path: str | Path,
        format: Format = "safetensors",  # noqa: A002
        model: "TransformersModel | None" = None,
    ) -> Path:
        """Write the vector to a file, for us or for another engine; one that is there is replaced.

        Parameters
        ----------
        path : str or Path
        format : {"gguf", "lm-eval", "safetensors"}
            ``"safetensors"``: everything, for `load`; its metadata says operation, hook point,
            layers, dose and model. ``"gguf"``: a control vector of llama.cpp
            (``--control-vector``), which is added at every token. ``"lm-eval"``: what
            lm-evaluation-harness reads (``--model steered``, ``steer_path=FILE.pt``), one block.
        model : TransformersModel, optional
            For other engines: where its blocks are and what kind it is. Without it lm-eval is told
            ``layers.N``, as in Llama, Qwen, Gemma, Mistral, Phi and GPT-NeoX.

        Returns
        -------
        Path

        Raises
        ------
        InputError
            An unknown format, what the format cannot hold, or a file that cannot be written.
        """
        if model is not None:
            self._require_fit(model)
        parts = Parts(self.directions, self.mode, self.source, self.fingerprint)
        return export(parts, path, format, model)

    @classmethod
    def load(cls, path: str | Path) -> "SteeringVector":
        """Read a vector that `export` wrote as safetensors, bit for bit.

        Raises
        ------
        InputError
            No such file, one that is damaged, or one that is something else.
        """
        parts = read_safetensors(path)
        try:
            vector = cls(parts.directions, parts.mode, parts.source)
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        if vector.fingerprint != parts.fingerprint:
            raise InputError(
                f"{path} is damaged: fingerprint {vector.fingerprint}, {parts.fingerprint} was "
                "saved"
            )
        return vector


def _direction(block: int, values: ArrayLike, mode: Mode) -> NDArray[np.float32]:
    """Values of a block as a vector of its own, of unit length for an ablation."""
    where = f"steering vector, block {block}"
    try:
        given = np.asarray(values)
        with np.errstate(over="ignore"):
            vector = given.astype(np.float32) if given.dtype.kind != "c" else None
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{where}: expected a vector of numbers ({reason})") from error
    if vector is None:
        raise InputError(f"{where}: expected real numbers, found complex ones; take values.real")
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise InputError(
            f"{where}: expected a vector of finite numbers, found an array of shape {vector.shape}"
            + (" with NaN or infinite values" if vector.ndim == 1 and len(vector) else "")
        )
    if mode == "add":
        return vector
    length = np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        raise InputError(f"{where}: the direction is zero, there is nothing to ablate")
    if abs(length - 1) < 1e-6:  # it is one already: the same bits come out
        return vector
    return (vector / length).astype(np.float32)


def _model_of(source: Any) -> Any:
    return source.get("model") if isinstance(source, dict) else None


def _when(phases: Any, window: Window | None) -> When:
    """In which passes to steer; what is no collection of words is refused here."""
    if not isinstance(phases, Collection) or not all(isinstance(one, str) for one in phases):
        raise InputError(f"phases must be among {PHASES}, not {phases!r:.60}")
    return When.of(cast("Sequence[Phase]", phases), window)


def is_whole(number: Any) -> TypeGuard[int]:
    """Whether it is a whole number, of Python or numpy; True and False are none."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def is_finite(number: Any) -> TypeGuard[float]:
    """Whether it is a finite real number, of Python or numpy; True and False are none."""
    is_number = isinstance(number, Real) and not isinstance(number, bool)
    return is_number and math.isfinite(number)
