"""Token heat: what each token of a text adds to its coordinates.

With `w_t` the share of token `t` in the row (one over the number of counted tokens for a mean, all
or nothing for the last token), the coordinate on an axis `a` is a sum over tokens:

    (sum_t w_t h_t - mean) . a  =  sum_t w_t (h_t - mean) . a        since the shares sum to 1

and the heat of token `t` is its term. For concatenated layers a token has a term a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..activations.passes import chosen_layers
from ..activations.reading import SECONDS_UNTIL_A_BAR, Prepared, Reading, lengths, prepare
from ..activations.tokens import Tokens
from ..activations.trace import (
    counted_at,
    is_out_of_memory,
    plan_batches,
    residual,
    side_by_side,
)
from ..bases.basis import Basis
from ..corpus import Corpus, Example
from ..errors import InputError
from ..models import blocks, d_model, differs, exclusive, longest_shared, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

NEEDED = {"model": dict, "options": dict, "layers": list, "scales": list}
"""What heat takes from a basis's source; `Activations.source` says all of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """What each token of a text adds to its coordinates on a basis.

    Attributes
    ----------
    tokens : list of str, [n_tokens]
        As they stand in the text: joined, they are the text that the model read. A character
        that is cut over several tokens stands whole at the first of them, and the others are
        empty; so is a token that the tokenizer adds and the text has not.
    roles : ndarray of uint8, [n_tokens]
        A `Role` each: template, prompt or response.
    counted : ndarray of bool, [n_tokens]
        Which tokens are in the row; for ``"concat"`` at any layer.
    contributions : ndarray of float32, [n_tokens, n_axes]
        In units of the coordinate; 0 where a token does not count.
    running : ndarray of float32, [n_tokens, n_axes]
        Coordinates of the text up to each token, the last being those of the text. For a mean:
        of the counted tokens so far, NaN until there is one (at every layer). For the last token:
        each token's own, up to the one that counts.
    is_whole : bool
        Whether these are all tokens of the text; if not, the rest was cut and is not in the row.
    """

    tokens: list[str]
    roles: NDArray[np.uint8]
    counted: NDArray[np.bool_]
    contributions: NDArray[np.float32]
    running: NDArray[np.float32]
    is_whole: bool = True

    @property
    def coordinates(self) -> NDArray[np.float32]:
        """Sum of the contributions, [n_axes]: what `basis.transform` says of the text's row."""
        total: NDArray[np.float64] = self.contributions.sum(axis=0, dtype=np.float64)
        return total.astype(np.float32)


def token_heat(
    model: "TransformersModel",
    examples: Sequence[Example],
    basis: Basis,
    token_budget: int = 2048,
    progress: bool = False,
) -> list[Heat]:
    """Say what each token of some texts adds to their coordinates, on all axes at once.

    The texts are read as the rows of the basis were: same layers, pooling, counted tokens and
    limit of length. Tokens are projected inside the trace, one a batch.

    Parameters
    ----------
    model : TransformersModel
        The one that the basis was made for.
    examples : Corpus or sequence of Example
    basis : Basis
        Fitted with the `source` of its activations.
    token_budget : int
        Most tokens in a batch, padding included.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Heat
        One an example, in their order.

    Raises
    ------
    InputError
        A basis that does not say what its rows were or was made for another model, examples that
        are none, are too long or have no counted token, activations that are not finite, or a
        batch that does not fit into memory.
    """
    corpus = _as_corpus(examples)
    if token_budget < 1:
        raise InputError(f"token_budget must be at least 1, not {token_budget}")
    source = _source_of(basis)
    _require_same_model(model, source["model"])
    reading = _reading(source)
    slices = _slices(model, basis, source)
    sizes = lengths(model.tokenizer, corpus, reading, progress=progress)
    heats: dict[int, Heat] = {}
    bar = tqdm(
        total=int(sizes.sum()),
        desc="heat",
        unit="tok",
        unit_scale=True,
        disable=not progress,
        delay=SECONDS_UNTIL_A_BAR,
    )
    with bar:
        for batch in plan_batches(sizes.tolist(), token_budget, longest_shared(model)):
            part = corpus.take(batch)
            ready = prepare(model.tokenizer, part, reading)
            heats |= zip(batch, _heats(model, part, ready, slices, reading), strict=True)
            bar.update(int(sizes[batch].sum()))
    return [heats[index] for index in range(len(corpus))]


# ----------------------------------------------------------------------------------- what is given


def _as_corpus(examples: Sequence[Example]) -> Corpus:
    if isinstance(examples, Corpus):
        return examples
    is_list = isinstance(examples, list | tuple)
    strange = [e for e in examples if not isinstance(e, Example)] if is_list else [examples]
    if strange:
        raise InputError(
            "heat takes a corpus, or a list of its examples, and found "
            f"a {type(strange[0]).__name__}; load_corpus makes a corpus of texts"
        )
    return Corpus(examples, "heat")


def _source_of(basis: Basis) -> dict[str, Any]:
    """What made the rows that a basis was fitted on, if it says."""
    known = getattr(basis, "source_", None)
    source: dict[str, Any] = known if isinstance(known, dict) else {}
    if not all(isinstance(source.get(name), kind) for name, kind in NEEDED.items()):
        raise InputError(
            "the basis does not say which model, layer and tokens its rows came from; fit it with "
            "source=acts.source(layer)"
        )
    return source


