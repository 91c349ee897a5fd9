"""The choice of a layer, on layers of which we know what they carry."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from mnskills_viz.bases.layers import chosen_layer, compare_layers
from mnskills_viz.errors import InputError

CATEGORIES = np.random.default_rng(1).permutation(np.repeat(["a", "b", "c"], [300, 200, 100]))
ERRORS = np.random.default_rng(2).random(600)


def layer(seed: int, category: float = 0.0, error: float = 0.0, d: int = 24) -> np.ndarray:
    """Rows far from the origin, shifted by their category and error along some directions."""
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.standard_normal((d, d)))
    x = generator.standard_normal((600, d)) * 3 * 0.8 ** np.arange(d)
    for column, name in enumerate("abc"):
        x[:, column] += 3 * category * (name == CATEGORIES)
    x[:, 3] += 10 * error * (ERRORS - 0.5)
    return (x @ turn + 20).astype(np.float32)


def compare(*rows: np.ndarray, target=CATEGORIES, **options) -> pd.DataFrame:
    return compare_layers(((3 * i, X) for i, X in enumerate(rows)), target, n_axes=8, **options)


def test_the_layer_that_carries_the_category_is_chosen():
    table = compare(layer(0), layer(1, category=0.6), layer(2, category=2), layer(3))
    assert table.columns.tolist() == [
        "layer",
        "probe",
        "probe_se",
        "stability",
        "variance",
        "chosen",
    ]
    assert table["layer"].tolist() == [0, 3, 6, 9]
    assert table["chosen"].tolist() == [False, False, True, False]
    assert table["probe"][2] > 0.9 > table["probe"][1] > 0.45
    # balanced: the commonest category alone would score a half
    assert table["probe"][[0, 3]].between(0.25, 0.42).all()
    assert table["stability"].between(0, 1).all()
    assert table["variance"].between(0.8, 1).all()
    assert table.attrs == {
        "target": "category",
        "metric": "balanced accuracy",
        "chance": pytest.approx(1 / 3),
        "rows": 600,
    }


def test_the_layer_that_carries_the_error_is_chosen():
    table = compare(layer(0), layer(1, error=2), layer(2), target=ERRORS)
    assert table["chosen"].tolist() == [False, True, False]
    assert table["probe"][1] > 0.5 > 0.05 > table["probe"][0]
    assert table.attrs["metric"] == "R2"


def test_the_probe_scores_as_an_independent_one_would():
    X = layer(1, category=0.5)
    ours = compare(X)["probe"][0]
    probe = LogisticRegression(class_weight="balanced", max_iter=1000)
    theirs = cross_val_score(probe, X - X.mean(axis=0), CATEGORIES, scoring="balanced_accuracy")
    assert ours == pytest.approx(theirs.mean(), abs=0.05)


def test_among_layers_that_cannot_be_told_apart_the_most_stable_is_chosen():
    table = pd.DataFrame(
        {
            "layer": [1, 2, 3, 4, 5],
            "probe": [0.80, 0.79, 0.785, 0.70, 0.80],
            "probe_se": [0.01, 0.5, 0.01, 0.01, 0.01],
            "stability": [0.5, 0.6, 0.7, 0.9, 0.5],
        }
    )
    # layer 3 is more than 0.01 below the best; how sure layer 2 is of itself does not matter
    assert chosen_layer(table) == 2
    assert chosen_layer(table.drop(index=[1])) == 1  # the first of two equals


def test_layers_alike_in_all_give_the_first():
    X = layer(0, category=1)
    table = compare(X, X, X)
    assert table["chosen"].tolist() == [True, False, False]
    assert table["probe"].nunique() == table["stability"].nunique() == 1


def test_stable_axes_are_told_from_arbitrary_ones():
    round_ones = np.random.default_rng(0).standard_normal((600, 24))
    table = compare(layer(0, category=1), round_ones)
    assert table["stability"][0] > 0.8 > 0.6 > table["stability"][1]


@pytest.mark.filterwarnings("error")
def test_rows_without_a_target_and_rare_categories_are_left_out():
    target = CATEGORIES.astype(object)
    target[:40] = None
    target[40:49] = "rare"
    X = layer(0, category=1)
    table = compare(X, target=target.tolist())
    assert table.attrs["rows"] == 551
    assert table.attrs["chance"] == pytest.approx(1 / 3)
    pd.testing.assert_frame_equal(
        table, compare_layers([(0, X[49:])], target[49:].tolist(), n_axes=8)
    )


def test_when_no_layer_tells_anything_it_says_so():
    with pytest.warns(UserWarning, match="no layer tells the category better than chance"):
        compare(layer(0), layer(1))


def test_the_same_seed_gives_the_same_table():
    X = layer(0, category=1)
    pd.testing.assert_frame_equal(compare(X), compare(X))
    assert compare(X, random_state=1)["probe"][0] != compare(X)["probe"][0]


def test_thirty_layers_take_seconds_however_many_rows_there_are():
    """Of processor time, at the width of the embedded model."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((6000, 576)).astype(np.float32)
    target = generator.integers(0, 8, 6000)
    X[:, :8] += 2 * np.eye(8)[target]
    start = time.process_time()
    table = compare_layers(((i, X) for i in range(6)), target.tolist())
    assert (time.process_time() - start) / 6 * 30 < 20
    assert table.attrs["rows"] == 2000


@pytest.mark.filterwarnings("ignore:no layer tells")
def test_errors_may_be_missing():
    errors = [None if i % 5 == 0 else float(error) for i, error in enumerate(ERRORS)]
    table = compare_layers([(3, layer(0, error=1.0))], errors, n_axes=4)
    assert table.attrs["target"] == "error"
    assert table.attrs["rows"] == 480


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ([None] * 600, "0 categories have 10 rows or more, out of 600 rows"),
        (["a"] * 595 + ["b"] * 5, "1 categories have 10 rows or more"),
        (np.full(600, np.nan), "0 of 600 rows have an error, 0 different"),
        (np.full(600, 0.5), "600 of 600 rows have an error, 1 different"),
        (["a", "b"] * 20, "layer 0 must have one row for each of 40 targets, got the shape"),
        (np.ones((600, 2)), "target must be one value a row"),
    ],
)
def test_a_target_that_tells_nothing_is_one_clear_line(target, said):
    with pytest.raises(InputError, match=said) as caught:
        compare(layer(0), target=target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            np.where(np.eye(600, 24), np.nan, 1.0),
            "layer 3 has NaN or inf in 24 rows, first in row 0",
        ),
        (np.ones((600, 24)), "layer 3: all 300 rows are equal"),
        (
            np.ones(600),
            r"layer 3 must have one row for each of 600 targets, got the shape \(600,\)",
        ),
    ],
)
def test_a_bad_layer_is_named(rows, said):
    with pytest.raises(InputError, match=said):
        compare(layer(0), rows)


def test_no_layers_and_no_axes_are_refused():
    with pytest.raises(InputError, match="no layers to compare"):
        compare_layers([], CATEGORIES)
    with pytest.raises(InputError, match="n_axes must be an integer of 1 or more"):
        compare_layers([(0, layer(0))], CATEGORIES, n_axes=0)
