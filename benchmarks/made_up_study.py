"""A made-up study, whole but for the model that reads: short texts of twelve categories.

They are collected into the real store by an engine that draws rows with structure, and losses,
instead of running a model (576 wide, as SmolLM2-135M), prompts too; PCA, quality and the proxy are
those of any study. What follows reads and shows it as it would any other.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import mnskills_viz as mn
from mnskills_viz.activations.collector import Job, _as_table
from mnskills_viz.activations.reading import prepare
from mnskills_viz.activations.trace import Pooled
from mnskills_viz.study.rows import without_responses

LAYER, BASIS = 1, "pca-1"
WIDTH = 576
CATEGORIES = 12


def make_study(folder: Path, n_rows: int, n_axes: int) -> None:
    """A study with everything in it that slows an explorer down."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = folder.with_name(f"{folder.name}-model")
    save_model(model)
    corpus = mn.load_corpus(texts(n_rows))
    study = mn.Study.create(folder, model=str(model), corpus=corpus, dtype="float32", device="cpu")
    began = time.perf_counter()

    def tell(what: str) -> None:
        print(f"made {what} at {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

    study.collect(layers=[LAYER], engine=Drawn(0), progress=False)
    mn.collect(
        study.model,
        without_responses(study.corpus),
        layers=[LAYER],
        tokens="prompt",
        engine=Drawn(1),
        store=study.path / "prompts.lance",
        progress=False,
    )
    tell("rows")
    study.fit("pca", layer=LAYER, n_axes=n_axes)
    study.proxy(BASIS, progress=False)
    tell("utility")
    study.quality(BASIS)
    tell("quality")


def save_model(folder: Path) -> None:
    """Two random blocks, as wide as SmolLM2-135M, with its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from mnskills_viz.embedded import dequantised, embedded_gguf

    tokenizer = AutoTokenizer.from_pretrained(dequantised(embedded_gguf()))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        head_dim=16,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def texts(n_rows: int) -> list[dict[str, str]]:
    """Short questions; a category has words of its own."""
    generator = np.random.default_rng(0)
    own = [[f"{syllable}{c}" for syllable in SYLLABLES] for c in range(CATEGORIES)]
    categories = generator.integers(CATEGORIES, size=n_rows)
    words = generator.integers(len(SYLLABLES), size=(n_rows, 9))
    numbers = generator.integers(1000, size=(n_rows, 2))
    lengths = generator.integers(3, 9, size=n_rows)
    return [
        {
            "id": f"{row:06d}",
            "prompt": f"How many {' '.join(own[c][w] for w in words[row, : lengths[row]])} are in "
            f"{numbers[row, 0]} and {numbers[row, 1]} of row {row}?",
            "response": f"There are {numbers[row].sum()} {own[c][words[row, 0]]} in row {row}.",
            "category": f"category {c}",
        }
        for row, c in enumerate(categories)
    ]


SYLLABLES = ("ka", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu", "we", "xo", "zi")


class Drawn:
    """An engine that draws rows instead of running the model: groups, heavy tails, and noise.

    Parameters
    ----------
    seed : int
        Of the noise; groups and factors are those of every other.
    """

    def __init__(self, seed: int) -> None:
        fixed = np.random.default_rng(1)
        self._of_category = 2.0 * fixed.standard_normal((CATEGORIES, WIDTH)).astype(np.float32)
        spread = 4.0 * 0.97 ** np.arange(96)
        self._factors = (spread[:, None] * fixed.standard_normal((96, WIDTH)) / 24).astype("f4")
        self._generator = np.random.default_rng(seed + 2)

    def read(
        self, model: Any, job: Job, corpus: mn.Corpus, batches: Sequence[Sequence[int]]
    ) -> Iterator[pa.Table]:
        """Tokens of the real tokenizer; activations and losses drawn."""
        for batch in batches:
            examples = corpus.take(batch)
            ready = prepare(model.tokenizer, examples, job.reading)
            means, logprobs = self._draw([int(e.category.split()[1]) for e in examples])
            pooled = Pooled(
                means=means[None],
                sinks=[[[] for _ in batch]],
                logprobs=logprobs if job.columns.logprob else None,
            )
            yield _as_table(examples, batch, ready, pooled, job.columns)

    def _draw(self, categories: list[int]) -> tuple[Any, Any]:
        n, draw = len(categories), self._generator
        factors = draw.standard_t(6, size=(n, len(self._factors))).astype(np.float32)
        noise = 0.3 * draw.standard_normal((n, WIDTH)).astype(np.float32)
        means = self._of_category[categories] + factors @ self._factors + noise
        losses = 0.4 + 0.3 * np.abs(factors[:, 2]) + 0.1 * draw.random(n)
        return means, -losses.astype(np.float32)
