"""Quality of bases: against scikit-learn, closed forms, planted structure, and chance."""

import itertools
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import r_regression
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mutual_info_score, r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from mnskills_viz.bases import confounds, quality, stability
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.bases.quality import nulls, summary
from mnskills_viz.bases.random import RandomBasis
from mnskills_viz.bases.sae import SAEBasis
from mnskills_viz.errors import InputError

WORDS = ("apple", "bread", "chair", "door", "earth", "fire", "glass", "house", "iron", "jar")


def rows(n: int = 200, d: int = 12, seed: int = 0) -> np.ndarray:
    """Rows with falling spreads, far from the origin."""
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.standard_normal((d, d)))
    return (generator.standard_normal((n, d)) * 0.7 ** np.arange(d)) @ turn + 5.0


def some_texts(n: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=8)) for _ in range(n)]


def along(directions: np.ndarray, X: np.ndarray) -> PCABasis:
    """A basis of given orthonormal axes through the mean of `X`."""
    basis = PCABasis(n_axes=len(directions)).fit(X)
    basis.components_ = directions.astype(X.dtype)
    return basis


# ----------------------------------------------------------------------------- the whole table


def test_a_planted_axis_recurs_and_tells_what_it_is_and_noise_does_neither():
    generator = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 200)
    lengths = generator.integers(10, 200, 400)
    X = generator.standard_normal((400, 10)) * 0.1
    X[:, 0] += np.where(labels == "a", 3.0, -3.0)
    X[:, 1] += (lengths - lengths.mean()) / lengths.std()
    table = PCABasis(n_axes=5).fit(X).quality(X, categories=labels, lengths=lengths)
    assert table["axis"].tolist() == [0, 1, 2, 3, 4]
    assert (table["stability"][:2] > 0.95).all()
    assert (table["bootstrap_low"][:2] > 0.95).all()
    assert (table["stability"][:2] > table["stability_null"][:2]).all()
    assert (table["stability"][2:] < table["stability_null"][2:]).all()
    assert (table["bootstrap_low"][2:] < 0.8).all()
    assert table["mutual_information"][0] == pytest.approx(np.log(2), abs=0.03)
    assert table["mutual_information"][2:].max() < 0.03
    assert table["length_r2"][1] > 0.9 > 0.1 > table["length_r2"][2:].max()
    assert table["variance"].is_monotonic_decreasing
    assert table["max_offdiag_cosine"].max() < 1e-10
    assert table["redundancy"].max() < 1e-6


def test_only_what_is_known_is_told_and_the_table_keeps_as_parquet(tmp_path):
    X = rows().astype(np.float32)
    table = PCABasis(n_axes=3).fit(X).quality(X)
    assert table.columns.tolist() == [
        "axis",
        "variance",
        "skewness",
        "stability",
        "bootstrap_low",
        "stability_null",
        "redundancy",
        "max_offdiag_cosine",
    ]
    table.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert again.attrs == table.attrs == json.loads(json.dumps(table.attrs))
    pd.testing.assert_frame_equal(again, table)


