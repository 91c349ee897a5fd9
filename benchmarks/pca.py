"""Seconds to fit a PCA, against every solver of scikit-learn, in memory and out of core.

Rows of float32 far from the origin, 64 axes, medians of `RUNS`. A solver counts as equally
accurate if its axes hold the share of the variance that ours hold, to 1e-5 of it. Out of core the
rows are a file mapped to memory, in a process that may allocate a fifth of the file's size.

    python benchmarks/pca.py [SHAPE ...]        such as 50000x576
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

import mnskills_viz as mn
from mnskills_viz.bases.scatter import blocks

RUNS, AXES = 5, 64
SHAPES = [(50_000, 576), (4_000, 17_280), (200_000, 2_048)]
SOLVERS = ("covariance_eigh", "arpack", "randomized", "full")
PATIENCE = 30  # seconds for all runs of a solver: none is begun after them

OUT_OF_CORE = """
import resource, sys, time
import numpy as np
import mnskills_viz as mn
X = np.load(sys.argv[1], mmap_mode="r")
few = X[:8192] if len(X) > 8192 else X[:, :4096]
mn.PCABasis(n_axes=64).fit(few)  # libraries are loaded, threads have started
status = open("/proc/self/status").read()
there = int(status.split("VmData:")[1].split()[0]) * 1024
if float(sys.argv[2]):
    cap = there + int(float(sys.argv[2]) * X.nbytes)
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
start = time.perf_counter()
mn.PCABasis(n_axes=64).fit(X)
print(time.perf_counter() - start)
"""


def made(n: int, d: int) -> np.ndarray:
    """Rows with a falling spectrum about a mean that is far longer than the spread."""
    generator = np.random.default_rng(0)
    strong = generator.standard_normal((256, d), dtype=np.float32)
    strong *= (np.arange(1, 257) ** -0.5)[:, None].astype(np.float32)
    mean = 20 * generator.standard_normal(d, dtype=np.float32)
    rows = np.empty((n, d), dtype=np.float32)
    for part in blocks(n, d, 4):
        size = part.stop - part.start
        rows[part] = generator.standard_normal((size, 256), dtype=np.float32) @ strong
        rows[part] += 0.5 * generator.standard_normal((size, d), dtype=np.float32)
        rows[part] += mean
    return rows


def held(rows: np.ndarray, axes: np.ndarray) -> float:
    """Variance that axes hold, in float64."""
    centre = rows.mean(axis=0, dtype=np.float64)
    squares = 0.0
    for part in blocks(*rows.shape, 8):
        squares += float(np.square((rows[part] - centre) @ axes.T.astype(np.float64)).sum())
    return squares / len(rows)


def median(fit: Callable[[], object]) -> float:
    """Seconds; what takes long is asked once."""
    times: list[float] = []
    while len(times) < RUNS and sum(times) < PATIENCE:
        start = time.perf_counter()
        fit()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def out_of_core(file: Path, share: float) -> str:
    times: list[float] = []
    while len(times) < RUNS and sum(times) < PATIENCE:
        arguments = [sys.executable, "-c", OUT_OF_CORE, file, str(share)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"does not fit ({done.stderr.strip().splitlines()[-1]})"
        times.append(float(done.stdout))
    return f"{statistics.median(times):7.2f} s"


def main() -> None:
    asked = [tuple(map(int, shape.split("x"))) for shape in sys.argv[1:]]
    for n, d in asked or SHAPES:
        rows = made(n, d)
        found = mn.PCABasis(n_axes=AXES).fit(rows)
        ours, best = held(rows, found.components_), np.inf
        print(f"\n{n:,} x {d:,}, {AXES} axes, {rows.nbytes / 2**20:,.0f} MiB")
        for solver in SOLVERS:
            pca = PCA(AXES, svd_solver=solver, random_state=0)
            if (solver == "full" and n * d > 1e8) or (solver == "covariance_eigh" and d > n):
                continue  # many minutes
            seconds = median(partial(pca.fit, rows))
            gap = 1 - held(rows, pca.components_) / ours
            best = min(best, seconds) if gap < 1e-5 else best
            verdict = "equal" if gap < 1e-5 else f"loses {gap:.1e} of the variance"
            print(f"  scikit-learn {solver:16} {seconds:7.2f} s   {verdict}", flush=True)
        seconds = median(partial(mn.PCABasis(n_axes=AXES).fit, rows))
        print(f"  ours {'':24} {seconds:7.2f} s   {seconds / best:.2f} of the fastest equal")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.npy"
            np.save(file, rows)
            for share in (0.2, 0.0):
                said = "allocating a fifth of it" if share else "without a limit"
                print(f"  ours, mapped file, {said:26} {out_of_core(file, share)}", flush=True)


if __name__ == "__main__":
    main()
