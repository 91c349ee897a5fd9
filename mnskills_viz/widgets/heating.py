"""Token heat of the rows that are shown, computed beside what a person does."""

import threading
from collections.abc import Callable

from ..axes.heat import Heat
from ..errors import InputError
from ..study import Study
from .facts import Json
from .heat_strip import heat_text

AT_ONCE = 8
"""Rows computed before they are shown: the first do not wait for the last."""

KEPT = 256_000_000
"""Bytes of heat that stay in memory, of all axes at once."""


class Heating:
    """Computes heat in a thread of its own; what is asked for last counts.

    Parameters
    ----------
    study : Study
    arrived : callable
        Gets the basis, ``row -> Heat``, and ``row -> why`` of rows that have none.
    failed : callable
        Gets an error: no row can be had.
    """

    def __init__(
        self,
        study: Study,
        arrived: Callable[[str, dict[int, Heat], dict[int, str]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._study, self._arrived, self._failed = study, arrived, failed
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], Heat] = {}
        self._left_out: dict[tuple[str, int], str] = {}
        self._bytes = 0
        self._basis = ""
        self._missing: list[int] = []
        self._is_running = False

    def want(self, basis: str, rows: list[int]) -> None:
        """Ask for rows; those that are known arrive at once."""
        known = {row: heat for row in rows if (heat := self._of(basis, row)) is not None}
        left_out = {row: why for row in rows if (why := self._why_not(basis, row))}
        if known or left_out:
            self._arrived(basis, known, left_out)
        with self._lock:
            missing = [row for row in rows if row not in known and row not in left_out]
            self._basis, self._missing = basis, missing
            if not self._missing or self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._work, daemon=True).start()

    def _of(self, basis: str, row: int) -> Heat | None:
        fingerprint = self._study.basis(basis).fingerprint
        key = (fingerprint, row)
        if key not in self._known:
            heat = self._study.kept_heat(basis, row)
            if heat is None:
                return None
            self._keep(key, heat)
        return self._known[key]

    def _why_not(self, basis: str, row: int) -> str | None:
        return self._left_out.get((self._study.basis(basis).fingerprint, row))

    def _keep(self, key: tuple[str, int], heat: Heat) -> None:
        self._known[key] = heat
        self._bytes += _size(heat)
        while self._bytes > KEPT and len(self._known) > 1:
            self._bytes -= _size(self._known.pop(next(iter(self._known))))

    def _work(self) -> None:
        while True:
            with self._lock:
                basis, rows = self._basis, self._missing[:AT_ONCE]
                if not rows:
                    self._is_running = False
                    return
            try:
                found, left_out = self._computed(basis, rows)
                fingerprint = self._study.basis(basis).fingerprint
                self._left_out |= {(fingerprint, row): why for row, why in left_out.items()}
                self._arrived(basis, found, left_out)
            except Exception as error:
                with self._lock:
                    self._missing, self._is_running = [], False
                self._failed(error)
                return
            with self._lock:
                if self._basis == basis:
                    self._missing = [row for row in self._missing if row not in rows]

    def _computed(self, basis: str, rows: list[int]) -> tuple[dict[int, Heat], dict[int, str]]:
        """Heat of the rows that the model can read, and why it cannot read the others."""
        try:
            return dict(zip(rows, self._study.heat(basis, rows), strict=True)), {}
        except InputError as error:
            if len(rows) == 1:
                return {}, {rows[0]: str(error)}
        found: dict[int, Heat] = {}
        left_out: dict[int, str] = {}
        for row in rows:
            heat, why = self._computed(basis, [row])
            found |= heat
            left_out |= why
        if not found:  # it is not about the rows
            raise InputError(left_out[rows[0]])
        return found, left_out


def _size(heat: Heat) -> int:
    return heat.contributions.nbytes + heat.running.nbytes


def heat_of_axis(heat: Heat, axis: int, scale: float) -> Json:
    """What the front end paints: standard deviations that add up to the example's own.

    Returns
    -------
    dict
        ``prompt`` and ``response``: ``tokens values``; ``rest``: what the template's tokens add;
        ``sum``: all together; ``cut``: whether the model read no further than these tokens go.
    """
    text = heat_text(heat, axis, scale)
    shown: Json = {
        name: {
            "tokens": [token for token, _ in pieces],
            "values": [round(value, 4) for _, value in pieces],
        }
        for name, pieces in (("prompt", text.prompt), ("response", text.response))
    }
    total = text.template + sum(value for _, value in [*text.prompt, *text.response])
    return shown | {"rest": text.template, "sum": total, "cut": not heat.is_whole}
