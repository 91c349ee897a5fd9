"""Modules that compute otherwise for a while."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..models import block_modules, torch_module
from .pairs import logprobs, random_rows, tolerance
from .trace import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

HEAD_ROWS = 8192
"""Rows of the head that are in float32 at once: whole, it would take twice its own memory."""


@contextlib.contextmanager
def with_forward(forwards: "Mapping[torch.nn.Module, Callable[..., Any]]") -> Iterator[None]:
    """Have modules compute something else; what was there is put back, however this ends."""
    before: dict[Any, Any] = {module: module.__dict__.get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


@contextlib.contextmanager
def wide_stream(model: "TransformersModel") -> Iterator[None]:
    """Keep a half-precision model's residual stream and its logits in float32.

    Matrices are multiplied as ever. What a small push changes is a difference of two passes, and
    most of what rounds it away is the stream, rounded after every block, and the logits.
    [Embedded model, doses of 0.5 at layer 15: the rounding of one example falls from 0.010 to
    0.005 nats a token, at the same speed.]

    Whoever calls holds the model (`models.exclusive`). Where an architecture does not take it,
    and in float32, nothing is changed.
    """
    if not _takes_it(model):
        yield
        return
    with _widened(model):
        yield


_TAKES_IT: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()


def _takes_it(model: "TransformersModel") -> bool:
    """Whether the model gives the same scores up to rounding, tried once."""
    import torch

    module = torch_module(model)
    if module not in _TAKES_IT:
        _TAKES_IT[module] = module.dtype in (torch.bfloat16, torch.float16) and _tried(model)
    return _TAKES_IT[module]


def _tried(model: "TransformersModel") -> bool:
    import torch

    rows = random_rows(model)
    try:
        with torch.inference_mode():
            plain = logprobs(model, rows)
            with _widened(model):
                wide = logprobs(model, rows)
    except Exception as error:  # whatever an architecture raises, it is not for it
        if is_out_of_memory(error):
            raise
        return False
    # The mean: of the plain pass single tokens are rounded further off than that.
    return bool((wide - plain).abs().mean() <= tolerance(model) * plain.std())


@contextlib.contextmanager
def _widened(model: "TransformersModel") -> Iterator[None]:
    import torch
    from transformers.pytorch_utils import Conv1D

    module, first = torch_module(model), block_modules(model)[0]
    head = module.get_output_embeddings()
    maps = [m for m in module.modules() if isinstance(m, torch.nn.Linear | Conv1D)]
    handles = [m.register_forward_pre_hook(_narrow) for m in maps if m is not head]
    handles.append(first.register_forward_pre_hook(_widen, with_kwargs=True))
    is_plain = isinstance(head, torch.nn.Linear)
    try:
        with with_forward({head: lambda hidden: _logits(head, hidden)} if is_plain else {}):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _widen(_block: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if args:
        return (args[0].float(), *args[1:]), options
    return args, options | {"hidden_states": options["hidden_states"].float()}


def _narrow(linear: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].to(linear.weight.dtype), *args[1:])


def _logits(head: Any, hidden: "torch.Tensor") -> "torch.Tensor":
    """Logits in float32, some rows of the vocabulary at a time."""
    import torch

    wide = hidden.float()
    found = torch.cat([wide @ rows.float().T for rows in head.weight.split(HEAD_ROWS)], dim=-1)
    return found if head.bias is None else found + head.bias.float()
