"""Bases of a study: which layer, the fit, coordinates, and how far to trust each axis."""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..activations.gradients import Gradients
from ..activations.rows import Activations
from ..bases.active_subspace import ActiveSubspaceBasis
from ..bases.basis import Basis, load_basis
from ..bases.layers import LEAST_IN_CATEGORY, compare_layers
from ..bases.pca import PCABasis
from ..bases.random import RandomBasis
from ..bases.sae import SAEBasis
from ..bases.sparse_training import Progress
from ..errors import InputError
from ..files import write_bytes
from ..progress import tell
from ..selection.weakness import reference_errors
from .kept import as_json, as_parquet, key_of, read_table
from .rows import PROXY_EXAMPLES, StudyRows

BasisKind = Literal["pca", "sae", "active", "random"]
Layer = int | Literal["auto", "concat"] | None
Estimator = PCABasis | SAEBasis | ActiveSubspaceBasis | RandomBasis
Files = list[tuple[str, int, int, int]]


class StudyBases(StudyRows):
    """The part of a study that fits bases on its rows."""

    def basis(self, name: str) -> Basis:
        """Return a fitted basis: the one read before, while its files stay the same."""
        files = _files(self.path / "bases" / name)
        kept = self._bases.get(name)
        if kept is None or kept[0] != files:
            # Looked at before they are read: if another process replaces them now, the next call
            # reads them again.
            kept = self._bases[name] = files, super().basis(name)
        return kept[1]

    @functools.cached_property
    def _bases(self) -> dict[str, tuple[Files, Basis]]:
        return {}

    def layers(self) -> pd.DataFrame:
        """Which layer to fit a basis on; see `compare_layers`. Kept under ``results``.

        Layers are compared on the pool, by its categories. Without two categories of 10 examples
        they are compared by the errors on the references, a second choice: reference loss is
        mostly a matter of style.

        Raises
        ------
        InputError
            The pool has neither categories nor references.
        """
        acts = self.activations
        made_by = {"rows": acts.source_of_all, "categories": self._categories_of_pool()}
        key = key_of(made_by)
        there = read_table(self.path / "results" / "layers.parquet")
        if there is not None and there.attrs.get("made_by") == key:
            return there
        pool = self.pool_rows
        rows = ((layer, acts.matrix(layer)[pool]) for layer in acts.layers)
        table = compare_layers(rows, self._layer_target())
        table.attrs["made_by"] = key
        write_bytes(self.path / "results" / "layers.parquet", as_parquet(table))
        return table

    def _categories_of_pool(self) -> list[str | None]:
        return [self.corpus[int(i)].category for i in self.pool_rows]

    def _layer_target(self) -> list[str | None] | NDArray[np.float64]:
        categories = self._categories_of_pool()
        if (pd.Series(categories).value_counts() >= LEAST_IN_CATEGORY).sum() >= 2:
            return categories
        losses = -self.activations.logprobs[self.pool_rows].astype(np.float64)
        known = ~np.isnan(losses)
        if not known.any():
            raise InputError(
                f"{self.path}: layers can be compared by categories or by the loss of reference "
                f"responses, and the pool has neither (2 categories of {LEAST_IN_CATEGORY} "
                "examples would do); name a layer instead"
            )
        losses[known] = reference_errors(losses[known])
        return losses

    def _layer(self, asked: Layer) -> int | Literal["concat"]:
        if asked is None:
            return self.activations.layers[len(self.activations.layers) // 2]
        if asked == "auto":
            table = self.layers()
            return int(table.loc[table["chosen"], "layer"].item())
        return asked

    def fit(
        self,
        kind: BasisKind = "pca",
        layer: Layer = None,
        n_axes: int | float | Literal["auto"] = 32,
        name: str | None = None,
        progress: bool | Progress = False,
        within: str | None = None,
        **options: Any,
    ) -> Basis:
        """Fit a basis on the pool's activations and keep it under ``bases/NAME``.

        Parameters
        ----------
        kind : {"pca", "sae", "active", "random"}
            ``"active"``: directions that rows vary along and the model uses, from contrast
            gradients of pool examples, computed at the first time. ``"random"``: the control.
        layer : int, "auto" or "concat", optional
            Default: the block in the middle of the model. ``"auto"``: the one that `layers`
            chooses. Errors of held-out prompts are foretold nearly as well anywhere from a
            quarter to four fifths of the depth (R2 0.81 to 0.84; see README).
        n_axes : int, float or "auto"
            Shares of the variance and ``"auto"`` are for PCA; see `PCABasis`.
        name : str, optional
            Default: kind and layer, ``pca-15``.
        progress : bool or callable, default False
            Whether to show how far gradients and training are; a callable receives epoch, number
            of epochs and figures while an autoencoder is trained. A training that is stopped goes
            on when it is asked for again.
        within : str, optional
            With ``"random"``: name of a basis whose span to draw in; see `RandomBasis.fit`.
        **options
            Further parameters of the kind's estimator, such as `PCABasis`.
        """
        acts = self.activations
        estimator = _estimator(kind, n_axes, options)
        if within is not None and kind != "random":
            raise InputError(f'within is for a basis of kind "random", not {kind!r}')
        span = None if within is None else self.basis(within)
        if kind == "active" and layer == "concat":
            raise InputError('an active basis is of one layer, not "concat"; name a layer')
        at = self._layer(layer)
        source = acts.source(at) | {"fitted_on": "pool"}
        if kind == "active":
            source |= {"gradients_of": self._gradient_examples(PROXY_EXAMPLES, "pool").hash}
        if span is not None:
            source |= {"within": span.fingerprint}
        folder = self._inside("bases", name or f"{kind}-{at}")
        there = load_basis(folder) if (folder / "basis.json").exists() else None
        if (
            there is not None
            and there.get_params() == estimator.get_params()
            and there.source_ == as_json(source)
        ):
            return there
        X = acts.matrix(at)[self.pool_rows]
        if isinstance(estimator, SAEBasis):
            checkpoint = self._checkpoint(folder, estimator.get_params() | {"source": source})
            estimator.fit(X, source=source, progress=progress, checkpoint=checkpoint)
        elif isinstance(estimator, ActiveSubspaceBasis):
            slopes = self.gradients(split="pool", progress=bool(progress)).matrix(cast(int, at))
            estimator.fit(X, gradients=slopes, source=source)
        elif isinstance(estimator, RandomBasis):
            estimator.fit(X, source=source, within=span)
        else:
            estimator.fit(X, source=source)
        if there is not None:
            # Labels are about the axes that were seen: the new ones begin without.
            self.annotations.set_aside(folder.name, there.fingerprint)
        estimator.save(folder)
        return estimator

    def _checkpoint(self, folder: Path, wanted: dict[str, Any]) -> Path:
        """Where a training that is stopped is taken up again; those of other choices go."""
        name = f".{folder.name}-{key_of(as_json(wanted))}.checkpoint"
        for other in folder.parent.glob(".*.checkpoint"):
            base, _, key = other.stem.rpartition("-")
            if base == f".{folder.name}" and key != name.removesuffix(".checkpoint")[-16:]:
                other.unlink()
        return folder.parent / name

    def coordinates(self, basis: str) -> NDArray[np.float32]:
        """Coordinates of all rows, pool and probe, on a basis: [n, n_axes]."""
        fitted = self.basis(basis)
        # By fingerprint: another process may have fitted anew under this name.
        if fitted.fingerprint not in self._coordinates:
            self._coordinates[fitted.fingerprint] = projected(fitted, self.activations)
        return self._coordinates[fitted.fingerprint]

    def quality(self, basis: str) -> pd.DataFrame:
        """How far to trust each axis; see `Basis.quality`. Kept under ``results``.

        Templates are the corpus's column of that name, or else its sources where there are
        several. The dictionary is the basis's own, or else one fitted at the same layer.
        Gradients are those of the probe, if they are there already.
        """
        options, compute = self._judgement(basis)
        return self._result("quality", basis, compute, options)

    def kept_quality(self, basis: str) -> pd.DataFrame | None:
        """What `quality` would give without computing anything; None if it would have to."""
        return self._kept_result("quality", basis, self._judgement(basis)[0])

    def _judgement(self, basis: str) -> tuple[dict[str, Any], Callable[[], pd.DataFrame]]:
        """By what else than its rows a basis is judged, and how to do it."""
        fitted = self.basis(basis)
        layer = (fitted.source_ or {})["layer"]
        others = (self.basis(name) for name in self.basis_names)
        at_layer = (
            o for o in itertools.chain([fitted], others) if (o.source_ or {}).get("layer") == layer
        )
        with_dictionary = next((o for o in at_layer if hasattr(o, "dictionary_")), None)
        proxied = self.results("proxy", basis)
        n = PROXY_EXAMPLES if proxied is None else proxied.attrs["options"]["n"]
        examples = self._gradient_examples(n, "probe")
        source = {
            "corpus": examples.hash,
            "layers": self.activations.layers,
            "model": self._weights(),
        }
        found = Gradients.load(self.path / "results" / "gradients.safetensors", source)
        has_gradients = found is not None and layer in found.layers

        def compute() -> pd.DataFrame:
            pool = [self.corpus[int(row)] for row in self.pool_rows]
            categories = [example.category for example in pool]
            sources = [example.source for example in pool]
            named = [example.meta.get("template") for example in pool]
            has_names = any(name is not None for name in named)
            templates = [name and str(name) for name in named] if has_names else sources
            return fitted.quality(
                self.activations.matrix(layer)[self.pool_rows],
                categories=categories if any(categories) else None,
                lengths=self.activations.n_counted[self.pool_rows],
                templates=templates if len(set(templates)) > 1 else None,
                texts=[f"{example.prompt_text}\n{example.response}" for example in pool],
                gradients=found.matrix(layer) if found and has_gradients else None,
                dictionary=with_dictionary.dictionary_ if with_dictionary else None,
            )

        options = {
            "dictionary": with_dictionary.fingerprint if with_dictionary else None,
            "gradients": examples.hash if has_gradients else None,
        }
        return options, compute


def projected(fitted: Basis, rows: Activations) -> NDArray[np.float32]:
    """Coordinates of all rows on a basis: [n, n_axes].

    Rows of one layer go through a part at a time: a part stays in the processor's cache, and all
    of them, centred, would take twice the memory of the layer.
    """
    source = fitted.source_ or {}
    if source["layer"] == "concat":
        return fitted.transform(rows.matrix_as(source))
    z = np.empty((len(rows), fitted.n_axes_), dtype=np.float32)
    for places, part in rows.stream(source["layer"]):
        tell()
        z[places] = fitted.transform(part)
    return z


def _files(folder: Path) -> Files:
    """What a folder holds: another list once a file in it is replaced or written to."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except OSError:  # no such basis, or one that is being replaced
        return []
    return sorted((name, at.st_ino, at.st_mtime_ns, at.st_size) for name, at in found)


def _estimator(
    kind: str, n_axes: int | float | Literal["auto"], options: dict[str, Any]
) -> Estimator:
    kinds: dict[str, Callable[..., Estimator]] = {
        "pca": PCABasis,
        "sae": SAEBasis,
        "active": ActiveSubspaceBasis,
        "random": RandomBasis,
    }
    if kind not in kinds:
        raise InputError(f"kind of basis must be one of {', '.join(kinds)}, not {kind!r}")
    try:
        return kinds[kind](n_axes=n_axes, **options)
    except TypeError as error:
        raise InputError(f"{kind} basis: {error}") from error
