"""Training on what a study chose, and measuring what it changed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..activations.collect import collect
from ..adapters import WEIGHTS
from ..corpus import Corpus
from ..errors import InputError
from ..evaluation.run import graded, require_k
from ..evaluation.tables import scores
from ..evaluation.verifiers import Verifier
from ..exporting.preflight import preflight
from ..files import sha256, write_bytes
from ..models import load_model
from ..selection import pole_name
from ..selection.matrix import scale_of
from ..selection.weakness import POSTERIOR_95
from ..training.sft import sft, training_log
from .kept import as_parquet
from .rows import without_responses
from .selecting import StudySelecting

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

HeldOut = Literal["probe", "test"]

ON_A_POLE = 1.0
"""Standard deviations beyond which an example counts for a pole in tables."""


class StudyTraining(StudySelecting):
    """The part of a study that trains and measures."""

    def preflight(self, export: str, max_length: int | None = None) -> pd.DataFrame:
        """What the trainer would refuse or cut of an export; see `mnskills_viz.preflight`."""
        self._require("export", export, self.export_names)
        return preflight(self.path / "exports" / export, self.model, max_length)

    def sft(
        self, export: str, name: str | None = None, progress: bool = True, **options: Any
    ) -> Path:
        """Fine-tune the study's model on an export, into ``adapters/NAME``.

        A training that was stopped goes on; one that is done with these options is not repeated.

        Parameters
        ----------
        export : str
            Name of an export of format "trl" or "hf".
        name : str, optional
            Default: that of the export.
        progress : bool
        **options
            As `mnskills_viz.sft` takes them.

        Returns
        -------
        Path
            The adapter: `load_model` takes it, and so does ``Study.create(model=...)``.
        """
        self._require("export", export, self.export_names)
        out = self._inside("adapters", name or export)
        return sft(self.model, self.path / "exports" / export, out, progress=progress, **options)

    def require_adapter(self, name: str) -> None:
        """Refuse a name under which nothing has been trained."""
        self._require("adapter", name, self.adapter_names)

    def adapted(self, adapter: str | None) -> "TransformersModel":
        """The study's model, or one of its adapters on it."""
        if adapter is None:
            return self.model
        self.require_adapter(adapter)
        made = self.about["model"]
        return load_model(
            str(self.path / "adapters" / adapter),
            dtype=self.activations.source_of_all["model"]["dtype"],
            device=made["device"],
            blocks=made["blocks"],
        )

    def after(self, adapter: str, basis: str | None = None, progress: bool = True) -> Self:
        """The same corpus read by the model with an adapter, as a study of its own.

        Kept in ``after/ADAPTER-HASH``; for `compare`. Rows are collected as those of this study,
        at the layer of the basis.

        Parameters
        ----------
        adapter : str
        basis : str, optional
            Name of the basis; may be left out while there is one only.
        progress : bool
        """
        self.require_adapter(adapter)
        fitted = self.basis(self.basis_name(basis))
        layer = (fitted.source_ or {})["layer"]
        folder = self.path / "adapters" / adapter
        path = self._inside("after", self._marked(adapter))
        source = self.activations.source_of_all
        if (path / "study.json").exists():
            study = type(self).open(path)
        else:
            made = self.about["model"] | {"name": str(folder), "dtype": source["model"]["dtype"]}
            made["model"] = made.pop("name")
            study = type(self).create(path, corpus=self.corpus, test=self.test, **made)
        layers = self.activations.layers if layer == "concat" else [layer]
        study.collect(progress, layers=layers, **source["options"])
        return study

    def _marked(self, adapter: str) -> str:
        """An adapter's name with a mark of its weights: trained anew, it is another model."""
        self.require_adapter(adapter)
        return f"{adapter}-{sha256(self.path / 'adapters' / adapter / WEIGHTS)[:8]}"

    def evaluate(
        self,
        split: HeldOut = "test",
        adapter: str | None = None,
        *,
        k: int | Iterable[int] = (1, 8),
        n: int = 8,
        basis: str | None = None,
        progress: bool = True,
        **options: Any,
    ) -> pd.DataFrame:
        """Sample answers to held-out prompts and have verifiers judge them.

        Answers are kept under ``evaluations`` as they come; what was stopped goes on.

        Parameters
        ----------
        split : {"probe", "test"}
        adapter : str, optional
            Name of an adapter to measure instead of the model itself.
        k, n, **options
            As `mnskills_viz.evaluate` takes them.
        basis : str, optional
            Also give a group for each pole of this basis: the examples whose prompts lie at least
            1 standard deviation on its side, in the model's own rows before training.
        progress : bool

        Returns
        -------
        DataFrame
            As `mnskills_viz.evaluate` gives it.
        """
        ks = require_k(k, n)
        groups = None if basis is None else self.pole_groups(split, basis)
        samples = self.graded(split, adapter, n=n, progress=progress, **options)
        return scores(samples, ks, groups, options.get("seed", 0))

    def graded(
        self,
        split: HeldOut = "test",
        adapter: str | None = None,
        *,
        n: int = 8,
        temperature: float = 0.8,
        max_new_tokens: int = 256,
        seed: int = 0,
        verifier: Verifier = "auto",
        progress: bool = True,
    ) -> pd.DataFrame:
        """What `evaluate` sums up, example by example; for `paired_difference`, say."""
        name = f"{split}-n{n}-t{temperature}-m{max_new_tokens}-s{seed}"
        name += "" if adapter is None else f"-{self._marked(adapter)}"
        return graded(
            self.adapted(adapter),
            self._held_out(split),
            n=n,
            temperature=temperature,
            verifier=verifier,
            seed=seed,
            max_new_tokens=max_new_tokens,
            store=self._inside("evaluations", name),
            progress=progress,
        )

    def _held_out(self, split: HeldOut) -> Corpus:
        if split == "probe":
            return self.corpus.take(self.probe_rows)
        if split != "test":
            raise InputError(f'split must be "probe" or "test", not {split!r}')
        if not len(self.test):
            raise InputError(
                f"{self.path} has no test examples: the corpus has no rows of split 'test' and "
                'none were given; evaluate split="probe", or make a study with test=...'
            )
        return self.test

    def pole_groups(self, split: HeldOut, basis: str) -> dict[str, list[str]]:
        """Ids of the held-out examples on each pole, as `evaluate` groups them."""
        ruler = self.ruler(basis)
        z = ruler.probe if split == "probe" else self._test_coordinates(basis)
        z = z / ruler.scale
        ids = np.array(self._held_out(split).ids, dtype=object)
        members = {
            pole_name(axis, sign): ids[sign * z[:, axis] >= ON_A_POLE].tolist()
            for axis in range(z.shape[1])
            for sign in (1, -1)
        }
        return {pole: there for pole, there in members.items() if there}

    def _test_coordinates(self, basis: str) -> NDArray[np.float32]:
        """Coordinates of the test prompts, about the mean of the pool's."""
        fitted = self.basis(basis)
        layer = (fitted.source_ or {})["layer"]
        rows = self._rows_beside("test.lance", without_responses(self.test), layer, progress=False)
        mean, _ = scale_of(self._projected_prompts(basis)[self.pool_rows])
        z: NDArray[np.float32] = fitted.transform(
            rows.matrix_as(fitted.source_ or {})
        ) - mean.astype(np.float32)
        return z

    def pilot(
        self,
        basis: str,
        poles: Sequence[tuple[int, int]],
        budget: int = 256,
        seed: int = 0,
        progress: bool = True,
        **options: Any,
    ) -> pd.DataFrame:
        """Rank poles by what a small fine-tuning on each does: the decisive proxy, and the dearest.

        For every pole, and for as many rows at random, a selection, an export and an adapter
        named ``pilot-...`` are made, and the loss of the probe's references is measured.

        Parameters
        ----------
        basis : str
        poles : sequence of (axis, +1 or -1)
        budget : int
            Rows of each training; 250 to 1,000 tell something.
        seed : int
        progress : bool
        **options
            As `mnskills_viz.sft` takes them.

        Returns
        -------
        DataFrame
            ``pole axis sign rows tokens gain low high over_random over_low over_high``: response
            tokens trained on; gain in mean log-probability of the probe's references, nats per
            response token, with a 95 % interval of the paired mean; the same less the gain of the
            random rows. ``attrs`` holds ``random_gain`` and ``random_tokens``: a pole of longer
            answers learns from more tokens, and its steps are as many.
        """
        if not poles or len({*poles}) < len(poles):
            raise InputError("pilot: name at least one pole, and none twice")
        before = self.activations.logprobs[self.probe_rows].astype(np.float64)
        self.probe_errors()  # says what is missing
        arms: dict[str, dict[str, Any]] = {"pilot-random": {"strategy": "random"}}
        for axis, sign in poles:
            name = f"pilot-{basis}-{axis}{'p' if sign > 0 else 'm'}"
            arms[name] = {"strategy": "top", "axes": [(axis, sign)]}
        gains, tokens = {}, {}
        for name, how in arms.items():
            self.select(budget=budget, basis=basis, name=name, seed=seed, **how)
            self.export(name, "trl", name)
            # Shuffled, all of them: what is compared is the rows, not an order.
            out = self.sft(name, progress=progress, seed=seed, **{"order": "shuffled"} | options)
            tokens[name] = int(training_log(out)["tokens"].iloc[-1])
            gains[name] = self._probe_logprobs(name, progress) - before
        rows = []
        for name, (axis, sign) in zip(list(arms)[1:], poles, strict=True):
            gain = _mean(gains[name])
            over = _mean(gains[name] - gains["pilot-random"])
            rows.append([pole_name(axis, sign), axis, sign, budget, tokens[name], *gain, *over])
        columns = ["pole", "axis", "sign", "rows", "tokens", "gain", "low", "high"]
        table = pd.DataFrame(rows, columns=[*columns, "over_random", "over_low", "over_high"])
        table = table.sort_values("over_random", ascending=False, ignore_index=True)
        table.attrs |= {
            "random_gain": float(gains["pilot-random"].mean()),
            "random_tokens": tokens["pilot-random"],
        }
        write_bytes(self.path / "results" / f"pilot-{basis}.parquet", as_parquet(table))
        return table

    def _probe_logprobs(self, adapter: str, progress: bool) -> NDArray[np.float64]:
        probe = self.corpus.take(self.probe_rows)
        rows = collect(self.adapted(adapter), probe, layers=[0], errors=True, progress=progress)
        return rows.logprobs.astype(np.float64)


def _mean(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    half = POSTERIOR_95 * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
