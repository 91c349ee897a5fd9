"""Drive a model over a corpus and say where it errs."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..activations.collect import collect
from ..corpus import Corpus
from ..errors import InputError
from ..selection.weakness import reference_errors

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def probe_errors(
    model: "TransformersModel",
    corpus: Corpus,
    method: Literal["logprob"] = "logprob",
    baseline: ArrayLike | None = None,
    progress: bool = True,
) -> NDArray[np.float32]:
    """Say how wrong the model is on each example.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples with responses.
    method : {"logprob"}
        Loss of the reference response, placed in a distribution of losses.
    baseline : array_like, optional
        Losses of the frozen model that the errors are measured against; default those of this
        model on this corpus, whose mean error is then 0.5.
    progress : bool

    Returns
    -------
    ndarray of float32, [n]
        From 0, as sure as of the best, to 1.

    Raises
    ------
    InputError
        Unknown method, or examples without response.
    """
    if method != "logprob":
        raise InputError(f'method must be "logprob", not {method!r}')
    without = [e.id for e in corpus if not e.response]
    if without:
        raise InputError(
            f"{len(without)} of {len(corpus)} examples have no response to score: "
            f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}"
        )
    rows = collect(model, corpus, layers=[0], errors=True, progress=progress)
    return reference_errors(-rows.logprobs.astype(np.float64), baseline).astype(np.float32)
