"""The common start: corpora, the warm-up checkpoint, the study that all arms select from."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import mnskills_viz as mn
from mnskills_viz.corpus import Corpus
from mnskills_viz.corpus.splits import hash_of_id, with_splits
from mnskills_viz.models import identity
from mnskills_viz.training.sft import training_log

from .results import Results
from .settings import Settings

TINY = "tiny"

LEAST_POOL = 10
"""Times the budget that the pool has to hold."""


@dataclass(frozen=True)
class Corpora:
    """Rows of a comparison; no row is in two of them.

    Attributes
    ----------
    warmup, pool, probe, test : Corpus
    """

    warmup: Corpus
    pool: Corpus
    probe: Corpus
    test: Corpus


def corpora(settings: Settings) -> Corpora:
    """Part what the settings name.

    The warm-up is drawn by a hash of the ids, from the rows that the pool leaves over if
    `pool_rows` leaves any, else from the pool, which then goes without them.

    What stands in the test set is taken out of probe and warm-up, and what stands in the probe
    out of the warm-up; the study leaves both out of the pool's selections.

    Raises
    ------
    InputError
        Too few rows.
    """
    if settings.pool == "demo":
        parted = mn.load_corpus("demo")
        whole, probe, test = (parted.split(name) for name in ("pool", "probe", "test"))
    else:
        marked, _ = with_splits(mn.load_corpus(settings.pool))
        whole, probe = marked.split("pool"), marked.split("probe")
        test = mn.load_corpus(settings.test)
    pool, left = whole[: settings.pool_rows], whole[len(whole) :]
    if settings.pool_rows is not None:
        left = whole[settings.pool_rows :]
    test = test[: settings.test_rows]
    probe = _without(probe[: settings.probe_rows], {"test": test})
    source = left if len(left) >= settings.warmup_rows else pool
    clean = _without(source, {"test": test, "probe": probe})
    drawn = {*sorted(clean.ids, key=hash_of_id)[: settings.warmup_rows]}
    found = Corpora(
        Corpus((e for e in source if e.id in drawn), "warm-up"),
        Corpus((e for e in pool if e.id not in drawn), whole.name),
        probe,
        test,
    )
    if not (len(found.probe) and len(found.test) and len(found.pool)):
        raise mn.InputError(f"{settings.pool}: pool, probe and test must all hold rows")
    return found


def _without(corpus: Corpus, others: dict[str, Corpus]) -> Corpus:
    """What of a corpus has no text of others in it."""
    leaked = {*mn.contamination(corpus, others)["id"]}
    return Corpus((example for example in corpus if example.id not in leaked), corpus.name)


class Ground:
    """What all arms start from, made on first use and found again after a stop.

    Parameters
    ----------
    settings : Settings
    work : Path
        Folder for what is large: study, adapters, answers.
    progress : bool
    """

    def __init__(self, settings: Settings, work: Path, progress: bool = True) -> None:
        self.settings = settings
        self.work = work
        self.progress = progress

    @cached_property
    def corpora(self) -> Corpora:
        """Warm-up, pool, probe and test."""
        return corpora(self.settings)

    @cached_property
    def base(self) -> str:
        """The model before the warm-up, as `load_model` takes it."""
        if self.settings.model != TINY:
            return self.settings.model
        from tests.tiny_model import save_tiny_model

        folder = self.work / "tiny-model"
        return str(folder if folder.is_dir() else save_tiny_model(folder))

    @cached_property
    def start(self) -> str:
        """The checkpoint that every arm is trained from: the model after the warm-up."""
        rows = self.corpora.warmup
        export = self.work / "warmup-rows"
        if not (export / "manifest.json").is_file():
            everything = mn.select(np.zeros((len(rows), 1)), "random", len(rows), ids=rows.ids,
                                   text_similarity=None)  # fmt: skip
            mn.export(rows, everything, export, "trl")
        return str(self.train(self.base, export, self.work / "warmup", seed=0))

    def train(
        self, model: str, export: Path, out: Path, seed: int, steps: int | None = None
    ) -> Path:
        """Fine-tune a model on an export in so many steps, as every arm is.

        Rows a step follow from the rows: arms of equal tokens and unequal rows take as many steps
        as near to that as batches of one size allow.
        """
        rows = sum(1 for _ in (export / "train.jsonl").open(encoding="utf-8"))
        settings = self.settings
        wanted = settings.steps if steps is None else steps
        sizes = range(1, rows + 1)
        batch = min(sizes, key=lambda size: (abs(-(-rows // size) - wanted), -size))
        return mn.sft(
            model,
            export,
            out,
            lora_rank=settings.lora_rank,
            learning_rate=settings.learning_rate,
            batch_size=batch,
            order="shuffled",
            seed=seed,
            progress=self.progress,
        )

    @cached_property
    def study(self) -> mn.Study:
        """Pool and probe read by the start, every layer; the test set kept apart."""
        Results(self.work).require("settings", self.settings.as_dict())
        folder = self.work / "study"
        if (folder / "study.json").is_file():
            study = mn.Study.open(folder)
        else:
            parts = self.corpora
            study = mn.Study.create(
                folder, self.start, corpus=parts.pool, probe=parts.probe, test=parts.test
            )
        study.collect(progress=self.progress)
        tokens = int(study.activations.n_response[study.pool_rows].sum())
        if tokens < LEAST_POOL * self.settings.budget:
            raise mn.InputError(
                f"the pool has {tokens:,} response tokens and the budget is "
                f"{self.settings.budget:,}: arms would overlap too much to differ; lower --budget "
                f"to {tokens // LEAST_POOL:,}"
            )
        return study

    def prepare(self) -> None:
        """Make all that the arms share, so that several processes may train arms at once."""
        study = self.study
        for kind in self._kinds:
            self.basis(kind)
        for seed in range(self.settings.seeds):
            for control in ("rotated", "subspace"):
                self.basis(control, seed)
        study.weakness(self.basis("pca"), progress=self.progress)
        if "influence" in self.settings.arms:
            for split in ("probe", "pool"):
                study.sketch(split, self.progress)
        if "autoskill" in self.settings.arms:
            _ = self.without_template

    @cached_property
    def without_template(self) -> mn.Activations:
        """Rows of question and solution as plain text, of all layers but the first and the last."""
        model = mn.load_model(self.start)
        model.tokenizer.chat_template = None
        return mn.collect(
            model,
            self.study.corpus,
            layers=self.study.activations.layers[1:-1],
            store=self.work / "without-template.lance",
            progress=self.progress,
        )

    @cached_property
    def layer(self) -> int:
        """Where bases are fitted."""
        layers = self.study.activations.layers
        asked = self.settings.layer
        return layers[len(layers) // 2] if asked is None else asked

    def basis(self, kind: str, seed: int | None = None) -> str:
        """Name of a basis in the study; fitted on first use.

        Parameters
        ----------
        kind : {"pca", "sae", "active", "rotated", "subspace"}
            ``"rotated"``: the axes of the PCA rotated at random among themselves; ``"subspace"``:
            as many random directions.
        seed : int, optional
            Of the last two, which are drawn anew for every seed.
        """
        settings, layer = self.settings, self.layer
        name = f"{kind}-{layer}" if seed is None else f"{kind}-{layer}-{seed}"
        options: dict[str, Any] = {"layer": layer, "n_axes": settings.n_axes, "name": name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a basis warns of is in the report
            if kind == "sae":
                self.study.fit(
                    "sae", n_latents=settings.n_latents, k=settings.k, random_state=0, **options
                )
            elif kind in ("rotated", "subspace"):
                within = self.basis("pca") if kind == "rotated" else None
                self.study.fit("random", within=within, random_state=seed or 0, **options)
            else:
                self.study.fit(kind, **options)  # type: ignore[arg-type]
        return name

    def about(self) -> dict[str, Any]:
        """What the start is, JSON-ready."""
        self.prepare()
        parts, study = self.corpora, self.study
        tokens = study.activations.n_response[study.pool_rows]
        log = training_log(self.start)
        return {
            "model": identity(study.model).as_dict() | {"name": self.settings.model},
            "corpus": {
                "source": parts.pool.name,
                "pool": len(parts.pool),
                "pool_tokens": int(tokens.sum()),
                "probe": len(parts.probe),
                "test": len(parts.test),
                "warmup": len(parts.warmup),
                "hash": study.about["corpus"]["hash"],
                "test_hash": study.about["test"]["hash"],
            },
            "warmup": {
                "rows": len(parts.warmup),
                "loss_tokens": int(log["tokens"].iloc[-1]),
                "optimizer_steps": len(log),
                "loss_first": float(log["loss"].iloc[0]),
                "loss_last": float(log["loss"].iloc[-1]),
            },
            "bases": {kind: self._about_basis(kind) for kind in (*self._kinds, "subspace")},
        }

    def require(self, start: dict[str, Any]) -> None:
        """Refuse a work folder of another start than the results are of.

        Raises
        ------
        InputError
            The model or the corpora differ: a work folder that was made anew on another machine.
        """
        there = self.study.about
        found = {
            "model": (there["identity"] or {}).get("weights"),
            "pool and probe": there["corpus"]["hash"],
            "test": there["test"]["hash"],
        }
        made = {
            "model": start["model"]["weights"],
            "pool and probe": start["corpus"]["hash"],
            "test": start["corpus"]["test_hash"],
        }
        if differ := [name for name in made if made[name] != found[name]]:
            raise mn.InputError(
                f"{self.work} is not the start that the results are of ({', '.join(differ)} "
                "differ): cells of two starts cannot be compared; bring the work folder that they "
                "were made with, or choose another --results"
            )

    @property
    def _kinds(self) -> list[str]:
        """Bases that the arms need."""
        return ["pca", "sae", *(["active"] if "weakness_active" in self.settings.arms else [])]

    def _about_basis(self, kind: str) -> dict[str, Any]:
        fitted = self.study.basis(self.basis(kind, 0 if kind == "subspace" else None))
        about: dict[str, Any] = {
            "layer": self.layer,
            "n_axes": fitted.n_axes_,
            "variance": float(fitted.explained_variance_ratio_.sum()),
        }
        if isinstance(fitted, mn.SAEBasis):
            about |= {"dictionary_fvu": fitted.dictionary_fvu_, "pca_fvu": fitted.pca_fvu_}
        return about
