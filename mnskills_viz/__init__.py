"""Explore a language model's own skill axes, label them, try them, and export the SFT data.

Names load on first use: importing the package alone brings in neither torch nor transformers.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .activations.collect import collect
    from .activations.distributed import RayEngine
    from .activations.gradients import gradients
    from .activations.moments import Moments
    from .activations.rows import Activations
    from .activations.sketch import gradient_sketch
    from .activations.statistics import collect_moments
    from .axes.examples import matched_pairs, poles, quantiles
    from .axes.regions import within_polygon, within_range
    from .bases.active_subspace import ActiveSubspaceBasis, gradient_share
    from .bases.basis import load_basis
    from .bases.layers import compare_layers
    from .bases.orthogonalize import orthogonalize
    from .bases.pca import PCABasis
    from .bases.random import RandomBasis
    from .bases.sae import SAEBasis
    from .bases.sparse_autoencoder import SparseAutoencoder
    from .comparison import compare, compare_examples
    from .corpus import Corpus, Example, load_corpus
    from .corpus.adversarial import adversarial_corpus
    from .errors import InputError
    from .evaluation.pass_at_k import pass_at_k
    from .evaluation.run import evaluate, graded, probe_errors
    from .evaluation.samples import read_samples
    from .evaluation.tables import paired_difference
    from .exporting.export import export
    from .exporting.preflight import preflight
    from .generation import generate
    from .models import load_model
    from .selection.contamination import contamination
    from .selection.difference import difference
    from .selection.recipe import Selection
    from .selection.select import replay, select
    from .steering.proxy import proxy
    from .steering.response import dose_response
    from .steering.safe_band import safe_band
    from .steering.vector import SteeringVector
    from .steering.zero_token import zero_token_prompt
    from .study import Study
    from .training.sft import sft, training_log
    from .widgets.explorer import explore
    from .widgets.report import write_report

__version__ = importlib.metadata.version("mnskills_viz")

_HOMES = {
    "Activations": "activations.rows",
    "ActiveSubspaceBasis": "bases.active_subspace",
    "Corpus": "corpus",
    "Example": "corpus",
    "InputError": "errors",
    "Moments": "activations.moments",
    "PCABasis": "bases.pca",
    "RandomBasis": "bases.random",
    "RayEngine": "activations.distributed",
    "SAEBasis": "bases.sae",
    "Selection": "selection.recipe",
    "SparseAutoencoder": "bases.sparse_autoencoder",
    "SteeringVector": "steering.vector",
    "Study": "study",
    "adversarial_corpus": "corpus.adversarial",
    "collect": "activations.collect",
    "collect_moments": "activations.statistics",
    "compare": "comparison",
    "compare_examples": "comparison",
    "compare_layers": "bases.layers",
    "contamination": "selection.contamination",
    "difference": "selection.difference",
    "dose_response": "steering.response",
    "evaluate": "evaluation.run",
    "explore": "widgets.explorer",
    "export": "exporting.export",
    "generate": "generation",
    "graded": "evaluation.run",
    "gradient_share": "bases.active_subspace",
    "gradient_sketch": "activations.sketch",
    "gradients": "activations.gradients",
    "load_basis": "bases.basis",
    "load_corpus": "corpus",
    "load_model": "models",
    "matched_pairs": "axes.examples",
    "orthogonalize": "bases.orthogonalize",
    "paired_difference": "evaluation.tables",
    "pass_at_k": "evaluation.pass_at_k",
    "poles": "axes.examples",
    "preflight": "exporting.preflight",
    "probe_errors": "evaluation.run",
    "proxy": "steering.proxy",
    "quantiles": "axes.examples",
    "read_samples": "evaluation.samples",
    "replay": "selection.select",
    "safe_band": "steering.safe_band",
    "select": "selection.select",
    "sft": "training.sft",
    "training_log": "training.sft",
    "within_polygon": "axes.regions",
    "within_range": "axes.regions",
    "write_report": "widgets.report",
    "zero_token_prompt": "steering.zero_token",
}

__all__ = [
    "Activations",
    "ActiveSubspaceBasis",
    "Corpus",
    "Example",
    "InputError",
    "Moments",
    "PCABasis",
    "RandomBasis",
    "RayEngine",
    "SAEBasis",
    "Selection",
    "SparseAutoencoder",
    "SteeringVector",
    "Study",
    "adversarial_corpus",
    "collect",
    "collect_moments",
    "compare",
    "compare_examples",
    "compare_layers",
    "contamination",
    "difference",
    "dose_response",
    "evaluate",
    "explore",
    "export",
    "generate",
    "graded",
    "gradient_share",
    "gradient_sketch",
    "gradients",
    "load_basis",
    "load_corpus",
    "load_model",
    "matched_pairs",
    "orthogonalize",
    "paired_difference",
    "pass_at_k",
    "poles",
    "preflight",
    "probe_errors",
    "proxy",
    "quantiles",
    "read_samples",
    "replay",
    "safe_band",
    "select",
    "sft",
    "training_log",
    "within_polygon",
    "within_range",
    "write_report",
    "zero_token_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
