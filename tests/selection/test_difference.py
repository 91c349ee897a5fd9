"""What sets two selections apart, and what a selection is made of."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from mnskills_viz.errors import InputError
from mnskills_viz.selection import select
from mnskills_viz.selection.difference import by_quantile, composition, difference


@pytest.fixture(scope="module")
def pool():
    draw = np.random.default_rng(0)
    return {"Z": draw.normal(size=(200, 3)), "ids": [f"row-{i}" for i in range(200)]}


def ids(selection):
    return selection.receipts["id"].tolist()


def test_every_row_of_either_is_there_once_where_it_stands(pool):
    a = select(**pool, strategy="top", axes=[0, (1, -1)], budget=60)
    b = select(**pool, strategy="top", axes=[0, 2], budget=50)
    table = difference(a, b)
    assert set(table["id"]) == set(ids(a)) | set(ids(b))
    assert len(table) == len(set(table["id"]))
    for row in table.itertuples():
        assert row.where == {
            (True, True): "both", (True, False): "first only", (False, True): "second only",
        }[row.id in ids(a), row.id in ids(b)]  # fmt: skip
        for selection, rank, axis, pole in (
            (a, row.rank_a, row.axis_a, row.pole_a),
            (b, row.rank_b, row.axis_b, row.pole_b),
        ):
            if row.id not in ids(selection):
                assert rank is pd.NA
                assert axis is pd.NA
                continue
            receipt = selection.receipts.iloc[rank - 1]
            assert (receipt["id"], receipt["axis"], receipt["pole"]) == (row.id, axis, pole)
    assert table["id"].tolist()[:60] == ids(a)
    assert table["id"].tolist()[60:] == [i for i in ids(b) if i not in ids(a)]


def test_overlap_and_agreement_of_ranks(pool):
    a = select(**pool, strategy="top", axes=[0], budget=60)
    b = select(**pool, strategy="top", axes=[0, 2], budget=60)
    table = difference(a, b)
    shared = [i for i in ids(a) if i in ids(b)]
    assert table.attrs["jaccard"] == len(shared) / len({*ids(a), *ids(b)})
    assert table.attrs["counts"] == {
        "both": len(shared), "first only": 60 - len(shared), "second only": 60 - len(shared),
    }  # fmt: skip
    places = [[ids(s).index(i) for i in shared] for s in (a, b)]
    assert table.attrs["rank_correlation"] == pytest.approx(spearmanr(*places).statistic)
    assert table.attrs["poles"]["axis 0 +"]["a"] == 60
    assert sum(pole["b"] for pole in table.attrs["poles"].values()) == 60
    assert json.loads(json.dumps(table.attrs)) == table.attrs


def test_a_selection_does_not_differ_from_itself_and_may_share_nothing(pool):
    a = select(**pool, strategy="random", budget=40)
    same = difference(a, a)
    assert set(same["where"]) == {"both"}
    assert same.attrs["jaccard"] == 1
    assert same.attrs["rank_correlation"] == pytest.approx(1)
    b = select(**pool, strategy="random", budget=40, exclude=ids(a))
    apart = difference(a, b)
    assert apart.attrs["jaccard"] == 0
    assert apart.attrs["rank_correlation"] is None


def test_selections_on_other_axes_of_the_same_rows_are_compared(pool):
    a = select(**pool, strategy="random", budget=9)
    b = select(pool["Z"][:, :2] ** 2, "random", 9, ids=pool["ids"])
    assert difference(a, b).attrs["jaccard"] == 1


def test_other_pools_are_refused_in_one_line(pool):
    a = select(**pool, strategy="random", budget=9)
    b = select(pool["Z"][:150], "random", 9, ids=pool["ids"][:150])
    without = select(pool["Z"], "random", 9)
    others = select(2 * pool["Z"], "random", 9)
    for one, other in ((a, b), (a, without), (without, others)):
        with pytest.raises(InputError, match="different pools") as caught:
            difference(one, other)
        assert "\n" not in str(caught.value)
    assert difference(without, without).attrs["jaccard"] == 1


def test_composition_counts_and_its_band_holds_95_of_100_random_draws():
    draw = np.random.default_rng(1)
    labels = [["a", "b", None][i] for i in draw.choice(3, 400, p=[0.6, 0.3, 0.1])]
    chosen = [i for i, label in enumerate(labels) if label == "b"][:30]
    table = composition(labels, {"bs": chosen, "few": [0, 1, 2]})
    bs = table[table["selection"] == "bs"].set_index("group")
    assert list(bs.index) == ["a", "b", "(none)"]
    assert bs["count"].tolist() == [0, 30, 0]
    assert bs["pool_count"].to_dict() == {
        name: labels.count(None if name == "(none)" else name) for name in bs.index
    }
    assert bs["share"]["b"] == 1 > bs["high"]["b"] > bs["pool_share"]["b"] > bs["low"]["b"]

    draws = np.array([draw.choice(400, 30, replace=False) for _ in range(4000)])
    shares = (np.array(labels, dtype=object)[draws] == "b").mean(axis=1)
    inside = ((shares >= bs["low"]["b"]) & (shares <= bs["high"]["b"])).mean()
    below, above = (shares < bs["low"]["b"]).mean(), (shares > bs["high"]["b"]).mean()
    assert inside >= 0.94
    assert max(below, above) <= 0.032


@pytest.mark.parametrize("kind", [list, pd.Categorical, pd.Series])
def test_rows_without_a_label_are_one_group_however_that_is_written(kind):
    labels = kind(["a", None, float("nan"), "(none)", "a", "a", pd.NA, "nan"])
    table = composition(labels, {"s": [1, 2, 3, 0]}).set_index("group")
    assert table["pool_count"].to_dict() == {"a": 3, "(none)": 4, "nan": 1}
    assert table["count"].to_dict() == {"a": 1, "(none)": 3, "nan": 0}


def test_the_band_is_that_of_all_subsets():
    labels = ["x", "x", "x", "y", "y", "y", "y"]
    [x, _] = composition(labels, {"s": [0, 1, 3]}, confidence=0.8).sort_values("group").itertuples()
    counts = sorted(sum(i < 3 for i in subset) for subset in combinations(range(7), 3))
    low = next(c for c in counts if np.mean(np.array(counts) <= c) >= 0.1)
    high = next(c for c in counts if np.mean(np.array(counts) <= c) >= 0.9)
    assert (x.low, x.high, x.count) == (low / 3, high / 3, 2)


def test_quantile_groups_are_even_ordered_and_named_for_what_they_hold():
    lengths = np.random.default_rng(2).integers(5, 105, 1000)
    groups = by_quantile(lengths)
    table = composition(groups, {"long": np.argsort(lengths)[-50:]})
    assert table["group"].tolist() == list(groups.categories)
    assert table["pool_share"].between(0.07, 0.13).all()
    assert table["share"].tolist() == [0] * 9 + [1]
    for name, length in zip(groups, lengths, strict=True):
        low, _, high = name.partition(" to ")
        assert int(low) <= length <= int(high)
    assert list(by_quantile([7, 7, 7]).categories) == ["7"]
    assert list(by_quantile([1, 1, 1, 1, 5], 2)) == ["1"] * 4 + ["5"]


@pytest.mark.parametrize(
    ("labels", "selections", "message"),
    [
        ([], {"s": [0]}, "no labels"),
        (["a"], {}, "no selection"),
        (["a", "b"], {"s": []}, "'s' must be a list of rows"),
        (["a", "b"], {"s": [0.5]}, "'s' must be a list of rows"),
        (["a", "b"], {"s": [0, 2]}, "twice or beyond the pool's 2"),
        (["a", "b"], {"s": [1, 1]}, "twice or beyond the pool's 2"),
    ],
)
def test_compositions_of_nothing_are_refused(labels, selections, message):
    with pytest.raises(InputError, match=message):
        composition(labels, selections)
