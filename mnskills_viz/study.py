"""The folder of one investigation: the only room that knows where things lie on disk.

Every step writes its result once and reads it back when asked again with the same choices.
"""

import functools
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .activations.collect import collect
from .activations.gradients import Gradients, gradients
from .activations.rows import Activations
from .activations.store import has_left_over, is_there, require_same
from .axes.annotations import Annotations
from .axes.table import axes_table
from .bases.active_subspace import ActiveSubspaceBasis
from .bases.basis import Basis, load_basis
from .bases.layers import LEAST_IN_CATEGORY, compare_layers
from .bases.pca import PCABasis
from .bases.sae import SAEBasis
from .bases.sparse_training import Progress
from .corpus import Columns, Corpus, Prompt, load_corpus
from .corpus.splits import hash_of_id, with_splits
from .errors import InputError
from .exporting.export import export
from .files import (
    folder_in_place,
    read_json,
    restore_folders,
    sha256,
    write_bytes,
    write_json,
    write_text,
)
from .generation import generate
from .models import ModelIdentity, identity, load_model
from .selection.recipe import Selection
from .selection.select import replay, select
from .selection.weakness import pole_weakness, reference_errors
from .steering.proxy import first_order, fitted_layer
from .steering.vector import SteeringVector

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

FORMAT = 1
PROXY_EXAMPLES = 64

ROOMS = ("bases", "selections", "exports")

BasisKind = Literal["pca", "sae", "active"]
Split = Literal["pool", "probe"]
Layer = int | Literal["auto", "concat"] | None


