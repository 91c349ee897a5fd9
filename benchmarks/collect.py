"""Tokens per second of collecting, against what it cannot beat and what others do.

On the same examples, in turn, medians of `RUNS`:

- bare: the forward pass of the decoder on the same batches, nothing kept;
- ours: `mnskills_viz.collect`, all layers pooled;
- hidden states: transformers' ``output_hidden_states`` in order of arrival, pooled afterwards.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.activations.trace import padded, plan_batches

RUNS, EXAMPLES, BUDGET = 5, int(sys.argv[1]) if len(sys.argv) > 1 else 96, 4096


def main() -> None:
    model = mn.load_model("embedded")
    corpus = mn.load_corpus("demo", limit=EXAMPLES)
    rows = tokenize(model.tokenizer, list(corpus))
    n_tokens = sum(map(len, rows))
    plan = plan_batches([len(r) for r in rows], BUDGET)
    arrival = [list(range(i, min(i + 32, len(rows)))) for i in range(0, len(rows), 32)]
    decoder = model._module.model

    def batch_of(indices: list[int]) -> dict[str, torch.Tensor]:
        ids = torch.tensor(padded([rows[i].ids for i in indices]), dtype=torch.long)
        real = torch.tensor(padded([rows[i].ids * 0 + 1 for i in indices]), dtype=torch.long)
        return {"input_ids": ids, "attention_mask": real}

    def bare() -> None:
        for indices in plan:
            decoder(**batch_of(indices), use_cache=False)

    def hidden_states() -> None:
        for indices in arrival:
            batch = batch_of(indices)
            out = decoder(**batch, use_cache=False, output_hidden_states=True)
            weights = batch["attention_mask"][..., None].float()
            for hidden in out.hidden_states[1:]:
                (hidden.float() * weights).sum(1) / weights.sum(1)

    def ours() -> None:
        mn.collect(model, corpus, token_budget=BUDGET, progress=False)

    ways: dict[str, Callable[[], None]] = {
        "bare forward": bare,
        "mnskills_viz": ours,
        "output_hidden_states": hidden_states,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for run in range(RUNS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if run:  # the first is for warming up
                    times[name].append(time.perf_counter() - start)
    base = statistics.median(times["bare forward"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:22} {n_tokens / median:8.0f} tokens/s  {base / median:5.2f} of bare")


if __name__ == "__main__":
    main()
