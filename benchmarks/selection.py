"""Seconds and memory of selections and exports, and facility location against its rivals.

- A million rows of 64 coordinates, each selection through `mn.select` in a process of its own;
  memory is its peak above what the rows themselves take.
- Facility location, 5,000 x 64, 200 picks: ours from the coordinates, apricot and submodlib with
  the clipped cosine kernel that they are given and that counts in their time; the better of
  apricot's two exact ways, medians of `RUNS` after one to warm up, on the same rows in turn.
- A hundred thousand rows through `mn.export`, in a process of its own.

    python benchmarks/selection.py [--small] [--only million|rivals|exports]
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mnskills_viz as mn

RUNS, AXES = 3, 64
SMALL = "--small" in sys.argv
ROWS, EXPORTED = (30_000, 2_000) if SMALL else (1_000_000, 100_000)
RIVAL_ROWS, RIVAL_PICKS = (1_000, 40) if SMALL else (5_000, 200)
SHARE = 0.01 if SMALL else 1.0
SELECTIONS = {  # picks and the seconds they may take
    "random": (10_000, 1),
    "top": (10_000, 1),
    "weakness": (10_000, 1),
    "d_optimal": (2_000, 60),
    "k_center": (2_000, 60),
    "facility_location": (1_000, 120),
}
COVERAGE = ("d_optimal", "k_center", "facility_location")


def coordinates(kind: str, n: int) -> np.ndarray:
    numbers = np.random.default_rng(0)
    z = numbers.standard_normal((n, AXES), dtype=np.float32)
    if kind == "clusters":
        centers = 2 * numbers.standard_normal((50, AXES), dtype=np.float32)
        for start in range(0, n, 10_000):
            part = z[start : start + 10_000]
            part += centers[numbers.integers(0, 50, len(part))]
    if kind == "low rank":
        few = numbers.standard_normal((8, AXES), dtype=np.float32)
        for start in range(0, n, 10_000):
            part = z[start : start + 10_000]
            part[:] = part[:, :8] @ few + 0.1 * part
    return z


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def select(strategy: str, kind: str, budget: int, n: int, with_ids: bool) -> dict[str, object]:
    """In a process of its own."""
    z = coordinates(kind, n)
    numbers = np.random.default_rng(1)
    probe = numbers.standard_normal((1000, AXES), dtype=np.float32)
    known = {"probe": probe, "error": 1 / (1 + np.exp(-probe[:, 3]))}
    options = known if strategy == "weakness" else {}
    mn.select(z[:500], strategy, 5, **options)  # libraries are loaded
    if with_ids:
        options["ids"] = [f"row-{i:07d}" for i in range(n)]
    before, begun = peak_megabytes(), time.perf_counter()
    found = mn.select(z, strategy, budget, **options)
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "megabytes": peak_megabytes() - before,
        "picks": len(found),
        "notes": found.recipe["notes"],
    }


def export(n: int) -> dict[str, object]:
    """In a process of its own."""
    corpus = mn.load_corpus(
        [
            {
                "id": f"{i:06d}",
                "prompt": f"What is {i} plus {i % 97}? Explain each step. " + "Go slowly. " * 20,
                "response": f"We add {i % 97} to {i}, step by step. " * 10 + f"{i + i % 97}",
            }
            for i in range(n)
        ]
    )
    z = np.random.default_rng(0).standard_normal((n, 8), dtype=np.float32)
    selection = mn.select(z, "random", n, ids=[example.id for example in corpus])
    with tempfile.TemporaryDirectory() as folder:
        mn.export(corpus[:20], mn.select(z[:20], "random", 5), Path(folder) / "few")
        before, begun = peak_megabytes(), time.perf_counter()
        mn.export(corpus, selection, Path(folder) / "all")
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "megabytes": peak_megabytes() - before}


def in_a_process(*arguments: object) -> dict[str, object]:
    command = [sys.executable, __file__, "--job", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip() or "no message").splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def report(name: str, found: dict[str, object], target: float) -> None:
    if "failed" in found:
        print(f"  {name:38} failed: {found['failed']}", flush=True)
        return
    print(
        f"  {name:38} {found['seconds']:7.2f} s  ({target:g} s)  "
        f"{found['megabytes']:6,.0f} MB above the rows  {'; '.join(found.get('notes', []))}",
        flush=True,
    )


def million() -> None:
    print(f"\n{ROWS:,} x {AXES}: seconds (and how many they may take), peak memory")
    for strategy, (budget, target) in SELECTIONS.items():
        budget = max(5, round(budget * SHARE))
        kinds = ("gaussian", "clusters", "low rank") if strategy in COVERAGE else ("gaussian",)
        for kind in kinds:
            name = f"{strategy} of {budget:,}" + (f", {kind}" if len(kinds) > 1 else "")
            report(name, in_a_process("select", strategy, kind, budget, ROWS, False), target)
        if strategy not in COVERAGE:
            found = in_a_process("select", strategy, "gaussian", budget, ROWS, True)
            report(f"{strategy} of {budget:,}, with ids", found, target)


# ------------------------------------------------------------------------------------- rivals


def cosine(z: np.ndarray) -> np.ndarray:
    z = z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    return np.maximum(z @ z.T, 0)


def ours(z: np.ndarray, picks: int) -> list[int]:
    from mnskills_viz.selection.coverage import facility_location

    taken: list[int] = []

    def take(row: int) -> bool:
        taken.append(row)
        return True

    facility_location(z, take, lambda: len(taken) == picks, np.array([], dtype=np.int64))
    return taken


def apricot(z: np.ndarray, picks: int, optimizer: str) -> list[int]:
    from apricot import FacilityLocationSelection

    chooser = FacilityLocationSelection(picks, metric="precomputed", optimizer=optimizer)
    return chooser.fit(cosine(z)).ranking.tolist()


def submodlib(z: np.ndarray, picks: int) -> list[int]:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(n=len(z), mode="dense", sijs=cosine(z), separate_rep=False)
    return [row for row, _ in function.maximize(budget=picks, optimizer="LazyGreedy")]


def rivals() -> None:
    ways = {"ours": ours}
    if importlib.util.find_spec("apricot") is not None:
        ways["apricot, lazy"] = lambda z, picks: apricot(z, picks, "lazy")
        ways["apricot, two-stage"] = lambda z, picks: apricot(z, picks, "two-stage")
    if importlib.util.find_spec("submodlib") is not None:
        ways["submodlib"] = submodlib
    print(f"\nfacility location, {RIVAL_ROWS:,} x {AXES}, {RIVAL_PICKS} picks, medians of {RUNS}")
    for absent in {"apricot", "submodlib"} - {name.split(",")[0] for name in ways}:
        print(f"  {absent:20} not installed")
    for kind in ("gaussian", "clusters"):
        z = coordinates(kind, RIVAL_ROWS)
        kernel = cosine(z)
        times: dict[str, list[float]] = {name: [] for name in ways}
        picks: dict[str, list[int]] = {}
        for run in range(RUNS + 1):
            for name, way in ways.items():
                begun = time.perf_counter()
                picks[name] = way(z, RIVAL_PICKS)
                if run:  # the first is for warming up
                    times[name].append(time.perf_counter() - begun)
        reached = {name: float(kernel[:, rows].max(axis=1).sum()) for name, rows in picks.items()}
        for name in ways:
            seconds = statistics.median(times[name])
            print(
                f"  {kind:9} {name:20} {seconds:6.2f} s  "
                f"{seconds / statistics.median(times['ours']):6.1f} times ours   "
                f"our objective is {reached['ours'] / reached[name]:.6f} of its   "
                f"same picks: {picks[name] == picks['ours']}",
                flush=True,
            )


def exports() -> None:
    print("\nexport")
    report(f"{EXPORTED:,} rows", in_a_process("export", EXPORTED), 10)


def main() -> None:
    parts = {"million": million, "rivals": rivals, "exports": exports}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="few rows, to see that it runs")
    parser.add_argument("--only", choices=parts, help="one part of it")
    given = parser.parse_args()
    for part in [given.only] if given.only else parts:
        parts[part]()


if __name__ == "__main__":
    if "--job" in sys.argv:
        job, *arguments = json.loads(sys.argv[-1])
        print(json.dumps({"select": select, "export": export}[job](*arguments)))
    else:
        main()
