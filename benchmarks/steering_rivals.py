"""How others steer a transformers model while it generates, each in its documented way."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def by_steering_vectors(module: Any, block: int, direction: np.ndarray) -> Iterator[None]:
    """Its documented way: ``with vector.apply(model): model.generate(...)``."""
    from steering_vectors import SteeringVector

    vector = SteeringVector({block: torch.from_numpy(direction).to(module.device, module.dtype)})
    with vector.apply(module):
        yield


@contextlib.contextmanager
def by_repeng(module: Any, block: int, direction: np.ndarray) -> Iterator[None]:
    """Its documented way: wrap blocks, set a control, generate, unwrap; one block here."""
    np.float_ = np.float64  # repeng 0.4 names a type that NumPy 2 took away
    from repeng import ControlModel, ControlVector

    control = ControlModel(module, [block])
    try:
        control.set_control(ControlVector(module.config.model_type, {block: direction}))
        yield
    finally:
        control.unwrap()


STEER = {"steering_vectors": by_steering_vectors, "repeng": by_repeng}
