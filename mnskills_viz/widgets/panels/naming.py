"""What poles are called in panels, and numbers as JSON has them."""

import math
from typing import Any

from ...axes.examples import overrepresented, poles
from ...study import Study

Json = dict[str, Any]

TALLIED = 20
STANDING_OUT = 2


class PoleNames:
    """What poles of a basis are called: their label, else what stands out there.

    Parameters
    ----------
    study : Study
    basis : str
    """

    def __init__(self, study: Study, basis: str) -> None:
        self._z = study.z(basis)
        self._categories = [example.category for example in study.corpus]
        self._labels = study.annotations.labels(basis)

    def of(self, axis: int, sign: int) -> str:
        """``"+ counts letters"``; where there is no label, ``"+ (parity)"``."""
        mark = "+" if sign > 0 else "−"
        if label := self._labels.get((axis, sign)):
            return f"{mark} {label}"
        rows = poles(self._z[:, axis], TALLIED).of(sign)
        found = [name for name, _ in overrepresented(self._categories, rows, STANDING_OUT)]
        return f"{mark} ({', '.join(found)})" if found else f"{mark} unnamed"


def finite(value: Any) -> float | None:
    """A finite float, or None: JSON knows no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None
