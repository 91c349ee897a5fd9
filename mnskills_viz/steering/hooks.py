"""Directions in the running model: what a block's output becomes, and in which passes and rows."""

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..activations.gradients import PHASES, Phase
from ..decoding import STEPS
from ..errors import InputError
from ..models import block_modules, exclusive, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

Mode = Literal["add", "ablate"]
Window = tuple[int, int | None]
"""First generated token that is steered, and the first that no longer is; None: to the end."""


class Change:
    """What one direction does to the residual stream.

    ``"add"``: ``h + v``. ``"ablate"``: ``h - (h.q) q``, the component along the unit vector `q`
    taken out, reckoned in float32 at least.
    """

    def __init__(self, direction: NDArray[np.float32], mode: Mode) -> None:
        import torch

        self._exact = torch.tensor(direction)
        self._ready = self._exact
        self._ablates = mode == "ablate"

    def __call__(
        self, hidden: "torch.Tensor", rows: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """Change `hidden`, [n_rows, n_tokens, d_model]: all rows, or those of a mask [n_rows]."""
        import torch

        dtype = hidden.dtype
        wide = torch.promote_types(dtype, torch.float32) if self._ablates else dtype
        if self._ready.dtype != wide or self._ready.device != hidden.device:
            self._ready = self._exact.to(hidden.device, wide)
        if self._ablates:
            stream = hidden.to(wide)
            changed = (stream - (stream @ self._ready)[..., None] * self._ready).to(dtype)
        else:
            changed = hidden + self._ready
        if rows is None:
            return changed
        return torch.where(rows.to(hidden.device)[:, None, None], changed, hidden)

    def of_output(self, output: Any, rows: "torch.Tensor | None" = None) -> Any:
        """Change the residual stream in what a block returns: it alone, or the first of several."""
        if isinstance(output, tuple):
            return (self(output[0], rows), *output[1:])
        if isinstance(output, list):
            return [self(output[0], rows), *output[1:]]
        return self(output, rows)


@dataclass(frozen=True, slots=True)
class When:
    """In which passes a model is steered, checked.

    Attributes
    ----------
    phases : frozenset of {"prompt", "generation"}
    window : (int, int or None), optional
        Half-open, in generated tokens.
    """

    phases: frozenset[Phase]
    window: Window | None

    @classmethod
    def of(cls, phases: Sequence[Phase], window: Window | None) -> "When":
        """Take what a caller says.

        Raises
        ------
        InputError
            An unknown phase, or a window that is none, or that parts what is not steered.
        """
        if isinstance(phases, str) or not phases or set(phases) - set(PHASES):
            said = repr(phases) if isinstance(phases, str) else tuple(phases)
            raise InputError(f"phases must be among {PHASES}, not {said}")
        if window is not None:
            _require_window(window)
            if "generation" not in phases:
                raise InputError(
                    f"window {tuple(window)} counts generated tokens, and phases leaves them out; "
                    'add "generation" to phases'
                )
        return cls(frozenset(phases), None if window is None else (window[0], window[1]))

    @property
    def is_always(self) -> bool:
        """Whether every pass is steered."""
        return self.window is None and self.phases == set(PHASES)

    def takes(self, step: int) -> bool:
        """Whether a model is steered when it reads generated token number `step`, from 0."""
        if "generation" not in self.phases:
            return False
        start, stop = self.window or (0, None)
        return start <= step and (stop is None or step < stop)


def _require_window(window: Any) -> None:
    def is_whole(number: Any) -> bool:
        return isinstance(number, int | np.integer) and not isinstance(number, bool)

    whole = isinstance(window, tuple | list) and len(window) == 2 and is_whole(window[0])
    if whole and window[0] >= 0:
        stop = window[1]
        if stop is None or (is_whole(stop) and window[0] < stop):
            return
    raise InputError(
        "window must be (start, stop) in generated tokens, 0 <= start < stop, stop None for no "
        f"end, not {window!r}"
    )


@contextlib.contextmanager
def hooked(model: "TransformersModel", changes: Mapping[int, Change], when: When) -> Iterator[None]:
    """Change the output of blocks in this context, in the passes that `when` says.

    Forward hooks act alike in plain passes, in generation and in traces. What contexts within each
    other do is done in the order in which they were entered.
    """
    modules = block_modules(model)
    reader = _Reader(when)
    with exclusive(model), contextlib.ExitStack() as hooks:
        top = torch_module(model).register_forward_pre_hook(reader, with_kwargs=True)
        hooks.callback(top.remove)
        for block, change in changes.items():
            hooks.enter_context(_acting(modules[block], change, reader))
        yield


class _Reader:
    """Before each pass of the whole model, notes which of its rows are steered.

    A pass goes on with a text if its cache holds something and it reads one new token a row. Any
    other is of a prompt: the first of a text, or one more turn that is added to it.
    """

    def __init__(self, when: When) -> None:
        self._when = when
        self._read = 0  # tokens generated since the prompt that were read, if nobody else counts
        self.rows: bool | torch.Tensor = "prompt" in when.phases

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if not _goes_on(args, kwargs):
            self._read = 0
            self.rows = "prompt" in self._when.phases
            return
        steps = STEPS.get()
        if steps is None:
            self.rows = self._when.takes(self._read)
            self._read += 1
        else:
            self.rows = _mask([self._when.takes(step) for step in steps], module)


def _mask(taken: list[bool], module: Any) -> "bool | torch.Tensor":
    """Which rows are steered: all, none, or a mask [n_rows]."""
    import torch

    if all(taken) or not any(taken):
        return taken[0]
    return torch.tensor(taken, device=module.device)


class _Hook:
    """The forward hook on a block: all that acts on its output, in the order of entry.

    It runs before hooks of others, so that who records outputs, as transformers does for
    ``output_hidden_states``, records what the next block reads.
    """

    def __init__(self) -> None:
        self.acts: list[tuple[Change, _Reader]] = []
        self.handle: Any = None

    def __call__(self, module: Any, args: Any, output: Any) -> Any:
        for change, reader in self.acts:
            rows = reader.rows
            if rows is not False:
                output = change.of_output(output, None if rows is True else rows)
        return output


_HOOKS: "weakref.WeakKeyDictionary[Any, _Hook]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def _acting(module: Any, change: Change, reader: _Reader) -> Iterator[None]:
    """Let `change` act on what a block puts out, after what acts on it already."""
    hook = _HOOKS.setdefault(module, _Hook())
    if not hook.acts:
        hook.handle = module.register_forward_hook(hook, prepend=True)
    act = (change, reader)
    hook.acts.append(act)
    try:
        yield
    finally:
        hook.acts.remove(act)
        if not hook.acts:
            hook.handle.remove()


def _goes_on(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a pass reads one generated token a row, by what the model is called with."""
    cache = kwargs.get("past_key_values", kwargs.get("cache_params"))
    if cache is None or not _holds_something(cache):
        return False
    read = kwargs.get("input_ids", args[0] if args else None)
    if read is None:
        read = kwargs["inputs_embeds"]
    return bool(read.shape[1] == 1)


def _holds_something(cache: Any) -> bool:
    try:
        return bool(cache.get_seq_length() > 0)
    except ValueError:  # linear attention alone: its state has no length
        return bool(cache.has_previous_state())
