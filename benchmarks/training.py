"""What a fine-tuning on a few hundred rows costs here, and what it changes.

The embedded model, the demo corpus: so many rows of the pool by each strategy, one epoch of LoRA,
and held-out problems of the same families before and after. One seed: figures of this script say
that the loop closes, not which strategy is better.

    python benchmarks/training.py [--rows 256] [--strategies random weakness]
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mnskills_viz as mn
from mnskills_viz.comparison import changed_poles
from mnskills_viz.training.sft import training_log

GREEDY: dict[str, Any] = {"n": 1, "temperature": 0.0, "max_new_tokens": 96}


def timed(what: str, work: Callable[[], Any]) -> Any:
    start = time.monotonic()
    found = work()
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--pool", type=int, default=1100)
    parser.add_argument("--probe", type=int, default=400)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--strategies", nargs="+", default=["random", "weakness"])
    parser.add_argument("--study", type=Path, help="folder to keep, and to go on in")
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    with tempfile.TemporaryDirectory() as temporary:
        run(given.study or Path(temporary) / "study", given)


def run(folder: Path, given: argparse.Namespace) -> None:
    if (folder / "study.json").exists():
        study = mn.Study.open(folder)
    else:
        parts = (
            mn.load_corpus("demo", split=split, limit=getattr(given, split))
            for split in ("pool", "probe", "test")
        )
        corpus = mn.Corpus([example for part in parts for example in part], "demo")
        study = mn.Study.create(folder, corpus=corpus)
    timed("collect, layer 15", lambda: study.collect(layers=[15], progress=False))
    study.fit("pca", layer=15)
    before = timed("evaluate, before", lambda: study.graded("test", progress=False, **GREEDY))
    for strategy in given.strategies:
        study.select(strategy, given.rows, "pca-15")
        name = study.export(strategy).name
        out = timed(f"sft, {given.rows} rows by {strategy}", lambda n=name: study.sft(n))
        log = training_log(out)
        print(
            f"  {len(log)} steps, {log['tokens'].iloc[-1]:,} loss tokens, loss "
            f"{log['loss'].iloc[0]:.3f} to {log['loss'].iloc[-1]:.3f}"
        )
        after = timed(
            "  evaluate", lambda n=name: study.graded("test", n, progress=False, **GREEDY)
        )
        table = mn.paired_difference(before, after)
        print(table.drop(columns=["low", "high"]).to_string(index=False, float_format="%.3f"))
        moved = mn.compare(study, study.after(name, progress=False))
        fell, rose = changed_poles(moved)
        print(
            f"  errors fell at {len(fell)} and rose at {len(rose)} of {2 * len(moved)} poles; mean "
            f"error {moved.attrs['mean_error_before']:.3f} to "
            f"{moved.attrs['mean_error_after']:.3f}\n"
        )


if __name__ == "__main__":
    main()
