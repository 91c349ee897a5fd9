"""What decides the library's defaults, against brute force and with nothing to be found."""

from functools import cached_property

import numpy as np
import pytest

import mnskills_viz as mn
from benchmarks.reproduce.defaults import (
    HALVINGS,
    PENALTIES,
    QUOTA_HALVINGS,
    Cell,
    choice,
    foretold,
    measure_defaults,
    quotas,
)
from benchmarks.reproduce.ground import Ground
from benchmarks.reproduce.settings import settings_of


class Untrained(Ground):
    """A ground without the warm-up."""

    @cached_property
    def start(self):
        return self.base


def cells_of(*matrices, controls=()):
    return [
        Cell("pca", layer, "mean", z, eligible=layer not in controls)
        for layer, z in enumerate(matrices)
    ]


def fitted(z, y, penalty):
    """Ridge in closed form, by its own means and spreads: a function of rows."""
    mean, spread = z.mean(axis=0), z.std(axis=0)
    x = (z - mean) / spread
    w = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return lambda rows: y.mean() + (rows - mean) / spread @ w


def left_out(z, y, penalty):
    """Mean squared error of predictions of each row by all others, standardized together."""
    x = (z - z.mean(axis=0)) / z.std(axis=0)
    missed = []
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        center, level = x[others].mean(axis=0), y[others].mean()
        c = x[others] - center
        w = np.linalg.solve(c.T @ c + penalty * np.eye(c.shape[1]), c.T @ (y[others] - level))
        missed.append(y[i] - level - (x[i] - center) @ w)
    return np.mean(np.square(missed))


def test_the_choice_is_that_of_brute_force_on_the_half_that_is_not_foretold():
    generator = np.random.default_rng(3)
    n = 30
    cells = cells_of(*(generator.standard_normal((n, k)) for k in (2, 3, 2)))
    error = 0.3 * cells[1].z[:, 0] + 0.25 * cells[2].z[:, 1] + generator.standard_normal(n)
    found = choice(cells, 0, error)

    generator, times, squares = np.random.default_rng(0), np.zeros(3), np.zeros((2, n))
    for _ in range(HALVINGS):
        a, b = np.array_split(generator.permutation(n), 2)
        for here, there in ((a, b), (b, a)):
            scores = [
                {p: left_out(cell.z[here], error[here], p) for p in PENALTIES} for cell in cells
            ]
            penalties = [min(score, key=score.get) for score in scores]
            best = int(np.argmin([min(score.values()) for score in scores]))
            times[best] += 1
            for line, place in enumerate((best, 0)):
                predict = fitted(cells[place].z[here], error[here], penalties[place])
                squares[line, there] += (error[there] - predict(cells[place].z[there])) ** 2
    assert 0 < times.max() < times.sum() == found["choices"] == 2 * HALVINGS
    assert found["times"] == times.max()
    assert found["layer"] == times.argmax()
    r2 = 1 - squares.sum(axis=1) / HALVINGS / ((error - error.mean()) ** 2).sum()
    np.testing.assert_allclose([found["r2_chosen"], found["r2_default"]], r2, rtol=1e-6)
    assert found["difference"] == pytest.approx(r2[0] - r2[1])
    assert found["low"] < found["difference"] < found["high"]


def test_the_interval_is_that_of_the_mean_over_examples():
    generator = np.random.default_rng(1)
    signal, noise = generator.standard_normal((2, 400, 2))
    error = signal[:, 0] + generator.standard_normal(400)
    found = choice(cells_of(noise, signal), 0, error)
    assert found["layer"] == 1
    assert found["times"] == found["choices"]
    assert found["r2_chosen"] == pytest.approx(0.5, abs=0.08)  # what was put in
    assert found["r2_default"] == pytest.approx(0, abs=0.03)
    # With the truth foretold, an example's gain is s^2 + 2 s e of signal s and noise e.
    gain = (error**2 - (error - signal[:, 0]) ** 2) / error.var()
    half = 1.96 * gain.std() / np.sqrt(400)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.15)


def test_choosing_among_noise_is_worth_nothing_though_the_best_cell_shines():
    generator = np.random.default_rng(6)
    error = generator.uniform(size=40)
    cells = cells_of(*(generator.standard_normal((40, 2)) for _ in range(10)))
    shining = max(foretold(cell.z, error)["r2"] for cell in cells)
    found = choice(cells, 0, error)
    assert shining > 0.1
    assert found["r2_chosen"] < 0
    assert found["low"] < 0


def test_a_control_is_never_chosen():
    generator = np.random.default_rng(0)
    signal, noise, other = generator.standard_normal((3, 50, 2))
    found = choice(cells_of(noise, signal, other, controls=[1]), 0, signal[:, 0])
    assert found["layer"] != 1
    assert found["r2_chosen"] < 0.2


def test_equal_quotas_find_the_mean_excess_of_all_poles_in_the_second_half():
    generator = np.random.default_rng(5)
    z, error = generator.standard_normal((80, 3)), generator.uniform(size=80)
    found = {one["rule"]: one for one in quotas(z, error)}
    poles = np.maximum(0, np.hstack([z, -z]))
    draw, values = np.random.default_rng(0), []
    for _ in range(QUOTA_HALVINGS):
        second = np.array_split(draw.permutation(80), 2)[1]
        m, e = poles[second], error[second]
        values.append(np.mean(m.T @ e / m.sum(axis=0)) - e.mean())
    equal = found["equal"]
    assert equal["excess"] == pytest.approx(np.mean(values))
    assert [equal["from"], equal["to"]] == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_quotas_of_a_weak_pole_find_its_error_in_the_other_half():
    z = np.random.default_rng(0).standard_normal((400, 4))
    found = {one["rule"]: one for one in quotas(z, np.clip(0.5 + z[:, 2] / 6, 0, 1))}
    assert found["equal"]["to"] < 0.03
    for rule in ("shrunk excess x support", "raw excess x support", "ridge coefficient"):
        assert found[rule]["from"] > 0.08


def test_the_default_is_the_middle_layer_in_means_and_what_is_said_is_of_all_cells(tmp_path):
    ground = Untrained(
        settings_of("tiny", pool_rows=60, probe_rows=30, budget=100), tmp_path, progress=False
    )
    found = measure_defaults(ground)
    study = ground.study
    acts = mn.collect(
        study.model,
        mn.Corpus(mn.Example(e.id, e.prompt) for e in study.corpus),
        layers=[2],
        tokens="prompt",
        progress=False,
    )
    X = acts.matrix(2).astype(np.float64)
    pool, probe = X[study.pool_rows], X[study.probe_rows]
    axes = np.linalg.svd(pool - pool.mean(axis=0), full_matrices=False)[2][:6]
    z, error = (probe - pool.mean(axis=0)) @ axes.T, study.probe_errors()
    assert len(study.activations.layers) == 4  # so that 2 is in the middle
    cells = cells_of(z)
    assert found["chosen"]["r2_default"] == pytest.approx(
        choice(cells, 0, error)["r2_default"], abs=0.02  # rows in float16
    )  # fmt: skip
    keys = [(one["kind"], one["layer"], one["pooling"], one["n_axes"]) for one in found["r2"]]
    assert len(set(keys)) == len(keys)
    chosen = found["chosen"]
    assert (chosen["kind"], chosen["layer"], chosen["pooling"], chosen["n_axes"]) in keys
    assert chosen["kind"].split(",")[0] in ("pca", "sae")
    assert {one["layer"] for one in found["r2"]} == {0, 1, 2, 3}
    assert found["errors"] == len(error) == 30
