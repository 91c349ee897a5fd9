"""Steering through a study: what is kept, what is not done twice, and for which fit."""

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.study import doses as of_doses
from mnskills_viz.study import steering as of_study

MESSAGE = {"role": "user", "content": "How?"}
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
    respond = of_doses.respond

    def counted(model, basis, vector, *rest):
        measured.append(vector.source["dose"])
        return respond(model, basis, vector, *rest)

    monkeypatch.setattr(of_doses, "respond", counted)
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
    from tests.tiny_model import save_tiny_model

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


def test_axes_that_are_asked_for_later_are_measured_alone_and_kept_beside(study, monkeypatch):
    options = {"method": "dose", "progress": False}
    whole = study.proxy("pca-1", 6, doses=(0.5, 2.0), axes=[0, 1, 3], **options)
    other = mn.Study.open(study.path)
    asked = []
    measure = of_study.proxy

    def counted(*args, **given):
        asked.append(given["axes"])
        return measure(*args, **given)

    monkeypatch.setattr(of_study, "proxy", counted)
    again = other.proxy("pca-1", 6, doses=[2.0, 0.5], axes=np.array([3, 1]), **options)
    assert asked == []
    both = whole[whole["axis"].isin([1, 3])].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, both)
    other.proxy("pca-1", 6, doses=(0.5, 2.0), axes=(1, 5), **options)
    assert asked == [[5]]
    assert sorted(other.results("doses", "pca-1")["axis"].unique()) == [0, 1, 3, 5]


def test_a_basis_may_be_called_layers(study):
    study.fit("pca", layer=2, n_axes=3, name="layers")
    of_basis = study.proxy("layers", n=8, progress=False)
    study.proxy_layers(n_axes=2, n=8, progress=False)
    pd.testing.assert_frame_equal(study.results("proxy", "layers"), of_basis)


def test_prompts_of_before_are_still_known(study, monkeypatch):
    options = {"max_new_tokens": NEW_TOKENS, "progress": False}
    first = study.dose_response("pca-1", 0, [1.0], ["How many?"], **options)
    study.dose_response("pca-1", 0, [1.0], ["Why?"], **options)
    monkeypatch.setattr(of_doses, "respond", None)
    again = study.dose_response("pca-1", 0, [1.0], ["How many?"], **options)
    pd.testing.assert_frame_equal(again, first)


def test_a_damaged_response_is_measured_again(study):
    options = {"max_new_tokens": NEW_TOKENS, "progress": False}
    first = study.dose_response("pca-1", 0, [1.0], ["How many?"], **options)
    files = sorted((study.path / "results" / "responses-pca-1").glob("0-*"))
    assert len(files) == 2
    files[0].write_text("[1]")
    files[1].write_text('{"texts": ')
    again = study.dose_response("pca-1", 0, [1.0], ["How many?"], **options)
    pd.testing.assert_frame_equal(again, first)


def test_kept_doses_tell_on_which_prompts_they_were_tried(study):
    options = {"max_new_tokens": NEW_TOKENS, "progress": False}
    other = study.dose_response("pca-1", 1, [1.0, 2.0], ["Why?", [MESSAGE]], **options)
    own = study.dose_response("pca-1", 1, [1.0], **options)
    study.dose_response("pca-1", 0, [1.0], ["Why?"], **options)
    again = mn.Study.open(study.path)
    kept = again.kept_doses("pca-1", 1)
    assert [one.is_own for one in kept] == [True, False]
    for one, table in zip(kept, (own, other), strict=True):
        pd.testing.assert_frame_equal(one.table, table)
    assert kept[1].prompts == ["Why?", [MESSAGE]]
    assert {one.max_new_tokens for one in kept} == {NEW_TOKENS}
    assert [one.axis for one in again.kept_doses("pca-1")] == [0, 1, 1]
    assert "model" not in vars(again)
    study.fit("pca", layer=1, n_axes=3, name="pca-1")
    assert study.kept_doses("pca-1") == []


def test_doses_without_dose_0_or_of_a_damaged_trial_are_not_told_of(study):
    options = {"max_new_tokens": NEW_TOKENS, "progress": False}
    study.dose_response("pca-1", 0, [1.0], **options)
    folder = study.path / "results" / "responses-pca-1"
    (at_zero,) = folder.glob("0-*-0.0.json")
    there = at_zero.read_text()
    at_zero.unlink()
    assert study.kept_doses("pca-1") == []
    at_zero.write_text(there)
    assert len(study.kept_doses("pca-1")) == 1
    (trial,) = (file for file in folder.iterdir() if "-" not in file.stem)
    trial.write_text("{")
    assert study.kept_doses("pca-1") == []
    study.dose_response("pca-1", 0, [1.0], **options)
    assert len(study.kept_doses("pca-1")) == 1


def test_a_verifier_of_ones_own_samples_once(study, monkeypatch):
    from mnskills_viz.evaluation import run

    options = {"axes": [0], "doses": [1.0], "samples": 2, "max_new_tokens": 3, "n_random": 1}
    table = study.proxy(
        "pca-1",
        4,
        method="pass@k",
        verifier=lambda _example, text: "a" in text,
        progress=False,
        **options,
    )
    assert table["axis"].tolist() == [0]
    assert study.results("sampled", "pca-1") is None  # what a function says is not kept
    monkeypatch.setattr(run, "complete", None)  # the samples are
    again = study.proxy(
        "pca-1", 4, method="pass@k", verifier=lambda *_: True, progress=False, **options
    )
    assert (again["utility"] == 0).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.steer("How many?", "pca-1", 0, 1.0), "put this one in a list"),
        (lambda s: s.steer([], "pca-1", 0, 1.0), "the list is empty"),
        (lambda s: s.steer([3], "pca-1", 0, 1.0), "prompt 0 is neither text nor"),
        (lambda s: s.steer(["a"], "pca-1", 0, "x"), "dose must be a finite number"),
        (lambda s: s.steer(["a"], "pca-1", 99, 1.0), "axes 0 to 7"),
        (lambda s: s.dose_response("pca-1", 0, prompts="How?"), "put this one in a list"),
        (lambda s: s.proxy("pca-1", n=-3), "n must be a whole number of at least 2"),
        (lambda s: s.proxy("pca-1", n=2.5), "n must be a whole number of at least 2"),
        (lambda s: s.proxy("pca-1", axes=[0]), "axes= goes with"),
        (lambda s: s.proxy("pca-1", target="reference"), "target: only method"),
        (lambda s: s.proxy("pca-1", method="dose", axes=0), "axes must be a list"),
        (lambda s: s.proxy("pca-1", method="dose", axes=[]), "axes must be a list"),
        (lambda s: s.proxy("pca-1", method="dose", axes=[99]), "axes 0 to 7"),
        (lambda s: s.proxy("pca-1", method="dose", doses=[-1]), "doses must be"),
        (lambda s: s.proxy("pca-1", method="dose", doses=0.5), "doses must be"),
        (lambda s: s.proxy("pca-1", method="guess", doses=[1]), "method must be"),
        (lambda s: s.vector("pca-1", 0, float("nan")), "dose must be a finite number"),
    ],
)
def test_bad_input_is_one_line(study, call, said):
    with pytest.raises(mn.InputError, match=said) as raised:
        call(study)
    assert "\n" not in str(raised.value)
