"""Tokens per second of collecting, against what it cannot beat and what others do.

On the same examples, in turn, medians of `RUNS`; texts are tokenized beforehand for all but ours.

- bare: the forward pass of the decoder on the same length-sorted batches, nothing kept;
- ours: `mnskills_viz.collect` into a store, all layers, and half of them;
- hidden states: transformers' ``output_hidden_states``, in order of arrival under the same budget
  of tokens, pooled afterwards;
- a trace a prompt: nnsight as its tutorials use it.

    python benchmarks/collect.py [EXAMPLES] [CORPUS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nnsight
import torch

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.activations.trace import padded, plan_batches

RUNS, BUDGET = 5, 4096
EXAMPLES = int(sys.argv[1]) if len(sys.argv) > 1 else 192
CORPUS = sys.argv[2] if len(sys.argv) > 2 else "demo"


def in_order_of_arrival(lengths: list[int]) -> list[list[int]]:
    plan: list[list[int]] = [[]]
    for index, length in enumerate(lengths):
        longest = max([length, *(lengths[i] for i in plan[-1])])
        if plan[-1] and (len(plan[-1]) + 1) * longest > BUDGET:
            plan.append([])
        plan[-1].append(index)
    return plan


def main() -> None:
    model = mn.load_model("embedded")
    corpus = mn.load_corpus(CORPUS, limit=EXAMPLES)
    rows = tokenize(model.tokenizer, corpus)
    lengths = [len(row) for row in rows]
    sorted_plan, arrival_plan = plan_batches(lengths, BUDGET), in_order_of_arrival(lengths)
    decoder = model._module.model
    n_layers = len(decoder.layers)
    folder = Path(tempfile.mkdtemp())

    def tensor(arrays: list) -> torch.Tensor:
        return torch.tensor(padded(arrays), dtype=torch.long)

    def bare() -> None:
        for batch in sorted_plan:
            ids = tensor([rows[i].ids for i in batch])
            decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    def ours(n_layers: int) -> None:
        store = Path(tempfile.mkdtemp(dir=folder)) / "a.lance"
        mn.collect(
            model,
            corpus,
            layers=range(n_layers),
            token_budget=BUDGET,
            store=store,
            progress=False,
        )

    def hidden_states() -> None:
        for batch in arrival_plan:
            mask = tensor([rows[i].ids * 0 + 1 for i in batch])
            out = decoder(
                input_ids=tensor([rows[i].ids for i in batch]),
                attention_mask=mask,
                use_cache=False,
                output_hidden_states=True,
            )
            weights = mask[..., None].float()
            for hidden in out.hidden_states[1:]:
                (hidden.float() * weights).sum(1) / weights.sum(1)

    def trace_a_prompt() -> None:
        for row in rows:
            with model.trace(row.text):
                means = nnsight.save([])
                for block in model.model.layers:
                    means.append(block.output.float().mean(dim=1))

    ways: dict[str, Callable[[], None]] = {
        "bare forward": bare,
        "ours, stored": lambda: ours(n_layers),
        "ours, half the layers": lambda: ours(n_layers // 2),
        "output_hidden_states": hidden_states,
        "a trace a prompt": trace_a_prompt,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for run in range(RUNS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if run:  # the first is for warming up
                    times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{len(rows)} examples of {CORPUS}, {sum(lengths):,} tokens, medians of {RUNS}")
    for name, seconds in medians.items():
        ratio, against = medians["bare forward"] / seconds, seconds / medians["ours, stored"]
        print(
            f"{name:24} {sum(lengths) / seconds:8.0f} tokens/s   {ratio:5.2f} of bare   "
            f"takes {against:5.2f} times ours"
        )


if __name__ == "__main__":
    main()
