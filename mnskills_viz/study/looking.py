"""What a study can say of single rows: where they lie, which tokens put them there."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.examples import CategoryCounts
from ..axes.heat import Heat, token_heat
from ..axes.neighbours import similar_axes
from ..axes.paths import skill_of_rows
from ..axes.projection import categories_apart
from ..corpus import Corpus, Example
from ..errors import InputError
from ..files import write_bytes
from ..progress import tell
from ..steering.vector import SteeringVector
from .kept import as_parquet, key_of, read_table
from .weakness import StudyWeakness

ARRAYS = ("roles", "counted", "contributions", "running")
"""What is kept of a `Heat`, beside its tokens."""


class StudyLooking(StudyWeakness):
    """The part of a study that looks at rows."""

    def z(self, basis: str) -> NDArray[np.float32]:
        """Coordinates of all rows in standard deviations of their axis: [n, n_axes]."""
        scale = self.basis(basis).scale_
        spread = np.where(scale > 0, scale, 1.0).astype(np.float32)
        z: NDArray[np.float32] = self.coordinates(basis) / spread
        return z

    def categories_apart(self, basis: str) -> NDArray[np.float32]:
        """All rows in the plane in which categories lie farthest apart: [n, 2]."""
        counts = CategoryCounts.of([example.category for example in self.corpus])
        return categories_apart(self.z(basis), counts.of_row)

    def search(self, text: str) -> NDArray[np.int64]:
        """Rows whose prompt or response holds a text, whatever its case."""
        import pyarrow.compute as pc

        found = pc.match_substring(self._lowered, text.strip().lower())
        return np.flatnonzero(found.to_numpy(zero_copy_only=False)).astype(np.int64)

    @functools.cached_property
    def _lowered(self) -> object:
        import pyarrow as pa

        texts = (f"{example.prompt_text}\n{example.response}".lower() for example in self.corpus)
        return pa.array(texts, pa.large_string())

    def heat(
        self, basis: str, rows: Sequence[int] | NDArray[np.integer] | Corpus, progress: bool = False
    ) -> list[Heat]:
        """What each token adds to the coordinates of rows, or of other examples.

        That of the study's own rows is kept under ``results`` for all axes at once, and not
        computed again.

        Parameters
        ----------
        basis : str
        rows : sequence of int, or Corpus
            Rows of the study's corpus; or examples that are not in it.
        progress : bool

        Raises
        ------
        InputError
            What `token_heat` refuses; a row that is not there.
        """
        fitted = self.basis(basis)
        if isinstance(rows, Corpus):
            return token_heat(self.model, rows, fitted, progress=progress)
        wanted = [self._row(row) for row in rows]
        kept = {row: self.kept_heat(basis, row) for row in wanted}
        known = {row: heat for row, heat in kept.items() if heat is not None}
        if missing := [row for row in kept if row not in known]:
            computed = token_heat(self.model, self.corpus.take(missing), fitted, progress=progress)
            for row, heat in zip(missing, computed, strict=True):
                write_bytes(self._heat_file(basis, row), _as_bytes(heat))
                known[row] = heat
        return [known[row] for row in wanted]

    def kept_heat(self, basis: str, row: int) -> Heat | None:
        """What `heat` has kept of a row; None if nothing, or its file is damaged."""
        file = self._heat_file(basis, self._row(row))
        return _read_heat(file) if file.exists() else None

    def _row(self, row: int) -> int:
        if not 0 <= row < len(self.corpus):
            raise InputError(f"row {row} is not there; the study has {len(self.corpus)} rows")
        return int(row)

    def _heat_file(self, basis: str, row: int) -> Path:
        name = key_of([self.basis(basis).fingerprint, self.corpus[row].id])
        return self.path / "results" / f"heat-{basis}" / f"{name}.safetensors"

    def suggest_labels(self, basis: str, axis: int, model: bool = False) -> pd.DataFrame:
        """Labels that the poles of an axis might bear, with how well each tells rows apart.

        See `mnskills_viz.axes.naming.suggest_labels`. Kept under ``results``. They are
        suggestions: nothing is labelled.

        Parameters
        ----------
        basis : str
        axis : int
        model : bool
            Ask the loaded model too, beside words and categories.
        """
        from ..axes.detection import TextJudge
        from ..axes.naming import suggest_labels
        from ..selection.text_vectors import text_vectors

        SteeringVector.require_axis(self.basis(basis), axis, 0.0)
        key = key_of([self.basis(basis).fingerprint, axis, model])
        file = self.path / "results" / f"suggestions-{basis}" / f"{key}.parquet"
        if (there := read_table(file)) is not None:
            return there
        asked, z = self.model if model else None, self.z(basis)[:, axis]
        found = suggest_labels(asked, self.corpus, z, TextJudge(text_vectors), tell=tell)
        write_bytes(file, as_parquet(found))
        return found

    def skill(
        self,
        basis: str,
        *,
        category: str | None = None,
        text: str | None = None,
        row: int | None = None,
    ) -> pd.DataFrame:
        """Which axes make up a skill: a category, a description in words, or one response.

        Parameters
        ----------
        basis : str
        category : str, optional
            All rows of it.
        text : str, optional
            Read by the model as a text of its own.
        row : int, optional

        Returns
        -------
        DataFrame
            As `mnskills_viz.axes.paths.skill_of_rows` gives it.
        """
        if sum(given is not None for given in (category, text, row)) != 1:
            raise InputError("a skill is a category, a text or a row: give one of them")
        if text is not None:
            return skill_of_rows(self.read_text(basis, text)[1][None], [0])
        if row is not None:
            return skill_of_rows(self.z(basis), [self._row(row)])
        of = np.array([example.category == category for example in self.corpus])
        if not of.any():
            known = sorted({e.category for e in self.corpus if e.category is not None})
            raise InputError(f"no category {category!r}; there are: {', '.join(known) or 'none'}")
        return skill_of_rows(self.z(basis), np.flatnonzero(of))

    def read_text(self, basis: str, text: str) -> tuple[Heat, NDArray[np.float32]]:
        """Read a text that is not in the corpus: its heat, and where it lies in deviations."""
        if not text.strip():
            raise InputError("the text is empty; describe a skill in words, or paste a skill file")
        fitted = self.basis(basis)
        counts_answers = (fitted.source_ or {}).get("options", {}).get("tokens") == "response"
        prompt, response = ("", text) if counts_answers else (text, "")
        (heat,) = self.heat(basis, Corpus([Example("text", prompt, response)], "text"))
        scale = np.where(fitted.scale_ > 0, fitted.scale_, 1.0)
        return heat, (heat.coordinates / scale).astype(np.float32)

    def neighbours(self, basis: str, axis: int) -> pd.DataFrame:
        """Axes of the study's other bases, by how alike they are to one; see `similar_axes`.

        Returns
        -------
        DataFrame
            ``basis axis cosine correlation``, the most alike first.
        """
        one = self.basis(basis)
        SteeringVector.require_axis(one, axis, 0.0)
        z = self.coordinates(basis)
        tables = [
            similar_axes(one, self.basis(other), z, self.coordinates(other), axis=axis)
            .drop(columns="axis")
            .rename(columns={"other_axis": "axis"})
            .assign(basis=other)
            for other in self.basis_names
            if other != basis
        ]
        columns = ["basis", "axis", "cosine", "correlation"]
        found = pd.concat([pd.DataFrame(columns=columns), *tables], ignore_index=True)[columns]
        order = found["correlation"].astype(float).abs().sort_values(ascending=False, kind="stable")
        return found.loc[order.index].reset_index(drop=True)

    def write_labels(self, path: str | Path) -> Path:
        """Write labels, notes, states and quiz scores as CSV or JSON; see `Annotations.export`.

        A JSON file says which model, corpus and fits of the bases they were given on.
        """
        model = self.about["identity"] or self.about["model"]
        about = {
            "model": {name: model.get(name) for name in ("name", "revision", "weights")},
            "corpus": self.about["corpus"]["hash"],
            "bases": {name: self.basis(name).fingerprint for name in self.basis_names},
        }
        return self.annotations.export(path, about)

    def read_labels(self, path: str | Path) -> int:
        """Take over labels from a file, as one step of undo; see `Annotations.read`.

        Returns
        -------
        int
            How many values are others than before.
        """
        axes = {name: int(self.basis(name).n_axes_) for name in self.basis_names}
        return self.annotations.read(path, axes)


def _as_bytes(heat: Heat) -> bytes:
    from safetensors.numpy import save

    arrays = {name: getattr(heat, name) for name in ARRAYS}
    said = {"tokens": json.dumps(heat.tokens), "is_whole": json.dumps(heat.is_whole)}
    found: bytes = save(arrays, metadata=said)
    return found


def _read_heat(file: Path) -> Heat | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as held:
            arrays = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
            said = {name: json.loads(text) for name, text in held.metadata().items()}
            return Heat(**arrays, **said)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
