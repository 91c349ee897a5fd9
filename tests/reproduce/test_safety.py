"""Coverage of unseen attack families, against brute force and closed forms."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

import mnskills_viz as mn
from benchmarks.reproduce.safety import (
    STRATEGIES,
    covered,
    measure_coverage,
    sample_efficiency,
    spread,
    whitened,
)
from mnskills_viz.corpus import Corpus, Example
from mnskills_viz.corpus.adversarial import adversarial_corpus, safety_stand_in
from mnskills_viz.selection.text_vectors import text_vectors

ROWS = 72
OPTIONS = {"layer": 1, "ruler_layer": 2, "rows": ROWS, "n_random": 2, "n_axes": 5}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("safety") / "rows"


@pytest.fixture(scope="module")
def found(tiny_model, store):
    return measure_coverage(tiny_model, **OPTIONS, store=store, progress=False)


@pytest.fixture(scope="module")
def attacks():
    wrapped = adversarial_corpus(safety_stand_in("behaviours"), safety_stand_in("templates"))
    return spread(wrapped, ROWS)


def line(found, **asked):
    """The one row of the table that is so."""
    (one,) = (r for r in found["table"] if all(r[name] == asked[name] for name in asked))
    return one


def farthest_first(z, budget):
    """The authors' rule by brute force: far outliers capped, from the farthest of the mean on."""
    cap = np.quantile(np.abs(z), 0.995, axis=0)
    z = np.clip(z, -cap, cap)
    taken = [int(np.linalg.norm(z - z.mean(axis=0), axis=1).argmax())]
    while len(taken) < budget:
        taken.append(int(cdist(z, z[taken]).min(axis=1).argmax()))
    return taken


def test_radii_are_those_of_brute_force_without_the_family(tiny_model, attacks, found):
    acts = mn.collect(
        tiny_model, attacks, layers=[1, 2], pooling="last", tokens="prompt", progress=False
    )
    family = found["held_out"][0]
    unseen = np.array([e.category == family for e in attacks])
    spaces = {}
    for layer in (1, 2):
        X = acts.matrix(layer).astype(np.float64)
        spaces[f"layer {layer}"] = PCA(5, whiten=True).fit(X[~unseen]).transform(X)
    for budget in (8, 32):
        taken = farthest_first(spaces["layer 1"][~unseen], budget)
        for ruler, z in spaces.items():
            nearest = cdist(z[unseen], z[~unseen][taken]).min(axis=1)
            one = line(found, family=family, strategy="k_center", budget=budget, ruler=ruler)
            assert one["radius"] == pytest.approx(nearest.max(), rel=0.01)  # rows in float16
            assert one["radius_95"] == pytest.approx(np.quantile(nearest, 0.95), rel=0.01)


def test_every_family_strategy_budget_seed_and_ruler_is_there_once(found):
    keys = [
        tuple(one[name] for name in ("family", "strategy", "budget", "seed", "ruler"))
        for one in found["table"]
    ]
    seeds = {name: range(2 if name == "random" else 1) for name in STRATEGIES}
    assert sorted(keys) == sorted(
        (family, strategy, budget, seed, ruler)
        for family, strategy, budget, ruler in itertools.product(
            found["held_out"], STRATEGIES, found["budgets"], found["rulers"]
        )
        for seed in seeds[strategy]
    )
    assert found["rulers"] == ["layer 1", "layer 2", "text"]
    assert all(one["radius_95"] <= one["radius"] for one in found["table"])


def test_budgets_beyond_two_thirds_of_the_smallest_pool_are_dropped(found):
    smallest = found["data"]["rows"] - max(found["data"]["families"].values())
    assert found["budgets"] == [8, 16, 32]
    assert 32 <= 2 * smallest / 3 < 64


def test_a_second_call_reads_what_is_stored_and_finds_the_same(tiny_model, store, found):
    versions = store / "_versions"
    before = sorted(path.name for path in versions.iterdir())
    assert measure_coverage(tiny_model, **OPTIONS, store=store, progress=False) == found
    assert sorted(path.name for path in versions.iterdir()) == before


