import json

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.steering import concat
from mnskills_viz.steering.sampled import random_like, sampled_arms, sampled_proxy

COLUMNS = ["axis", "layer", "dose", "utility", "low", "high", "damage", "null_low", "null_high"]
OPTIONS = {"n": 4, "temperature": 1.0, "max_new_tokens": 6, "progress": False}


def told_apart(example, text):
    """Passes about half of what a tiny model writes."""
    return float(sum(map(ord, text)) % 2)


@pytest.fixture(scope="module")
def bases(tiny_study):
    return {1: tiny_study.basis("pca-1")}


@pytest.fixture(scope="module")
def corpus(demo_rows):
    return demo_rows[:6]


@pytest.fixture(scope="module")
def table(tiny_model, bases, corpus):
    return sampled_proxy(
        tiny_model, bases, corpus, doses=(2, 8), axes=[0, 3], verifier=told_apart, **OPTIONS
    )


def rates(model, corpus, vector=None, k=1):
    found = mn.graded(
        model,
        corpus,
        verifier=told_apart,
        steering=vector,
        logprobs=False,
        **OPTIONS,
    )
    return mn.pass_at_k(found["n"], found["c"], k)


def test_utility_is_odd_and_damage_even_in_what_evaluate_counts(table, tiny_model, bases, corpus):
    assert list(table.columns) == COLUMNS
    assert table[["dose", "axis"]].to_numpy().tolist() == [[2, 0], [2, 3], [8, 0], [8, 3]]
    p_0 = rates(tiny_model, corpus)
    for row in table.itertuples():
        plus, minus = (
            rates(tiny_model, corpus, mn.SteeringVector.from_axis(bases[1], row.axis, dose=d))
            for d in (row.dose, -row.dose)
        )
        assert row.utility == pytest.approx((plus - minus).mean() / (2 * row.dose))
        assert row.damage == pytest.approx((p_0 - (plus + minus) / 2).mean())
        drawn = np.random.default_rng(5).integers(len(corpus), size=(4000, len(corpus)))
        resampled = ((plus - minus) / (2 * row.dose))[drawn].mean(axis=1)
        expected = np.quantile(resampled, [0.025, 0.975])
        spread = expected[1] - expected[0]
        np.testing.assert_allclose([row.low, row.high], expected, atol=0.15 * spread + 1e-9)
    assert table["utility"].nunique() > 1


def test_the_null_is_the_best_of_the_random_directions_of_that_norm(
    table, tiny_model, bases, corpus
):
    norms = bases[1].scale_
    median = int(np.argsort(norms)[4])  # of all eight axes, whichever were asked for
    for dose, some in table.groupby("dose"):
        like = mn.SteeringVector.from_axis(bases[1], median, dose=dose)
        measured = []
        for draw in range(2):
            push = random_like(like, (0, draw))
            change = rates(tiny_model, corpus, push) - rates(tiny_model, corpus, -1.0 * push)
            measured.append(abs(change.mean()) / (2 * dose))
        for row in some.itertuples():
            expected = max(measured) * norms[row.axis] / norms[median]
            assert row.null_high == pytest.approx(expected, rel=1e-5)
            assert row.null_low == -row.null_high


def test_random_vectors_have_the_norm_of_what_they_stand_for_at_every_block():
    vector = mn.SteeringVector({1: np.arange(32.0), 3: np.ones(32)})
    first, again, other = (random_like(vector, seed) for seed in ((0, 0), (0, 0), (0, 1)))
    for block in (1, 3):
        norm = np.linalg.norm(vector.directions[block])
        assert np.linalg.norm(first.directions[block]) == pytest.approx(norm, rel=1e-5)
        np.testing.assert_array_equal(first.directions[block], again.directions[block])
    cosines = [
        a.directions[1] @ b.directions[1] / np.linalg.norm(vector.directions[1]) ** 2
        for a, b in ((first, other), (first, vector))
    ]
    assert np.abs(cosines).max() < 0.8


def test_arms_are_what_evaluate_says_of_each(tiny_model, bases, corpus):
    found = sampled_arms(
        tiny_model,
        bases,
        corpus,
        doses=(2,),
        axes={1: [3]},
        k=(1, 4),
        temperatures=(0.5,),
        n_random=1,
        verifier=told_apart,
        **OPTIONS,
    )
    assert found["arm"].drop_duplicates().tolist() == [
        "unsteered",
        "layer-1-axis-3-dose+2.0",
        "layer-1-axis-3-dose-2.0",
        "layer-1-random-0-dose+2.0",
        "layer-1-random-0-dose-2.0",
        "temperature-0.5",
    ]
    assert found["temperature"].tolist() == [1.0] * 10 + [0.5] * 2
    assert (found.groupby("arm")["metric"].agg(list).map(str) == "['pass@1', 'pass@4']").all()
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    at = found.set_index(["arm", "metric"])["value"]
    vector = mn.SteeringVector.from_axis(bases[1], 3, dose=-2.0)
    for k in (1, 4):
        expected = rates(tiny_model, corpus, vector, k).mean()
        assert at["layer-1-axis-3-dose-2.0", f"pass@{k}"] == pytest.approx(expected)
    cooler = mn.evaluate(
        tiny_model, corpus, k=1, verifier=told_apart, **OPTIONS | {"temperature": 0.5}
    )
    expected = cooler[(cooler["group"] == "all") & (cooler["metric"] == "pass@1")]["value"].item()
    assert at["temperature-0.5", "pass@1"] == pytest.approx(expected)


