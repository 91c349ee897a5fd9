"""Examples of a study chosen, with recipe and receipts, and written for a trainer."""

from pathlib import Path
from typing import Any

from ..corpus import Corpus
from ..errors import InputError
from ..exporting.export import export
from ..files import folder_in_place, read_json, write_bytes, write_json
from ..selection.recipe import Selection
from ..selection.select import replay, select
from .kept import as_parquet
from .weakness import StudyWeakness


class StudySelecting(StudyWeakness):
    """The part of a study that chooses what to train on."""

    def select(
        self,
        strategy: str = "weakness",
        budget: int = 200,
        basis: str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Selection:
        """Choose examples of the pool and keep recipe and receipts under ``selections/NAME``.

        Parameters
        ----------
        strategy, budget, **options
            As `mnskills_viz.select` takes them.
        basis : str, optional
            Name of the basis; may be left out while there is one only.
        name : str, optional
            Default: the strategy.
        """
        at = self.basis_name(basis)
        if strategy == "weakness":
            self.probe_errors()  # says what is missing, in the study's own words
        chosen = select(
            self.coordinates(at)[self.pool_rows],
            strategy,
            budget,
            **self._selection_inputs(at),
            **options,
        )
        fitted, model = self.basis(at), self.activations.source_of_all["model"]
        recipe = chosen.recipe | {
            "basis": at,
            "basis_fingerprint": fitted.fingerprint,
            "layer": (fitted.source_ or {})["layer"],
            "model": {name: model[name] for name in ("name", "revision", "weights")},
        }
        chosen = Selection(chosen.indices, chosen.receipts, recipe)
        with folder_in_place(self._inside("selections", name or strategy)) as building:
            write_json(building / "recipe.json", chosen.recipe)
            write_bytes(building / "receipts.parquet", as_parquet(chosen.receipts))
        return chosen

    def replay(self, recipe: str | Path | dict[str, Any]) -> Selection:
        """Make a selection again from its recipe, a dict or a ``recipe.json``."""
        made = read_json(Path(recipe)) if isinstance(recipe, str | Path) else recipe
        at = made.get("basis") if isinstance(made, dict) else None
        if not isinstance(at, str):
            raise InputError(f"{recipe}: not a recipe of a study (it names no basis)")
        again = replay(made, self.coordinates(at)[self.pool_rows], **self._selection_inputs(at))
        return Selection(again.indices, again.receipts, made)

    def _selection_inputs(self, basis: str) -> dict[str, Any]:
        pool = [self.corpus[int(i)] for i in self.pool_rows]
        inputs: dict[str, Any] = {
            "ids": [e.id for e in pool],
            "scale": self.basis(basis).scale_,
            "categories": [e.category for e in pool],
        }
        if self.has_errors:
            inputs["probe"] = self.coordinates(basis)[self.probe_rows]
            inputs["error"] = self.probe_errors()
        return inputs

    def export(
        self,
        selection: str,
        format: str = "trl",  # noqa: A002 - the public surface calls it so
        name: str | None = None,
    ) -> Path:
        """Write a selection for a trainer under ``exports/NAME``; see `mnskills_viz.export`."""
        chosen = self.selection(selection)
        labels = self.annotations.labels(chosen.recipe["basis"]) if self.is_current(chosen) else {}
        folder = self._inside("exports", name or f"{selection}-{format}")
        pool = Corpus(self.corpus.take(self.pool_rows), self.about["corpus"]["source"])
        return export(pool, chosen, folder, format, labels=labels)

    def is_current(self, selection: Selection) -> bool:
        """Whether the basis that a selection was made on is still there, as it was."""
        name = selection.recipe.get("basis")
        made_on = selection.recipe.get("basis_fingerprint")
        return name in self.basis_names and self.basis(name).fingerprint == made_on
