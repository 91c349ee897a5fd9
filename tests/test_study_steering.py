"""Steering through a study: what is kept, what is not done twice, and for which fit."""

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.study import steering as of_study

NEW_TOKENS = 4


@pytest.fixture
def study(copied_study):
    return copied_study


@pytest.fixture
def generations(monkeypatch):
    """How many prompts each call of `generate` got."""
    calls = []
    generate = of_study.generate

    def counted(model, prompts, *args, **options):
        calls.append(len(prompts))
        return generate(model, prompts, *args, **options)

    monkeypatch.setattr(of_study, "generate", counted)
    return calls


def test_the_unsteered_text_is_generated_once_for_all_doses(study, generations):
    prompts = [study.corpus[i].prompt for i in (1, 2, 3)]
    first = study.steer(prompts, "pca-1", 0, 1.0, NEW_TOKENS)
    second = study.steer(prompts, "pca-1", 2, -3.0, NEW_TOKENS)
    assert generations == [3, 3, 3]  # unsteered, and two pushes
    assert first["unsteered"].tolist() == second["unsteered"].tolist()
    chats = [study._as_chat(p) for p in prompts]
    vector = mn.SteeringVector.from_axis(study.basis("pca-1"), 2, dose=-3.0)
    expected = mn.generate(study.model, chats, vector, max_new_tokens=NEW_TOKENS)
    assert second["steered"].tolist() == [texts[0] for texts in expected]


def test_only_prompts_that_are_new_are_generated(study, generations):
    prompts = [study.corpus[i].prompt for i in (1, 2, 3)]
    study.steer(prompts[:2], "pca-1", 0, 1.0, NEW_TOKENS)
    table = study.steer(prompts, "pca-1", 0, 1.0, NEW_TOKENS)
    assert generations == [2, 2, 1, 1]
    assert len(table) == 3
    assert len(mn.Study.open(study.path).results("steering", "pca-1")) >= 3


def test_measured_doses_are_kept_and_not_measured_again(study, monkeypatch):
    options = {"method": "dose", "doses": (0.5,), "axes": [0, 3], "progress": False}
    table = study.proxy("pca-1", 6, **options)
    assert table[["axis", "dose"]].to_numpy().tolist() == [[0, 0.5], [3, 0.5]]
    assert np.isfinite(table["damage"]).all()
    monkeypatch.setattr(of_study, "proxy", None)
    again = mn.Study.open(study.path).proxy("pca-1", 6, **options)
    pd.testing.assert_frame_equal(again, table)
    assert len(study.results("proxy", "pca-1")) == 8  # the first order stays what it was


def test_every_axis_of_every_layer_from_one_pass(study):
    table = study.proxy_layers(n_axes=3, n=8, progress=False)
    assert table[["layer", "axis"]].to_numpy().tolist() == [
        [a, b] for a in range(4) for b in range(3)
    ]
    pool = study.activations.matrix(2)[study.pool_rows]
    alone = mn.proxy(
        study.model,
        {2: mn.PCABasis(3).fit(pool)},
        study._gradient_examples(8, "probe"),
        progress=False,
    )
    of_layer = table[table["layer"] == 2]["utility"].to_numpy()
    np.testing.assert_allclose(of_layer, alone["utility"], rtol=1e-4, atol=1e-7)
    again = mn.Study.open(study.path).proxy_layers(n_axes=3, n=8, progress=False)
    pd.testing.assert_frame_equal(again, table)
    assert [row["layer"] for row in again.attrs["share"]] == [0, 1, 2, 3]


def test_doses_are_measured_once_each_and_are_there_at_once_afterwards(study, monkeypatch):
    options = {"prompts": ["How many?", "Why?"], "max_new_tokens": NEW_TOKENS, "progress": False}
    study.dose_response("pca-1", 1, [2.0], **options)
    measured = []
    respond = of_study.respond

    def counted(model, basis, vector, *rest):
        measured.append(vector.source["dose"])
        return respond(model, basis, vector, *rest)

    monkeypatch.setattr(of_study, "respond", counted)
    table = mn.Study.open(study.path).dose_response("pca-1", 1, [-2.0, 2.0], **options)
    assert measured == [-2.0]
    assert table["dose"].tolist() == [-2.0, 0.0, 2.0]
    assert table.loc[table["dose"] == 0, "kl"].item() == 0
    direct = mn.dose_response(
        study.model,
        study.basis("pca-1"),
        1,
        [study._as_chat(p) for p in options["prompts"]],
        [-2.0, 2.0],
        max_new_tokens=NEW_TOKENS,
        progress=False,
    )
    pd.testing.assert_frame_equal(table, direct)


def test_other_prompts_or_another_fit_are_measured_anew(study):
    options = {"max_new_tokens": NEW_TOKENS, "progress": False}
    first = study.dose_response("pca-1", 0, [4.0], ["How many?"], **options)
    other = study.dose_response("pca-1", 0, [4.0], ["Why is it so?"], **options)
    assert first["texts"].tolist() != other["texts"].tolist()
    study.fit("pca", layer=1, n_axes=4)
    with pytest.raises(mn.InputError, match="axes 0 to 3"):
        study.dose_response("pca-1", 7, [4.0], ["How many?"], **options)
    assert study.results("doses", "pca-1") is None


def test_a_vector_of_concatenated_layers_is_measured_once(study, monkeypatch):
    study.fit("pca", layer="concat", n_axes=4)
    vector = study.vector("pca-concat", 1, 0.5)
    assert vector.source["measured"] == pytest.approx(0.5, rel=0.05)
    monkeypatch.setattr(of_study, "concat_vector", None)
    again = mn.Study.open(study.path).vector("pca-concat", 1, 0.5)
    assert again.fingerprint == vector.fingerprint
    table = study.steer(["How many?"], "pca-concat", 1, 0.5, NEW_TOKENS)
    assert len(table) == 1
    utility = study.proxy("pca-concat", n=8, progress=False)
    assert utility["layer"].unique().tolist() == ["concat"]


def test_a_study_s_vector_is_refused_by_another_model(study, tmp_path):
    from tests.conftest import save_tiny_model

    other = mn.load_model(str(save_tiny_model(tmp_path / "other", layers=5)), dtype="float32")
    with pytest.raises(mn.InputError, match="another model"):
        study.vector("pca-1", 0, 1.0).apply(other)


def test_the_best_doses_are_kept_with_the_measurements(study, monkeypatch):
    options = {"top": 2, "n": 12, "doses": (0.5, 2.0), "progress": False}
    table = study.best_doses("pca-1", **options)
    assert len(table) == 2
    assert (table["dose"].abs() <= 2).all()
    assert (study.path / "results" / "doses-pca-1.jsonl").stat().st_size > 0
    monkeypatch.setattr(of_study, "verify_best", None)
    again = mn.Study.open(study.path).best_doses("pca-1", **options)
    pd.testing.assert_frame_equal(again, table)
