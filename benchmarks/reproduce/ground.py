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

from .settings import Settings

TINY = "tiny"


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

    Raises
    ------
    InputError
        Too few rows, or a pool below ten times the budget: arms would overlap too much to differ.
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
    source = left if len(left) >= settings.warmup_rows else pool
    drawn = {*sorted(source.ids, key=hash_of_id)[: settings.warmup_rows]}
    found = Corpora(
        Corpus((e for e in source if e.id in drawn), "warm-up"),
        Corpus((e for e in pool if e.id not in drawn), whole.name),
        probe[: settings.probe_rows],
        test[: settings.test_rows],
    )
    if not (len(found.probe) and len(found.test) and len(found.pool)):
        raise mn.InputError(f"{settings.pool}: pool, probe and test must all hold rows")
    return found


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

        Rows a step follow from the rows: arms of equal tokens and unequal rows take equal steps.
        """
        rows = sum(1 for _ in (export / "train.jsonl").open(encoding="utf-8"))
        settings = self.settings
        return mn.sft(
            model,
            export,
            out,
            lora_rank=settings.lora_rank,
            learning_rate=settings.learning_rate,
            batch_size=-(-rows // (steps or settings.steps)),
            order="shuffled",
            seed=seed,
            progress=self.progress,
        )

    @cached_property
    def study(self) -> mn.Study:
        """Pool and probe read by the start, every layer; the test set kept apart."""
        folder = self.work / "study"
        if (folder / "study.json").is_file():
            study = mn.Study.open(folder)
        else:
            parts = self.corpora
            study = mn.Study.create(
                folder, self.start, corpus=parts.pool, probe=parts.probe, test=parts.test
            )
        study.collect(progress=self.progress)
        return study

    @cached_property
    def layer(self) -> int:
        """Where bases are fitted."""
        layers = self.study.activations.layers
        asked = self.settings.layer
        return layers[len(layers) // 2] if asked is None else asked

    def basis(self, kind: str) -> str:
        """Name of a basis in the study; fitted on first use.

        Parameters
        ----------
        kind : {"pca", "sae", "active", "rotated", "subspace"}
            ``"rotated"``: the axes of the PCA rotated at random among themselves; ``"subspace"``:
            as many random directions.
        """
        settings, layer = self.settings, self.layer
        name = f"{kind}-{layer}"
        options: dict[str, Any] = {"layer": layer, "n_axes": settings.n_axes, "name": name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a basis warns of is in the report
            if kind == "sae":
                self.study.fit(
                    "sae", n_latents=settings.n_latents, k=settings.k, random_state=0, **options
                )
            elif kind in ("rotated", "subspace"):
                within = self.basis("pca") if kind == "rotated" else None
                self.study.fit("random", within=within, random_state=0, **options)
            else:
                self.study.fit(kind, **options)  # type: ignore[arg-type]
        return name

    def about(self) -> dict[str, Any]:
        """What the start is, JSON-ready."""
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
            "bases": {kind: self._about_basis(kind) for kind in self._kinds},
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
                "differ): cells of two starts cannot be compared; choose another --results"
            )

    @property
    def _kinds(self) -> list[str]:
        """Bases that the arms need."""
        active = ["active"] if "weakness_active" in self.settings.arms else []
        return ["pca", "sae", "rotated", "subspace", *active]

    def _about_basis(self, kind: str) -> dict[str, Any]:
        fitted = self.study.basis(self.basis(kind))
        about: dict[str, Any] = {
            "layer": self.layer,
            "n_axes": fitted.n_axes_,
            "variance": float(fitted.explained_variance_ratio_.sum()),
        }
        if isinstance(fitted, mn.SAEBasis):
            about |= {"dictionary_fvu": fitted.dictionary_fvu_, "pca_fvu": fitted.pca_fvu_}
        return about
