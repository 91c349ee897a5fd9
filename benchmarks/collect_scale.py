"""A hundred thousand rows: collected, killed and resumed, read back; memory, and time to read.

A random model of two layers as wide as SmolLM2-135M (576) with next to no weights, its tokenizer,
short rows. Peak memory
is that of a process of its own, above what it takes with model and corpus loaded.

    python benchmarks/collect_scale.py [ROWS]
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import mnskills_viz as mn
from mnskills_viz.embedded import dequantised, embedded_gguf

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
RUNS = 5


def save_model(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(dequantised(embedded_gguf()))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=576,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        head_dim=16,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def corpus_of(n_rows: int) -> mn.Corpus:
    return mn.load_corpus(
        [
            {"id": f"{i:06d}", "prompt": f"What is {i} plus {i % 97}?", "response": f"{i + i % 97}"}
            for i in range(n_rows)
        ]
    )


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def collect(model: Path, store: Path, n_rows: int, budget: int) -> None:
    """In a process of its own: what was taken, above model and corpus."""
    loaded = mn.load_model(str(model), dtype="float32")
    corpus = corpus_of(n_rows)
    mn.collect(loaded, corpus[:8], progress=False)  # what is loaded on first use
    before = peak_megabytes()
    begun = time.perf_counter()
    acts = mn.collect(loaded, corpus, store=store, token_budget=budget, progress=False)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak": peak_megabytes() - before, "rows": len(acts)}))


def in_a_process(*arguments: object, kill_after: float | None = None) -> dict[str, float]:
    command = [sys.executable, __file__, str(ROWS), "--collect", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return {}
    return json.loads(process.communicate()[0].splitlines()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_model(folder / "model")
        for n_rows, budget in ((ROWS // 10, 4096), (ROWS, 4096), (ROWS // 10, 16384)):
            store = folder / f"{n_rows}-{budget}.lance"
            found = in_a_process(folder / "model", store, n_rows, budget)
            print(
                f"{n_rows:8,} rows, budget {budget:6,}: {found['seconds']:6.1f} s, "
                f"peak {found['peak']:6.0f} MB above model and corpus"
            )
        whole = mn.Activations.open(folder / f"{ROWS}-4096.lance")

        killed = folder / "killed.lance"
        in_a_process(folder / "model", killed, ROWS, 4096, kill_after=30 + ROWS / 4000)
        there = len(mn.Activations.open(killed))
        found = in_a_process(folder / "model", killed, ROWS, 4096)
        again = mn.Activations.open(killed)
        same = again.ids == whole.ids and all(
            np.array_equal(again.matrix(layer), whole.matrix(layer)) for layer in whole.layers
        )
        print(f"killed with {there:,} rows, resumed in {found['seconds']:.1f} s; same: {same}")

        times = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            shape = mn.Activations.open(killed).matrix(1).shape
            times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        opened = mn.Activations.open(killed)
        print(f"opened in {time.perf_counter() - begun:.3f} s")
        alone = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            opened.matrix(1)
            alone.append(time.perf_counter() - begun)
        print(
            f"one layer {shape} read in {statistics.median(alone):.3f} s, "
            f"with opening {statistics.median(times):.3f} s (medians of {RUNS})"
        )


if __name__ == "__main__":
    if "--collect" in sys.argv:
        model, store, n_rows, budget = sys.argv[sys.argv.index("--collect") + 1 :]
        collect(Path(model), Path(store), int(n_rows), int(budget))
    else:
        main()
