"""Whether a vector fits a model: its blocks, its width, and the model that it was made for."""

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..models import block_modules, d_model, differs, exclusive, torch_module
from .folding import is_folded

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

MADE_FOR = ("n_layers", "d_model", "dtype", "weights", "tokenizer")
"""What tells models apart, of a `ModelIdentity`; names and revisions do not."""

_FITTING: "weakref.WeakKeyDictionary[Any, set[tuple[Any, ...]]]" = weakref.WeakKeyDictionary()
"""Module of a model -> the models that vectors said to be of it and were: hashing takes time."""


def require_fit(
    model: "TransformersModel",
    wanted: Sequence[int],
    width: int,
    made_for: Mapping[str, Any] | None,
) -> None:
    """Refuse a model that has not the blocks, the width or the weights.

    While vectors are folded into a model its weights are not compared: they are others.

    Raises
    ------
    InputError
        Says what differs, and how to go on all the same.
    """
    n_blocks, d = len(block_modules(model)), d_model(model)
    for block in wanted:
        if block >= n_blocks:
            raise InputError(f"block {block} is not there; the model has 0 to {n_blocks - 1}")
    if width != d:
        raise InputError(
            f"the steering vector has width {width}, the model {d}: it was made for another model"
        )
    if made_for is None:
        return
    module, key = torch_module(model), tuple(made_for.get(name) for name in MADE_FOR)
    if key in _FITTING.get(module, ()):
        return
    with exclusive(model):
        is_plain = not is_folded(model)
        found = differs(model, made_for, weights=is_plain)
    if found is not None:
        raise InputError(
            f"the steering vector was made for another model: {found}; "
            "SteeringVector(vector.directions) can be applied all the same"
        )
    if is_plain:
        _FITTING.setdefault(module, set()).add(key)


def one_model(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The model that two vectors say that they were made for, if any.

    Raises
    ------
    InputError
        They say different ones.
    """
    if a is not None and b is not None:
        for name in MADE_FOR:
            if a.get(name) != b.get(name):
                raise InputError(
                    f"the steering vectors were made for different models: {name} {a.get(name)} "
                    f"and {b.get(name)}; SteeringVector(vector.directions) forgets which"
                )
    known = a if a is not None else b
    return None if known is None else dict(known)
