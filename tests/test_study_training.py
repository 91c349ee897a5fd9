"""The loop through a study: export, train, measure, compare."""

import math
from dataclasses import replace

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.adapters import CONFIG
from mnskills_viz.evaluation.samples import read_texts
from mnskills_viz.training.sft import training_log


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_folder):
    """A study of four families on the tiny model, with an adapter trained on 24 rows at random."""
    whole = mn.load_corpus("demo")
    parts = (whole.split(s)[:n] for s, n in (("pool", 60), ("probe", 24), ("test", 8)))
    study = mn.Study.create(
        tmp_path_factory.mktemp("studies") / "trained",
        model=str(tiny_folder),
        corpus=mn.Corpus([e for part in parts for e in part], "demo"),
        dtype="float32",
    )
    study.collect(layers=[1], progress=False)
    study.fit("pca", layer=1, n_axes=4)
    study.select("random", 24)
    study.export("random")
    study.sft("random-trl", progress=False, learning_rate=0.01, batch_size=8)
    return study


def test_the_adapter_is_kept_and_named(trained):
    assert trained.adapter_names == ["random-trl"]
    folder = trained.path / "adapters" / "random-trl"
    assert (folder / CONFIG).exists()
    assert len(training_log(folder)) == 3


def test_an_adapted_model_is_another_model(trained):
    example = trained.corpus[0]
    rows = [
        mn.collect(model, mn.Corpus([example]), layers=[3], errors=True, progress=False)
        for model in (trained.model, trained.adapted("random-trl"))
    ]
    assert np.abs(rows[0].matrix(3) - rows[1].matrix(3)).max() > 1e-3
    with pytest.raises(mn.InputError, match="no adapter 'other'"):
        trained.adapted("other")


def test_read_again_with_the_adapter_the_studies_compare(trained, monkeypatch):
    after = trained.after("random-trl", progress=False)
    table = mn.compare(trained, after)
    assert len(table) == 4
    assert table.attrs["mean_error_after"] < table.attrs["mean_error_before"]  # it learned
    assert mn.compare_examples(trained, after)["change"].mean() < 0
    monkeypatch.setattr("mnskills_viz.study.rows.collect", lambda *_, **__: pytest.fail("again"))
    assert len(trained.after("random-trl", progress=False).activations) == len(trained.corpus)


def test_evaluation_has_groups_by_category_and_by_pole_and_is_kept(trained, monkeypatch):
    options = {"n": 2, "k": (1, 2), "max_new_tokens": 4, "progress": False}
    table = trained.evaluate("test", basis="pca-1", **options)
    groups = set(table["group"])
    assert "all" in groups
    assert {e.category for e in trained.test} <= groups
    assert any(group.startswith("axis ") for group in groups)
    assert set(table["metric"]) == {"pass@1", "pass@2", "logprob"}

    monkeypatch.setattr(
        "mnskills_viz.evaluation.run._sample", lambda *_: pytest.fail("sampled again")
    )
    again = trained.evaluate("test", basis="pca-1", **options)
    assert again.equals(table)


def test_pole_groups_are_the_examples_beyond_one_standard_deviation(trained):
    prompts = mn.collect(trained.model, trained.test, layers=[1], tokens="prompt", progress=False)
    pool = mn.collect(trained.model, trained.pool, layers=[1], tokens="prompt", progress=False)
    z, ruler = (trained.basis("pca-1").transform(rows.matrix(1)) for rows in (prompts, pool))
    z = (z - ruler.mean(axis=0)) / ruler.std(axis=0)
    expected = {i for i, value in zip(trained.test.ids, z[:, 0], strict=True) if value >= 1}
    assert set(trained.pole_groups("test", "pca-1").get("axis 0 +", [])) == expected


def test_a_model_that_fails_everywhere_is_judged_by_its_loss_and_that_is_said(trained):
    trained.evaluate("probe", n=1, k=1, max_new_tokens=4, progress=False)
    with pytest.warns(UserWarning, match="failure rate is 1 on every probe example"):
        errors = trained.probe_errors("verifier")
    np.testing.assert_array_equal(errors, trained.probe_errors("logprob"))