def test_no_text_of_a_request_is_in_the_results(found):
    text = json.dumps(found)
    assert json.loads(text) == found
    for what, column in (("behaviours", "prompt"), ("templates", "text")):
        lines = safety_stand_in(what).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(one) for one in lines]
        column = next(name for name in ("goal", "template", "text", "prompt") if name in rows[0])
        assert not any(row[column][:25] in text for row in rows)


def test_the_unseen_family_has_no_say_in_what_is_selected():
    generator = np.random.default_rng(0)
    X, other = generator.standard_normal((2, 60, 6))
    pool = np.arange(60) >= 12
    other[pool] = X[pool]
    ids = [f"row-{i}" for i in range(60)]
    tables = []
    for rows in (X, other):
        z = whitened(rows, pool, 4)
        spaces = {"layer 0": z, "text": text_vectors(ids).vectors}
        tables.append(list(covered(spaces, pool, ids, "one", [8, 16], 2)))
    for one, same in zip(*tables, strict=True):
        assert one["log_det"] == same["log_det"]  # of what was taken
    pairs = [(a, b) for a, b in zip(*tables, strict=True) if a["ruler"] == "layer 0"]
    assert all(a["radius"] != b["radius"] for a, b in pairs)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), min_size=4, max_size=40),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_a_spread_draws_equal_shares_whatever_the_order(families, rows, random):
    corpus = Corpus(Example(f"{i}", "?", category=f) for i, f in enumerate(families))
    drawn = spread(corpus, rows)
    counts = {f: [e.category for e in drawn].count(f) for f in set(families)}
    assert len(drawn) == min(rows, len(families))
    for family, count in counts.items():  # a smaller share is all that there is
        assert count == families.count(family) or count >= max(counts.values()) - 1
    shuffled = list(corpus)
    random.shuffle(shuffled)
    assert set(spread(Corpus(shuffled), rows).ids) == set(drawn.ids)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ruler_layer": 1}, "another layer than 1"),
        ({"budgets": ()}, "at least 1"),
        ({"n_random": 0}, "at least 1"),
        ({"budgets": (600,)}, "fewer than the smallest budget, 600"),
        ({"templates": ["In a story, [INSERT PROMPT HERE]"]}, "1 families have 4 rows"),
    ],
)
def test_what_cannot_be_measured_is_refused(tiny_model, options, said):
    with pytest.raises(mn.InputError, match=said):
        measure_coverage(tiny_model, **OPTIONS | options, progress=False)


def test_given_texts_are_named_by_their_digest(tiny_model):
    requests = [f"How do I reach town {i}?" for i in range(12)]
    wrappers = [
        "Once upon a time, in a story: [INSERT PROMPT HERE]",
        "Suppose that in theory one asks: [INSERT PROMPT HERE]",
        "Act as a pirate. [INSERT PROMPT HERE]",
    ]
    out = [
        measure_coverage(
            tiny_model, asked, wrappers, layer=1, ruler_layer=2, n_random=1, progress=False
        )["data"]
        for asked in (requests, requests[::-1])
    ]
    assert out[0]["families"] == {"fiction": 12, "hypothetical": 12, "role-play": 12}
    assert out[0]["files"].keys() == {"behaviours", "templates"}
    assert out[0]["files"]["behaviours"] != out[1]["files"]["behaviours"]
    assert out[0]["files"]["templates"] == out[1]["files"]["templates"]


# ------------------------------------------------------------------------ sample efficiency

BUDGETS = (8, 16, 32, 64)


def table_of(curves, seeds=1):
    """strategy -> radius of (family number, budget), as a table by one ruler."""
    return [
        {
            "family": f"family {number}", "strategy": strategy, "budget": budget, "seed": seed,
            "ruler": "layer 1", "radius": radius(number, budget),
        }
        for strategy, radius in curves.items()
        for number, budget, seed in itertools.product(range(3), BUDGETS, range(seeds))
    ]  # fmt: skip


