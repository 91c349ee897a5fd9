"""What steering costs, what the proxy costs, and who can read the files.

Four parts, all of them by default:

- throughput: 32 prompts x 64 new tokens, unsteered and steered, by ours (folded, hooks), by
  nnsight's `generate` with ``vector.edit``, and by steering-vectors and repeng inside plain
  transformers `generate`. Rows never end, so that all ways generate the same number of tokens.
  Ways run in turn, each round in another order; a ratio is the median over rounds of the way's
  tokens per second over those of the same loop unsteered, with its quartiles.
- proxy: `mnskills_viz.proxy` (first order, contrast) for PCA bases at all layers, against one
  forward pass over the right texts, head included.
- doses: the change of the contrast at both poles of every axis at one layer, and how float32 and
  bfloat16 agree on some of them.
- readers: the change of logits that an exported vector makes in llama.cpp and in the
  lm-evaluation-harness, against ours in float32; the files as repeng and safetensors read them.

    python benchmarks/steering.py [throughput] [proxy] [doses] [readers] [--runs 5] ...

Rivals and readers are compared where they are installed; what is not is said. They ask for other
versions of what the project uses, and llama-cpp-python must be built (5 minutes on two cores;
its native build crashes on some processors), so give them an environment of their own that sees
the project's packages. From the repository, with the project's environment active:

    R=../steering-rivals; python -m venv $R
    S=$($R/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $S/project.pth
    pwd >> $S/project.pth
    $R/bin/pip install --no-deps steering-vectors==0.12.2 repeng==0.4.0 lm-eval==0.4.13 \
        diskcache==5.6.3
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \
        $R/bin/pip install --no-deps llama-cpp-python==0.3.36
    $R/bin/python benchmarks/steering.py
"""

import argparse
import contextlib
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import steering_readers
import steering_rivals as rivals
import torch

import mnskills_viz as mn
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.activations.trace import padded, plan_batches

LAYER, NORM = 15, 8.7  # the deviation of the first axis there
BUDGET = 4096  # tokens in a batch of the bare forward pass: what collecting takes
DOSE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS], help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=5, help="rounds, after one to warm up")
    parser.add_argument("--rows", type=int, default=32, help="throughput: prompts in the batch")
    parser.add_argument("--tokens", type=int, default=64, help="throughput: new tokens a prompt")
    parser.add_argument("--examples", type=int, default=64, help="proxy and doses: probe examples")
    parser.add_argument("--pool", type=int, default=256, help="rows that the bases are fitted on")
    parser.add_argument("--axes", type=int, default=32, help="axes a layer; poles are twice that")
    parser.add_argument("--agree", type=int, default=8, help="doses: poles in both dtypes")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    given = parser.parse_args()
    for name in given.parts or PARTS:
        PARTS[name](given)


def loaded(given: argparse.Namespace, **other: Any) -> Any:
    return mn.load_model("embedded", **({"dtype": given.dtype, "device": given.device} | other))


def heading(what: str, model: Any) -> None:
    place = model._module.device
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "CPU"
    dtype = str(model._module.dtype).removeprefix("torch.")
    print(f"\n{what}; {name}, {torch.get_num_threads()} threads, {dtype}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of every way in every round; each round begins with another way."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs + 1):
        first = run % len(names)
        for name in names[first:] + names[:first]:
            taken = seconds(ways[name])
            if run:  # the first is for warming up
                times[name].append(taken)
    return times


def ratio(above: list[float], below: list[float]) -> str:
    """Median of the ratios round by round, and their quartiles."""
    ratios = np.divide(above, below)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


# -------------------------------------------------------------------------------- throughput


