"""What is computed once for every example of a study: activations and gradients."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..activations.collect import collect
from ..activations.gradients import Gradients, gradients
from ..activations.rows import Activations
from ..activations.sketch import gradient_sketch
from ..activations.store import has_left_over, is_there
from ..activations.tokens import Counted
from ..corpus import Corpus
from ..corpus.splits import hash_of_id
from ..errors import InputError
from .folder import Split, StudyFolder

PROXY_EXAMPLES = 64

Layer = int | Literal["concat"]


class StudyRows(StudyFolder):
    """The part of a study that runs the model over the corpus."""

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

    def prompt_rows(self, layer: Layer, progress: bool = True) -> Activations:
        """Rows over the tokens of the prompts alone, of pool and probe, collected once a layer.

        What the model makes of a task before anything is answered. The text of an answer says
        much of its own loss by its style alone.
        """
        if self.activations.source_of_all["options"]["tokens"] == "prompt":
            return self.activations
        if self.has_prompt_rows(layer):
            return Activations.open(self.path / "prompts.lance")
        return self._rows_beside("prompts.lance", without_responses(self.corpus), layer, progress)

    def has_prompt_rows(self, layer: Layer) -> bool:
        """Whether `prompt_rows` has nothing left to compute."""
        if self.activations.source_of_all["options"]["tokens"] == "prompt":
            return True
        store = self.path / "prompts.lance"
        if not is_there(store) or has_left_over(store):
            return False
        rows = Activations.open(store)
        layers = self.activations.layers if layer == "concat" else [layer]
        return len(rows) == len(self.corpus) and {*layers} <= {*rows.layers}

    def _rows_beside(
        self,
        name: str,
        corpus: Corpus,
        layer: Layer,
        progress: bool,
        tokens: Counted = "prompt",
    ) -> Activations:
        """Rows of other texts, read with the options of the study's own rows."""
        options = self.activations.source_of_all["options"]
        same = ("pooling", "exclude_sinks", "max_length", "truncate")
        return collect(
            self.model,
            corpus,
            layers=self.activations.layers if layer == "concat" else [layer],
            tokens=tokens,
            store=self.path / name,
            progress=progress,
            **{option: options[option] for option in same},
        )

    def sketch(self, split: Split, progress: bool = True) -> NDArray[np.float32]:
        """Gradients of all layers of pool or probe, sketched; see `gradient_sketch`.

        Returns
        -------
        ndarray of float32, [n, width]
            A row of zeros for an example without response: it says nothing of influence.
        """
        examples = self.corpus.take(self._rows_of(split))
        store = self.path / "results" / f"sketch-{split}"
        found = gradient_sketch(self.model, examples, store=store, progress=progress)
        place = {name: row for row, name in enumerate(examples.ids)}
        rows = np.zeros((len(examples), found.values.shape[1]), dtype=np.float32)
        rows[[place[name] for name in found.ids]] = found.values
        return rows

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
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
            raise InputError(f"n must be a whole number of at least 2 examples, not {n!r}")
        rows = self._rows_of(split)
        return self.corpus.take(
            sorted(rows, key=lambda row: hash_of_id(self.corpus[int(row)].id))[:n]
        )

    def _weights(self) -> str:
        return str(self.activations.source_of_all["model"]["weights"])


def without_responses(corpus: Corpus) -> Corpus:
    """The prompts of a corpus: nothing is read that does not count."""
    return Corpus((replace(example, response="") for example in corpus), corpus.name)
