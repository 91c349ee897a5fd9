"""Coverage strategies: against greedy choices by brute force, slogdet, and apricot."""

import tracemalloc
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from mnskills_viz.selection import coverage, facility_location, greedy, select

NONE = np.array([], dtype=np.int64)
RIDGE = 0.7


class Asked:
    """A basket that notes what it was asked for."""

    def __init__(self, budget, refused=()):
        self.rows, self.budget, self.refused = [], budget, set(refused)

    def take(self, row):
        assert not self.full()
        self.rows.append(row)
        if row in self.refused:
            return False
        self.budget -= 1
        return True

    def full(self):
        return self.budget == 0


def d_optimal(z, basket, taken=NONE):
    return coverage.d_optimal(z, RIDGE, basket.take, basket.full, taken)


def k_center(z, basket, taken=NONE):
    return coverage.k_center(z, basket.take, basket.full, taken)


def likeness(z, basket, taken=NONE):
    return coverage.facility_location(z, basket.take, basket.full, taken)


WAYS = {"d_optimal": d_optimal, "k_center": k_center, "facility_location": likeness}
each_way = pytest.mark.parametrize("way", WAYS)


def constants(**values):
    """The constants of the rooms set to other values, wherever they live."""
    stack = ExitStack()
    for name, value in values.items():
        homes = [room for room in (greedy, coverage, facility_location) if hasattr(room, name)]
        assert homes
        for home in homes:
            stack.enter_context(patch.object(home, name, value))
    return stack


# ---------------------------------------------------------------------- the same by brute force


def log_det(z, rows):
    return np.linalg.slogdet(RIDGE * np.eye(z.shape[1]) + z[rows].T @ z[rows])[1]


def cosine(x, y):
    x, y = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300) for v in (x, y))
    return np.maximum(x @ y.T, 0)


def total_likeness(z, rows):
    return cosine(z, z[rows]).max(axis=1, initial=0).sum()


def radius(z, rows):
    return np.linalg.norm(z[:, None] - z[None, rows], axis=2).min(axis=1).max()


def gain_by_definition(way, z, chosen, row):
    if way == "k_center":
        nearest = z[chosen] if chosen else z.mean(axis=0, keepdims=True)
        return np.linalg.norm(nearest - z[row], axis=1).min()
    objective = log_det if way == "d_optimal" else total_likeness
    return objective(z, [*chosen, row]) - objective(z, chosen)


def greedy_by_brute_force(way, z, basket, taken):
    chosen, picks = [*map(int, taken)], []
    asked = set(chosen)
    while len(asked) < len(z) and not basket.full():
        left = [row for row in range(len(z)) if row not in asked]
        gains = np.array([gain_by_definition(way, z, chosen, row) for row in left])
        place = int(np.argmax(gains >= gains.max() - 1e-9))
        asked.add(left[place])
        if basket.take(left[place]):
            chosen.append(left[place])
            picks.append((left[place], gains[place]))
    return picks, chosen


@st.composite
def pools(draw):
    """Small pools: plain, on a grid (ties), with duplicates, zero rows and constant columns."""
    n, k = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    numbers = np.random.default_rng(draw(st.integers(0, 10**6)))
    z = numbers.normal(size=(n, k))
    kind = draw(st.sampled_from(["plain", "grid", "duplicates", "zeros", "constant"]))
    if kind == "grid":
        z = numbers.integers(-1, 2, (n, k)).astype(float)
    if kind == "duplicates":
        z = z[numbers.integers(0, n, n)]
    if kind == "zeros":
        z[numbers.random(n) < 0.4] = 0
    if kind == "constant":
        z[:, 0] = 2.0
    taken = np.flatnonzero(numbers.random(n) < draw(st.sampled_from([0, 0.2])))
    refused = set(np.flatnonzero(numbers.random(n) < draw(st.sampled_from([0, 0.3]))).tolist())
    return z, taken, refused - set(taken.tolist()), draw(st.integers(1, n))


