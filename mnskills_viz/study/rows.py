"""What is computed once for every example of a study: activations and gradients."""

from typing import Any

from ..activations.collect import collect
from ..activations.gradients import Gradients, gradients
from ..activations.rows import Activations
from ..activations.store import has_left_over, is_there
from ..corpus import Corpus
from ..corpus.splits import hash_of_id
from .folder import Split, StudyFolder

PROXY_EXAMPLES = 64


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