def throughput(given: argparse.Namespace) -> None:
    model = loaded(given)
    module, tokenizer = model._module, model.tokenizer
    prompts = [example.prompt for example in mn.load_corpus("demo").split("probe")[: given.rows]]
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
            tokenize=False,
            add_generation_prompt=True,
        )
        for prompt in prompts
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    inputs = inputs.to(module.device)
    direction = np.random.default_rng(0).standard_normal(module.config.hidden_size)
    direction = (direction * NORM / np.linalg.norm(direction)).astype(np.float32)
    vector = mn.SteeringVector({LAYER: direction})
    made: dict[str, Any] = {}

    def ours(name: str, how: Any = None) -> None:
        with how() if how else contextlib.nullcontext():
            made[name] = [
                text for (text,) in mn.generate(model, texts, max_new_tokens=given.tokens)
            ]

    def plain(name: str, how: Any = None) -> None:
        with torch.inference_mode(), how() if how else contextlib.nullcontext():
            out = module.generate(**inputs, max_new_tokens=given.tokens, do_sample=False)
        made[name] = new_tokens(out)

    def nnsight(name: str, generate: Any) -> None:
        with torch.inference_mode():
            made[name] = new_tokens(generate(model, inputs, vector, given.tokens))

    def new_tokens(out: Any) -> list[str]:
        new = out[:, inputs["input_ids"].shape[1] :]
        if new.shape != (len(texts), given.tokens):
            raise RuntimeError(f"{tuple(new.shape)} tokens generated: the work is not the same")
        return tokenizer.batch_decode(new, skip_special_tokens=True)

    ways: dict[str, tuple[str | None, Callable[[str], None]]] = {
        "ours": (None, ours),
        "ours, folded": ("ours", lambda name: ours(name, lambda: vector.fold(model))),
        "ours, hooks": ("ours", lambda name: ours(name, lambda: vector.apply(model))),
        "nnsight": (None, lambda name: nnsight(name, nnsight_unsteered)),
        "nnsight, vector.edit": ("nnsight", lambda name: nnsight(name, nnsight_steered)),
        "transformers": (None, plain),
        "transformers, folded": (
            "transformers",
            lambda name: plain(name, lambda: vector.fold(model)),
        ),
        "transformers, our hooks": (
            "transformers",
            lambda name: plain(name, lambda: vector.apply(model)),
        ),
    }
    for package, steer in rivals.STEER.items():
        if rivals.installed(package):
            ways[package] = (
                "transformers",
                lambda name, steer=steer: plain(name, lambda: steer(module, LAYER, direction)),
            )
    n_tokens = len(texts) * given.tokens
    heading(f"throughput: {len(texts)} prompts x {given.tokens} new tokens", model)
    warnings.filterwarnings("ignore", ".*was never reached")  # how an open loop of nnsight ends
    with endless(module):
        works = {
            name: (lambda name=name, work=work: work(name)) for name, (_, work) in ways.items()
        }
        times = in_turn(works, given.runs)
    for name, (base, _) in ways.items():
        line = f"  {name:24} {n_tokens / statistics.median(times[name]):7.0f} tokens/s"
        if base:
            same = np.mean([a == b for a, b in zip(made[name], made["ours, hooks"], strict=True)])
            line += f"   {ratio(times[base], times[name])} of {base}; texts as by hooks {same:.0%}"
        print(line)
    for package in rivals.STEER:
        if package in ways:
            print(
                f"  ours, folded, over {package:16} {ratio(times[package], times['ours, folded'])}"
            )
        else:
            print(f"  {package} is not installed")


@contextlib.contextmanager
def endless(module: Any) -> Iterator[None]:
    """No token ends a text in here: every row runs to its last token."""
    ends = module.generation_config.eos_token_id
    module.generation_config.eos_token_id = None
    try:
        yield
    finally:
        module.generation_config.eos_token_id = ends


def nnsight_unsteered(model: Any, inputs: Any, vector: Any, n: int) -> Any:
    with model.generate(max_new_tokens=n, do_sample=False) as tracer:
        with tracer.invoke(dict(inputs)):
            pass
        with tracer.invoke():
            out = tracer.result.save()
    return out


def nnsight_steered(model: Any, inputs: Any, vector: Any, n: int) -> Any:
    with model.generate(max_new_tokens=n, do_sample=False) as tracer:
        with tracer.invoke(dict(inputs)):
            for _ in tracer.all():
                vector.edit(model)
        with tracer.invoke():
            out = tracer.result.save()
    return out


# ------------------------------------------------------------------------------ proxy, doses


