"""A folder of results that nobody measured: small, seeded, with an effect planted in one arm."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reproduce.statistics import plan
from mnskills_viz.files import write_json

ARMS = (
    "none",
    "random",
    "category",
    "weakest_categories",
    "text_diversity",
    "weakness_pca",
    "weakness_sae",
    "influence",
    "weakness_rotated",
    "weakness_subspace",
)
REDRAWN = ("random", "category", "weakness_rotated", "weakness_subspace")
PLANTED, SIZE = "weakness_sae", 0.08
SEEDS, PROBLEMS, SAMPLED, N = 3, 120, 40, 8
CATEGORIES = ("arithmetic", "word-problems", "dates & <times>")
FAMILIES = ("role-play", "translation", "encoding", "stories")
STRATEGIES = {"random": 10, "k_center": 1, "d_optimal": 1, "text_diversity": 1}
BUDGETS = (8, 32, 128, 512)
RULERS = ("layer 15", "layer 25", "text")


def made_by(**seconds: float) -> dict[str, Any]:
    return {
        "command": "python -m benchmarks.reproduce --scale small",
        "commit": "0123456789ab",
        "machine": {"processor": "Abacus | 2", "cores": 2, "gpu": None},
        "versions": {"torch": "2.13.0"},
        "date": "2026-01-01",
        "seconds": seconds,
    }


def make_results(folder: Path, seed: int = 0) -> Path:
    """Write all that the lead's modules write."""
    generator = np.random.default_rng(seed)
    arms = {"arms": list(ARMS), "budget": 9000, "layer": None}
    write_json(folder / "settings.json", {"scale": "small", "settings": arms})
    start = {
        "model": {"name": "embedded", "dtype": "float32"},
        "corpus": {"pool": 3000, "hash": "0123456789abcdef"},
        "warmup": {"rows": 128},
        "made_by": made_by(),
    }
    write_json(folder / "start.json", start)
    categories = [CATEGORIES[i % len(CATEGORIES)] for i in range(PROBLEMS)]
    problems = {
        "ids": [f"p{i}" for i in range(PROBLEMS)],
        "categories": categories,
        "sampled": list(range(0, PROBLEMS, PROBLEMS // SAMPLED)),
    }
    write_json(folder / "problems.json", problems)
    easy = generator.normal(-1.0, 0.4, PROBLEMS)
    blocks = generator.normal(0, 0.01, SEEDS)
    for arm in ARMS:
        if arm == ARMS[2]:
            write_json(folder / "plan.json", plan(folder))
        for number in range(SEEDS):
            cell = made_cell(generator, arm, number, easy, blocks[number], problems["sampled"])
            write_json(folder / "cells" / f"{arm}-{number}.json", cell)
    write_json(folder / "steering.json", made_steering(generator))
    write_json(folder / "safety.json", made_safety(generator))
    write_json(folder / "refusals.json", made_refusals(generator))
    row = {"kind": "pca", "layer": 15, "pooling": "mean", "n_axes": 32}
    quota = {"rule": "equal", "excess": 0.0123, "from": -0.02, "to": 0.04}
    chosen = row | {"layer": 20, "times": 11, "choices": 20, "r2_chosen": 0.25, "r2_default": 0.21}
    chosen |= {"difference": 0.04, "low": -0.01, "high": 0.09}
    defaults = {"errors": 500, "r2": made_r2(generator), "quota": [quota], "chosen": chosen}
    write_json(folder / "defaults.json", defaults | {"made_by": made_by()})
    return folder


def made_r2(generator: np.random.Generator) -> list[dict[str, Any]]:
    """Three layers and poolings, one of the layers by the number of axes; and two other kinds."""
    where = [
        ("pca", layer, pooling, n_axes)
        for pooling in ("mean", "last")
        for layer in (14, 15, 16)
        for n_axes in ((16, 32, 64) if layer == 15 else (32,))
    ]
    where += [(kind, 15, "mean", 32) for kind in ("sae, fitted on whole examples", "subspace")]
    rows = []
    for kind, layer, pooling, n_axes in where:
        low, r2, high = sorted(generator.uniform(0, 1, 3).round(6).tolist())
        about = {"kind": kind, "layer": layer, "pooling": pooling, "n_axes": n_axes}
        rows.append(about | {"r2": r2, "low": low, "high": high})
    return rows


def made_cell(
    generator: np.random.Generator,
    arm: str,
    seed: int,
    easy: np.ndarray,
    block: float,
    sampled: list[int],
) -> dict[str, Any]:
    """One arm with one seed: easy problems, training, the planted effect, and noise."""
    y, spent = easy, {}
    if arm != "none":
        noise = generator.normal(0, 0.02 if arm in REDRAWN else 0.01)
        training = 0.3 + block + noise + SIZE * (arm == PLANTED)
        y = easy + training + generator.normal(0, 0.08, len(easy))
        shares = generator.multinomial(250, generator.dirichlet(np.ones(len(CATEGORIES)) * 4))
        spent = {
            "rows": 250 + seed,
            "loss_tokens": 9000 + int(generator.integers(-40, 40)),
            "optimizer_steps": 16,
            "categories": dict(zip(CATEGORIES, shares.tolist(), strict=True)),
            "picked": f"{arm}-{seed if arm in REDRAWN else 0}",
            "recipes": [{"strategy": arm, "notes": ["the probe has 300 examples"]}],
        }
    right = generator.binomial(N, 1 / (1 + np.exp(-4 * (y[sampled] + 1))))
    return {
        "arm": arm,
        "seed": seed,
        **spent,
        "logprob": [float(f"{v:.6g}") for v in y],
        "n": N,
        "c": right.tolist(),
        "made_by": made_by(train=60.0, measure=30.5),
    }


def made_steering(generator: np.random.Generator) -> dict[str, Any]:
    chances = generator.beta(1, 3, 50)
    kinds = {
        "unsteered": "unsteered",
        "text prompt": "text prompt",
        "temperature 1.2": "temperature",
        "pca-15 3 +2.0": "axis",
        "pca-15 3 +1.0": "axis dose",
        "pca-15 7 -1.0": "axis",
        "random 1, as long as pca-15 3 +2.0": "random",
        "random 2, as long as pca-15 3 +2.0": "random",
        "random, as long as pca-15 7 -1.0": "random",
    }
    return {
        "split": {"chosen_on": 60, "reported_on": 50, "left_out": 10},
        "n": N,
        "temperature": 0.8,
        "prompt": "Work step by step.\nGive the answer | last.",
        "candidates": [
            {
                "name": f"pca-15 3 {dose:+}",
                "axis": 3,
                "layer": 15,
                "dose": dose,
                "utility": -0.0123,
                "pass@1": 0.25,
                "pass@8": 0.61,
            }
            for dose in (1.0, -2.0)
        ],
        "chosen": {"pass@1": "pca-15 7 -1.0", "pass@8": "pca-15 3 +2.0"},
        "reported": [
            {"name": name, "kind": kind, "c": generator.binomial(N, chances).tolist(), "n": N}
            for name, kind in kinds.items()
        ],
        "ids": [f"q{i}" for i in range(50)],
        "made_by": made_by(measure=100.0),
    }


def made_safety(generator: np.random.Generator) -> dict[str, Any]:
    table = []
    for family in FAMILIES:
        for strategy, seeds in STRATEGIES.items():
            better = 0.15 if strategy == "k_center" else 0.0
            for budget in BUDGETS:
                for seed in range(seeds):
                    for ruler in RULERS:
                        noise = generator.normal(0, 0.05)
                        radius = 6 * budget ** (-0.12) * np.exp(noise - better * (ruler != "text"))
                        table.append(
                            {
                                "family": family,
                                "strategy": strategy,
                                "budget": budget,
                                "seed": seed,
                                "ruler": ruler,
                                "radius": float(f"{radius:.6g}"),
                                "log_det": float(f"{30 + budget / 20 + noise:.6g}"),
                                "empty_bins": float(f"{0.5 / (1 + budget / 50):.6g}"),
                            }
                        )
    return {
        "data": {"rows": 1500, "families": dict.fromkeys(FAMILIES, 375), "files": {"a": "0" * 64}},
        "rulers": list(RULERS),
        "budgets": list(BUDGETS),
        "held_out": list(FAMILIES),
        "table": table,
        "made_by": made_by(measure=50.0),
    }


def made_refusals(generator: np.random.Generator) -> dict[str, Any]:
    table, over = [], []
    for strategy in ("random", "k_center", "text_diversity"):
        for seed in range(2):
            for family in FAMILIES[2:]:
                before, change = generator.normal(-2, 0.1), generator.normal(1, 0.1)
                table.append(
                    {
                        "strategy": strategy,
                        "seed": seed,
                        "family": family,
                        "n": 75,
                        "margin_before": before,
                        "margin_after": before + change,
                        "low": change - 0.2,
                        "high": change + 0.2,
                    }
                )
            rates = {"rate_before": 0.04, "rate_after": float(generator.uniform(0.1, 0.9))}
            over.append({"strategy": strategy, "seed": seed, "n": 50, **rates})
    return {
        "budget": 64,
        "strategies": ["random", "k_center", "text_diversity"],
        "held_out": list(FAMILIES[2:]),
        "table": table,
        "over_refusal": over,
        "made_by": made_by(measure=70.0),
    }