class Study:
    """One model, one corpus, and what was found about them.

    Use `Study.create` or `Study.open`.

    Attributes
    ----------
    path : Path
        Its folder.
    corpus : Corpus
        Pool and probe; each example's ``meta["split"]`` says which.
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
        limit: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        blocks: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        **columns: Unpack[Columns],
    ) -> "Study":
        """Make the folder of a new study.

        Parameters
        ----------
        path : path
            A folder that is not there yet, or is empty.
        model : str
            As `load_model` takes it; loaded when first needed.
        corpus : str, path or Corpus
            As `load_corpus` takes it. Rows of split ``"test"`` are left out.
        probe : str, path or Corpus, optional
            Examples to find weakness and utility on. Default: the rows of split ``"probe"``; if
            there are none, a fifth of the corpus (500 at most), chosen by a hash of the ids.
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
        extra = (
            probe
            if isinstance(probe, Corpus | None)
            else load_corpus(probe, on_error=on_error, **columns)
        )
        rows, rule = with_splits(whole, extra)
        request = {"model": model, "limit": limit, "on_error": on_error, **columns}
        request |= {"blocks": blocks} if blocks else {}
        request |= _named("corpus", corpus) | _named("probe", probe)
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
        }
        with folder_in_place(folder, replace=False) as building:
            write_text(building / "corpus.jsonl", rows.to_jsonl())
            write_json(building / "study.json", about)
        return cls(folder, about)

    @classmethod
    def begin(cls, path: str | Path, first: Callable[["Study"], object], **options: Any) -> "Study":
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
    def open(cls, path: str | Path) -> "Study":
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
            raise InputError(f"{file}: a study of format {found}, this version reads {FORMAT}")
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
        given = {k: v for k, v in options.items() if k not in ("corpus", "probe")}
        for name in ("corpus", "probe"):
            given |= _named(name, options.get(name))
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
        path, about = self.path / "corpus.jsonl", self.about["corpus"]
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

    # ------------------------------------------------------------------------------- collect

    @property
    def is_collected(self) -> bool:
        """Whether every row of the corpus has its activations."""
        store = self.path / "activations.lance"
        return is_there(store) and len(Activations.open(store)) == len(self.corpus)

    def collect(self, progress: bool = True, **options: Any) -> Activations:
        """Collect what is not there yet, errors included; options as `mnskills_viz.collect`.

        Raises
        ------
        InputError
            The store was made with other options.
        """
        wanted = {"errors": True} | options
        store = self.path / "activations.lance"
        is_done = self.is_collected and self._collected_with(wanted)
        if not is_done or has_left_over(store):
            self.__dict__.pop("activations", None)
            self._coordinates.clear()
            collect(
                self.model,
                self.corpus,
                store=store,
                progress=progress,
                **wanted,
            )
        return self.activations

    def _collected_with(self, options: dict[str, Any]) -> bool:
        """Whether nothing is left to compute, as far as can be told without the model."""
        source = self.activations.source_of_all
        layers = options.get("layers", "all")
        wanted = range(source["model"]["n_layers"]) if layers == "all" else layers
        same = all(source["options"][k] == v for k, v in options.items() if k in source["options"])
        return same and source["errors"] >= options["errors"] and {*wanted} <= {*source["layers"]}

    # ---------------------------------------------------------------------------- fit and see

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
        key = _key(made_by)
        there = _table(self.path / "results" / "layers.parquet")
        if there is not None and there.attrs.get("made_by") == key:
            return there
        pool = self.pool_rows
        rows = ((layer, acts.matrix(layer)[pool]) for layer in acts.layers)
        table = compare_layers(rows, self._layer_target())
        table.attrs["made_by"] = key
        write_bytes(self.path / "results" / "layers.parquet", _parquet(table))
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
        **options: Any,
    ) -> Basis:
        """Fit a basis on the pool's activations and keep it under ``bases/NAME``.

        Parameters
        ----------
        kind : {"pca", "sae", "active"}
            ``"active"``: directions that rows vary along and the model uses, from contrast
            gradients of pool examples, computed at the first time.
        layer : int, "auto" or "concat", optional
            Default: the block in the middle of the model. ``"auto"``: the one that `layers`
            chooses.
        n_axes : int, float or "auto"
            Shares of the variance and ``"auto"`` are for PCA; see `PCABasis`.
        name : str, optional
            Default: kind and layer, ``pca-15``.
        progress : bool or callable, default False
            Whether to show how far gradients and training are; a callable receives epoch, number
            of epochs and figures while an autoencoder is trained. A training that is stopped goes
            on when it is asked for again.
        **options
            Further parameters of `PCABasis`, `SAEBasis` or `ActiveSubspaceBasis`.
        """
        acts = self.activations
        estimator = _estimator(kind, n_axes, options)
        if kind == "active" and layer == "concat":
            raise InputError('an active basis is of one layer, not "concat"; name a layer')
        at = self._layer(layer)
        source = acts.source(at) | {"fitted_on": "pool"}
        if kind == "active":
            source |= {"gradients_of": self._gradient_examples(PROXY_EXAMPLES, "pool").hash}
        folder = self._inside("bases", name or f"{kind}-{at}")
        there = load_basis(folder) if (folder / "basis.json").exists() else None
        if (
            there is not None
            and there.get_params() == estimator.get_params()
            and there.source_ == _plain(source)
        ):
            return there
        X = acts.matrix(at)[self.pool_rows]
        if isinstance(estimator, SAEBasis):
            checkpoint = self._checkpoint(folder, estimator.get_params() | {"source": source})
            estimator.fit(X, source=source, progress=progress, checkpoint=checkpoint)
        elif isinstance(estimator, ActiveSubspaceBasis):
            slopes = self.gradients(split="pool", progress=bool(progress)).matrix(cast(int, at))
            estimator.fit(X, gradients=slopes, source=source)
        else:
            estimator.fit(X, source=source)
        if there is not None:
            # Labels are about the axes that were seen: the new ones begin without.
            self.annotations.set_aside(folder.name, there.fingerprint)
        estimator.save(folder)
        return estimator

    def _checkpoint(self, folder: Path, wanted: dict[str, Any]) -> Path:
        """Where a training that is stopped is taken up again; those of other choices go."""
        name = f".{folder.name}-{_key(_plain(wanted))}.checkpoint"
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
            layer = (fitted.source_ or {})["layer"]
            z = fitted.transform(self.activations.matrix(layer))
            self._coordinates[fitted.fingerprint] = z
        return self._coordinates[fitted.fingerprint]

    def quality(self, basis: str) -> pd.DataFrame:
        """How far to trust each axis; see `Basis.quality`. Kept under ``results``.

        Templates are the corpus's column of that name, or else its sources where there are
        several. The dictionary is the basis's own, or else one fitted at the same layer.
        Gradients are those of the probe, if they are there already.
        """
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
        return self._result("quality", basis, compute, options)

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

    # ------------------------------------------------------------------------ steer and proxy

    def gradients(
        self, n: int = PROXY_EXAMPLES, progress: bool = True, split: Split = "probe"
    ) -> Gradients:
        """Contrast gradients of `n` examples at every collected layer, computed once.

        The examples are drawn by a hash of their ids: a corpus may be sorted. Utility is measured
        on those of the probe. Axes are fitted on those of the pool: measured on what they were
        fitted on, they would all look useful.
        """
        layers = self.activations.layers
        examples = self._gradient_examples(n, split)
        source = {"corpus": examples.hash, "layers": layers, "model": self._weights()}
        name = "gradients" if split == "probe" else f"gradients-{split}"
        file = self.path / "results" / f"{name}.safetensors"
        found = Gradients.load(file, source)
        if found is None:
            found = gradients(self.model, examples, layers, progress=progress)
            found.save(file, source)
        return found

    def _gradient_examples(self, n: int, split: Split) -> Corpus:
        rows = self._rows_of(split)
        return self.corpus.take(
            sorted(rows, key=lambda row: hash_of_id(self.corpus[int(row)].id))[:n]
        )

    def _weights(self) -> str:
        return str(self.activations.source_of_all["model"]["weights"])

    def proxy(
        self, basis: str, n: int = PROXY_EXAMPLES, seed: int = 0, progress: bool = True
    ) -> pd.DataFrame:
        """First-order utility of every axis; see `mnskills_viz.proxy`. Kept under ``results``."""

        def compute() -> pd.DataFrame:
            fitted = self.basis(basis)
            found = self.gradients(n, progress)
            return first_order(found, {fitted_layer(fitted, None): fitted}, seed)

        return self._result("proxy", basis, compute, {"n": n, "seed": seed})

    def steer(
        self,
        prompts: Sequence[Prompt],
        basis: str,
        axis: int,
        dose: float,
        max_new_tokens: int = 64,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Generate with and without a push along an axis, side by side.

        Returns
        -------
        DataFrame
            ``axis dose max_new_tokens key prompt unsteered steered``, a row a prompt; ``key`` is
            a hash of the prompt. All runs are kept in ``results/steering-BASIS.parquet``, and
            what is there is not generated again.
        """
        vector = SteeringVector.from_axis(self.basis(basis), axis, dose=dose)
        run = {"axis": axis, "dose": float(dose), "max_new_tokens": max_new_tokens}
        asked = pd.DataFrame(
            [run | {"key": _key(prompt), "prompt": _shown(prompt)} for prompt in prompts]
        )
        kept = self.results("steering", basis)
        if kept is not None:
            found = asked.merge(kept, how="left", on=list(asked.columns))
            if not found["steered"].isna().any():
                return found
        chats = [self._as_chat(prompt) for prompt in prompts]
        for name, steering in (("unsteered", None), ("steered", vector)):
            texts = generate(self.model, chats, steering, 1, max_new_tokens, progress=progress)
            asked[name] = [completions[0] for completions in texts]
        everything = pd.concat([kept, asked]).drop_duplicates([*run, "key"], keep="last")
        self._write_result("steering", basis, everything)
        return asked

    def _as_chat(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) and self.model.tokenizer.chat_template is not None:
            return [{"role": "user", "content": prompt}]
        return prompt

    # ----------------------------------------------------------------------- select and export

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
            write_bytes(building / "receipts.parquet", _parquet(chosen.receipts))
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

    # --------------------------------------------------------------------------------- results

    def results(self, kind: str, basis: str) -> pd.DataFrame | None:
        """Return what was found with a basis, or None if nothing was, or with an earlier fit.

        Parameters
        ----------
        kind : {"quality", "proxy", "steering"}
        basis : str
        """
        table = _table(self._result_file(kind, basis))
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
        there = self.results(kind, basis)
        if there is not None and there.attrs.get("options") == options:
            return there
        table = compute()
        table.attrs["options"] = options
        self._write_result(kind, basis, table)
        return table

    def _write_result(self, kind: str, basis: str, table: pd.DataFrame) -> None:
        table.attrs["basis"] = self.basis(basis).fingerprint
        write_bytes(self._result_file(kind, basis), _parquet(table))

    def _result_file(self, kind: str, basis: str) -> Path:
        return self.path / "results" / f"{kind}-{basis}.parquet"

    def _inside(self, room: str, name: str) -> Path:
        """Return the folder ``room/name``; a name cannot lead out of it."""
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise InputError(
                f"{name!r} cannot be a name; use up to 100 letters, digits, dots, - and _"
            )
        return self.path / room / name


Estimator = PCABasis | SAEBasis | ActiveSubspaceBasis


def _estimator(
    kind: str, n_axes: int | float | Literal["auto"], options: dict[str, Any]
) -> Estimator:
    kinds: dict[str, Callable[..., Estimator]] = {
        "pca": PCABasis,
        "sae": SAEBasis,
        "active": ActiveSubspaceBasis,
    }
    if kind not in kinds:
        raise InputError(f"kind of basis must be one of {', '.join(kinds)}, not {kind!r}")
    try:
        return kinds[kind](n_axes=n_axes, **options)
    except TypeError as error:
        raise InputError(f"{kind} basis: {error}") from error


def _weights_differ(known: dict[str, Any], found: ModelIdentity) -> bool:
    return bool(known["weights"] != found.weights or known["tokenizer"] != found.tokenizer)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _named(option: str, corpus: str | Path | Corpus | None) -> dict[str, Any]:
    """What was asked for, so that it can be told from something else later."""
    if corpus is None:
        return {}
    if isinstance(corpus, Corpus):
        return {option: corpus.name}
    path = Path(corpus).expanduser()
    if not path.is_file():
        return {option: str(corpus)}
    return {option: str(path.resolve()), f"{option} SHA-256": sha256(path)}


def _key(value: Any) -> str:
    """16 hexadecimal digits that tell one prompt, or what else JSON holds, from another."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _shown(prompt: Prompt) -> str:
    """A prompt as one text, for people."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message["content"] for message in prompt)


def _table(file: Path) -> pd.DataFrame | None:
    """A kept table; None where there is none or it is damaged: it will be computed anew."""
    if not file.exists():
        return None
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError):
        return None


def _parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=False)
