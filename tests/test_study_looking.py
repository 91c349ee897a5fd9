"""Single rows through a study: what is kept, what is refused, and what does not need a model."""

import json

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.axes.heat import token_heat

BASIS = "pca-1"


@pytest.fixture
def study(copied_study):
    return copied_study


def reopened(study) -> mn.Study:
    return mn.Study.open(study.path)


def test_coordinates_in_deviations_have_the_spread_of_the_pool(study):
    z = study.z(BASIS)
    np.testing.assert_allclose(z[study.pool_rows].std(axis=0, ddof=1), 1, rtol=2e-2)


def test_search_finds_what_a_loop_finds_whatever_the_case(study):
    wanted = [
        row
        for row, e in enumerate(study.corpus)
        if "how" in f"{e.prompt_text}\n{e.response}".lower()
    ]
    assert wanted
    assert study.search("  HOW ").tolist() == wanted
    assert study.search("no row holds these words").tolist() == []


def test_search_takes_text_and_no_pattern(study):
    assert study.search(".*").tolist() == []


def test_heat_is_kept_and_comes_back_without_a_model(study):
    rows = [5, 2, 5]
    found = study.heat(BASIS, rows)
    expected = token_heat(study.model, study.corpus.take([5, 2]), study.basis(BASIS))
    again = reopened(study)
    for kept, computed, fresh in zip(
        again.heat(BASIS, rows), found, [expected[0], expected[1], expected[0]], strict=True
    ):
        assert kept.tokens == computed.tokens == fresh.tokens
        for name in ("roles", "counted", "contributions", "running"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(computed, name))
            np.testing.assert_allclose(
                getattr(computed, name), getattr(fresh, name), rtol=1e-4, atol=1e-5
            )
    assert "model" not in vars(again)
    assert again.kept_heat(BASIS, 7) is None


def test_damaged_heat_is_computed_anew(study):
    study.heat(BASIS, [1])
    (file,) = (study.path / "results" / f"heat-{BASIS}").iterdir()
    file.write_bytes(b"torn")
    assert study.kept_heat(BASIS, 1) is None
    assert study.heat(BASIS, [1])[0].tokens


def test_heat_of_an_earlier_fit_is_not_shown(study):
    study.heat(BASIS, [1])
    study.fit("pca", layer=1, n_axes=3)
    assert study.kept_heat(BASIS, 1) is None


@pytest.mark.parametrize("row", [-1, 60, 10**9])
def test_a_row_that_is_not_there_is_named(study, row):
    with pytest.raises(mn.InputError, match=f"row {row} is not there; the study has 60 rows"):
        study.heat(BASIS, [row])


def test_suggestions_are_kept_and_label_nothing(study):
    found = study.suggest_labels(BASIS, 2)
    assert {*found["pole"]} <= {1, -1}
    pd.testing.assert_frame_equal(reopened(study).suggest_labels(BASIS, 2), found)
    assert len(study.annotations.table()) == 0


def test_a_skill_is_the_mean_of_its_rows(study):
    category = study.corpus[0].category
    rows = [row for row, e in enumerate(study.corpus) if e.category == category]
    table = study.skill(BASIS, category=category).set_index("axis").sort_index()
    np.testing.assert_allclose(table["mean"], study.z(BASIS)[rows].mean(axis=0), rtol=1e-5)
    one = study.skill(BASIS, row=3).set_index("axis").sort_index()
    np.testing.assert_allclose(one["mean"], study.z(BASIS)[3], rtol=1e-5)


def test_a_described_skill_lies_where_its_text_is_collected(study):
    text = "Adds two numbers, carrying the tens."
    table = study.skill(BASIS, text=text).set_index("axis").sort_index()
    fitted = study.basis(BASIS)
    options = study.activations.source_of_all["options"]
    same = {k: options[k] for k in ("pooling", "tokens", "exclude_sinks")}
    corpus = mn.Corpus([mn.Example("x", text)], "text")
    rows = mn.collect(study.model, corpus, layers=[1], progress=False, **same)
    z = fitted.transform(rows.matrix(1))[0] / fitted.scale_
    np.testing.assert_allclose(table["mean"], z, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give one of them"),
        ({"category": "a", "row": 1}, "give one of them"),
        ({"category": "nope"}, "no category 'nope'; there are: "),
        ({"text": "  "}, "the text is empty"),
        ({"row": -1}, "row -1 is not there"),
    ],
)
def test_a_skill_that_cannot_be_taken_apart_is_refused_in_a_line(study, given, words):
    with pytest.raises(mn.InputError, match=words):
        study.skill(BASIS, **given)


def test_neighbours_are_ordered_by_how_alike_they_are(study):
    table = study.neighbours(BASIS, 0)
    other = next(name for name in study.basis_names if name != BASIS)
    assert {*table["basis"]} == {other}
    mine = study.coordinates(BASIS)[:, 0]
    for row in table.itertuples():
        theirs = study.coordinates(other)[:, row.axis]
        assert row.correlation == pytest.approx(np.corrcoef(mine, theirs)[0, 1], abs=1e-4)
    assert table["correlation"].abs().is_monotonic_decreasing


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_labels_go_out_and_come_back_as_one_step(study, tmp_path, ending):
    study.annotations.set(BASIS, 1, "positive", '=1+1, "quoted"\nשלום 🙂')
    study.annotations.set(BASIS, 1, "state", "confirmed")
    file = study.write_labels(tmp_path / f"labels.{ending}")
    study.annotations.set(BASIS, 1, "positive", "another")
    study.annotations.set(BASIS, 1, "state", "draft")
    assert study.read_labels(file) == 2
    assert study.annotations.get(BASIS, 1, "positive") == '=1+1, "quoted"\nשלום 🙂'
    study.annotations.undo()
    assert study.annotations.get(BASIS, 1, "positive") == "another"
    assert study.annotations.get(BASIS, 1, "state") == "draft"
    if ending == "json":
        about = json.loads(file.read_text())["about"]
        assert about["bases"][BASIS] == study.basis(BASIS).fingerprint
        assert about["corpus"] == study.about["corpus"]["hash"]


def test_labels_of_a_basis_that_is_not_there_are_refused_whole(study, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(f"basis,axis,positive\n{BASIS},0,good\nnope,1,bad\n")
    with pytest.raises(mn.InputError, match="nope"):
        study.read_labels(file)
    assert study.annotations.get(BASIS, 0, "positive") == ""