@each_way
@settings(max_examples=150, deadline=None)
@given(pool=pools())
def test_picks_gains_and_objective_are_those_of_a_brute_force_greedy(way, pool):
    z, taken, refused, budget = pool
    ours, brute = Asked(budget, refused), Asked(budget, refused)
    found = WAYS[way](z, ours, taken)
    picks, chosen = greedy_by_brute_force(way, z, brute, taken)
    assert ours.rows == brute.rows
    assert [row for row, _ in found.picks] == [row for row, _ in picks]
    np.testing.assert_allclose(
        [gain for _, gain in found.picks], [gain for _, gain in picks], rtol=1e-6, atol=1e-7
    )
    assert found.standard_error == 0
    if chosen:
        reached = {"d_optimal": log_det, "k_center": radius, "facility_location": total_likeness}
        assert found.objective == pytest.approx(reached[way](z, chosen), rel=1e-6, abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), k=st.integers(1, 12))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gains_of_d_optimal_are_differences_of_slogdet(dtype, seed, n, k):
    z = np.random.default_rng(seed).normal(size=(n, k)).astype(dtype)
    picks = d_optimal(z, Asked(n)).picks
    exact = z.astype(np.float64)
    rows = [row for row, _ in picks]
    steps = [log_det(exact, rows[:i]) for i in range(len(rows) + 1)]
    np.testing.assert_allclose([gain for _, gain in picks], np.diff(steps), rtol=1e-7, atol=1e-9)


def test_facility_location_picks_and_gains_are_those_of_apricot():
    apricot = pytest.importorskip("apricot")
    z = np.random.default_rng(3).normal(size=(500, 16))
    found = likeness(z, Asked(60))
    theirs = apricot.FacilityLocationSelection(60, metric="precomputed", optimizer="lazy")
    theirs.fit(cosine(z, z))
    assert [row for row, _ in found.picks] == theirs.ranking.tolist()
    np.testing.assert_allclose([gain for _, gain in found.picks], theirs.gains, rtol=1e-9)
    assert found.objective == pytest.approx(theirs.gains.sum())


# ------------------------------------------------------------------------ what spares the work


def clusters(n=3000, k=8, seed=0):
    numbers = np.random.default_rng(seed)
    centers = 2 * numbers.normal(size=(12, k))
    return (centers[numbers.integers(0, 12, n)] + numbers.normal(size=(n, k))).astype(np.float32)


def picked(way, z, budget=150, **values):
    refused = set(range(0, len(z), 7))
    with constants(**values):
        return WAYS[way](z, Asked(budget, refused), np.arange(3, 100, 20)).picks


@each_way
@pytest.mark.parametrize(
    "values",
    [
        {"SHORTLIST": 30},
        {"ROOM": 2**18, "FEW": 3},
        {"SHORTLIST": 1, "PATIENCE": 3},
        {"SHORTLIST": 300, "PATIENCE": 7, "CLOSE": 4},
        {"BLOCK": 100_000, "WIDTH": 100_000, "PENDING": 100_000},
        {"BLOCK": 61, "WIDTH": 37, "PENDING": 2},
    ],
    ids=str,
)
def test_shortlists_and_blocks_change_no_pick(way, values):
    z = clusters(1200)
    whole = picked(way, z, 80)
    ours = picked(way, z, 80, **values)
    assert [row for row, _ in ours] == [row for row, _ in whole]
    np.testing.assert_allclose([g for _, g in ours], [g for _, g in whole], rtol=1e-7)


@each_way
def test_any_number_of_threads_gives_the_same_picks(way):
    z = clusters()
    free = picked(way, z, SHORTLIST=200)
    with threadpool_limits(1):
        one = picked(way, z, SHORTLIST=200)
    assert [row for row, _ in free] == [row for row, _ in one]