def _require_same_model(model: "TransformersModel", made_for: dict[str, Any]) -> None:
    with exclusive(model):
        found = differs(model, made_for)
    if found is not None:
        raise InputError(
            f"the basis was made for another model: {found}; load {made_for.get('name')!r}, or "
            "collect and fit with this model"
        )


def _reading(source: dict[str, Any]) -> Reading:
    """How the rows of a basis were read."""
    try:
        return Reading(**source["options"])
    except TypeError as error:
        raise InputError(
            f"the basis's source has other options than this version knows ({error}); collect and "
            "fit again"
        ) from error


class _Slice(NamedTuple):
    """A basis as one layer sees it.

    Attributes
    ----------
    layer : int
    scale : float
        What the layer's activations are divided by.
    mean : Tensor of float32, [d_model]
    axes : Tensor of float32, [d_model, n_axes]
    """

    layer: int
    scale: float
    mean: "torch.Tensor"
    axes: "torch.Tensor"


def _slices(model: "TransformersModel", basis: Basis, source: dict[str, Any]) -> list[_Slice]:
    """A slice a layer, in forward order."""
    import torch

    layers, width = chosen_layers(model, source["layers"]), d_model(model)
    if basis.n_features_in_ != len(layers) * width:
        raise InputError(
            f"the basis has width {basis.n_features_in_}, but its source says {len(layers)} x "
            f"{width}; fit it on acts.matrix(layer) with source=acts.source(layer)"
        )
    device = torch_module(model).device
    means = torch.tensor(basis.mean_, dtype=torch.float32, device=device)
    axes = torch.tensor(basis.components_.T, dtype=torch.float32, device=device)
    by_layer = (one.reshape(len(layers), width, -1) for one in (means, axes))
    parts = zip(layers, source["scales"], *by_layer, strict=True)
    return [_Slice(layer, scale, mean[:, 0], axes) for layer, scale, mean, axes in parts]


# ------------------------------------------------------------------------------------- the reading


def _heats(
    model: "TransformersModel",
    examples: Sequence[Example],
    ready: Prepared,
    slices: Sequence[_Slice],
    reading: Reading,
) -> list[Heat]:
    """Heat of one batch."""
    try:
        counted, *sums = _projected(model, ready, slices, reading)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = len(ready.rows) * max(map(len, ready.rows))
        raise InputError(
            f"a batch of {size:,} tokens with example {examples[0].id} does not fit into memory; "
            "pass a smaller token_budget, or leave out long examples"
        ) from error
    heats = []
    for index, (example, row) in enumerate(zip(examples, ready.rows, strict=True)):
        kept, contributions, running = (x[index, : len(row)] for x in (counted, *sums))
        if not np.isfinite(contributions).all():
            raise InputError(
                f"example {example.id}: the model's activations are not finite "
                "(NaN or infinite weights, or a dtype too narrow); try dtype='float32'"
            )
        whole = len(row) == ready.whole_lengths[index]
        texts = token_texts(row, whole)
        heats.append(Heat(texts, row.roles, kept, contributions, running, whole))
    return heats


def _projected(
    model: "TransformersModel", ready: Prepared, slices: Sequence[_Slice], reading: Reading
) -> list[NDArray[Any]]:
    """Which tokens count [b, t], contributions and running coordinates [b, t, k] of a batch."""
    import nnsight
    import torch

    ids, counts, real = side_by_side(ready.rows, ready.masks, torch_module(model).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    envoys, width = blocks(model), d_model(model)
    with (
        exclusive(model),
        torch.inference_mode(),
        model.trace(inputs, use_cache=False) as tracer,
    ):
        sums = nnsight.save([])
        for part in slices:
            hidden = residual(envoys[part.layer].output, ids, width).float()
            kept = counted_at(hidden, counts, real, reading.excludes_norms)
            own = (hidden / part.scale - part.mean) @ part.axes
            terms = [kept, *_shared_out(own, kept, reading)]
            sums[:] = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
        tracer.stop()
    return [one.cpu().numpy() for one in sums]


def _shared_out(
    own: "torch.Tensor", kept: "torch.Tensor", reading: Reading
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Contributions and running coordinates [b, t, k], from tokens' own [b, t, k]."""
    import torch

    terms = own.masked_fill(~kept[..., None], 0.0)
    if reading.pooling == "mean":
        n_so_far = kept.cumsum(dim=1)[..., None]
        return terms / n_so_far[:, -1:], terms.cumsum(dim=1) / n_so_far
    place = kept.int().argmax(dim=1, keepdim=True)  # of the one that counts
    upto = torch.arange(kept.shape[1], device=kept.device).minimum(place)
    return terms, own.gather(1, upto[..., None].expand_as(own))


# --------------------------------------------------------------------------------- tokens as text


def token_texts(row: Tokens, whole: bool = True) -> list[str]:
    """The text of a row, cut where its tokens end.

    Tokens overlap where a character is cut over several, and leave out what a tokenizer strips:
    every character goes to the first token that ends behind it.

    Parameters
    ----------
    row : Tokens
    whole : bool
        Whether the row holds all tokens of its text, so that what is behind the last belongs to it.

    Returns
    -------
    list of str, [n_tokens]
    """
    ends = np.maximum.accumulate(row.offsets[:, 1])
    if whole and len(ends):
        ends[-1] = len(row.text)
    starts = [0, *ends[:-1].tolist()]
    return [row.text[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