def test_a_second_call_samples_only_what_is_missing(
    tiny_model, bases, corpus, tmp_path, monkeypatch
):
    options = {"axes": [1], "verifier": "exact", "store": tmp_path / "arms", **OPTIONS}
    first = sampled_proxy(tiny_model, bases, corpus, n_random=1, **options)
    folders = sorted(p.name for p in (tmp_path / "arms").iterdir() if p.is_dir())
    assert folders == [
        "layer-1-axis-1-dose+1.0",
        "layer-1-axis-1-dose-1.0",
        "layer-1-random-0-dose+1.0",
        "layer-1-random-0-dose-1.0",
        "unsteered",
    ]
    header = json.loads((tmp_path / "arms" / folders[0] / "header.json").read_text())
    vector = mn.SteeringVector.from_axis(bases[1], 1, dose=1.0)
    assert header["options"]["steering"] == vector.fingerprint
    sampled = []
    real = mn.evaluation.run.complete
    monkeypatch.setattr(
        "mnskills_viz.evaluation.run.complete",
        lambda *args, **kwargs: (sampled.append(args), real(*args, **kwargs)),
    )
    again = sampled_proxy(tiny_model, bases, corpus, n_random=1, **options)
    assert not sampled
    assert again.equals(first)
    sampled_arms(tiny_model, bases, corpus, k=1, n_random=1, temperatures=(0.5,), **options)
    assert len(sampled) == 1  # the other temperature
    sampled.clear()
    more = sampled_proxy(
        tiny_model,
        bases,
        corpus,
        n_random=1,
        **options | {"axes": range(1, 4), "verifier": "exact"},
    )
    assert len(sampled) == 4  # two axes more, both ways: random directions stay as they were
    assert more[more["axis"] == 1].reset_index(drop=True).equals(first)


def test_concatenated_layers_are_pushed_by_increments(tiny_model, tiny_study, corpus):
    rows = tiny_study.activations
    basis = mn.PCABasis(n_axes=3).fit(rows.matrix("concat"), source=rows.source("concat"))
    found = sampled_proxy(
        tiny_model,
        {"concat": basis},
        corpus,
        doses=(0.5,),
        axes=[0],
        n_random=1,
        verifier=told_apart,
        **OPTIONS,
    )
    up, down = (concat.concat_vector(tiny_model, basis, 0, d, corpus[:12]) for d in (0.5, -0.5))
    assert (-1.0 * up).fingerprint != down.fingerprint  # both signs are measured
    plus, minus = rates(tiny_model, corpus, up), rates(tiny_model, corpus, down)
    assert found["utility"].item() == pytest.approx((plus - minus).mean())
    assert found["layer"].item() == "concat"

    def norm(vector):
        return np.linalg.norm(np.concatenate(list(vector.directions.values())).astype(float))

    nominal = [concat.increments(basis, axis, 0.5) for axis in range(3)]
    like = sorted(nominal, key=norm)[1]
    push = random_like(like, (0, 0))
    change = (rates(tiny_model, corpus, push) - rates(tiny_model, corpus, -1.0 * push)).mean()
    expected = abs(change) * (norm(up) + norm(down)) / 2 / norm(like)
    assert found["null_high"].item() == pytest.approx(expected, rel=1e-5)


def test_without_random_directions_there_is_no_null(tiny_model, bases, corpus):
    found = sampled_proxy(
        tiny_model, bases, corpus, axes=[0], n_random=0, verifier=told_apart, **OPTIONS
    )
    assert found[["null_low", "null_high"]].isna().all(axis=None)


def test_bad_input_is_one_clear_line(tiny_model, bases, corpus):
    def refused(match, bases=bases, corpus=corpus, function=sampled_proxy, **options):
        with pytest.raises(mn.InputError, match=match) as error:
            function(
                tiny_model, bases, corpus, **OPTIONS | {"verifier": told_apart, "k": 1} | options
            )
        assert "\n" not in str(error.value)

    refused("no basis was given", bases={})
    refused("doses must be finite numbers above 0", doses=())
    refused("doses must be finite numbers above 0", doses=(1, float("nan")))
    refused("doses must be finite numbers above 0", doses=(-1,))
    refused("doses must be finite numbers above 0", doses=0.5)
    refused("doses must be finite numbers above 0", doses=["a"])
    refused("mapping of layers to bases, .* found a PCABasis", bases=bases[1])
    refused("mapping of layers to bases", bases={1: "pca"})
    refused("layer must be the number of a block", bases={"one": bases[1]})
    refused("axes 0 were asked for", axes=0)
    refused("axes '0' were asked for", axes="0")
    refused(r"axes \[0.5\] were asked for", axes=[0.5])
    refused(r"asked for at layers \[9\], which have no basis", axes={1: [0], 9: [3]})
    refused(r"k must be one whole number, not \(1, 2\); sampled_arms takes several", k=(1, 2))
    refused("k must be one whole number", k="1")
    refused("k must be a whole number, or several, at least one", function=sampled_arms, k=())
    for function in (sampled_proxy, sampled_arms):
        for seed in (-1, 1.5, "a"):
            refused("seed must be a whole number of at least 0", function=function, seed=seed)
    refused(r"axes \[8\] were asked for; the basis has axes 0 to 7", axes=[8])
    refused(r"axes \[\] were asked for", axes=[])
    refused(r"layer 1: axes \[\] were asked for", axes={})
    refused("block 9 is not there", bases={9: bases[1]})
    refused("k must lie between 1 and n = 4", k=5)
    refused("n_random must be", n_random=-1)
    for temperatures in ((-1,), 0.5, "hot", (float("nan"),)):
        refused("temperatures must be", function=sampled_arms, temperatures=temperatures)
    refused("temperature must be", temperature=-1)
    refused("unknown verifier 'judge'", verifier="judge")
    refused("the corpus is empty", corpus=corpus[:0])
