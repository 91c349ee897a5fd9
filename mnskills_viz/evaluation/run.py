"""Drive a model over a corpus and say where it errs."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..activations.collect import collect
from ..activations.store import held
from ..corpus import Corpus, Example, Prompt
from ..errors import InputError
from ..generation import (
    Steering,
    complete,
    encode,
    progress_bar,
    require_numbers,
    steered,
)
from ..models import identity, torch_module
from ..selection.weakness import reference_errors
from .grading import passes
from .samples import FORMAT, Kept
from .tables import Groups, scores, several
from .verifiers import Verifier, require_verifier, verifier_of, versions_of

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

SAMPLES_A_PART = 512
"""Samples that are decoded together in one queue. Where rounding depends on the batch (bfloat16), a
part that was stopped is decoded again as a whole, so that it comes out the same."""


def evaluate(
    model: "TransformersModel | None",
    corpus: Corpus,
    k: int | Iterable[int] = (1, 8),
    n: int = 8,
    temperature: float = 0.8,
    verifier: Verifier = "auto",
    seed: int = 0,
    max_new_tokens: int = 256,
    groups: Groups | None = None,
    steering: Steering | contextlib.AbstractContextManager[Any] | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Sample answers and judge them: pass@k, and how likely the references are.

    Parameters
    ----------
    model : TransformersModel or None
        None for a `store` that is finished.
    corpus : Corpus
        With answers, unless `verifier` does without.
    k : int or iterable of int
        For pass@k (unbiased, Chen et al. 2021); at most `n`.
    n : int
        Samples of each prompt.
    temperature : float
        0 is greedy: `n` equal samples.
    verifier : str or callable
        As `verify` takes it.
    seed : int
        Of the samples and of the bootstrap.
    max_new_tokens : int
    groups : mapping of str to ids, optional
        Further lines of the table, such as the examples on each pole of an axis.
    steering : SteeringVector or context manager, optional
        The model is measured inside it.
    store : path, optional
        A folder: completions are kept as they come, and a second call goes on where the first was
        stopped. What verifiers, k and groups ask can differ from call to call: what each named
        verifier says is kept beside what the others say, what a function says is not kept.
    progress : bool

    Returns
    -------
    DataFrame
        ``group`` (``"all"``, each category, each of `groups`), ``metric`` (``"pass@1"``, ...,
        ``"logprob"``: mean log-probability of the references in nats per response token, over
        the examples that have one), ``value``, ``low``, ``high`` (95 %, bootstrap over problems),
        ``n`` (problems). ``attrs`` says which model, corpus, options and verifier.

    Raises
    ------
    InputError
        Examples without answer, k above n, an unknown verifier, packages that are missing, a
        store of something else, or one that cannot be written.
    """
    k = require_k(k, n)
    samples = graded(
        model,
        corpus,
        n=n,
        temperature=temperature,
        verifier=verifier,
        seed=seed,
        max_new_tokens=max_new_tokens,
        steering=steering,
        store=store,
        progress=progress,
    )
    return scores(samples, k, groups, seed)


def require_k(k: int | Iterable[int], n: int) -> list[int]:
    """The values of k for pass@k from `n` samples, each once, ascending.

    Raises
    ------
    InputError
        A value that is not a whole number from 1 to `n`.
    """
    found = several(k)
    if found and not 1 <= found[0] <= found[-1] <= n:
        raise InputError(f"k must lie between 1 and n = {n}, not {found}; draw more samples")
    return found


