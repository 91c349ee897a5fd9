"""The paper's comparison at three scales, in parts that can be stopped and go on.

    make reproduce SCALE=small
    python -m benchmarks.reproduce --scale small --minutes 55
    python -m benchmarks.reproduce --scale full --model Qwen/Qwen3-0.6B --pool gsm8k_train.jsonl \
        --test gsm8k_test.jsonl

What is made goes to ``work/SCALE`` beside this file, figures and report to its folder ``results``;
``results/`` beside it holds those of finished runs. See `settings` for what each scale is made
of. The report is written anew after every run, of what is there. The same command started twice,
each with OMP_NUM_THREADS=1, shares the work of two cores.

A start that is made anew has the same bytes only on the same kind of processor: sums in bfloat16
are rounded otherwise on another. Whoever moves to another machine takes ``work/SCALE`` along.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import mnskills_viz as mn
from mnskills_viz.files import sha256

from .defaults import measure_defaults
from .ground import Ground
from .refusals import measure_refusals
from .report import write_report
from .results import Results, made_by
from .safety import measure_coverage
from .settings import CONTROLS, SCALES, Settings, settings_of
from .statistics import plan
from .steered import measure_steering
from .trained import cell_name, problems, run_cell

HERE = Path(__file__).parent

Part = tuple[str, Callable[[], None]]
"""Name of what a part writes, and what writes it."""


def main(given: list[str] | None = None) -> int:
    """Run what is missing, within the time that there is; exit status."""
    asked = _parser().parse_args(given)
    began = time.monotonic()
    try:
        settings = settings_of(
            asked.scale,
            model=asked.model,
            pool=asked.pool,
            test=asked.test,
            budget=asked.budget,
            steps=asked.steps,
            seeds=asked.seeds,
            arms=asked.arms and tuple(asked.arms),
        )
        work = asked.work or HERE / "work" / asked.scale
        results = Results(asked.results or work / "results")
        if not asked.report:
            left = _run(asked, settings, results, Ground(settings, work.absolute()), began)
            print(f"{left} parts are left; run the same again" if left else "all parts are done")
        print(f"report: {write_report(results.folder)}")
    except mn.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same again to go on", file=sys.stderr)
        return 130
    return 0


def _run(
    asked: argparse.Namespace, settings: Settings, results: Results, ground: Ground, began: float
) -> int:
    """Run what is missing, phase by phase; how many parts are left.

    Several processes may share the work: a part that another one is at is passed over, and
    waited for at the end of its phase.
    """
    files = {what: getattr(asked, what) for what in ("behaviours", "templates", "twins")}
    results.require(
        "settings",
        {
            "scale": asked.scale,
            "settings": settings.as_dict(),
            "adversarial": {what: _named(path) for what, path in files.items()},
        },
    )
    phases = list(_phases(asked, settings, results, ground))
    while missing := [part for phase in phases for part in phase if not results.has(part[0])]:
        names = {name for name, _ in missing}
        phase = next(phase for phase in phases if names & {name for name, _ in phase})
        worked = False
        for name, work in phase:
            minutes = (time.monotonic() - began) / 60
            if asked.minutes is not None and minutes > asked.minutes:
                return len(names)
            with _mine(ground.work / "locks" / f"{name}.lock") as mine:
                if mine and not results.has(name):
                    print(f"[{minutes:.0f} min] {name}, {len(names)} parts are left", flush=True)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", UserWarning)
                        work()
                    names.discard(name)
                    worked = True
        if not worked:
            time.sleep(1)
    return 0


def _named(path: Path | None) -> dict[str, str] | None:
    """Which file that is; None for the stand-in."""
    if path is None:
        return None
    if not path.is_file():
        raise mn.InputError(f"{path}: no such file")
    return {"name": path.name, "sha256": sha256(path)}


@contextmanager
def _mine(lock: Path) -> Iterator[bool]:
    """Whether this process has a part to itself."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield True
    except Timeout:
        yield False


