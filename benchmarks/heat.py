"""Seconds of token heat, against the forward pass that it cannot do without.

Texts of the demo corpus, joined and cut to the same number of tokens; heat on all axes of a PCA
basis at one layer. The two run in turn, medians of `--runs`:

- heat: `mnskills_viz.axes.heat.token_heat`, from text to contributions;
- bare: the forward pass of the decoder to that layer on the same batches, tokenized beforehand,
  nothing kept.

    python benchmarks/heat.py [--examples 20] [--tokens 200] [--axes 64] ...
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.activations.trace import padded, plan_batches
from mnskills_viz.axes.heat import token_heat
from mnskills_viz.corpus import Example

BUDGET = 2048  # tokens in a batch: what heat takes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200, help="in each example")
    parser.add_argument("--axes", type=int, default=64)
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--runs", type=int, default=5, help="after one to warm up")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", ".*rows were cut")  # they are meant to be
    model = mn.load_model("embedded", dtype=given.dtype)
    basis = fitted(model, given)
    texts = long_texts(model, given)
    print(
        f"{given.examples} examples of {given.tokens} tokens, {basis.n_axes_} axes at layer "
        f"{given.layer}; {torch.get_num_threads()} threads, {model._module.dtype}"
    )
    times = in_turn(
        {
            "heat": lambda: token_heat(model, texts, basis),
            "bare": bare_pass(model, texts, given),
        },
        given.runs,
    )
    for name, taken in times.items():
        print(
            f"  {name}  {statistics.median(taken):6.2f} s  ({min(taken):.2f} to {max(taken):.2f})"
        )
    print(f"  heat takes {statistics.median(times['heat']) / statistics.median(times['bare']):.2f}"
          " times the bare pass")  # fmt: skip


def fitted(model, given) -> mn.PCABasis:
    pool = mn.load_corpus("demo", limit=given.axes + 16)
    options = {"layers": [given.layer], "max_length": given.tokens, "truncate": True}
    acts = mn.collect(model, pool, progress=False, **options)
    basis = mn.PCABasis(given.axes)
    return basis.fit(acts.matrix(given.layer), source=acts.source(given.layer))


def long_texts(model, given) -> list[Example]:
    """Examples that are joined until they are long enough; they are cut where they are read."""
    rows = iter(mn.load_corpus("demo").split("probe"))
    made = []
    while len(made) < given.examples:
        prompt, response = next(rows).prompt, ""
        while True:
            response += next(rows).response + "\n"
            example = Example(str(len(made)), prompt, response)
            if len(tokenize(model.tokenizer, [example])[0]) >= given.tokens:
                break
        made.append(example)
    return made


def bare_pass(model, texts: Sequence[Example], given) -> Callable[[], object]:
    rows = [row.truncated(given.tokens) for row in tokenize(model.tokenizer, texts)]
    plan = plan_batches([len(row) for row in rows], BUDGET)
    decoder = model._module.model

    class Enough(Exception):  # noqa: N818
        pass

    def stop(*_: object) -> None:
        raise Enough

    def run() -> None:
        handle = decoder.layers[given.layer].register_forward_hook(stop)
        try:
            for batch in plan:
                ids = torch.tensor(padded([rows[i].ids for i in batch]), dtype=torch.long)
                ids = ids.to(model._module.device)
                try:
                    with torch.inference_mode():
                        decoder(ids, attention_mask=torch.ones_like(ids), use_cache=False)
                except Enough:
                    continue
        finally:
            handle.remove()

    return run


def in_turn(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if run:
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