def graded(
    model: "TransformersModel | None",
    corpus: Corpus,
    *,
    n: int = 8,
    temperature: float = 0.8,
    verifier: Verifier = "auto",
    seed: int = 0,
    max_new_tokens: int = 256,
    steering: Steering | contextlib.AbstractContextManager[Any] | None = None,
    logprobs: bool = True,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Sample answers and judge them, example by example: what `evaluate` sums up.

    Parameters
    ----------
    logprobs : bool
        Whether to score the references, too.
    **others
        As in `evaluate`.

    Returns
    -------
    DataFrame
        As `read_samples` gives it: ``id category n c logprob``.
    """
    require_numbers(max_new_tokens, temperature, seed, n)
    if not len(corpus) or len(set(corpus.ids)) < len(corpus):
        raise InputError("evaluate: the corpus is empty, or has an id twice")
    require_verifier(verifier, corpus)
    header = {
        "format": FORMAT,
        "model": None if model is None else identity(model).as_dict(),
        "corpus": {"hash": corpus.hash, "rows": len(corpus)},
        "options": {
            "n": n,
            "temperature": float(temperature),
            "seed": seed,
            "max_new_tokens": max_new_tokens,
            "steering": _fingerprint(steering, store),
        },
        "examples": [[example.id, example.category] for example in corpus],
    }
    path = None if store is None else Path(store)
    kept = Kept(header, path)
    if not kept.is_whole or (logprobs and kept.logprobs is None):
        if model is None:
            raise InputError(
                "evaluate: no model was given, and there is no finished evaluation"
                + ("" if path is None else f" in {path}")
            )
        prompts = [_prompt(model, example) for example in corpus]
        encode(model, prompts, max_new_tokens)  # says what does not fit before a file is made
        with contextlib.nullcontext() if path is None else held(path):
            kept = Kept(header, path)  # as another process may have left it by now
            with steered(model, steering), kept:
                _sample(model, corpus, prompts, kept, progress)
                if logprobs and kept.logprobs is None:
                    kept.add_logprobs(_logprobs(model, corpus, progress))
    passed = _judged(kept, corpus, verifier, progress)
    table = kept.table(passed)
    table.attrs["verifier"] = _name(verifier)
    return table


def _sample(
    model: "TransformersModel",
    corpus: Corpus,
    prompts: Sequence[Prompt],
    kept: Kept,
    progress: bool,
) -> None:
    """Generate what is missing, part by part."""
    options = kept.header["options"]
    greedy = options["temperature"] == 0
    samples = range(1 if greedy else options["n"])
    exact = torch_module(model).dtype.itemsize >= 4

    def copies(sample: int) -> Sequence[int]:
        return range(options["n"]) if greedy else (sample,)

    queues = []
    for part in _parts(corpus, len(samples)):
        whole = [(i, sample) for i in part for sample in samples]
        missing = [
            (i, sample)
            for i, sample in whole
            if any((corpus[i].id, copy) not in kept.texts for copy in copies(sample))
        ]
        if missing:
            queues.append(missing if exact else whole)

    def keep(prompt: int, sample: int, text: str) -> None:
        for copy in copies(sample):
            kept.add(corpus[prompt].id, copy, text)

    total, todo = len(corpus) * len(samples), sum(map(len, queues))
    with progress_bar(total, progress, total - todo) as bar:
        for queue in queues:
            complete(
                model,
                prompts,
                queue,
                keep,
                options["max_new_tokens"],
                options["temperature"],
                options["seed"],
                bar,
            )
            kept.flush()


def _parts(corpus: Corpus, samples: int) -> Iterator[list[int]]:
    """Numbers of examples, prompts of like length together; the same for every run."""
    order = sorted(range(len(corpus)), key=lambda i: (len(corpus[i].prompt_text), i))
    size = max(1, SAMPLES_A_PART // samples)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _prompt(model: "TransformersModel", example: Example) -> Prompt:
    """As `collect` reads it: through the chat template, if the model has one."""
    return f"{example.prompt_text}\n" if model.tokenizer.chat_template is None else example.messages


def _logprobs(model: "TransformersModel", corpus: Corpus, progress: bool) -> dict[str, float]:
    answered = corpus.take(i for i, example in enumerate(corpus) if example.response)
    if not len(answered):
        return {}
    rows = collect(model, answered, layers=[0], errors=True, progress=progress)
    return dict(zip(answered.ids, rows.logprobs.astype(np.float64).tolist(), strict=True))


def _judged(
    kept: Kept, corpus: Corpus, verifier: Verifier, progress: bool
) -> dict[tuple[str, int], bool]:
    """Which completions pass; remembered in the store, but for verifiers of the user's own."""
    if not isinstance(verifier, str):
        return _judge(kept, corpus, verifier, progress)
    versions = versions_of({verifier_of(e) for e in corpus} if verifier == "auto" else {verifier})
    found = kept.graded_by(verifier, versions)
    if found is None:
        found = _judge(kept, corpus, verifier, progress)
        kept.add_grades(verifier, versions, found)
    return found


def _judge(
    kept: Kept, corpus: Corpus, verifier: Verifier, progress: bool
) -> dict[tuple[str, int], bool]:
    from tqdm.auto import tqdm

    examples = {example.id: example for example in corpus}
    texts = [(examples[example], text) for (example, _), text in kept.texts.items()]
    judged = passes(
        verifier, texts, lambda todo: tqdm(todo, desc="verify", unit="text", disable=not progress)
    )
    return dict(zip(kept.texts, judged, strict=True))


def _name(verifier: Verifier) -> str:
    if isinstance(verifier, str):
        return verifier
    return f"function {getattr(verifier, '__qualname__', type(verifier).__name__)}"


def _fingerprint(steering: Any, store: str | Path | None) -> str | None:
    """What tells one steering vector from another; None without any."""
    if steering is None:
        return None
    fingerprint = getattr(steering, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint)
    if store is not None:
        raise InputError(
            "evaluate: a store must know what the model was steered by; pass a SteeringVector"
        )
    return "a context manager"


def probe_errors(
    model: "TransformersModel",
    corpus: Corpus,
    method: Literal["logprob", "verifier"] = "logprob",
    baseline: ArrayLike | None = None,
    progress: bool = True,
    *,
    n: int = 4,
    temperature: float = 0.8,
    verifier: Verifier = "auto",
    seed: int = 0,
    max_new_tokens: int = 256,
    store: str | Path | None = None,
) -> NDArray[np.float32]:
    """Say how wrong the model is on each example.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples with responses for ``"logprob"``, with answers for ``"verifier"``.
    method : {"logprob", "verifier"}
        Loss of the reference response, placed in a distribution of losses; or 1 - the share of
        sampled answers that pass. If that is the same for all examples it tells nothing apart: a
        warning says so, and the loss is used.
    baseline : array_like, optional
        Losses of the frozen model that the errors are measured against; default those of this
        model on this corpus, whose mean error is then 0.5. For ``"logprob"``.
    progress : bool
    n, temperature, verifier, seed, max_new_tokens, store
        How answers are sampled, judged and kept for ``"verifier"``, as in `evaluate`.

    Returns
    -------
    ndarray of float32, [n]
        From 0, as sure as of the best, or right each time, to 1.

    Raises
    ------
    InputError
        Unknown method, or examples without response or answer.
    """
    if method == "verifier":
        samples = graded(
            model,
            corpus,
            n=n,
            temperature=temperature,
            verifier=verifier,
            seed=seed,
            max_new_tokens=max_new_tokens,
            logprobs=False,
            store=store,
            progress=progress,
        )
        errors = np.asarray(1 - samples["c"].to_numpy() / n, dtype=np.float32)
        if errors.min() < errors.max():
            return errors
        warnings.warn(
            f"the model's errors have no variance: all are {errors[0]:g}, {n} samples of each of "
            f"{len(corpus)} examples; errors are taken from log-probability instead",
            stacklevel=2,
        )
    elif method != "logprob":
        raise InputError(f'method must be "logprob" or "verifier", not {method!r}')
    without = [e.id for e in corpus if not e.response]
    if without:
        raise InputError(
            f"{len(without)} of {len(corpus)} examples have no response to score: "
            f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}"
        )
    rows = collect(model, corpus, layers=[0], errors=True, progress=progress)
    return reference_errors(-rows.logprobs.astype(np.float64), baseline).astype(np.float32)