def at(rows, **asked):
    (one,) = (r for r in rows if all(r[name] == asked[name] for name in asked))
    return one


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 4.0), st.floats(0.1, 3.0), st.floats(-5, 5))
def test_a_strategy_worth_so_many_rows_reaches_the_radius_with_so_many_fewer(times, slope, level):
    def text(number, budget):
        return level + number - slope * np.log(budget)

    rows = sample_efficiency(
        table_of({"text_diversity": text, "k_center": lambda f, b: text(f, times * b)}),
        references=["text_diversity"],
    )
    assert [one["strategy"] for one in rows] == ["k_center"] * 4
    for one in rows:
        exact = one["budget"] / times
        if exact < 8:
            assert [one[name] for name in ("reached_at", "low", "high")] == [8, 8, 8]
        elif exact > 64 * (1 + 1e-9):
            assert one["reached_at"] is one["low"] is one["high"] is None
        elif 8 * (1 + 1e-9) < exact < 64 * (1 - 1e-9):
            # Families differ by level alone: whichever are drawn, the answer is the same.
            for name in ("reached_at", "low", "high"):
                assert one[name] == pytest.approx(exact, rel=1e-6)


def test_the_interval_is_that_of_all_ways_to_draw_the_families():
    gains = (0.6, 1.5, 3.0)

    def text(number, budget):
        return 10 + number - np.log(budget)

    def center(number, budget):
        return text(number, gains[number] * budget)

    rows = sample_efficiency(
        table_of({"text_diversity": text, "k_center": center}), references=["text_diversity"]
    )
    # A draw of families is worth the geometric mean of their gains. Each family three times over
    # comes once in 27: rarer than that is nothing, and 2.5 % lie beyond neither end.
    worth = [np.prod(drawn) ** (1 / 3) for drawn in itertools.product(gains, repeat=3)]
    one = at(rows, budget=32)
    assert one["reached_at"] == pytest.approx(32 / np.prod(gains) ** (1 / 3), rel=1e-6)
    assert one["low"] == pytest.approx(32 / max(worth), rel=1e-6)
    assert one["high"] == pytest.approx(32 / min(worth), rel=1e-6)


def test_curves_that_rise_again_count_from_where_they_first_came_down():
    bumpy = dict(zip(BUDGETS, (4.0, 2.0, 3.0, 1.0), strict=True))
    curves = {
        "text_diversity": lambda _, budget: 5 - np.log2(budget / 4),
        "k_center": lambda _, budget: bumpy[budget],
    }
    rows = sample_efficiency(table_of(curves), references=["text_diversity"])
    assert at(rows, budget=16)["reached_at"] == pytest.approx(16 / np.sqrt(2))  # down to 3
    assert at(rows, budget=32)["reached_at"] == pytest.approx(16)  # down to 2
    assert at(rows, budget=64)["reached_at"] == pytest.approx(64)  # down to 1


def test_seeds_are_averaged_before_families_are_drawn():
    curves = {
        "random": lambda number, budget: 8 + number - np.log(budget),
        "k_center": lambda number, budget: 8.5 + number - np.log(budget),
    }
    table = table_of(curves, seeds=2)
    for one in table:
        one["radius"] += (one["seed"] - 0.5) * 0.7 * (one["strategy"] == "random")
    one = at(sample_efficiency(table, references=["random"]), budget=16)
    assert one["value"] == pytest.approx(8 + 1 - np.log(16))
    assert one["reached_at"] == pytest.approx(16 * np.exp(0.5))
    assert one["low"] == pytest.approx(one["high"])


def test_every_strategy_is_compared_with_both_references_by_every_ruler(found):
    rows = sample_efficiency(found["table"])
    assert len(rows) == 3 * 2 * 3 * len(found["budgets"])
    for one in rows:
        assert one["strategy"] != one["reference"]
        inside = [one[n] for n in ("low", "reached_at", "high") if one[n] is not None]
        assert all(8 <= budget <= 32 for budget in inside)
    rows_95 = sample_efficiency(found["table"], measure="radius_95")
    assert [r["value"] for r in rows_95] != [r["value"] for r in rows]


def test_a_table_that_lacks_something_is_refused(found):
    with pytest.raises(mn.InputError, match="lacks"):
        sample_efficiency(found["table"], references=["facility_location"])
    with pytest.raises(mn.InputError, match="lacks"):
        sample_efficiency([r for r in found["table"] if r["budget"] != 16 or r["seed"]])