def _phases(
    asked: argparse.Namespace, settings: Settings, results: Results, ground: Ground
) -> Iterator[list[Part]]:
    """Everything that there is to do; a phase begins once the one before it is done.

    The controls come first, and the plan, which says what can be seen at all, before any other arm
    is trained; then seed by seed, so that what is there after a stop is balanced.
    """

    def from_start(name: str, work: Callable[[], None]) -> Part:
        def checked() -> None:
            ground.require(results.read("start"))
            work()

        return name, checked

    def cell(name: str, seed: int) -> Part:
        return from_start(cell_name(name, seed), partial(run_cell, ground, results, name, seed))

    def timed(name: str, work: Callable[[], dict[str, Any]]) -> Part:
        return from_start(name, partial(_timed, results, name, work))

    seeds = range(settings.seeds)
    others = [name for name in settings.arms if name not in CONTROLS]
    yield [("start", partial(_timed, results, "start", ground.about))]
    yield [("problems", lambda: results.write("problems", problems(ground)))]
    yield [cell(name, seed) for name in CONTROLS for seed in seeds]
    yield [("plan", lambda: results.write("plan", plan(results.folder)))]
    yield [cell(name, seed) for seed in seeds for name in others]
    yield [
        timed("defaults", partial(measure_defaults, ground)),
        timed("steering", partial(_steering, ground)),
        timed("safety", partial(_safety, asked, ground)),
    ]
    if settings.refusals:
        yield [timed("refusals", partial(_refusals, asked, ground))]


def _timed(results: Results, name: str, work: Callable[[], dict[str, Any]]) -> None:
    began = time.monotonic()
    found = work()
    results.write(name, found | {"made_by": made_by(measure=time.monotonic() - began)})


def _steering(ground: Ground) -> dict[str, Any]:
    settings, basis = ground.settings, ground.basis("pca")
    return measure_steering(
        ground.study,
        basis,
        ground.study.test[: settings.steered],
        store=ground.work / "steering",
        n=settings.n,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        progress=ground.progress,
    )


def _safety(asked: argparse.Namespace, ground: Ground) -> dict[str, Any]:
    """Coverage of what the start makes of adversarial prompts; a harmless stand-in by default."""
    layers = ground.study.activations.layers
    return measure_coverage(
        ground.study.model,
        asked.behaviours,
        asked.templates,
        layer=ground.layer,
        ruler_layer=layers[min(len(layers) - 1, 5 * len(layers) // 6)],
        rows=ground.settings.safety_rows,
        store=ground.work / "safety",
        progress=ground.progress,
    )


def _refusals(asked: argparse.Namespace, ground: Ground) -> dict[str, Any]:
    """Trainings on refusals, asked about families that they have not seen."""
    settings = ground.settings
    return measure_refusals(
        ground,
        asked.behaviours,
        asked.templates,
        asked.twins,
        budget=settings.refusals,
        seeds=settings.seeds,
        layer=ground.layer,
        rows=settings.safety_rows,
        store=ground.work / "refusals",
        progress=ground.progress,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--minutes", type=float, help="begin no part after so many")
    parser.add_argument("--model", help="as mn.load_model takes it")
    parser.add_argument("--pool", help="as mn.load_corpus takes it; with --test")
    parser.add_argument("--test", help="as mn.load_corpus takes it")
    parser.add_argument("--budget", type=int, help="response tokens of each arm")
    parser.add_argument("--steps", type=int, help="optimizer steps of each arm")
    parser.add_argument("--seeds", type=int, help="trainings of each arm")
    parser.add_argument("--arms", nargs="+", help="none, random, and others; default: all")
    parser.add_argument("--behaviours", type=Path, help="CSV of requests to be refused")
    parser.add_argument("--templates", type=Path, help="CSV of wrappers")
    parser.add_argument("--twins", type=Path, help="CSV of requests that only look alike")
    parser.add_argument("--results", type=Path, help="folder of figures and report")
    parser.add_argument("--work", type=Path, help="folder of what is large")
    parser.add_argument("--report", action="store_true", help="write the report again, run nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
