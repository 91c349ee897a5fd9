"""Examples of a study chosen, with recipe and receipts, and written for a trainer."""

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ..corpus import Corpus
from ..corpus.example import Example
from ..errors import InputError
from ..exporting.export import export
from ..files import folder_in_place, read_json, write_bytes, write_json
from ..selection.contamination import SHARE, N, contamination
from ..selection.recipe import Selection, check_recipe
from ..selection.select import replay, select
from .kept import as_parquet, key_of, read_table
from .looking import StudyLooking
from .weakness import Errors, Side

Unit = Literal["rows", "tokens"]

CHOICES = ("side", "errors", "unit", "utility", "decontaminate")
"""What `StudySelecting.select` decides before the rows are chosen; a recipe keeps it."""


class StudySelecting(StudyLooking):
    """The part of a study that chooses what to train on."""

    def select(
        self,
        strategy: str = "weakness",
        budget: int = 200,
        basis: str | None = None,
        name: str | None = None,
        *,
        side: Side | None = None,
        errors: Errors = "logprob",
        unit: Unit = "rows",
        utility: bool = False,
        decontaminate: bool = True,
        include: Iterable[Any] = (),
        exclude: Iterable[Any] = (),
        progress: bool = False,
        **options: Any,
    ) -> Selection:
        """Choose examples of the pool and keep recipe and receipts under ``selections/NAME``.

        Parameters
        ----------
        strategy, budget, include, exclude, **options
            As `mnskills_viz.select` takes them. Texts, categories and ids are the corpus's.
        basis : str, optional
            Name of the basis; may be left out while there is one only.
        name : str, optional
            Default: the strategy.
        side : {"prompt", "samples", "content"}, optional
            As `ruler` takes it; default ``"prompt"`` for ``"weakness"``, else ``"content"``.
        errors : {"logprob", "verifier"}
            As `probe_errors` takes it.
        unit : {"rows", "tokens"}
            Of the budget; ``"tokens"`` are those of the responses, which training learns from.
        utility : bool
            Multiply a pole's mass by its utility, from `proxy`.
        decontaminate : bool
            Leave out what `contamination` finds.
        progress : bool
        """
        at = self.basis_name(basis)
        folder = self._inside("selections", name or strategy)
        choices = {
            "side": side or ("prompt" if strategy == "weakness" else "content"),
            "errors": errors,
            "unit": unit,
            "utility": utility,
            "decontaminate": decontaminate,
        }
        left_out = self._left_out(decontaminate)
        wanted, unwanted = as_ids(include), as_ids(exclude)
        for reason, ids in left_out.items():
            if clash := sorted({*wanted} & {*ids}):
                raise InputError(f"include: {clash[0]!r} cannot be taken: {reason}")
            unwanted += ids
        inputs = self._selection_inputs(at, strategy, choices, progress)
        options |= {"include": wanted, "exclude": unwanted}
        chosen = select(inputs.pop("Z"), strategy, budget, **inputs, **options)
        fitted, model = self.basis(at), self.activations.source_of_all["model"]
        recipe = chosen.recipe | {
            "basis": at,
            "basis_fingerprint": fitted.fingerprint,
            "layer": (fitted.source_ or {})["layer"],
            "model": {name: model[name] for name in ("name", "revision", "weights")},
            "choices": choices,
        }
        notes = [f"{len(ids)} rows were left out: {reason}" for reason, ids in left_out.items()]
        notes += self.said_of_errors(errors) if strategy == "weakness" else []
        recipe["notes"] = [*recipe["notes"], *notes]
        chosen = Selection(chosen.indices, self._with_weakness(chosen, at), recipe)
        with folder_in_place(folder) as building:
            write_json(building / "recipe.json", chosen.recipe)
            write_bytes(building / "receipts.parquet", as_parquet(chosen.receipts))
        return chosen

    def replay(self, recipe: str | Path | dict[str, Any]) -> Selection:
        """Make a selection again from its recipe, a dict or a ``recipe.json``."""
        made = read_json(Path(recipe)) if isinstance(recipe, str | Path) else recipe
        at = made.get("basis") if isinstance(made, dict) else None
        choices = made.get("choices") if isinstance(made, dict) else None
        if not isinstance(at, str) or not isinstance(choices, dict) or {*CHOICES} - {*choices}:
            where = recipe if isinstance(recipe, str | Path) else "the recipe"
            raise InputError(f"{where} is not a recipe of a study: it names no basis or no choices")
        check_recipe(made)
        inputs = self._selection_inputs(at, made["strategy"], choices, progress=False)
        again = replay(made, inputs.pop("Z"), **inputs)
        return Selection(again.indices, self._with_weakness(again, at), made)

    def _left_out(self, decontaminate: bool) -> dict[str, list[str]]:
        """Why rows of the pool cannot be trained on -> their ids."""
        pool = self.pool
        mute = [example.id for example in pool if not example.response.strip()]
        reasons = {"they have no response to learn from": mute}
        if decontaminate and len(leaked := self.contamination()):
            counts = leaked["split"].value_counts().items()
            where = ", ".join(f"{n} in {split}" for split, n in counts)
            known = {*mute}
            found = [name for name in leaked["id"] if name not in known]
            reasons[f"their text stands in a held-out set too ({where})"] = found
        return {reason: ids for reason, ids in reasons.items() if ids}

    def _with_weakness(self, chosen: Selection, basis: str) -> pd.DataFrame:
        """The receipts with the weakness of each pole in the prompts, where it has been measured.

        Whatever the strategy looked at: the same pole has the same weakness in every selection.
        """
        receipts = chosen.receipts
        if chosen.recipe["strategy"] == "weakness" or not self.knows_weakness(basis):
            return receipts
        table = self.weakness(basis).set_index(["axis", "pole"])["shrunk"]
        poles = pd.MultiIndex.from_frame(receipts[["axis", "pole"]])
        return receipts.assign(weakness=table.reindex(poles).to_numpy())

    def _selection_inputs(
        self, basis: str, strategy: str, choices: dict[str, Any], progress: bool
    ) -> dict[str, Any]:
        """What `mnskills_viz.select` takes beside options, of this study's pool and probe."""
        for choice, known in (("unit", get_args(Unit)), ("errors", get_args(Errors))):
            if choices[choice] not in known:
                expected = " or ".join(f'"{name}"' for name in known)
                raise InputError(f"{choice} must be {expected}, not {choices[choice]!r}")
        inputs: dict[str, Any] = {"utility": self._utility(basis)} if choices["utility"] else {}
        pool = self.pool
        ruler = self.ruler(basis, choices["side"], progress)
        inputs |= {
            "Z": ruler.pool,
            "ids": pool.ids,
            "scale": ruler.scale,
            "categories": [e.category for e in pool],
            "texts": [text_of(e) for e in pool],
        }
        if choices["unit"] == "tokens":
            # Rows without response are left out, and must have a cost all the same.
            inputs["tokens"] = np.maximum(1, self.activations.n_response[self.pool_rows])
        if strategy == "influence":
            slopes, probe_slopes = (self.sketch(split, progress) for split in ("pool", "probe"))
            return inputs | {"Z": slopes, "probe": probe_slopes, "coordinates": ruler.pool}
        if strategy == "weakness":
            inputs |= {"probe": ruler.probe, "error": self.probe_errors(choices["errors"])}
        return inputs

    def _utility(self, basis: str) -> Any:
        table = self.results("proxy", basis)
        if table is None:
            raise InputError(
                f"{self.path}: no utilities of {basis} yet; run: mnskills proxy {self.path} "
                f"--basis {basis}"
            )
        return table.sort_values("axis")["utility"].to_numpy()

    def contamination(self) -> pd.DataFrame:
        """Examples of the pool that a held-out set holds; see `mnskills_viz.contamination`."""
        texts = [self.about["corpus"]["hash"], self.about["test"]["hash"]]
        key = key_of([*texts, N, SHARE, metadata.version("mnskills_viz")])
        file = self.path / "results" / "contamination.parquet"
        there = read_table(file)
        if there is not None and there.attrs.get("made_by") == key:
            return there
        against = {"probe": self.corpus.take(self.probe_rows), "test": self.test}
        found = contamination(self.pool, against)
        found.attrs["made_by"] = key
        write_bytes(file, as_parquet(found))
        return found

    @property
    def pool(self) -> Corpus:
        """Examples that may be selected, in the order of Z's rows."""
        return Corpus(self.corpus.take(self.pool_rows), self.about["corpus"]["source"])

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
        return export(self.pool, chosen, folder, format, labels=labels)

    def is_current(self, selection: Selection) -> bool:
        """Whether the basis that a selection was made on is still there, as it was."""
        name = selection.recipe.get("basis")
        made_on = selection.recipe.get("basis_fingerprint")
        return name in self.basis_names and self.basis(name).fingerprint == made_on


def text_of(example: Example) -> str:
    """What an example says, prompt and reference, as one text."""
    return f"{example.prompt_text}\n{example.response}"


def as_ids(given: Any) -> list[str]:
    """A list of ids as `mnskills_viz.select` reads it."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"expected a list of ids, not {given!r}")
    return [str(name) for name in given]
