"""Where the model of a study errs, and all that is known of its axes in one table."""

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.table import axes_table
from ..corpus import Corpus
from ..errors import InputError
from ..evaluation.samples import is_finished, read_samples, read_texts
from ..files import read_json
from ..selection.matrix import scale_of
from ..selection.weakness import pole_weakness, reference_errors
from ..steering.proxy import fitted_layer
from .bases import projected
from .doses import StudyDoses

Side = Literal["prompt", "samples", "content"]
Errors = Literal["logprob", "verifier"]

OF_THE_MODEL = re.compile(r"probe-n\d+-t[\d.e-]+-m\d+-s\d+")
"""Name of an evaluation on the probe of the model itself, not of an adapter."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """Pool and probe measured alike on the axes of a basis.

    Attributes
    ----------
    pool, probe : ndarray of float32, [n, n_axes] and [m, n_axes]
        Coordinates about the mean of the pool.
    scale : ndarray, [n_axes]
        Their standard deviation in the pool.
    """

    pool: NDArray[np.float32]
    probe: NDArray[np.float32]
    scale: NDArray[np.floating[Any]]


class StudyWeakness(StudyDoses):
    """The part of a study that knows errors."""

    def ruler(self, basis: str, side: Side = "prompt", progress: bool = True) -> Ruler:
        """Coordinates of pool and probe, in which errors are looked for.

        Parameters
        ----------
        basis : str
        side : {"prompt", "samples", "content"}
            ``"prompt"``: rows over the prompts' tokens, projected on the basis, about their own
            mean and by their own spread in the pool; collected at the first time.
            ``"samples"``: for the probe the model's own answers, those that `evaluate` sampled,
            each read like a reference, and their mean; for the pool the rows that the basis was
            fitted on. ``"content"``: for the probe, too, whose references explain much of their
            loss by style alone.
        progress : bool
        """
        fitted = self.basis(basis)
        if side == "content":
            z = self.coordinates(basis)
            return Ruler(z[self.pool_rows], z[self.probe_rows], fitted.scale_)
        if side == "samples":
            sampled = self._projected_samples(basis, progress)
            return Ruler(self.coordinates(basis)[self.pool_rows], sampled, fitted.scale_)
        if side != "prompt":
            raise InputError(f'side must be "prompt", "samples" or "content", not {side!r}')
        z = self._projected_prompts(basis, progress)
        mean, scale = scale_of(z[self.pool_rows])
        z = z - mean.astype(z.dtype)
        return Ruler(z[self.pool_rows], z[self.probe_rows], scale)

    def _projected_prompts(self, basis: str, progress: bool = False) -> NDArray[np.float32]:
        """Rows of the prompts on a basis, about the mean that it was fitted about."""
        fitted = self.basis(basis)
        layer = (fitted.source_ or {})["layer"]
        key = f"{fitted.fingerprint} prompt"
        if key not in self._coordinates:
            rows = self.prompt_rows(layer, progress)
            self._coordinates[key] = projected(fitted, rows)
        return self._coordinates[key]

    def _projected_samples(self, basis: str, progress: bool) -> NDArray[np.float32]:
        """Rows of the model's own answers on a basis, the mean of each probe example's."""
        fitted = self.basis(basis)
        layer = (fitted.source_ or {})["layer"]
        folder = self._evaluation_of_probe()
        texts = read_texts(folder)
        probe = self.corpus.take(self.probe_rows)
        answered = [
            replace(example, id=f"{example.id}#{number}", response=text)
            for example in probe
            for number, text in enumerate(texts[example.id])
        ]
        rows = self._rows_beside(
            f"evaluations/{folder.name}-rows.lance",
            Corpus(answered, self.corpus.name),
            layer,
            progress,
            self.activations.source_of_all["options"]["tokens"],
        )
        z = projected(fitted, rows).reshape(len(probe), -1, fitted.n_axes_)
        mean: NDArray[np.float32] = z.mean(axis=1)
        return mean

    def weakness(
        self,
        basis: str,
        side: Side = "prompt",
        errors: Errors = "logprob",
        progress: bool = True,
    ) -> pd.DataFrame:
        """Where the model errs: weakness of every pole on the probe; see `pole_weakness`.

        Parameters
        ----------
        basis : str
        side : {"prompt", "samples", "content"}
            As `ruler` takes it.
        errors : {"logprob", "verifier"}
            As `probe_errors` takes it.
        progress : bool
        """
        ruler = self.ruler(basis, side, progress)
        return pole_weakness(ruler.probe / ruler.scale, self.probe_errors(errors))

    def probe_errors(self, errors: Errors = "logprob") -> NDArray[np.float64]:
        """Errors of the model on the probe rows, [m].

        Parameters
        ----------
        errors : {"logprob", "verifier"}
            From the loss of the references; or 1 - pass rate, from what `evaluate` sampled on the
            probe. If all of those are equal they tell nothing apart: a warning says so, and the
            loss is used.

        Raises
        ------
        InputError
            References are missing, or the probe has not been evaluated.
        """
        if errors == "verifier":
            rates = self._failure_rates()
            if rates.min() < rates.max():
                return rates
            warnings.warn(self._no_variance(rates), stacklevel=2)
        elif errors != "logprob":
            raise InputError(f'errors must be "logprob" or "verifier", not {errors!r}')
        logprobs = self.activations.logprobs[self.probe_rows].astype(np.float64)
        if np.isnan(logprobs).any():
            raise InputError(
                f"{self.path}: {int(np.isnan(logprobs).sum())} probe examples have no response to "
                "score; weakness needs reference responses, or errors from verifiers"
            )
        return reference_errors(-logprobs)

    def said_of_errors(self, errors: Errors) -> list[str]:
        """What a recipe has to say of the errors that `probe_errors` gives."""
        if errors == "logprob":
            return []
        rates = self._failure_rates()
        if rates.min() < rates.max():
            return [f"errors are failure rates, from {self._evaluation_of_probe().name}"]
        return [self._no_variance(rates)]

    @staticmethod
    def _no_variance(rates: NDArray[np.float64]) -> str:
        return (
            f"the model's failure rate is {rates[0]:g} on every probe example, which tells no pole "
            "from another: errors are taken from log-probability instead"
        )

    def _failure_rates(self) -> NDArray[np.float64]:
        """1 - pass rate on the probe rows."""
        samples = read_samples(self._evaluation_of_probe()).set_index("id")
        rates = 1 - samples["c"] / samples["n"]
        return rates.loc[[self.corpus[int(i)].id for i in self.probe_rows]].to_numpy()

    def _evaluation_of_probe(self) -> Path:
        """Where the answers of the model itself to the probe are: of several, the most samples."""
        found = {
            file.parent: int(read_json(file)["options"]["n"])
            for file in sorted(self.path.glob("evaluations/probe-*/header.json"))
            if OF_THE_MODEL.fullmatch(file.parent.name) and is_finished(file.parent)
        }
        if not found:
            raise InputError(
                f"{self.path}: the probe has not been evaluated; run: mnskills eval {self.path} "
                "--split probe"
            )
        return max(found, key=lambda folder: found[folder])

    def axes(self, basis: str, kept: bool = False) -> pd.DataFrame:
        """Everything known of a basis's axes, one row each.

        Parameters
        ----------
        basis : str
        kept : bool
            Leave quality out, variance with it, where it would have to be computed.

        Returns
        -------
        DataFrame
            ``axis variance``, quality, ``utility low high special`` where the proxy was run,
            ``weakness_positive weakness_negative`` where prompts were collected (`weakness` does
            it), the categories that stand out at each pole, and labels.
        """
        fitted = self.basis(basis)
        proxy = self.results("proxy", basis)
        if proxy is not None:
            proxy = proxy[proxy["layer"] == fitted_layer(fitted, None)]
        quality = self.kept_quality(basis) if kept else self.quality(basis)
        return axes_table(
            pd.DataFrame({"axis": range(fitted.n_axes_)}) if quality is None else quality,
            self.coordinates(basis),
            categories=[e.category for e in self.corpus],
            labels=self.annotations.labels(basis),
            proxy=proxy,
            weakness=self.weakness(basis) if self.knows_weakness(basis) else None,
        )

    def knows_weakness(self, basis: str) -> bool:
        """Whether `weakness` needs no model, and errors that tell poles apart are there."""
        layer = (self.basis(basis).source_ or {})["layer"]
        is_read = self.has_errors and self.has_prompt_rows(layer)
        return is_read and len(set(self.probe_errors())) > 1

    @property
    def has_errors(self) -> bool:
        """Whether every probe example has a reference loss to find weakness with."""
        return not np.isnan(self.activations.logprobs[self.probe_rows]).any()