def test_facility_location_holds_no_matrix_of_all_pairs():
    z = clusters(9000, 4)
    tracemalloc.start()
    with constants(ROOM=2**24):
        likeness(z, Asked(5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 9000**2 * 4 / 8


# ------------------------------------------------------------------------------- edges of the pool


@each_way
@pytest.mark.parametrize("short", [2, 8192])
def test_equal_rows_are_asked_for_in_their_order(way, short):
    basket = Asked(6, refused=[1])
    with constants(SHORTLIST=short):
        found = WAYS[way](np.full((9, 3), 1.5), basket)
    assert basket.rows == [0, 1, 2, 3, 4, 5, 6]
    if way != "d_optimal":
        assert [gain for _, gain in found.picks[1:]] == [0] * 5


@each_way
def test_included_rows_count_as_chosen_and_are_not_asked_for(way):
    z = clusters(300)
    first = WAYS[way](z, Asked(12))
    rows = [row for row, _ in first.picks]
    basket = Asked(7)
    rest = WAYS[way](z, basket, np.array(rows[:5]))
    assert [row for row, _ in rest.picks] == rows[5:] == basket.rows
    assert rest.objective == pytest.approx(first.objective)


@each_way
@pytest.mark.parametrize("short", [3, 8192])
def test_where_every_row_is_refused_each_is_asked_for_once(way, short):
    basket = Asked(4, refused=range(50))
    with constants(SHORTLIST=short):
        assert WAYS[way](clusters(50), basket).picks == []
    assert sorted(basket.rows) == list(range(50))


@each_way
def test_a_full_basket_is_not_asked(way):
    assert WAYS[way](clusters(50), Asked(0)).picks == []


@each_way
def test_row_at_the_origin_alone_in_one_dimension(way):
    found = WAYS[way](np.zeros((1, 1), dtype=np.float32), Asked(1))
    assert found.picks == [(0, 0.0)]


def test_k_center_starts_at_the_row_farthest_from_the_mean():
    z = clusters(400)
    first, gain = k_center(z, Asked(1)).picks[0]
    distance = np.linalg.norm(z - z.mean(axis=0), axis=1)
    assert first == distance.argmax()
    assert gain == pytest.approx(distance.max(), rel=1e-6)


def test_k_center_tells_near_rows_apart_far_from_the_origin():
    z = 1000 + np.array([[0.0], [1.0], [1.0 + 1e-3], [0.4]])
    picks = k_center(z, Asked(4)).picks
    assert [row for row, _ in picks] == [0, 2, 3, 1]
    np.testing.assert_allclose([gain for _, gain in picks[1:]], [1.001, 0.4, 0.001], rtol=1e-6)


# --------------------------------------------------------------------- a sample stands for the pool


def test_a_sample_judges_its_own_rows_by_the_others():
    z = clusters(60, 3).astype(np.float64)
    with constants(EXACT_ROWS=40, SAMPLE=20):
        found = likeness(z, Asked(15))
    to_sample = cosine(z, z[:20])
    best = np.zeros(20)
    asked = np.zeros(60, dtype=bool)
    for row, gain in found.picks:
        rises = np.maximum(to_sample - best, 0)
        rises[np.arange(20), np.arange(20)] = 0
        gains = np.where(asked, -1, rises.sum(axis=1))
        assert row == gains.argmax()
        assert gain == pytest.approx(60 / 20 * gains.max())
        best = np.maximum(best, to_sample[row])
        asked[row] = True


def test_estimates_from_a_sample_miss_the_truth_by_their_standard_error():
    misses = []
    for seed in range(40):
        z = clusters(1500, 6, seed)
        with constants(EXACT_ROWS=400, SAMPLE=200):
            found = likeness(z, Asked(25))
        truth = total_likeness(z.astype(np.float64), [row for row, _ in found.picks])
        misses.append((found.objective - truth) / found.standard_error)
    assert abs(np.mean(misses)) < 3 / np.sqrt(40)
    assert 0.6 < np.std(misses) < 1.5


def test_a_reference_of_ones_own_is_what_is_covered():
    z, goal = clusters(80, 3).astype(np.float64), clusters(30, 3, seed=5).astype(np.float64)
    basket = Asked(6)
    found = coverage.facility_location(z, basket.take, basket.full, NONE, goal)
    rows = [row for row, _ in found.picks]
    kernel = cosine(goal, z)
    for i, row in enumerate(rows):
        reached = kernel[:, rows[:i]].max(axis=1, initial=0)
        gains = np.maximum(kernel - reached[:, None], 0).sum(axis=0)
        assert gains[row] == pytest.approx(gains.max())
    assert found.objective == pytest.approx(kernel[:, rows].max(axis=1).sum())


# --------------------------------------------------------------------------------------- whitening


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whitened_caps_a_half_per_cent_of_each_column_and_leaves_the_rest(dtype):
    z = np.random.default_rng(0).standard_t(2, (4000, 3)).astype(dtype)
    capped = coverage.whitened(z)
    assert capped.dtype == dtype
    changed = capped != z
    assert changed.sum(axis=0).tolist() == [20, 20, 20]
    np.testing.assert_array_equal(np.sign(capped), np.sign(z))
    for j in range(3):
        assert np.abs(z[~changed[:, j], j]).max() <= np.abs(capped[:, j]).max()
        assert len(np.unique(np.abs(capped[changed[:, j], j]))) == 1


@pytest.mark.parametrize("strategy", ["facility_location", "d_optimal", "k_center"])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_add_nothing_any_more_are_taken_all_the_same(strategy, threads):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((3, 2))[rng.integers(0, 3, 40)]
    with threadpool_limits(threads):
        assert len(set(select(Z, strategy, 30).indices.tolist())) == 30
