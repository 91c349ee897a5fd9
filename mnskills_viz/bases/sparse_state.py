"""The state of a training, and its place on disk: killed and resumed, it ends the same."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..errors import InputError
from ..files import write_bytes

Metrics = dict[str, float]

# Writing takes a tenth of a second at 2,304 latents of 576, seconds at 32,768 of 4,096.
SECONDS_A_CHECKPOINT = 15.0


class Weights(NamedTuple):
    """The autoencoder of scaled rows, or gradients of it."""

    encoder: torch.Tensor
    """[m, d] one row a latent."""
    bias: torch.Tensor
    """[m] of the encoder."""
    decoder: torch.Tensor
    """[m, d] rows of unit length."""

    def copy(self) -> "Weights":
        """The same numbers, apart from later steps."""
        return Weights(*(tensor.clone() for tensor in self))


@dataclass(slots=True)
class State:
    """All that a training knows between two epochs.

    Attributes
    ----------
    weights, best : Weights
        Those of now, and those of the epoch that was best on the held-out rows.
    silent_epochs : Tensor [m] int64
        Epochs since each latent was last active.
    threshold : float or None
        Score above which a latent is active in the best epoch; None for TopK.
    best_loss : float
        Held-out FVU of the best epoch.
    epochs_since : int
        Epochs since the best one.
    history : list of dict
        Figures of each epoch.
    moments : list of dict of Tensor
        Of Adam, a part of the weights each; empty before the first step.
    """

    weights: Weights
    best: Weights
    silent_epochs: torch.Tensor
    threshold: float | None = None
    best_loss: float = math.inf
    epochs_since: int = 0
    history: list[Metrics] = field(default_factory=list)
    moments: list[dict[str, torch.Tensor]] = field(default_factory=list)

    @classmethod
    def begin(cls, weights: Weights) -> "State":
        """Before the first epoch."""
        silent = torch.zeros_like(weights.bias, dtype=torch.int64)
        return cls(weights, weights.copy(), silent)

    def optimizer(self, learning_rate: float) -> torch.optim.Optimizer:
        """Adam on the weights, with what it knew."""
        adam = torch.optim.Adam(self.weights, lr=learning_rate, fused=True)
        if self.moments:
            groups = adam.state_dict()["param_groups"]
            adam.load_state_dict({"state": dict(enumerate(self.moments)), "param_groups": groups})
        return adam

    def note(self, metrics: Metrics, threshold: float | None, is_best: bool) -> None:
        """Remember an epoch."""
        self.history.append(metrics)
        self.epochs_since += 1
        if is_best:
            self.best, self.threshold = self.weights.copy(), threshold
            self.best_loss, self.epochs_since = metrics["val_fvu"], 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file that a training leaves now and then.

    Attributes
    ----------
    path : Path
    made_by : dict
        What the training was asked to do, rows included: another one must not go on from it.
    seconds : float
        Least time between two writings.
    """

    path: Path
    made_by: dict[str, Any]
    seconds: float = SECONDS_A_CHECKPOINT

    def read(self, generator: torch.Generator, device: torch.device) -> State | None:
        """The state to go on from, on `device`, with `generator` set to it; None if there is none.

        Raises
        ------
        InputError
            The file is damaged, or another training left it.
        """
        if not self.path.exists():
            return None
        try:
            content = self.path.read_bytes()
            tensors = {name: tensor.to(device) for name, tensor in load(content).items()}
            size = int.from_bytes(content[:8], "little")
            facts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["state"])
            made_by, adam = facts.pop("made_by"), facts.pop("adam")
            state = State(
                weights=Weights(*(tensors[f"weights.{part}"] for part in Weights._fields)),
                best=Weights(*(tensors[f"best.{part}"] for part in Weights._fields)),
                silent_epochs=tensors["silent_epochs"],
                moments=[
                    {name: tensors[f"adam.{part}.{name}"] for name in adam}
                    for part in Weights._fields
                ],
                **facts,
            )
            chance = tensors["generator"].cpu()
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path} is not a whole checkpoint ({error}); delete it to begin again"
            ) from error
        if made_by != self.made_by:
            differ = [name for name in self.made_by if made_by.get(name) != self.made_by[name]]
            raise InputError(
                f"{self.path} was left by another training (other {', '.join(differ)}); "
                "delete it to begin again"
            )
        generator.set_state(chance)
        return state

    def write(
        self, state: State, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """Keep the state, in place of the one before."""
        adam = optimizer.state_dict()["state"]
        tensors = {"generator": generator.get_state(), "silent_epochs": state.silent_epochs}
        for i, part in enumerate(Weights._fields):
            tensors[f"weights.{part}"] = state.weights[i]
            tensors[f"best.{part}"] = state.best[i]
            tensors |= {f"adam.{part}.{name}": value for name, value in adam[i].items()}
        facts = {
            "made_by": self.made_by,
            "adam": sorted(adam[0]),
            "threshold": state.threshold,
            "best_loss": state.best_loss,
            "epochs_since": state.epochs_since,
            "history": state.history,
        }
        metadata = {"state": json.dumps(facts)}
        write_bytes(self.path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))