def test_same_seed_same_table():
    X, texts = rows(80), some_texts(80)
    basis = PCABasis(n_axes=4).fit(X)
    first, again = (basis.quality(X, texts=texts, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"categories": ["a", "b", "c"]}, "categories must be one a row: 3 for 40 rows"),
        ({"templates": ["a"]}, "templates must be one a row: 1 for 40 rows"),
        ({"lengths": [1, 2]}, "lengths must be one a row: 2 for 40 rows"),
        ({"lengths": [np.nan] * 40}, "lengths must be finite"),
        ({"texts": ["a"] * 39}, "texts must be one a row: 39 for 40 rows"),
        ({"texts": [None] * 40}, "texts must be strings"),
        ({"texts": [" "] * 40}, "texts hold no words"),
        ({"gradients": np.ones((3, 5))}, r"gradients must be \[any number, 6\], got \[3, 5\]"),
        ({"dictionary": RandomBasis(2).fit(rows(9, 4))}, r"components_ must be \[any number, 6\]"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused_in_one_line(known, said):
    X = rows(40, 6)
    with pytest.raises(InputError, match=said) as caught:
        PCABasis(n_axes=3).fit(X).quality(X, **known)
    assert "\n" not in str(caught.value)


def test_long_data_are_judged_on_a_sample(monkeypatch):
    monkeypatch.setattr(quality, "MOST_ROWS", 50)
    X = rows(200)
    lengths = X[:, 0]
    basis = PCABasis(n_axes=4).fit(X)
    table = basis.quality(X, lengths=lengths, texts=some_texts(200), categories=["a", "b"] * 100)
    np.testing.assert_allclose(table["variance"], basis.explained_variance_ratio_)
    exact = r_regression(basis.transform(X), lengths) ** 2
    assert not np.allclose(table["length_r2"], exact, atol=1e-6)
    np.testing.assert_allclose(table["length_r2"], exact, atol=0.25)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_units_origin_and_orientation_of_the_space_change_nothing(seed, scale):
    X, generator = rows(60, 8, seed), np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.standard_normal((8, 8)))
    gradients = generator.standard_normal((20, 8))
    known = {"lengths": generator.integers(5, 50, 60), "categories": list("abc") * 20}
    here = PCABasis(n_axes=3).fit(X).quality(X, gradients=gradients, **known)
    moved = scale * X @ turn + 7.0 * scale
    there = PCABasis(n_axes=3).fit(moved).quality(moved, gradients=gradients @ turn, **known)
    # nulls of the whole space are drawn in another frame
    columns = [c for c in here if not c.endswith("_null") or c == "stability_null"]
    pd.testing.assert_frame_equal(here[columns], there[columns], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------ stability


def test_stability_is_that_of_plain_refits_in_the_whole_space():
    """Brute force: every assignment is tried, and halves are fitted by `PCABasis` itself."""
    X = rows(60, 20)
    basis = PCABasis(n_axes=4).fit(X)

    def best(cosines: np.ndarray) -> tuple[int, ...]:
        return max(itertools.permutations(range(4)), key=lambda p: cosines[range(4), p].sum())

    generator, scores = np.random.default_rng(7), []
    for _ in range(stability.SPLITS):
        is_first = generator.permutation(60) < 30
        first, second = (PCABasis(n_axes=4).fit(X[h]).components_ for h in (is_first, ~is_first))
        between = np.abs(first @ second.T)
        match = best(np.abs(basis.components_ @ first.T))
        scores.append(between[range(4), best(between)][list(match)])
    found = basis.quality(X, random_state=7)["stability"]
    np.testing.assert_allclose(found, np.mean(scores, axis=0), atol=1e-6)


def test_a_basis_that_is_not_refitted_claims_no_stability():
    X = rows(40, 6)
    table = RandomBasis(n_axes=3).fit(X).quality(X)
    assert table[["stability", "bootstrap_low", "stability_null"]].isna().all(axis=None)


def test_axes_of_a_round_cloud_are_within_chance():
    X = np.random.default_rng(0).standard_normal((400, 30))
    table = PCABasis(n_axes=10).fit(X).quality(X)
    assert (table["stability"] < table["stability_null"]).all()


def test_a_single_axis_has_no_rotation_to_beat():
    X = rows()
    table = PCABasis(n_axes=1).fit(X).quality(X, lengths=np.arange(200))
    assert table["stability"][0] > 0.8
    assert np.isnan(table["stability_null"][0])
    assert table["redundancy"][0] == 0
    controls = nulls(PCABasis(n_axes=1).fit(X), X, lengths=np.arange(200))["control"]
    assert controls.tolist() == ["random"]


@pytest.mark.filterwarnings("ignore:n_axes")
def test_rows_too_few_for_the_axes_leave_the_last_ones_unmatched():
    X = rows(12, 30)
    found = PCABasis(n_axes=11).fit(X).quality(X)["stability"]
    # halves of six rows have five axes
    assert (found > 0).sum() <= 11
    assert found.between(0, 1).all()
    assert found.min() < 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_matching_knows_no_order_and_no_sign(seed):
    generator = np.random.default_rng(seed)
    axes = stability.random_frame(5, 9, generator)
    shuffled = axes[generator.permutation(5)] * generator.choice([-1.0, 1.0], 5)[:, None]
    np.testing.assert_allclose(stability.matched(axes, shuffled), 1.0)
    assert (stability.matched(axes, shuffled[:3]) == 0).sum() == 2


# ------------------------------------------------------------------------------------ confounds


def test_a_coordinate_that_is_the_length_is_told_so():
    X = rows()
    basis = PCABasis(n_axes=3).fit(X)
    lengths = 100 - 4 * basis.transform(X)[:, 1]
    found = basis.quality(X, lengths=lengths)["length_r2"]
    np.testing.assert_allclose(found, [0, 1, 0], atol=1e-10)


def test_length_r2_is_that_of_a_regression():
    X, lengths = rows(), np.random.default_rng(1).integers(5, 90, 200)
    basis = PCABasis(n_axes=4).fit(X)
    line = LinearRegression().fit(lengths[:, None], basis.transform(X))
    expected = r2_score(
        basis.transform(X), line.predict(lengths[:, None]), multioutput="raw_values"
    )
    np.testing.assert_allclose(basis.quality(X, lengths=lengths)["length_r2"], expected)


def test_template_r2_is_the_adjusted_r2_of_dummies():
    X = rows()
    generator = np.random.default_rng(2)
    templates = generator.choice(["a", "b", "c", "d"], 200)
    X += 0.5 * (templates == "a")[:, None]
    basis = PCABasis(n_axes=4).fit(X)
    Z, dummies = basis.transform(X), pd.get_dummies(templates).to_numpy(dtype=float)
    fitted = LinearRegression().fit(dummies, Z).predict(dummies)
    r2 = r2_score(Z, fitted, multioutput="raw_values")
    adjusted = 1 - (1 - r2) * 199 / 196
    found = basis.quality(X, templates=templates)["template_r2"]
    np.testing.assert_allclose(found, np.maximum(adjusted, 0), atol=1e-12)
    assert found.max() > 0.05


def test_templates_that_say_nothing_explain_nothing_however_many():
    Z = np.random.default_rng(3).standard_normal((300, 200))
    codes = np.random.default_rng(4).permutation(np.arange(300) % 60)
    found = confounds.share_between(Z, codes)
    assert found.mean() < 0.03  # unadjusted it would be 59 / 299
    np.testing.assert_allclose(
        confounds.share_between(np.r_[Z, Z], np.r_[codes, np.full(300, -1)]), found
    )
    assert np.isnan(confounds.share_between(Z, np.zeros(300, dtype=int))).all()
    assert np.isnan(confounds.share_between(Z, np.arange(300))).all()


def test_token_r2_is_that_of_scikit_learn_leaving_each_row_out():
    X, texts = rows(50, 6), some_texts(50)
    X[:, 0] += 3 * np.array(["apple" in text for text in texts])
    basis = PCABasis(n_axes=3).fit(X)
    Z = basis.transform(X)
    bag = TfidfVectorizer(token_pattern=confounds.WORD).fit_transform(texts).toarray()
    guessed = cross_val_predict(Ridge(alpha=confounds.PENALTY), bag, Z, cv=LeaveOneOut())
    means = np.array([(Z.sum(axis=0) - z) / 49 for z in Z])
    expected = 1 - ((Z - guessed) ** 2).sum(axis=0) / ((Z - means) ** 2).sum(axis=0)
    found = basis.quality(X, texts=texts)["token_r2"]
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-4)
    assert found[0] > 0.5


