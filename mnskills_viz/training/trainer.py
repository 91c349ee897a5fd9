"""TRL's trainer, with checkpoints of safetensors and JSON, and our progress bar.

Training that was killed goes on from its checkpoint to the same weights, to the bit: the
checkpoint holds the adapter, the optimizer, the scheduler, all random states, and the number of
batches that the trainer passes over when it goes on.
"""

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from ..errors import InputError
from ..files import folder_in_place, read_json, write_json
from .kept import has_begun, write_record

TENSORS, STATE = "state.safetensors", "state.json"


class ResumableTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains the adapter; see the module.

    Parameters
    ----------
    checkpoint : Path
        Folder of the checkpoint.
    request : dict
        What this training is, JSON-ready; it lies in the checkpoint to be compared.
    save_every : float
        Seconds between checkpoints.
    progress : bool
    **kwargs
        As `SFTTrainer` takes them.
    """

    def __init__(
        self,
        *,
        checkpoint: Path,
        request: dict[str, Any],
        save_every: float,
        progress: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checkpoint = checkpoint
        self.request = request
        self.asked_to_stop = False
        self._watch = _Watch(self, save_every, progress)
        self.add_callback(self._watch)

    def _send_telemetry(self) -> None:
        """Nothing is sent."""

    @property
    def lengths(self) -> list[int]:
        """Tokens in each row, template included."""
        return [len(ids) for ids in self.train_dataset["input_ids"]]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry an optimizer step: step, loss, learning_rate, tokens, seconds."""
        names = ("step", "loss", "learning_rate", "tokens", "seconds")
        return [{n: row[n] for n in names} for row in self.state.log_history if "loss" in row]

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, with the step that was under way done and kept.
        InputError
            The loss is no longer a number.
        """
        begun = has_begun(self.checkpoint)
        try:
            with _interrupt_noted(self):
                self.train(resume_from_checkpoint=str(self.checkpoint) if begun else None)
        finally:
            self._watch.bar.close()
        if self.asked_to_stop:
            raise KeyboardInterrupt(
                f"stopped after step {self.state.global_step} of {self.state.max_steps}; "
                "the same call goes on from there"
            )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass, counted."""
        # The first label of a row is never predicted.
        self._watch.tokens += int((inputs["labels"][:, 1:] != -100).sum())
        self._watch.bar.update(int(inputs["attention_mask"].sum()))
        return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what we count to what is kept of every step."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise InputError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}: the training "
                    "diverged; lower learning_rate"
                )
            logs |= {"tokens": self._watch.tokens, "seconds": self._watch.seconds}
            self._watch.bar.set_postfix(loss=f"{logs['loss']:.3f}")
        super().log(logs, start_time)

    # ------------------------------------------------------------------------- checkpoints
    # The trainer's own are pickled; these take the place of its four methods.

    def _trained(self) -> dict[str, Any]:
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        tensors = {f"weight.{name}": p.detach() for name, p in self._trained().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        rest, generators = _random_state()
        tensors |= {f"random.{name}": value for name, value in generators.items()}
        scheduler = self.lr_scheduler.state_dict()
        with folder_in_place(self.checkpoint) as building:
            whole = {name: value.cpu().contiguous() for name, value in tensors.items()}
            save_file(whole, building / TENSORS)
            write_json(building / STATE, {"scheduler": scheduler, "random": rest})
            self.state.save_to_json(str(building / TRAINER_STATE_NAME))
            write_record(building, self.request)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        stored = _part(self._stored(), "weight")
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(stored[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state: dict[int, dict[str, Any]] = {}
        for name, value in _part(self._stored(), "optimizer").items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = value
        scheduler = read_json(self.checkpoint / STATE)["scheduler"]
        self.lr_scheduler.load_state_dict(scheduler)
        groups = self.optimizer.state_dict()["param_groups"]
        for group, rate in zip(groups, scheduler["_last_lr"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            rest = read_json(self.checkpoint / STATE)["random"]
            _restore_random_state(rest, _part(self._stored(), "random"))

    def _stored(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = load_file(self.checkpoint / TENSORS)
        return tensors


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Counts, draws the bar, and says when to keep a checkpoint or to stop."""

    def __init__(self, trainer: ResumableTrainer, save_every: float, progress: bool) -> None:
        self.tokens = 0
        self.bar = tqdm(disable=True)
        self._trainer = trainer
        self._save_every = save_every
        self._progress = progress
        self._started = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time in training, that before the checkpoint included."""
        return time.monotonic() - self._started

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = self._trainer.history[-1] if self._trainer.history else None
        self.tokens = done["tokens"] if done else 0
        self._started = time.monotonic() - (done["seconds"] if done else 0.0)
        self._saved = time.monotonic()
        total = sum(self._trainer.lengths) * state.num_train_epochs
        share = state.global_step / state.max_steps
        self.bar = tqdm(
            total=total,
            initial=int(share * total),
            desc="sft",
            unit="tok",
            unit_scale=True,
            disable=not self._progress,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = time.monotonic() - self._saved >= self._save_every
        if due or self._trainer.asked_to_stop or state.global_step == state.max_steps:
            control.should_save = True
        if self._trainer.asked_to_stop:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()


@contextlib.contextmanager
def _interrupt_noted(trainer: ResumableTrainer) -> Iterator[None]:
    """Let the first Ctrl-C end the step under way, so that no step is half done; a second cuts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(*_: Any) -> None:
        trainer.asked_to_stop = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _part(tensors: dict[str, torch.Tensor], head: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(f"{head}."): value
        for name, value in tensors.items()
        if name.startswith(f"{head}.")
    }


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the process its random states back: the trainer seeds them all."""
    before = _random_state()
    try:
        yield
    finally:
        _restore_random_state(*before)


def _random_state() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """States of Python and numpy as JSON, of torch's generators as uint8 tensors."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    generators = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        for index, state in enumerate(torch.cuda.get_rng_state_all()):
            generators[f"cuda{index}"] = state
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
    }, generators


def _restore_random_state(rest: dict[str, Any], generators: dict[str, torch.Tensor]) -> None:
    version, words, gauss = rest["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *others = rest["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *others))
    torch.random.set_rng_state(generators["cpu"])
    for name, state in generators.items():
        if name.startswith("cuda") and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda")))