def test_weakness_can_be_looked_for_in_the_models_own_answers(trained):
    trained.evaluate("probe", n=2, k=1, max_new_tokens=6, temperature=1.0, progress=False)
    texts = read_texts(trained.path / "evaluations" / "probe-n2-t1.0-m6-s0")
    probe = trained.corpus.take(trained.probe_rows)
    ruler = trained.ruler("pca-1", "samples", progress=False)
    example = probe[3]
    own = mn.Corpus(
        [replace(example, id=str(i), response=t) for i, t in enumerate(texts[example.id])]
    )
    rows = mn.collect(trained.model, own, layers=[1], progress=False).matrix(1)
    expected = trained.basis("pca-1").transform(rows).mean(axis=0)
    np.testing.assert_allclose(ruler.probe[3], expected, atol=0.02)
    assert len(trained.weakness("pca-1", "samples", progress=False)) == 8


def test_an_adapters_answers_are_never_taken_for_the_models_own(trained):
    """Whatever the adapter is called."""
    trained.sft("random-trl", "n9-t1-m6-s0", progress=False, learning_rate=0.01, batch_size=24)
    trained.evaluate("probe", "n9-t1-m6-s0", n=9, k=1, max_new_tokens=2, progress=False)
    assert trained._evaluation_of_probe().name in ("probe-n1-t0.8-m4-s0", "probe-n2-t1.0-m6-s0")


def test_an_adapter_that_was_trained_anew_is_measured_anew(trained):
    options = {"n": 1, "k": 1, "max_new_tokens": 2, "progress": False}
    name = trained.sft("random-trl", "again", progress=False, batch_size=24).name
    first = trained.evaluate("probe", name, **options)
    trained.sft("random-trl", name, progress=False, batch_size=24, learning_rate=0.02)
    second = trained.evaluate("probe", name, **options)
    assert first.attrs["model"]["weights"] != second.attrs["model"]["weights"]


def test_what_cannot_be_summed_up_is_refused_before_anything_is_sampled(trained, monkeypatch):
    monkeypatch.setattr("mnskills_viz.evaluation.run._sample", lambda *_: pytest.fail("sampled"))
    with pytest.raises(mn.InputError, match="k must lie between 1 and n = 3"):
        trained.evaluate("probe", n=3, k=(1, 8), progress=False)
    with pytest.raises(mn.InputError, match="has no basis 'other'"):
        trained.evaluate("probe", n=3, k=1, basis="other", progress=False)


def test_pilots_rank_poles_against_rows_at_random(trained):
    table = trained.pilot(
        "pca-1", [(0, 1), (1, -1)], budget=8, progress=False, learning_rate=0.01, batch_size=8
    )
    assert set(table["pole"]) == {"axis 0 +", "axis 1 -"}
    assert (table["low"] < table["gain"]).all()
    assert (table["gain"] < table["high"]).all()
    before = trained.activations.logprobs[trained.probe_rows]
    probe = trained.corpus.take(trained.probe_rows)
    for row in table.itertuples():
        name = f"pilot-pca-1-{row.axis}{'p' if row.sign > 0 else 'm'}"
        rows = mn.collect(trained.adapted(name), probe, layers=[0], errors=True, progress=False)
        assert row.gain == pytest.approx(float((rows.logprobs - before).mean()), abs=1e-5)
        assert row.over_random == pytest.approx(row.gain - table.attrs["random_gain"], abs=1e-6)
        taken = trained.selection(name).receipts
        assert (taken["axis"] == row.axis).all()
        assert math.isclose(taken["pole"].mean(), row.sign)


def test_what_is_not_there_is_named(trained, tmp_path):
    with pytest.raises(mn.InputError, match=r"no export 'weakness-trl'; there are: .*random-trl"):
        trained.sft("weakness-trl")
    with pytest.raises(mn.InputError, match='split must be "probe" or "test"'):
        trained.evaluate("train")
    none = mn.Study.create(
        tmp_path / "s", model=trained.about["model"]["name"], corpus=trained.corpus
    )
    with pytest.raises(mn.InputError, match="has no test examples"):
        none.evaluate("test")