def test_words_do_not_predict_noise_even_where_there_are_more_words_than_rows():
    generator = np.random.default_rng(5)
    texts = [" ".join(map(str, generator.integers(0, 400, 12))) for _ in range(150)]
    evidence = confounds.Evidence.of(np.zeros((150, 2)), np.arange(150), {"texts": texts})
    assert evidence.words is not None
    found = confounds.share_predicted(generator.standard_normal((150, 50)), evidence.words)
    assert found.mean() < 0.02


def test_a_digit_and_a_sign_are_words():
    X = rows(60, 4)
    texts = ["3 + 4" if z > 0 else "3 - 4" for z in X[:, 0] - X[:, 0].mean()]
    basis = along(np.eye(4)[:1], X)
    assert basis.quality(X, texts=texts)["token_r2"][0] > 0.5


def test_mutual_information_is_that_of_deciles_less_its_bias():
    X = rows(203)
    categories = np.where(X[:, 0] > 5, "high", np.where(X[:, 1] > 5, "low", None))
    basis = PCABasis(n_axes=4).fit(X)
    known = np.array([c is not None for c in categories])
    Z, n = basis.transform(X)[known], known.sum()
    bins = [pd.qcut(pd.Series(z).rank(), 10, labels=False) for z in Z.T]
    expected = [mutual_info_score(categories[known], b) - 9 / (2 * n) for b in bins]
    found = basis.quality(X, categories=list(categories))["mutual_information"]
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=0.02)
    nothing = basis.quality(X, categories=[None] * 203)["mutual_information"]
    assert nothing.isna().all()


def test_an_axis_is_named_after_the_nearest_latent():
    X = rows(60, 6)
    basis = PCABasis(n_axes=3).fit(X)

    class Dictionary:
        components_ = np.array([np.ones(6), -5 * basis.components_[2], np.zeros(6)])

    table = basis.quality(X, dictionary=Dictionary())
    assert table["latent"].tolist()[2] == 1
    assert table["latent_cosine"][2] == pytest.approx(1.0)
    expected = np.abs(basis.components_[:2] @ np.ones(6)) / np.sqrt(6)
    np.testing.assert_allclose(table["latent_cosine"][:2], expected)


def test_gradient_share_is_plain_arithmetic_and_whole_for_a_whole_basis():
    X, G = rows(60, 5), np.random.default_rng(6).standard_normal((9, 5))
    basis = PCABasis(n_axes=5).fit(X)
    table = basis.quality(X, gradients=G)
    expected = [sum((g @ q) ** 2 for g in G) / sum(g @ g for g in G) for q in basis.components_]
    np.testing.assert_allclose(table["gradient_share"], expected)
    assert table["gradient_share"].sum() == pytest.approx(1.0)
    assert table.attrs["summary"]["gradient_share"] == pytest.approx(1.0)


