"""One cell of the comparison: an arm with a seed, from selection to test set."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import mnskills_viz as mn
from mnskills_viz.corpus import Corpus
from mnskills_viz.corpus.splits import hash_of_id
from mnskills_viz.evaluation.run import graded
from mnskills_viz.selection.recipe import Selection
from mnskills_viz.training.sft import training_log

from .arms import ARMS, Arm, Ask
from .ground import Ground
from .results import Results, made_by


def cell_name(arm: str, seed: int) -> str:
    """Under which a cell is kept."""
    return f"cells/{arm}-{seed}"


def problems(ground: Ground) -> dict[str, Any]:
    """The test problems, and which of them are answered by sampling: ids, no texts."""
    test = ground.study.test
    sampled = sorted(range(len(test)), key=lambda i: hash_of_id(test[i].id))
    return {
        "ids": test.ids,
        "categories": [example.category for example in test],
        "sampled": sorted(sampled[: ground.settings.sampled]),
    }


def run_cell(ground: Ground, results: Results, name: str, seed: int) -> None:
    """Choose, train, measure and keep; what was stopped in between goes on.

    Large files go once the figures are kept.
    """
    arm, folder = ARMS[name], ground.work / cell_name(name, seed)
    found: dict[str, Any] = {"arm": name, "seed": seed}
    model, seconds = ground.start, {}
    if arm.choose is not None:
        began = time.monotonic()
        model, trained = _trained(ground, arm, seed, folder)
        found |= trained
        seconds["train"] = time.monotonic() - began
    began = time.monotonic()
    found |= _measured(ground, model, seed, folder)
    seconds["measure"] = time.monotonic() - began
    results.write(cell_name(name, seed), found | {"made_by": made_by(**seconds)})
    shutil.rmtree(folder, ignore_errors=True)


def _trained(ground: Ground, arm: Arm, seed: int, folder: Path) -> tuple[str, dict[str, Any]]:
    """Spend the budget round by round, each on what the one before made of the model."""
    settings = ground.settings
    model, taken = ground.start, list[str]()
    chosen: list[Selection] = []
    tokens = steps = 0
    for number in range(arm.rounds):
        ask = Ask(ground, seed, settings.budget // arm.rounds, model, taken)
        export, out = folder / f"rows-{number}", folder / f"adapter-{number}"
        assert arm.choose is not None
        picked = arm.choose(ask)
        mn.export(ground.study.pool, picked, export, "trl")  # equal rows go on, others begin anew
        share = -(-settings.steps // arm.rounds)
        model = str(ground.train(model, export, out, seed, share))
        log = training_log(out)
        tokens, steps = tokens + int(log["tokens"].iloc[-1]), steps + len(log)
        taken += picked.receipts["id"].tolist()
        chosen.append(picked)
    categories = [ground.study.pool[int(i)].category for one in chosen for i in one.indices]
    return model, {
        "rows": len(taken),
        "loss_tokens": tokens,
        "optimizer_steps": steps,
        "categories": {str(c): categories.count(c) for c in sorted({*categories}, key=str)},
        "picked": hashlib.sha256("\n".join(sorted(taken)).encode()).hexdigest()[:16],
        "recipes": [_short(one.recipe) for one in chosen],
    }


KEPT = ("strategy", "budget", "unit", "seed", "basis", "axes", "picked", "input_hash", "notes")


def _short(recipe: dict[str, Any]) -> dict[str, Any]:
    """What a recipe says, but for its lists of ids."""
    return {name: recipe[name] for name in KEPT if name in recipe}


def _measured(ground: Ground, model: str, seed: int, folder: Path) -> dict[str, Any]:
    """Outcomes on the test set."""
    settings, study = ground.settings, ground.study
    loaded = study.model if model == ground.start else mn.load_model(model)
    test = study.test
    rows = mn.collect(loaded, test, layers=[0], errors=True, progress=ground.progress)
    asked = Corpus(test.take(problems(ground)["sampled"]), test.name)
    samples = graded(
        loaded,
        asked,
        n=settings.n,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        seed=seed,
        logprobs=False,
        store=folder / "answers",
        progress=ground.progress,
    )
    return {
        "logprob": rows.logprobs.astype(np.float64),
        "n": settings.n,
        "c": samples.set_index("id")["c"].loc[asked.ids].to_numpy(),
    }