def fitted(model: Any, given: argparse.Namespace, layers: Any) -> dict[int, Any]:
    """A PCA basis a layer, of rows of the pool."""
    pool = mn.Corpus(list(mn.load_corpus("demo").split("pool")[: given.pool]), "demo")
    acts = mn.collect(model, pool, layers=layers, progress=False)
    return {
        layer: mn.PCABasis(given.axes).fit(acts.matrix(layer), source=acts.source(layer))
        for layer in acts.layers
    }


def probe_set(given: argparse.Namespace) -> Any:
    """So many rows of the probe split; more than it has are taken from the pool behind ours."""
    corpus = mn.load_corpus("demo")
    rows = [*corpus.split("probe"), *corpus.split("pool")[given.pool :]]
    return mn.Corpus(rows[: given.examples], "demo")


def proxy(given: argparse.Namespace) -> None:
    model = loaded(given)
    probe, bases = probe_set(given), fitted(model, given, "all")
    rows = tokenize(model.tokenizer, probe)
    plan = plan_batches([len(row) for row in rows], BUDGET)

    def forward() -> None:
        with torch.inference_mode():
            for batch in plan:
                ids = torch.tensor(padded([rows[i].ids for i in batch]), dtype=torch.long)
                ids = ids.to(model._module.device)
                model._module(ids, attention_mask=torch.ones_like(ids), use_cache=False)

    ways: dict[str, Callable[[], object]] = {
        "one forward pass": forward,
        "first-order proxy": lambda: mn.proxy(model, bases, probe, progress=False),
    }
    heading(
        f"proxy: {len(rows)} examples, {sum(map(len, rows)):,} tokens, {given.axes} axes at each "
        f"of {len(bases)} layers",
        model,
    )
    times = in_turn(ways, given.runs)
    for name, taken in times.items():
        line = f"  {name:24} {statistics.median(taken):7.2f} s"
        if taken is not times["one forward pass"]:
            line += f"   {ratio(taken, times['one forward pass'])} times one forward pass"
        print(line)


def doses(given: argparse.Namespace) -> None:
    from mnskills_viz.activations.targets import targets
    from mnskills_viz.steering.measured import measure

    model = loaded(given)
    basis = fitted(model, given, [LAYER])[LAYER]
    found = targets(model, probe_set(given), "contrast")
    poles = [
        mn.SteeringVector.from_axis(basis, axis, dose=dose)
        for axis in range(basis.n_axes_)
        for dose in (DOSE, -DOSE)
    ]
    heading(f"doses: {len(poles)} poles x {len(found.ids)} examples at layer {LAYER}", model)
    taken = seconds(lambda: measure(model, found, poles, progress=False))
    print(f"  {'measured':24} {taken:7.1f} s   {1e3 * taken / len(poles):.0f} ms a pole")
    if not given.agree:
        return
    few, changes = poles[: given.agree], {}
    for dtype in ("float32", "bfloat16"):
        other = loaded(given, dtype=dtype)
        taken = seconds(
            lambda other=other, dtype=dtype: changes.update(
                {dtype: measure(other, found, few, progress=False)}
            )
        )
        print(f"  {len(few)} poles in {dtype:12} {taken:7.1f} s")
    full, half = changes["float32"], changes["bfloat16"]
    means, rounded = full.mean(axis=1), half.mean(axis=1)
    print(
        f"  bfloat16 against float32: means over examples differ by at most "
        f"{np.abs(rounded - means).max():.1e} of {np.abs(means).max():.1e} nats a token, and "
        f"correlate {np.corrcoef(means, rounded)[0, 1]:.3f}; single examples "
        f"{np.corrcoef(full.ravel(), half.ravel())[0, 1]:.3f}"
    )


# ----------------------------------------------------------------------------------- readers


def readers(given: argparse.Namespace) -> None:
    model = loaded(given, dtype="float32", device="cpu")
    rows = tokenize(model.tokenizer, list(mn.load_corpus("demo").split("probe")[:3]))
    n = sum(map(len, rows))
    heading(f"readers: change of logits at {n} positions of {len(rows)} texts, all tokens", model)
    steering_readers.compare(model, [row.ids.tolist() for row in rows])


PARTS = {"throughput": throughput, "proxy": proxy, "doses": doses, "readers": readers}

if __name__ == "__main__":
    main()
