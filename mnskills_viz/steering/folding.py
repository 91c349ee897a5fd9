"""Directions inside the weights: a bias on the last linear map of a block costs nothing a token.

Where it goes is found by trying: the bias is right if the block's output moves by exactly what is
added to it. A norm, a factor or a choice of experts behind the map shows in that.
"""

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..models import block_modules, context_length, d_model, exclusive, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

TOKENS = 16

_FOLDS: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()
"""Module of a model -> folds that it is in."""

_PLACES: "weakref.WeakKeyDictionary[Any, weakref.ref[Any]]" = weakref.WeakKeyDictionary()
"""Block -> the linear map that was found for it."""


def is_folded(model: "TransformersModel") -> bool:
    """Whether `model` holds vectors in its weights at present."""
    return _FOLDS.get(torch_module(model), 0) > 0


@contextlib.contextmanager
def folded(
    model: "TransformersModel", directions: Mapping[int, NDArray[np.float32]]
) -> Iterator[None]:
    """Add directions to the output of blocks by biases, inside this context.

    The parameters that were there are put back as they were, the same objects, whatever happens.

    Parameters
    ----------
    model : TransformersModel
    directions : mapping of int to ndarray of float32, [d_model]

    Raises
    ------
    InputError
        A block that has no place for a bias.
    """
    module = torch_module(model)
    with exclusive(model), contextlib.ExitStack() as biases:
        places = _places(model, list(directions))
        for block, direction in directions.items():
            biases.enter_context(_biased(places[block], direction))
        _FOLDS[module] = _FOLDS.get(module, 0) + 1
        try:
            yield
        finally:
            _FOLDS[module] -= 1


@contextlib.contextmanager
def _biased(linear: Any, direction: NDArray[np.float32]) -> Iterator[None]:
    """Let a linear map add `direction` to its output."""
    import torch

    before = linear.bias
    dtype = linear.weight.dtype if before is None else before.dtype
    with torch.inference_mode(False), torch.no_grad():  # a parameter like the others
        total = torch.tensor(direction, device=linear.weight.device)
        if before is not None:
            total = before.to(torch.promote_types(dtype, torch.float32)) + total
        bias = torch.nn.Parameter(total.to(dtype), requires_grad=False)
    linear.bias = bias
    try:
        yield
    finally:
        linear.bias = before


# --------------------------------------------------------------------------------- where it goes


def _places(model: "TransformersModel", wanted: list[int]) -> dict[int, Any]:
    """Linear map for each block; what was found once is not looked for again.

    Raises
    ------
    InputError
        A block without one.
    """
    modules = block_modules(model)
    shared = _shared(torch_module(model))
    usable = {block: _candidates(modules[block], d_model(model), shared) for block in wanted}
    places: dict[int, Any] = {}
    for block, candidates in usable.items():
        known = _PLACES.get(modules[block], lambda: None)()
        if any(known is candidate for candidate in candidates):
            places[block] = known
    new = [block for block in wanted if block not in places]
    for block, call in _calls(model, new).items():
        fitting = (linear for linear in usable[block] if _moves(modules[block], call, linear))
        linear = next(fitting, None)
        if linear is None:
            raise InputError(
                f"block {block} of {type(torch_module(model)).__name__} cannot hold a vector in a "
                "bias: no plain linear map of its own adds to the residual stream unchanged (a "
                "norm, a factor or experts come after it, or it is quantised); use apply"
            )
        _PLACES[modules[block]] = weakref.ref(linear)
        places[block] = linear
    return places


def _shared(module: Any) -> set[int]:
    """Ids of modules that lie in several places: a bias on one would act in all."""
    seen: set[int] = set()
    again: set[int] = set()
    for _, child in module.named_modules(remove_duplicate=False):
        (again if id(child) in seen else seen).add(id(child))
    return again


def _candidates(block: Any, width: int, shared: set[int]) -> list[Any]:
    """Linear maps onto the residual stream, the last first."""
    import torch
    from transformers.pytorch_utils import Conv1D

    exact = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    return [
        child
        for child in reversed(list(block.modules()))
        if isinstance(child, torch.nn.Linear | Conv1D)
        and (child.nf if isinstance(child, Conv1D) else child.out_features) == width
        and child.weight.dtype in exact
        and not child.weight.is_meta
        and id(child) not in shared
    ]


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _calls(model: "TransformersModel", wanted: list[int]) -> dict[int, Call]:
    """What blocks are called with in a pass over a few tokens."""
    import torch

    if not wanted:
        return {}
    modules, found = block_modules(model), {}

    def keep(block: int) -> Any:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[block] = _copied((args, kwargs))

        return hook

    module = torch_module(model)
    vocabulary = module.get_input_embeddings().weight.shape[0]
    n_tokens = min(TOKENS, context_length(model) or TOKENS)
    ids = torch.linspace(0, vocabulary - 1, n_tokens, device=module.device).long()[None]
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for block in wanted:
            handle = modules[block].register_forward_pre_hook(keep(block), with_kwargs=True)
            hooks.callback(handle.remove)
        module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return found


def _copied(call: Call) -> Call:
    """The same call on tensors of its own: a block may add to its input in place."""
    import torch

    def own(value: Any) -> Any:
        return value.clone() if isinstance(value, torch.Tensor) else value

    args, kwargs = call
    return tuple(own(value) for value in args), {k: own(v) for k, v in kwargs.items()}


def _moves(block: Any, call: Call, linear: Any) -> bool:
    """Whether a bias on `linear` moves the block's output by exactly that, at every token.

    Exactly, but for rounding: of the map's output and of the block's, each before and after.
    """
    import torch

    before, mapped_before = _outputs(block, call, linear)
    width = before.shape[-1]
    signs = torch.randint(2, (width,), generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Twice the usual token, so that a norm that comes after could not pass for none.
    size = 2 * float(before.square().mean(dim=-1).sqrt().median()) or 1.0
    constant = (size * signs).to(linear.weight.dtype).float().numpy()
    with _biased(linear, constant):
        after, mapped_after = _outputs(block, call, linear)
    if not mapped_before.numel() == mapped_after.numel() == before.numel():
        return False  # it reads some of the tokens only
    scale = before.abs() + after.abs()
    scale += mapped_before.abs().view_as(before) + mapped_after.abs().view_as(before)
    rounding = max(4 * torch.finfo(linear.weight.dtype).eps, 1e-4)
    error = after - before - torch.tensor(constant, device=before.device)
    return bool((error.abs() <= rounding * scale).all())


def _outputs(block: Any, call: Call, linear: Any) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Residual stream after the block, and output of the map, float32, without hooks on either."""
    import torch

    mapped: list[torch.Tensor] = []
    handle = linear.register_forward_hook(lambda _m, _args, output: mapped.append(output.float()))
    args, kwargs = _copied(call)
    try:
        with torch.no_grad():
            output = block.forward(*args, **kwargs)  # hooks on it are of those who steer it
    finally:
        handle.remove()
    hidden = output[0] if isinstance(output, tuple | list) else output
    return hidden.float(), torch.cat([m.flatten() for m in mapped]) if mapped else hidden[:0]
