"""What every basis has in common: axes, coordinates, a fingerprint, a folder on disk."""

import hashlib
import importlib
import importlib.metadata
import json
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import InputError
from ..files import folder_in_place, read_json, write_bytes, write_json
from .scatter import blocks

Array = npt.NDArray[np.floating[Any]]
Tensors = dict[str, npt.NDArray[Any]]

ARRAYS_FILE = "basis.safetensors"
FACTS_FILE = "basis.json"

# Loading imports only these modules, whatever a file says.
HOMES = {
    "ActiveSubspaceBasis": ".active_subspace",
    "PCABasis": ".pca",
    "RandomBasis": ".random",
    "SAEBasis": ".sae",
}


class Basis(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Orthonormal axes through the mean of the rows they were fitted on.

    A child finds directions in its `fit` and hands them to `_settle`.

    Attributes
    ----------
    components_ : ndarray [n_axes_, d]
        The axes, orthonormal rows, in the floating type of the fitted rows.
    mean_ : ndarray [d]
        Mean of the fitted rows: where all coordinates are zero.
    scale_ : ndarray [n_axes_]
        Standard deviation (ddof=0) of each coordinate over the fitted rows.
    explained_variance_ratio_ : ndarray [n_axes_]
        Share of the rows' total variance that each axis holds, in [0, 1].
    n_axes_ : int
        Number of axes found.
    n_features_in_ : int
        Width `d` of the rows.
    n_samples_ : int
        Number of fitted rows.
    source_ : dict or None
        What made the rows, as given to `fit`.
    """

    _arrays: ClassVar[tuple[str, ...]] = (
        "components_",
        "mean_",
        "scale_",
        "explained_variance_ratio_",
    )
    _facts: ClassVar[tuple[str, ...]] = ("n_samples_",)

    components_: Array
    mean_: Array
    scale_: Array
    explained_variance_ratio_: Array
    n_axes_: int
    n_features_in_: int
    n_samples_: int
    source_: dict[str, Any] | None

    def transform(self, X: npt.ArrayLike) -> Array:
        """Centred coordinates of rows, not scaled.

        Parameters
        ----------
        X : array-like [n, d]
            Rows; float32 and float64 are kept, anything else becomes float32.

        Returns
        -------
        ndarray [n, n_axes_]
            Coordinates in the units of `X` and in its floating type.

        Raises
        ------
        InputError
            `X` has another width than the fitted rows, or NaN or inf.
        """
        check_is_fitted(self)
        rows = checked_rows(self, X, fitting=False)
        # Centring first, not after the product: the mean is often 20 times longer than a scale.
        centred = rows - self.mean_.astype(rows.dtype, copy=False)
        coordinates: Array = centred @ self.components_.astype(rows.dtype, copy=False).T
        return coordinates

    def quality(
        self, X: npt.ArrayLike, categories: Sequence[Any] | None = None, **known: Any
    ) -> pd.DataFrame:
        """How good each axis is; see `mnskills_viz.bases.quality.quality`, also for `known`."""
        from .quality import quality

        return quality(self, X, categories, **known)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ where the axes, the mean or the scales differ.

        The first half of a SHA-256 over names, types, shapes and bytes of the arrays.
        """
        check_is_fitted(self)
        digest = hashlib.sha256()
        for name in Basis._arrays:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write the basis as safetensors and JSON; equal bases give equal bytes.

        Parameters
        ----------
        folder : str or Path
            Becomes a folder with `basis.safetensors` and `basis.json`; one there is replaced.

        Raises
        ------
        InputError
            The folder cannot be written, or the source holds what JSON cannot.
        """
        check_is_fitted(self)
        facts = {
            "class": type(self).__name__,
            "fingerprint": self.fingerprint,
            "params": plain(self.get_params(), "a parameter"),
            "source": plain(self.source_, "source"),
            "columns": plain(getattr(self, "feature_names_in_", None), "a column name"),
            "diagnostics": plain(self._diagnostics(), "a diagnostic"),
            "versions": _versions(),
        }
        with folder_in_place(Path(folder)) as building:
            write_bytes(building / ARRAYS_FILE, save_tensors(self._tensors()))
            write_json(building / FACTS_FILE, facts)
            self._save_beside(building)

    def _settle(
        self,
        mean: Array,
        axes: Array,
        scale: Array,
        total_variance: float,
        n_samples: int,
        dtype: np.dtype[Any],
        source: dict[str, Any] | None,
    ) -> Self:
        """Learn found `axes` [r, d] and the standard deviations [r] of rows along them."""
        self.components_ = np.ascontiguousarray(axes, dtype=dtype)
        self.mean_ = mean.astype(dtype)
        self.scale_ = scale.astype(dtype)
        self.explained_variance_ratio_ = (scale**2 / total_variance).astype(dtype)
        self.n_axes_ = len(axes)
        self.n_samples_ = n_samples
        self.source_ = source
        return self

    def _tensors(self) -> Tensors:
        return {
            name.rstrip("_"): np.ascontiguousarray(getattr(self, name)) for name in self._arrays
        }

    def _diagnostics(self) -> dict[str, Any]:
        return {name.rstrip("_"): getattr(self, name) for name in self._facts}

    def _save_beside(self, folder: Path) -> None:
        """Write what a child has beside axes into the basis's folder."""

    def _restore(self, tensors: Tensors, diagnostics: dict[str, Any], folder: Path) -> None:
        for name in self._arrays:
            setattr(self, name, tensors[name.rstrip("_")])
        for name in self._facts:
            value = diagnostics[name.rstrip("_")]
            setattr(self, name, float("nan") if value is None else value)
        self.n_axes_, self.n_features_in_ = self.components_.shape

    @property
    def _n_features_out(self) -> int:
        return self.n_axes_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def load_basis(folder: str | Path) -> Basis:
    """Read a basis that `Basis.save` wrote.

    Parameters
    ----------
    folder : str or Path
        Folder with `basis.safetensors` and `basis.json`.

    Returns
    -------
    Basis
        Of the class that was saved, with the same arrays.

    Raises
    ------
    InputError
        A file is missing or damaged, or the arrays are not those that were saved.
    """
    folder = Path(folder)
    facts = read_json(folder / FACTS_FILE)
    damaged = f"{folder} is not a whole basis"
    try:
        tensors = load_tensors((folder / ARRAYS_FILE).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {folder / ARRAYS_FILE}: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"{damaged}: {ARRAYS_FILE} is not safetensors ({error})") from error
    try:
        name = facts["class"]
        module = importlib.import_module(HOMES[name], package=__package__)
        basis: Basis = getattr(module, name)(**facts["params"])
        basis.source_ = facts["source"]
        if facts["columns"] is not None:
            basis.feature_names_in_ = np.array(facts["columns"], dtype=object)
        basis._restore(tensors, facts["diagnostics"], folder)
        expected = facts["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{damaged}: {FACTS_FILE} lacks or misnames {error}") from error
    if basis.fingerprint != expected:
        raise InputError(
            f"{damaged}: fingerprint {basis.fingerprint}, {expected} was saved; fit it again"
        )
    return basis


def checked_rows(
    estimator: BaseEstimator, X: npt.ArrayLike, *, fitting: bool, least: int = 1
) -> Array:
    """Rows as a finite float32 or float64 matrix, checked as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose rows they are: learns their width when `fitting`, compares it otherwise.
    X : array-like [n, d]
        Rows; float32 and float64 are kept, anything else becomes float32.
    fitting : bool
        Whether the estimator learns from these rows.
    least : int
        Fewest rows that will do.

    Returns
    -------
    ndarray [n, d]
        `X` itself where nothing had to change.

    Raises
    ------
    InputError
        Not a finite matrix of that width with that many rows.
    """
    try:
        rows: Array = validate_data(
            estimator,
            as_array(X),
            reset=fitting,
            dtype=[np.float32, np.float64],
            ensure_all_finite=False,  # the check below says where
            ensure_min_samples=least,
        )
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error
    bad = _not_finite(rows)
    if len(bad):
        raise InputError(
            f"X has NaN or inf in {len(bad)} of {len(rows)} rows, first in row {bad[0]}; "
            "leave these rows out"
        )
    return rows


def as_array(X: Any) -> npt.ArrayLike:
    """A tensor, wherever it lives, as an array (numpy knows no bfloat16); else `X` itself."""
    if not hasattr(X, "detach"):
        return cast(npt.ArrayLike, X)
    there = X.detach().cpu()
    found: npt.ArrayLike = (there.float() if there.element_size() < 4 else there).numpy()
    return found


def _not_finite(rows: Array) -> npt.NDArray[np.intp]:
    """Indices of rows [n, d] with NaN or inf.

    A sum is finite if all its terms are, and quick; only where it is not are they looked at.
    """
    found = [
        part.start + np.flatnonzero(~np.isfinite(rows[part]).all(axis=1))
        for part in blocks(len(rows), rows.shape[1], rows.itemsize)
        if not np.isfinite(rows[part].sum())
    ]
    return np.concatenate(found) if found else np.empty(0, dtype=np.intp)


def check_count(name: str, value: Any) -> int:
    """`value` as an int of 1 or more, or an `InputError` that names it."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise InputError(f"{name} must be an integer of 1 or more, got {value!r}")
    return int(value)


def warn_if_clipped(asked: int, found: int, limit: str) -> None:
    """Warn that fewer axes were found than asked for, because of `limit`."""
    if found < asked:
        warnings.warn(f"n_axes={asked} clipped to {found}: {limit}", UserWarning, stacklevel=3)


def plain(value: Any, what: str) -> Any:
    """`value` in JSON's own types; numpy's are unwrapped, NaN becomes null.

    Raises
    ------
    InputError
        `what` holds something that JSON cannot.
    """
    if isinstance(value, dict):
        return {str(key): plain(item, f"{what}[{key!r}]") for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), what)
    if isinstance(value, list | tuple):
        return [plain(item, what) for item in value]
    if isinstance(value, float) and value != value:
        return None
    try:
        json.dumps(value)
    except TypeError as error:
        raise InputError(
            f"{what} is a {type(value).__name__}, which JSON cannot hold; give text or numbers"
        ) from error
    return value


def _versions() -> dict[str, str]:
    names = {"mnskills_viz", "numpy", "safetensors", "scikit-learn", "torch"}
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found