def test_two_coordinates_that_are_one_are_redundant():
    generator = np.random.default_rng(8)
    X = generator.standard_normal((100, 4))
    X[:, 1] = -3 * X[:, 0]
    found = along(np.eye(4)[:3], X).quality(X)["redundancy"]
    np.testing.assert_allclose(found[:2], 1.0)
    assert found[2] == pytest.approx(abs(np.corrcoef(X[:, 0], X[:, 2])[0, 1]))


# -------------------------------------------------------------------------------------- summary


def test_summary_of_a_pca_adds_up():
    X = rows()
    basis = PCABasis(n_axes=5).fit(X)
    whole = summary(basis, X)
    rebuilt = basis.transform(X) @ basis.components_ + basis.mean_
    expected = ((X - rebuilt) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    assert whole["fvu"] == pytest.approx(expected)
    assert whole["explained_variance"] == pytest.approx(1 - expected)
    assert whole["orthogonality_error"] < 1e-12
    elsewhere = X + 3
    assert summary(basis, elsewhere)["explained_variance"] == pytest.approx(1 - expected)
    assert summary(basis, elsewhere)["fvu"] > 1


def test_summary_of_a_dictionary_counts_its_latents():
    X = rows(120, 8).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        basis = SAEBasis(n_axes=3, n_latents=24, k=4, max_epochs=3).fit(X)
    table = basis.quality(X)
    whole, codes = table.attrs["summary"], basis.dictionary_.encode(X)
    active = np.asarray((codes != 0).sum(axis=1)).ravel()
    assert whole["dictionary_l0"] == pytest.approx(active.mean())
    ever = np.unique((codes != 0).nonzero()[1])
    assert whole["dictionary_dead_share"] == pytest.approx(1 - len(ever) / 24)
    assert whole["dictionary_fvu"] == pytest.approx(basis.dictionary_.fvu(X))
    np.testing.assert_array_equal(table["latent"], basis.latents_)
    np.testing.assert_allclose(table["latent_cosine"], basis.source_cosine_, rtol=1e-5)


# --------------------------------------------------------------------------------------- chance


@pytest.mark.parametrize("control", ["random", "rotation"])
def test_a_basis_that_knows_nothing_beats_its_null_once_in_twenty(control):
    generator, trials = np.random.default_rng(9), 60
    X = rows(100, 15)
    known = {"lengths": X @ generator.standard_normal(15), "gradients": rows(30, 15, seed=1)}
    base, beaten = PCABasis(n_axes=4).fit(X), {"length_r2": 0, "gradient_share": 0}
    for seed in range(trials):
        if control == "random":
            axes = stability.random_frame(4, 15, generator)
        else:
            axes = stability.random_frame(4, 4, generator) @ base.components_
        basis = along(axes, X)
        level = nulls(basis, X, random_state=seed, **known).set_index(["figure", "control"])
        evidence = confounds.Evidence.of(X, np.arange(100), known)
        scores = confounds.figures(axes, basis.transform(X), evidence)
        for figure in beaten:
            beaten[figure] += scores[figure].max() > level.loc[(figure, control), "best_axis"]
    assert all(count <= binom.ppf(0.999, trials, 0.05) for count in beaten.values())
    assert sum(beaten.values()) > 0


def test_random_directions_share_the_gradient_equally():
    X, G = rows(50, 400), np.random.default_rng(10).standard_normal((60, 400))
    table = nulls(RandomBasis(n_axes=20).fit(X), X, gradients=G, draws=40)
    of = table.set_index("control")
    # one direction: beta with mean 1 / d; over 60 examples its spread is a fifth of that
    assert 1 / 400 < of.loc["random", "one_axis"] < 1.6 / 400
    assert of.loc["random", "one_axis"] < of.loc["random", "best_axis"] < 2 / 400


def test_what_the_axes_single_out_beats_both_controls():
    X = rows(200, 30)
    basis = PCABasis(n_axes=10).fit(X)
    categories = list(pd.qcut(basis.transform(X)[:, 3], 4, labels=False))
    table = basis.quality(X, categories=categories, gradients=basis.components_[:1])
    above = table["mutual_information"] > table["mutual_information_null"]
    assert above.tolist() == [axis == 3 for axis in range(10)]
    uses = table["gradient_share"] > table["gradient_share_null"]
    assert uses.tolist() == [axis == 0 for axis in range(10)]
    both = nulls(basis, X, categories=categories)
    assert table["mutual_information_null"][0] == both["best_axis"].max()


def test_draws_must_be_a_count():
    X = rows()
    with pytest.raises(InputError, match="draws must be an integer of 1 or more, got 0"):
        nulls(PCABasis(n_axes=2).fit(X), X, draws=0)
