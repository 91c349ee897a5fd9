"""Ranks, quantiles, sums and orders of large pools, against sorting everything."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.errors import InputError
from mnskills_viz.selection import matrix, row_ids, select
from mnskills_viz.selection.ranking import SAMPLE, Ranking, quantiles
from mnskills_viz.selection.row_ids import RowIds

LARGE = 5 * SAMPLE


def large(ties=False):
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(LARGE, 5)).astype(np.float32)
    Z[:, 3] = 2.5
    Z[:, 4] = np.maximum(Z[:, 4], 0)
    return (np.round(Z) if ties else Z), draw.permutation(LARGE)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("depth", [3, 700, LARGE])
def test_rows_of_a_pole_come_in_the_order_of_a_full_sort(ties, depth):
    Z, place = large(ties)
    poles = [(0, 1), (0, -1), (2, -1), (3, 1), (4, -1)]
    ranking = Ranking(Z, place, dict.fromkeys(poles, depth))
    for axis, sign in poles:
        expected = np.lexsort((place, -sign * Z[:, axis]))
        found = np.concatenate(list(ranking.chunks((axis, sign))))
        np.testing.assert_array_equal(found, expected)
        on_side = np.concatenate(list(ranking.on_side((axis, sign))))
        np.testing.assert_array_equal(on_side, expected[sign * Z[expected, axis] > 0])


@pytest.mark.parametrize("ties", [False, True])
def test_quantiles_are_shares_of_the_pool(ties):
    Z, _ = large(ties)
    draw = np.random.default_rng(1)
    rows = draw.integers(0, LARGE, 40)
    axis, pole = draw.integers(0, 5, 40), draw.choice([-1, 1], 40)
    expected = [
        (s * Z[:, a] <= s * Z[row, a]).mean() for row, a, s in zip(rows, axis, pole, strict=True)
    ]
    np.testing.assert_allclose(quantiles(Z, rows, axis, pole), expected, rtol=1e-12)


def test_a_large_pool_is_selected_from_as_a_small_one_would_be():
    Z, order = large()
    selection = select(Z, "top", 600, axes=[(1, -1), (2, 1)], exclude=range(1000))
    left = [np.argsort(Z[1000:, 1]) + 1000, np.argsort(-Z[1000:, 2]) + 1000]
    expected = []
    while len(expected) < 600:
        for ranked in left:
            expected.append(next(row for row in ranked if row not in expected))
    assert selection.indices.tolist() == expected
    ids = [f"row {i}" for i in range(LARGE)]
    chosen = select(Z, "top", 50, ids=ids).receipts["id"].tolist()
    shuffled = select(Z[order], "top", 50, ids=[ids[i] for i in order])
    assert shuffled.receipts["id"].tolist() == chosen


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 300),
    k=st.integers(1, 4),
    shift=st.sampled_from([0, 1e4, -1e6]),
    bytes_=st.sampled_from([64, 999, 2**21]),
)
def test_mean_spread_and_hash_are_those_of_the_whole(n, k, shift, bytes_):
    draw = np.random.default_rng(n)
    Z, order = draw.normal(size=(n, k)) + shift, draw.permutation(n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "BLOCK_BYTES", bytes_)
        mean, spread = matrix.mean_and_spread(Z, order)
        digest = matrix.sha256(Z, order)
        assert digest == matrix.sha256(Z[order]) == matrix.sha256(np.asfortranarray(Z[order]))
    np.testing.assert_allclose(mean, Z.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(spread, Z.std(axis=0), rtol=1e-6, atol=1e-9)
    expected = hashlib.sha256(f"<f8{Z.shape}".encode() + Z[order].tobytes()).hexdigest()
    assert digest == expected


# ----------------------------------------------------------------------------------------- orders


def orders(names, seed):
    """Ids in the order of their keys, and as drawn, for rows as they stand."""
    ids = RowIds(names, len(names))
    assert sorted(ids.by_id) == sorted(ids.seeded_order(seed)) == list(range(len(names)))
    return [[names[i] for i in order] for order in (ids.by_id, ids.seeded_order(seed))]


@settings(max_examples=50, deadline=None)
@given(
    names=st.lists(st.text(), min_size=1, max_size=30, unique=True),
    data=st.data(),
    seed=st.integers(-(2**70), 2**70),
    n_keys=st.sampled_from([1, 3, None]),
)
def test_orders_depend_on_the_ids_alone_even_where_their_keys_collide(names, data, seed, n_keys):
    shuffled = data.draw(st.permutations(names))
    with pytest.MonkeyPatch.context() as patch:
        if n_keys:
            keys = row_ids.text_keys
            patch.setattr(row_ids, "text_keys", lambda texts: keys(texts) % np.uint64(n_keys))
        assert orders(names, seed) == orders(shuffled, seed)
        with pytest.raises(InputError, match="unique"):
            RowIds([*names, names[0]], len(names) + 1)


def test_half_a_surrogate_pair_is_an_id_like_any_other():
    assert orders(["a", "\ud800", "b"], 0) == orders(["\ud800", "b", "a"], 0)
    # The way around gives the other ids the keys that they always have.
    keys = dict(zip("ab", row_ids.text_keys(np.array(["a", "b"], dtype=object)), strict=True))
    assert row_ids.text_keys(np.array(["b", "\ud800"], dtype=object))[0] == keys["b"]


def test_positions_are_ids_only_as_they_are_written():
    ids = RowIds(None, 12)
    assert ids.rows([3, "11", 3], "include") == [3, 11]
    for wrong in ("03", "12", "-1", "1.0", "²"):
        with pytest.raises(InputError, match="not in the pool"):
            ids.rows([wrong], "include")


def test_every_row_is_first_as_often_as_any_other():
    counts = np.zeros(8)
    for seed in range(1600):
        counts[RowIds(None, 8).seeded_order(seed)[0]] += 1
    # Chi-squared with 7 degrees of freedom: 24.3 at 0.1 %.
    assert ((counts - 200) ** 2 / 200).sum() < 24.3
