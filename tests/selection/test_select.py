"""Selections: budgets, quotas, order, receipts, and doing it again."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.errors import InputError
from mnskills_viz.selection import pole_weakness, replay, select, text_vectors
from mnskills_viz.selection.strategies import STRATEGIES, apportion

STRATEGY_NAMES = list(STRATEGIES)

ROW_INPUTS = ("Z", "ids", "tokens", "categories", "texts", "coordinates")
"""What goes with the rows when they come in another order."""


def pool(n=120, k=4, seed=0):
    """A pool with ids, token counts and categories, and a probe that fails along axis 1."""
    draw = np.random.default_rng(seed)
    probe = 3 * draw.normal(size=(500, k))
    noise = 0.3 * draw.normal(size=500)
    return {
        "Z": 3 * draw.normal(size=(n, k)),
        "ids": [f"row-{i}" for i in draw.permutation(n)],
        "probe": probe,
        "error": 1 / (1 + np.exp(-probe[:, 1] - 0.4 * probe[:, 2] - noise)),
        "tokens": draw.integers(1, 40, n),
        "categories": [["a", "b", None][i] for i in draw.integers(0, 3, n)],
    }


def inputs(of, *names):
    return {name: of[name] for name in ("ids", "probe", "error", *names)}


def asked(strategy, of, *names):
    """All that a strategy needs of a pool, and what is named beside."""
    needed = {name: of[name] for name in ("Z", "ids", "probe", "error", *names)}
    if strategy == "category":
        needed["categories"] = of["categories"]
    if strategy == "text_diversity":
        needed["texts"] = np.cos(of["Z"])
    if strategy == "influence":
        draw = np.random.default_rng(len(of["Z"]))
        gradients = of["Z"] @ draw.normal(size=(of["Z"].shape[1], 7))
        needed |= {"Z": gradients, "coordinates": of["Z"], "probe": draw.normal(size=(30, 7)) + 0.3}
        del needed["error"]
    return {"strategy": strategy} | needed


def in_order(arguments, order):
    """The same arguments with the rows in another order."""
    return arguments | {
        name: arguments[name][order]
        if isinstance(arguments[name], np.ndarray)
        else [arguments[name][row] for row in order]
        for name in ROW_INPUTS
        if name in arguments
    }


def chosen_ids(selection):
    return selection.receipts["id"].tolist()


# ---------------------------------------------------------------------------- what always holds


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(5, 80),
    share=st.floats(0.01, 1),
    in_tokens=st.booleans(),
    ties=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_budget_is_kept_without_duplicates_in_any_row_order(
    strategy, n, share, in_tokens, ties, seed
):
    data = pool(n, seed=seed)
    if ties:
        data["Z"] = np.round(data["Z"] / 3)
    total = int(data["tokens"].sum()) if in_tokens else n
    budget = max(int(share * total), int(data["tokens"].min()) if in_tokens else 1)
    names = ["tokens"] if in_tokens else []
    arguments = asked(strategy, data, *names) | {"budget": budget, "seed": seed}

    first = select(**arguments)
    assert len(set(first.indices.tolist())) == len(first) == len(first.receipts)
    assert [data["ids"][i] for i in first.indices] == chosen_ids(first)
    assert first.indices.dtype == np.int64
    if in_tokens:
        spent = int(data["tokens"][first.indices].sum())
        assert 0 < spent <= budget
        assert first.recipe["picked"] == {"rows": len(first), "tokens": spent}
        left = np.setdiff1d(np.arange(n), first.indices)
        assert not len(left) or data["tokens"][left].min() > budget - spent
    else:
        assert len(first) == budget

    second = select(**in_order(arguments, np.random.default_rng(seed + 1).permutation(n)))
    assert chosen_ids(second) == chosen_ids(first)
    assert second.recipe == first.recipe
    assert second.receipts.drop(columns="index").equals(first.receipts.drop(columns="index"))


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_replay_from_json_gives_the_same_rows(strategy, dtype):
    data = pool()
    data["Z"] = data["Z"].astype(dtype)
    arguments = asked(strategy, data, "tokens", "categories") | {"utility": [0.1, 1, 1, 0.2]}
    first = select(
        **arguments, budget=300, axes=[1, (2, -1), (2, 1)], include=["row-3"],
        exclude=["row-5", "row-6"], caps={"a": 9}, z_distance=0.1, seed=5,
    )  # fmt: skip
    again = {name: value for name, value in arguments.items() if name != "strategy"}
    recipe = json.loads(json.dumps(first.recipe))
    second = replay(recipe, **again)
    np.testing.assert_array_equal(first.indices, second.indices)
    assert first.receipts.equals(second.receipts)
    assert first.recipe == second.recipe
    shuffled = in_order(again, np.random.default_rng(1).permutation(len(data["Z"])))
    assert chosen_ids(replay(recipe, **shuffled)) == chosen_ids(first)


def test_replay_refuses_other_inputs_and_names_them():
    data = pool()
    recipe = select(data["Z"], budget=9, **inputs(data)).recipe
    changed = data["error"].copy()
    changed[0] = 0.5
    with pytest.raises(InputError, match="error is not the same") as caught:
        replay(recipe, data["Z"], **inputs(data) | {"error": changed})
    assert "Z " not in str(caught.value)
    with pytest.raises(InputError, match="Z is not the same"):
        replay(recipe, data["Z"] + 1, **inputs(data))
    with pytest.raises(InputError, match="ids was given then and is not now"):
        replay(recipe, data["Z"], probe=data["probe"], error=data["error"])
    with pytest.raises(InputError, match="tokens was not given then and is now"):
        replay(recipe, data["Z"], **inputs(data, "tokens"))
    with pytest.raises(InputError, match="format 99"):
        replay(recipe | {"format": 99}, data["Z"], **inputs(data))
    with pytest.raises(InputError, match="seed"):
        replay(recipe | {"seed": "x"}, data["Z"], **inputs(data))
    with pytest.raises(InputError, match="no caps"):
        replay({k: v for k, v in recipe.items() if k != "caps"}, data["Z"], **inputs(data))


# ------------------------------------------------------------------------------------ strategies


def test_top_takes_turns_among_poles():
    Z = np.array([[9.0, 9.0], [8, 1], [7, 2], [1, 8], [2, 7], [0, 0]])
    selection = select(Z, "top", 4, axes=[0, 1])
    # Row 0 heads both; axis 1 goes on to its next.
    assert selection.indices.tolist() == [0, 3, 1, 4]
    assert selection.receipts["axis"].tolist() == [0, 1, 0, 1]
    assert selection.receipts["rank"].tolist() == [1, 2, 3, 4]


def test_top_of_a_negative_pole_is_its_lowest_rows():
    data = pool()
    selection = select(data["Z"], "top", 10, axes=[(2, -1)])
    assert selection.indices.tolist() == np.argsort(data["Z"][:, 2])[:10].tolist()
    assert (selection.receipts["z"] < 0).all()


def test_random_depends_on_the_seed_and_not_on_coordinates():
    data = pool()
    draw = [
        chosen_ids(select(Z, "random", 20, ids=data["ids"], seed=seed))
        for Z, seed in ((data["Z"], 0), (-data["Z"], 0), (data["Z"], 1))
    ]
    assert draw[0] == draw[1] != draw[2]


def test_random_is_fair():
    Z = np.zeros((20, 1))
    counts = np.zeros(20)
    for seed in range(400):
        counts[select(Z, "random", 5, seed=seed).indices] += 1
    # Binomial(400, 1/4): standard deviation 8.7.
    assert np.abs(counts - 100).max() < 40


def slow_weakness_picks(data, budget, utility=None):
    """Quotas and fill written plainly; the pool is large enough for every pole to fill its own."""
    scale = data["Z"].std(axis=0)
    z = data["Z"] / scale
    table = pole_weakness(data["probe"] / scale, data["error"])
    weights = {}
    for row in table.itertuples():
        useful = 1.0 if utility is None else max(0.0, row.pole * utility[row.axis])
        weights[row.axis, row.pole] = row.mass * useful
    exact = {p: budget * w / sum(weights.values()) for p, w in weights.items()}
    quota = {p: int(x) for p, x in exact.items()}
    for p in sorted(exact, key=lambda p: quota[p] - exact[p])[: budget - sum(quota.values())]:
        quota[p] += 1
    shrunk = {(row.axis, row.pole): row.shrunk for row in table.itertuples()}
    picks = []
    for axis, sign in sorted(quota, key=lambda p: -shrunk[p]):
        ranked = sorted(range(len(z)), key=lambda i, a=axis, s=sign: -s * z[i, a])
        fresh = [i for i in ranked if i not in picks][: quota[axis, sign]]
        picks += fresh
    return picks, quota


@pytest.mark.parametrize("utility", [None, [0.2, 0.5, 1.0, -0.3]])
def test_weakness_fills_quotas_from_the_weakest_pole(utility):
    data = pool(n=1000)
    selection = select(data["Z"], budget=60, utility=utility, **inputs(data))
    picks, quota = slow_weakness_picks(data, 60, utility)
    assert selection.indices.tolist() == picks
    taken = selection.receipts.groupby(["axis", "pole"]).size().to_dict()
    assert taken == {pole: count for pole, count in quota.items() if count}
    assert selection.receipts["weakness"].is_monotonic_decreasing


def test_useless_axes_leave_the_mass_alone():
    data = pool()
    plain = select(data["Z"], budget=20, **inputs(data))
    zero = select(data["Z"], budget=20, utility=[0, 0, 0, 0], **inputs(data))
    assert chosen_ids(plain) == chosen_ids(zero)
    assert any("mass alone" in note for note in zero.recipe["notes"])


def test_nothing_weak_is_random_and_says_so():
    data = pool()
    probe = np.concatenate([np.eye(4), -np.eye(4)] * 20)
    error = np.repeat(np.tile([0.0, 1.0], 10), 8)
    with pytest.warns(UserWarning, match="at random") as caught:
        selection = select(data["Z"], budget=20, ids=data["ids"], probe=probe, error=error)
    assert caught[0].filename == __file__
    assert any("at random" in note for note in selection.recipe["notes"])
    assert chosen_ids(selection) == chosen_ids(select(data["Z"], "random", 20, ids=data["ids"]))


def test_a_pool_without_rows_on_the_weak_side_still_meets_the_budget_and_says_so():
    data = pool(n=30)
    data["Z"][:, 1] = -np.abs(data["Z"][:, 1]) - 1
    selection = select(data["Z"], budget=10, axes=[(1, 1)], scale=np.ones(4), **inputs(data))
    assert len(selection) == 10
    assert any("10 of 10 rows do not lie" in note for note in selection.recipe["notes"])


def test_axes_restrict_weakness_to_their_poles():
    data = pool()
    only = select(data["Z"], budget=10, axes=[2], **inputs(data)).receipts
    assert set(zip(only["axis"], only["pole"], strict=True)) == {(2, 1)}


def test_long_rows_are_not_put_at_a_disadvantage_by_token_quotas():
    data = pool(n=3000, k=8)
    data["tokens"] = np.random.default_rng(9).integers(10, 300, 3000)
    selection = select(data["Z"], budget=30_000, **inputs(data, "tokens"))
    assert data["tokens"][selection.indices].mean() == pytest.approx(154.5, rel=0.12)
    assert data["tokens"][selection.indices].sum() > 29_900


@given(
    budget=st.integers(0, 500),
    weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-3),
)
def test_apportioned_shares_add_up_and_stay_within_one(budget, weights):
    shares = apportion(budget, np.array(weights))
    exact = budget * np.array(weights) / np.sum(weights)
    assert shares.sum() == budget
    assert (np.abs(shares - exact) < 1 + 1e-9).all()


def test_largest_remainders_round_up():
    assert apportion(10, np.array([47.0, 16, 15.8, 12, 6.1, 3.1])).tolist() == [5, 2, 1, 1, 1, 0]
    assert apportion(3, np.array([1.0, 1])).tolist() == [2, 1]


# ---------------------------------------------------------------------------------- row options


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_include_comes_first_and_exclude_never(strategy):
    data = pool()
    arguments = asked(strategy, data) | {"budget": 10}
    without = chosen_ids(select(**arguments))[:3]
    wanted = [i for i in ("row-9", "row-2", "row-1", "row-4", "row-7") if i not in without][:2]
    selection = select(**arguments, include=wanted, exclude=without)
    assert chosen_ids(selection)[:2] == wanted
    assert not set(without) & set(chosen_ids(selection))
    assert len(selection) == 10


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_caps_hold_and_leave_rows_without_category_alone(strategy):
    data = pool()
    most = 4 + 11 + data["categories"].count(None)
    selection = select(
        **asked(strategy, data) | {"categories": data["categories"]},
        budget=most,
        caps={"a": 4, "b": 11},
    )
    categories = [data["categories"][i] for i in selection.indices]
    assert (categories.count("a"), categories.count("b")) == (4, 11)
    assert len(selection) == most


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_near_duplicates_are_passed_over_in_text_and_in_skill_space(strategy, monkeypatch):
    monkeypatch.setattr(text_vectors, "_has_minilm", lambda: False)  # the slow one
    data = pool(n=60)
    story = "a tale of {} and {} who met by chance near the old mill one day in spring and stayed"
    texts = [story.format(f"name{i}", f"town{i} {i} {i + 1} {i + 2} {i * i}") for i in range(60)]
    # Rows 1, 2 and 3 repeat row 0 in text, rows 5 and 6 row 4 in skill space, but for a little.
    texts[1] = texts[2] = texts[3] = texts[0]
    data["Z"][5] = data["Z"][6] = data["Z"][4] * 1.0001
    arguments = asked(strategy, data) | {"texts": texts, "z_distance": 0.001}
    selection = select(**arguments, budget=58)
    assert len(set(selection.indices.tolist()) & {0, 1, 2, 3}) == 1
    assert len(set(selection.indices.tolist()) & {4, 5, 6}) == 1
    assert len(selection) == 55
    notes = " ".join(selection.recipe["notes"])
    assert "5 rows were passed over" in notes
    assert "not met" in notes
    kept = select(**arguments | {"text_similarity": None}, budget=58)
    assert {0, 1, 2, 3} < set(kept.indices.tolist())
    # A row that was asked for by name is taken all the same.
    twins = [data["ids"][row] for row in (0, 1, 4, 5)]
    wanted = select(**arguments, budget=8, include=twins)
    assert chosen_ids(wanted)[:4] == twins
    assert not {2, 3, 6} & set(wanted.indices.tolist())
    assert not any("not met" in note for note in wanted.recipe["notes"])


def test_without_ids_rows_are_known_by_position():
    selection = select(pool()["Z"], "random", 3, include=[7, 5])
    assert selection.indices.tolist()[:2] == [7, 5]
    assert chosen_ids(selection)[:2] == ["7", "5"]


def test_receipts_say_where_a_row_stands():
    Z = np.array([[4.0, 1.0, -2.0], [1.0, 3.0, 0.0], [-1.0, -5.0, 2.0], [0.0, 0.5, 0.5]])
    receipts = select(Z, "top", 2, axes=[(0, 1)], scale=[2, 1, 1]).receipts
    first = receipts.iloc[0]
    assert list(receipts) == [
        "rank", "index", "id", "axis", "pole", "z", "quantile", "weakness", "runner_up", "reason",
    ]  # fmt: skip
    assert (first["index"], first["id"], first["axis"], first["pole"]) == (0, "0", 0, 1)
    assert (first["z"], first["quantile"], first["runner_up"]) == (2.0, 1.0, "axis 2 -")
    assert np.isnan(first["weakness"])
    assert "axis 0 +" in first["reason"]
    assert receipts.iloc[1]["quantile"] == 0.75
    drawn = select(Z, "random", 4, scale=[1, 1, 1]).receipts.set_index("index")
    assert (drawn.loc[2, "axis"], drawn.loc[2, "pole"], drawn.loc[2, "z"]) == (1, -1, -5.0)
    assert drawn.loc[2, "runner_up"] == "axis 2 +"
    assert select([[1.0]], "random", 1).receipts.loc[0, "runner_up"] == ""


def test_what_a_strategy_does_not_use_is_noted():
    data = pool()
    notes = select(data["Z"], "random", 3, axes=[0], utility=[1, 1, 1, 1]).recipe["notes"]
    assert len([note for note in notes if "does not use" in note]) == 2


def test_a_small_or_shifted_probe_is_noted():
    data = pool()
    selection = select(data["Z"], budget=5, probe=data["probe"][:90] + 3, error=data["error"][:90])
    assert any("90 examples" in note for note in selection.recipe["notes"])
    assert any("+1." in note and "shift" in note for note in selection.recipe["notes"])


def test_float32_stays_and_a_constant_axis_does_no_harm():
    Z = pool()["Z"].astype(np.float32)
    Z[:, 3] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = select(Z, "top", 5, axes=[3, 0])
    assert len(selection) == 5


# ---------------------------------------------------------------------------------- wrong input


def with_nan(Z):
    Z = Z.copy()
    Z[4, 1] = np.nan
    return Z


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"strategy": "best"}, "unknown strategy 'best'; available: random, top, weakness"),
        ({"strategy": "category"}, "needs categories"),
        ({"strategy": "category", "categories": [None] * 120}, "needs categories"),
        ({"strategy": "text_diversity"}, "needs texts"),
        ({"strategy": "influence", "probe": None, "error": None}, "needs probe .* gradients"),
        ({"strategy": "influence", "scale": [1, 1, 1, 1]}, "scale .* coordinates"),
        ({"strategy": "influence", "coordinates": np.ones((3, 2))}, "coordinates has shape"),
        ({"strategy": "influence", "z_distance": 0.1}, "give them as coordinates"),
        ({"strategy": "influence", "probe": np.ones((9, 3))}, "3 columns and Z has 4.* gradients"),
        ({"coordinates": np.ones((120, 4))}, 'coordinates go with strategy "influence"'),
        ({"categories": ["a"]}, "categories has 1"),
        ({"categories": [["a"]] * 120}, "categories must be texts"),
        ({"texts": ["a"]}, "texts has 1"),
        ({"texts": "a"}, "list of texts"),
        ({"texts": ["a"] * 119 + [None]}, "entry 119 is a NoneType"),
        ({"texts": np.full((120, 3), np.nan)}, "texts: 120 of 120"),
        ({"text_similarity": "0.8"}, "text_similarity must be a number"),
        ({"z_distance": -1.0}, "z_distance"),
        ({"budget": 121}, "121 rows is more than the pool's 120"),
        ({"budget": 118, "exclude": ["row-1", "row-2", "row-3"]}, "118 rows .* pool's 117"),
        ({"budget": 0}, "at least 1"),
        ({"budget": 2.5}, "whole number"),
        ({"Z": np.zeros((0, 4))}, "empty"),
        ({"Z": np.zeros(4)}, "shape"),
        ({"Z": [["a"]]}, "numbers"),
        ({"Z": with_nan(pool()["Z"])}, "row 4"),
        ({"Z": np.outer([1, -1] * 60, np.full(4, 1e300))}, "too large"),
        ({"scale": [1e-320] * 4}, "beyond float64; check scale"),
        ({"ids": ["x"] * 120}, "unique; 'x'"),
        ({"ids": "x"}, "list of ids"),
        ({"ids": ["x"]}, "1 entries"),
        ({"probe": np.ones((500, 3))}, "3 columns"),
        ({"probe": None}, "belong together"),
        ({"probe": None, "error": None}, "needs probe"),
        ({"error": np.full(500, 0.5)}, "log-probability"),
        ({"error": [0.1]}, "shape"),
        ({"scale": [1, 1, 0, 1]}, "axis 2"),
        ({"utility": [1, 1]}, "utility has 2"),
        ({"tokens": [0] * 120}, "above 0"),
        ({"tokens": [1, 2]}, "tokens has 2"),
        ({"tokens": [50] * 120, "budget": 6001}, "6001 tokens .* 6000"),
        ({"tokens": [50] * 120, "budget": 49}, "49 tokens .* 50"),
        ({"include": ["nobody"]}, "include: .*'nobody'"),
        ({"exclude": ["nobody"]}, "exclude: .*'nobody'"),
        ({"include": "row-1"}, "list of ids"),
        ({"include": ["row-1"], "exclude": ["row-1"]}, "in include and in exclude"),
        ({"include": ["row-1", "row-2", "row-3"], "budget": 2}, "beyond the budget"),
        ({"axes": [4]}, "axes 0 to 3"),
        ({"axes": []}, "at least one"),
        ({"axes": [1, (1, -1)]}, "none twice"),
        ({"axes": [(1, 2)]}, "1 or -1"),
        ({"axes": 1}, "must be a list"),
        ({"caps": {"a": 3}}, "needs categories"),
        ({"caps": {"z": 3}, "categories": ["a"] * 120}, "'z'"),
        ({"caps": {"a": 3}, "categories": ["a"] * 120}, "10 rows .* pool's 3"),
        ({"seed": "x"}, "seed"),
    ],
)
def test_wrong_input_is_one_clear_line(change, says):
    data = pool()
    arguments = {"Z": data["Z"], "budget": 10} | inputs(data) | change
    with pytest.raises(InputError, match=says) as caught:
        select(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [300, 20_000])
@pytest.mark.parametrize("constant", [0.1, 3.3333333, 7.7])
def test_a_constant_axis_counts_for_nothing(n, constant):
    Z = np.random.default_rng(0).standard_normal((n, 3))
    Z[:, 0] = constant
    zeros = Z.copy()
    zeros[:, 0] = 0.0
    for strategy in ("d_optimal", "k_center", "top"):
        with_constant = select(Z, strategy, 6, axes=[1, 2])
        assert (
            with_constant.indices.tolist()
            == select(zeros, strategy, 6, axes=[1, 2]).indices.tolist()
        )
    assert select(Z, "random", 5).receipts["z"].abs().max() < 100


def test_equal_errors_stop_weakness_alone():
    Z = np.random.default_rng(0).standard_normal((50, 3))
    probe, error = Z[:8] + 0.1, np.ones(8)
    chosen = select(Z, "random", 5, probe=probe, error=error)
    assert chosen.receipts["weakness"].isna().all()
    assert any("all errors of the probe are equal" in note for note in chosen.recipe["notes"])
    with pytest.raises(InputError, match="have the same error"):
        select(Z, "weakness", 5, probe=probe, error=error)


def test_a_pool_that_is_not_centred_is_told():
    Z = np.random.default_rng(0).standard_normal((50, 3))
    Z[:, 1] += 2
    notes = select(Z, "random", 5).recipe["notes"]
    assert any("Z is not centred" in note and "axis 1" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": None}, "include must be a list of ids"),
        ({"exclude": 3}, "exclude must be a list of ids"),
        ({"include": ["7" * 5000]}, "ids are not in the pool"),
        ({"caps": ["a"], "categories": ["a"] * 50}, "caps must be a dict"),
        ({"strategy": ["random"]}, "unknown strategy"),
        ({"axes": [(0, np.ones(2))]}, "pole of axis 0 must be 1 or -1"),
        ({"tokens": [2**62] * 50}, "tokens add up to"),
        ({"text_similarity": True, "texts": ["a"] * 50}, "text_similarity must be a number"),
    ],
)
def test_what_is_not_an_option_is_one_short_line(options, words):
    Z = np.random.default_rng(0).standard_normal((50, 3))
    with pytest.raises(InputError, match=words) as caught:
        select(Z, **{"strategy": "random", "budget": 5} | options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200 or "7" * 20 in str(caught.value)


def test_a_seed_of_any_size_is_a_seed():
    Z = np.random.default_rng(0).standard_normal((50, 3))
    assert len(select(Z, "random", 5, seed=10**5000)) == 5
