"""Where the model of a study errs, and all that is known of its axes in one table."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.table import axes_table
from ..errors import InputError
from ..selection.weakness import pole_weakness, reference_errors
from ..steering.proxy import fitted_layer
from .steering import StudySteering


class StudyWeakness(StudySteering):
    """The part of a study that knows errors."""

    def weakness(self, basis: str) -> pd.DataFrame:
        """Where the model errs: weakness of every pole on the probe; see `pole_weakness`."""
        scale = self.basis(basis).scale_
        z = self.coordinates(basis)[self.probe_rows] / scale
        return pole_weakness(z, self.probe_errors())

    def probe_errors(self) -> NDArray[np.float64]:
        """Errors of the model on the probe rows, from the loss of the references."""
        logprobs = self.activations.logprobs[self.probe_rows].astype(np.float64)
        if np.isnan(logprobs).any():
            raise InputError(
                f"{self.path}: {int(np.isnan(logprobs).sum())} probe examples have no response to "
                "score; weakness needs reference responses"
            )
        return reference_errors(-logprobs)

    def axes(self, basis: str) -> pd.DataFrame:
        """Everything known of a basis's axes, one row each.

        Returns
        -------
        DataFrame
            ``axis variance``, quality, ``utility low high special`` where the proxy was run,
            ``weakness_positive weakness_negative``, the categories that stand out at each pole,
            and labels.
        """
        fitted = self.basis(basis)
        proxy = self.results("proxy", basis)
        if proxy is not None:
            proxy = proxy[proxy["layer"] == fitted_layer(fitted, None)]
        return axes_table(
            self.quality(basis),
            self.coordinates(basis),
            categories=[e.category for e in self.corpus],
            labels=self.annotations.labels(basis),
            proxy=proxy,
            weakness=self.weakness(basis) if self.has_errors else None,
        )

    @property
    def has_errors(self) -> bool:
        """Whether every probe example has a reference loss to find weakness with."""
        return not np.isnan(self.activations.logprobs[self.probe_rows]).any()
