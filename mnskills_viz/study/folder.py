"""The folder of a study: what lies in it, and where."""

import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..activations.rows import Activations
from ..activations.store import is_there, require_same
from ..axes.annotations import Annotations
from ..bases.basis import Basis, load_basis
from ..corpus import Columns, Corpus, load_corpus
from ..corpus.splits import with_splits
from ..errors import InputError
from ..files import (
    folder_in_place,
    read_json,
    restore_folders,
    write_bytes,
    write_json,
    write_text,
)
from ..models import ModelIdentity, identity, load_model
from ..selection.recipe import Selection
from .kept import as_parquet, named_source, read_table

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

FORMAT = 2

ROOMS = ("bases", "selections", "exports", "adapters")

Split = Literal["pool", "probe"]


class StudyFolder:
    """One model, one corpus, and what was found about them.

    Attributes
    ----------
    path : Path
        Its folder.
    corpus : Corpus
        Pool and probe; each example's ``meta["split"]`` says which.
    test : Corpus
        Examples to measure on at the end; may be empty.
    about : dict
        What ``study.json`` says.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.about = about
        self._coordinates: dict[str, NDArray[np.float32]] = {}

    # ---------------------------------------------------------------------- create and open

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: str = "embedded",
        corpus: str | Path | Corpus = "demo",
        probe: str | Path | Corpus | None = None,
        test: str | Path | Corpus | None = None,
        limit: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        blocks: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        **columns: Unpack[Columns],
    ) -> Self:
        """Make the folder of a new study.

        Parameters
        ----------
        path : path
            A folder that is not there yet, or is empty.
        model : str
            As `load_model` takes it; loaded when first needed.
        corpus : str, path or Corpus
            As `load_corpus` takes it. Rows of split ``"test"`` are kept apart.
        probe : str, path or Corpus, optional
            Examples to find weakness and utility on. Default: the rows of split ``"probe"``; if
            there are none, a fifth of the corpus (500 at most), chosen by a hash of the ids.
        test : str, path or Corpus, optional
            Examples to measure on at the end; what of them the corpus or the probe holds is taken
            out there. Default: the rows of split ``"test"``, if there are any.
        limit : int, optional
            Read no more than this many examples of the corpus.
        dtype, device, blocks : str
            As `load_model` takes them.
        on_error : {"raise", "skip"}
            As `load_corpus` takes it.
        **columns : str
            Which column holds what, as `load_corpus` takes them.

        Raises
        ------
        InputError
            A folder that holds something, or a bad corpus.
        """
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "a study already" if (folder / "study.json").exists() else "there and not empty"
            raise InputError(f"{folder} is {what}; open it, or choose another folder")
        whole = (
            corpus
            if isinstance(corpus, Corpus)
            else load_corpus(corpus, limit=limit, on_error=on_error, **columns)
        )
        extra, held_out = (
            given
            if isinstance(given, Corpus | None)
            else load_corpus(given, on_error=on_error, **columns)
            for given in (probe, test)
        )
        for part in (whole, extra, held_out):
            _require_unique(part)
        tests = whole.split("test") if held_out is None else held_out
        rows, rule = with_splits(_without(whole, tests), extra and _without(extra, tests))
        request = {"model": model, "limit": limit, "on_error": on_error, **columns}
        request |= {"blocks": blocks} if blocks else {}
        for option, given in (("corpus", corpus), ("probe", probe), ("test", test)):
            request |= named_source(option, given)
        about = {
            "format": FORMAT,
            "model": {"name": model, "dtype": dtype, "device": device, "blocks": blocks},
            "identity": None,
            "request": request,
            "corpus": {
                "source": whole.name,
                "rows": len(rows),
                "hash": rows.hash,
                "duplicates": whole.duplicates,
                "skipped": whole.skipped,
                "probe_rows": len(rows.split("probe")),
                "probe_rule": rule,
            },
            "test": {"source": tests.name, "rows": len(tests), "hash": tests.hash},
        }
        with folder_in_place(folder, replace=False) as building:
            write_text(building / "corpus.jsonl", rows.to_jsonl())
            write_text(building / "test.jsonl", tests.to_jsonl())
            write_json(building / "study.json", about)
        return cls(folder, about)

    @classmethod
    def begin(cls, path: str | Path, first: Callable[[Self], object], **options: Any) -> Self:
        """Create a study and do a `first` thing with it; if that fails, nothing stays.

        Collected rows do: what began well can go on.
        """
        study = cls.create(path, **options)
        try:
            first(study)
        except BaseException:
            if not is_there(study.path / "activations.lance"):
                shutil.rmtree(study.path, ignore_errors=True)
            raise
        return study

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a study.

        Raises
        ------
        InputError
            No study there, or one of a newer format.
        """
        file = Path(path) / "study.json"
        if not file.exists():
            raise InputError(f"{path}: no study there (no study.json); create one first")
        about = read_json(file)
        found = about.get("format") if isinstance(about, dict) else None
        if found != FORMAT:
            raise InputError(
                f"{file}: a study of format {found}, and this version reads {FORMAT}; make it anew"
            )
        for room in ROOMS:
            restore_folders(Path(path) / room)
        return cls(Path(path), about)

    def __repr__(self) -> str:
        name, corpus = self.about["model"]["name"], self.about["corpus"]
        return f"Study({str(self.path)!r}: {name} on {corpus['source']}, {corpus['rows']:,} rows)"

    def check_request(self, **options: Any) -> None:
        """Refuse options of `create` that are not those this study was made with.

        Raises
        ------
        InputError
            The difference, spelled out: another option, or a file whose content has changed.
        """
        given = {k: v for k, v in options.items() if k not in ("corpus", "probe", "test")}
        for name in ("corpus", "probe", "test"):
            given |= named_source(name, options.get(name))
        made = self.about["request"]
        differ = [
            f"{name} {made.get(name)!r} there, {value!r} here"
            for name, value in given.items()
            if made.get(name) != value
        ]
        if differ:
            raise InputError(
                f"{self.path} was made otherwise ({'; '.join(differ)}); choose another folder"
            )

    # -------------------------------------------------------------------------- what it holds

    @functools.cached_property
    def corpus(self) -> Corpus:
        """Pool and probe, in order."""
        return self._read_corpus("corpus.jsonl", self.about["corpus"])

    @functools.cached_property
    def test(self) -> Corpus:
        """Examples to measure on at the end; never collected, fitted on or selected."""
        return self._read_corpus("test.jsonl", self.about["test"])

    def _read_corpus(self, name: str, about: dict[str, Any]) -> Corpus:
        path = self.path / name
        try:
            corpus = Corpus.from_jsonl(path.read_text(encoding="utf-8"), about["source"])
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); start a new study") from error
        if corpus.hash != about["hash"]:
            raise InputError(f"{path} is not what the study was made with; start a new study")
        return corpus

    @functools.cached_property
    def pool_rows(self) -> NDArray[np.int64]:
        """Rows that may be selected."""
        return self._rows_of("pool")

    @functools.cached_property
    def probe_rows(self) -> NDArray[np.int64]:
        """Rows that weakness and utility are measured on; never selected, never fitted on."""
        return self._rows_of("probe")

    def _rows_of(self, split: Split) -> NDArray[np.int64]:
        is_it = [example.meta["split"] == split for example in self.corpus]
        return np.flatnonzero(is_it).astype(np.int64)

    @functools.cached_property
    def model(self) -> "TransformersModel":
        """The model, loaded on first use; it must be the one that the study began with."""
        known = self.about["identity"]
        # In the dtype that it began with, whatever this machine would choose.
        dtype = {"dtype": known["dtype"]} if known else {}
        model = load_model(**self.about["model"] | dtype)
        found = identity(model)
        if known is None:
            self.about["identity"] = found.as_dict()
            write_json(self.path / "study.json", self.about)
        elif _weights_differ(known, found):
            raise InputError(
                f"{self.path} was made with {known['name']} (weights {known['weights']}), and "
                f"what is there now under that name has weights {found.weights}; start a new study"
            )
        return model

    @functools.cached_property
    def activations(self) -> Activations:
        """The collected rows; they must be of this study's model and corpus."""
        store = self.path / "activations.lance"
        acts = Activations.open(store)
        about = self.about["corpus"]
        made_by = {"corpus": {"hash": about["hash"], "rows": about["rows"]}}
        made_by |= {"model": self.about["identity"]} if self.about["identity"] else {}
        require_same(store, {k: acts.source_of_all[k] for k in made_by}, made_by)
        if len(acts) != len(self.corpus):
            raise InputError(
                f"{self.path}: {len(acts)} of {len(self.corpus)} rows are collected; "
                "finish with collect"
            )
        return acts

    @functools.cached_property
    def annotations(self) -> Annotations:
        """Labels and notes."""
        return Annotations(self.path / "annotations.sqlite")

    @property
    def basis_names(self) -> list[str]:
        """Names of the fitted bases."""
        return sorted(p.parent.name for p in self.path.glob("bases/[!.]*/basis.json"))

    @property
    def selection_names(self) -> list[str]:
        """Names of the selections."""
        return sorted(p.parent.name for p in self.path.glob("selections/[!.]*/recipe.json"))

    @property
    def export_names(self) -> list[str]:
        """Names of the exports."""
        return sorted(p.parent.name for p in self.path.glob("exports/[!.]*/manifest.json"))

    @property
    def adapter_names(self) -> list[str]:
        """Names of the adapters that were trained."""
        return sorted(p.parent.name for p in self.path.glob("adapters/[!.]*/adapter_config.json"))

    def basis_name(self, name: str | None = None) -> str:
        """Return `name` if there is such a basis; without one, the only basis that there is.

        Raises
        ------
        InputError
            None is there, none of that name, or several to choose from.
        """
        there = self.basis_names
        if not there:
            raise InputError(f"{self.path} has no basis yet; run: mnskills fit {self.path}")
        if name is None and len(there) > 1:
            raise InputError(f"{self.path} has several bases; say which: {', '.join(there)}")
        self._require("basis", name or there[0], there)
        return name or there[0]

    def basis(self, name: str) -> Basis:
        """Return a fitted basis."""
        self._require("basis", name, self.basis_names)
        return load_basis(self.path / "bases" / name)

    def selection(self, name: str) -> Selection:
        """Return a stored selection."""
        self._require("selection", name, self.selection_names)
        folder = self.path / "selections" / name
        receipts = pd.read_parquet(folder / "receipts.parquet")
        indices = receipts["index"].to_numpy(dtype=np.int64)
        return Selection(indices, receipts, read_json(folder / "recipe.json"))

    def _require(self, what: str, name: str, there: list[str]) -> None:
        if name not in there:
            raise InputError(
                f"{self.path} has no {what} {name!r}; there are: {', '.join(there) or 'none yet'}"
            )

    # --------------------------------------------------------------------------------- results

    def results(self, kind: str, basis: str) -> pd.DataFrame | None:
        """Return what was found with a basis, or None if nothing was, or with an earlier fit.

        Parameters
        ----------
        kind : {"quality", "proxy", "steering"}
        basis : str
        """
        table = read_table(self._result_file(kind, basis))
        if table is None or table.attrs.get("basis") != self.basis(basis).fingerprint:
            return None
        return table

    def _result(
        self,
        kind: str,
        basis: str,
        compute: Callable[[], pd.DataFrame],
        options: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the stored table if it was made with `options`, else compute and store it."""
        there = self._kept_result(kind, basis, options)
        if there is not None:
            return there
        table = compute()
        table.attrs["options"] = options
        self._write_result(kind, basis, table)
        return table

    def _kept_result(
        self, kind: str, basis: str, options: dict[str, Any] | None
    ) -> pd.DataFrame | None:
        """Return the stored table if it was made with `options`."""
        there = self.results(kind, basis)
        return there if there is not None and there.attrs.get("options") == options else None

    def _write_result(self, kind: str, basis: str, table: pd.DataFrame) -> None:
        table.attrs["basis"] = self.basis(basis).fingerprint
        write_bytes(self._result_file(kind, basis), as_parquet(table))

    def _result_file(self, kind: str, basis: str) -> Path:
        return self.path / "results" / f"{kind}-{basis}.parquet"

    def _inside(self, room: str, name: str) -> Path:
        """Return the folder ``room/name``; a name cannot lead out of it."""
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise InputError(
                f"{name!r} cannot be a name; use up to 100 letters, digits, dots, - and _"
            )
        return self.path / room / name


def _require_unique(corpus: Corpus | None) -> None:
    ids = pd.Index(corpus.ids if corpus else [], dtype=object)
    if not ids.is_unique:
        raise InputError(
            f"{corpus and corpus.name}: id {ids[ids.duplicated()][0]!r} is there more than once; "
            "ids must be unique"
        )


def _without(corpus: Corpus, others: Corpus) -> Corpus:
    """The examples of a corpus whose ids are not among others'."""
    ids = set(others.ids)
    return Corpus((example for example in corpus if example.id not in ids), corpus.name)


def _weights_differ(known: dict[str, Any], found: ModelIdentity) -> bool:
    return bool(known["weights"] != found.weights or known["tokenizer"] != found.tokenizer)
