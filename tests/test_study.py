import json
import shutil

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.bases.sparse_state import Checkpoint


def test_pool_and_probe_part_the_corpus(tiny_study):
    rows = np.concatenate([tiny_study.pool_rows, tiny_study.probe_rows])
    assert sorted(rows) == list(range(60))
    assert all(tiny_study.corpus[int(i)].meta["split"] == "probe" for i in tiny_study.probe_rows)


def test_bases_are_fitted_on_the_pool_alone(tiny_study):
    pool = tiny_study.activations.matrix(1)[tiny_study.pool_rows]
    again = mn.PCABasis(8).fit(pool)
    np.testing.assert_allclose(tiny_study.basis("pca-1").components_, again.components_, atol=1e-5)


def test_a_corpus_without_probe_rows_is_parted_by_ids(tmp_path):
    rows = [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(50)]
    one = mn.Study.create(tmp_path / "a", corpus=mn.load_corpus(rows))
    other = mn.Study.create(tmp_path / "b", corpus=mn.load_corpus(rows[::-1]))
    probe = [{s.corpus[int(i)].id for i in s.probe_rows} for s in (one, other)]
    assert len(probe[0]) == 10
    assert probe[0] == probe[1]


def test_a_probe_of_its_own_never_meets_the_pool(tmp_path):
    rows = [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(20)]
    study = mn.Study.create(
        tmp_path / "a", corpus=mn.load_corpus(rows), probe=mn.load_corpus(rows[15:])
    )
    assert len(study.pool_rows) == 15
    assert len(study.probe_rows) == 5


def test_test_rows_are_left_out(tmp_path):
    whole = mn.load_corpus("demo")
    part = mn.Corpus(
        [*whole.split("pool")[:9], *whole.split("probe")[:3], *whole.split("test")[:3]]
    )
    assert len(mn.Study.create(tmp_path / "a", corpus=part).corpus) == 12


def test_everything_is_read_back_and_nothing_computed_twice(copied_study, tiny_study, monkeypatch):
    def fail(*_args, **_options):
        raise AssertionError("computed again")

    for name in ("rows.collect", "rows.gradients", "folder.load_model", "steering.generate"):
        monkeypatch.setattr(f"mnskills_viz.study.{name}", fail)
    monkeypatch.setattr(mn.PCABasis, "fit", fail)
    copied_study.collect()
    copied_study.fit("pca", layer=1, n_axes=8)
    pd.testing.assert_frame_equal(
        copied_study.proxy("pca-1", n=12), tiny_study.results("proxy", "pca-1")
    )
    assert copied_study.basis_names == ["pca-1", "sae-1"]
    assert copied_study.selection_names == ["random", "weakness"]
    assert copied_study.export_names == ["weakness-hf", "weakness-trl"]


def test_another_basis_of_the_name_drops_what_the_old_one_gave(copied_study):
    copied_study.axes("pca-1")
    copied_study.fit("pca", layer=2, n_axes=4, name="pca-1")
    assert copied_study.results("proxy", "pca-1") is None
    assert copied_study.coordinates("pca-1").shape == (60, 4)


def test_labels_stay_with_the_fit_that_they_were_given_to(copied_study):
    copied_study.annotations.set("pca-1", 0, "positive", "of the first fit")
    first = copied_study.basis("pca-1").fingerprint
    copied_study.fit("pca", layer=2, n_axes=4, name="pca-1")
    assert copied_study.annotations.labels("pca-1") == {}
    assert copied_study.annotations.labels(f"pca-1@{first}") == {(0, 1): "of the first fit"}
    copied_study.annotations.set("pca-1", 0, "positive", "of the second fit")
    card = (copied_study.export("weakness", name="late") / "README.md").read_text()
    assert "of the second fit" not in card  # the selection was made on the first
    assert not copied_study.is_current(copied_study.selection("weakness"))


def test_a_fit_that_fails_takes_no_labels_away(copied_study):
    copied_study.annotations.set("pca-1", 0, "positive", "kept")
    with pytest.raises(mn.InputError):
        copied_study.fit("sae", layer=1, n_latents=4, k=9, name="pca-1")
    assert copied_study.annotations.labels("pca-1") == {(0, 1): "kept"}


@pytest.mark.filterwarnings("ignore:the dictionary is not better", "ignore:n_axes=")
def test_a_dictionary_whose_training_was_stopped_goes_on(copied_study, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # after every epoch
    options = {"layer": 1, "n_axes": 3, "n_latents": 32, "k": 3, "max_epochs": 4}
    expected = copied_study.fit("sae", **options, name="whole").fingerprint

    def stop(epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copied_study.fit("sae", **options, progress=stop)
    with pytest.raises(KeyboardInterrupt):  # with other choices it begins anew
        copied_study.fit("sae", **options | {"k": 2}, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        copied_study.fit("sae", **options, progress=stop)
    assert len(list(copied_study.path.glob("bases/.sae-1-*"))) == 1
    heard = []
    found = copied_study.fit("sae", **options, progress=lambda epoch, *_: heard.append(epoch))
    assert heard == [3, 4]
    assert found.fingerprint == expected
    assert not list(copied_study.path.glob("bases/.sae-1-*"))
    assert copied_study.basis_names == sorted(["pca-1", "sae-1", "whole"])


def test_a_second_study_sees_a_refit(copied_study):
    other = mn.Study.open(copied_study.path)
    before = other.coordinates("pca-1")
    copied_study.fit("pca", layer=2, n_axes=8, name="pca-1")
    assert np.abs(other.coordinates("pca-1") - before).max() > 0.01
    chosen = other.select("random", 3, "pca-1", name="later")
    assert other.is_current(chosen)


def test_a_corpus_is_kept_exactly(tmp_path):
    """Columns that bear our own names, and were not read as ours, do not come back as ours."""
    rows = [
        {"question": f"{i}?", "answer": f"so {i}\n#### {i}", "response": "a model's", "id_": [i]}
        for i in range(8)
    ]
    corpus = mn.load_corpus(rows)
    study = mn.Study.create(tmp_path / "a", corpus=corpus)
    assert [e.response for e in mn.Study.open(study.path).corpus] == [e.response for e in corpus]
    (study.path / "corpus.jsonl").write_text("{}\n")
    with pytest.raises(mn.InputError, match="is damaged"):
        _ = mn.Study.open(study.path).corpus


def test_a_study_keeps_its_dtype_on_another_machine(copied_study):
    about = json.loads((copied_study.path / "study.json").read_text())
    about["model"]["dtype"] = "bfloat16"  # as "auto" would choose elsewhere
    (copied_study.path / "study.json").write_text(json.dumps(about))
    again = mn.Study.open(copied_study.path)
    assert str(again.model._module.dtype) == "torch.float32"


def test_axes_say_what_is_known_and_no_more(copied_study):
    table = copied_study.axes("pca-1")
    assert {"utility", "special", "weakness_positive", "categories_negative"} <= set(table.columns)
    assert "utility" not in copied_study.axes("sae-1").columns  # its proxy was not run
    copied_study.annotations.set("pca-1", 2, "negative", "short sums")
    assert copied_study.axes("pca-1")["label_negative"][2] == "short sums"


def test_a_recipe_replays_to_the_same_indices_and_files(copied_study):
    chosen = copied_study.selection("weakness")
    again = copied_study.replay(copied_study.path / "selections/weakness/recipe.json")
    np.testing.assert_array_equal(again.indices, chosen.indices)
    for kind in ("trl", "hf"):
        first = copied_study.path / "exports" / f"weakness-{kind}"
        second = copied_study.export("weakness", kind, name="again")
        files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
        assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
        for file in files:
            assert (first / file).read_bytes() == (second / file).read_bytes()
        shutil.rmtree(second)


def test_a_recipe_of_other_inputs_is_refused(copied_study):
    copied_study.fit("pca", layer=2, n_axes=8, name="pca-1")
    with pytest.raises(mn.InputError, match="made with other inputs"):
        copied_study.replay(copied_study.path / "selections/weakness/recipe.json")


def test_another_model_under_the_same_name_is_refused(copied_study, tmp_path):
    file = copied_study.path / "study.json"
    about = json.loads(file.read_text())
    about["identity"]["weights"] = "0" * 16
    file.write_text(json.dumps(about))
    with pytest.raises(mn.InputError, match="start a new study"):
        _ = mn.Study.open(copied_study.path).model


def test_names_do_not_lead_out_of_the_study(copied_study):
    for name in ("../x", "/tmp/x", "a/b", ".hidden", "..", "a\nb", "x" * 300):
        for step in (
            lambda: copied_study.export("weakness", name=name),  # noqa: B023
            lambda: copied_study.select("random", 3, "pca-1", name=name),  # noqa: B023
            lambda: copied_study.fit("pca", layer=1, name=name),  # noqa: B023
        ):
            with pytest.raises(mn.InputError, match="cannot be a name"):
                step()


def test_studies_that_are_none(tmp_path, copied_study):
    with pytest.raises(mn.InputError, match="no study there"):
        mn.Study.open(tmp_path / "nowhere")
    with pytest.raises(mn.InputError, match="is a study already"):
        mn.Study.create(copied_study.path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(mn.InputError, match="there and not empty"):
        mn.Study.create(tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"
    (copied_study.path / "study.json").write_text("{")
    with pytest.raises(mn.InputError, match="is damaged"):
        mn.Study.open(copied_study.path)
    with pytest.raises(mn.InputError, match="parted into a pool and a probe"):
        mn.Study.create(tmp_path / "b", corpus=mn.load_corpus([{"prompt": "one"}]))


def test_what_is_missing_is_named(copied_study):
    with pytest.raises(mn.InputError, match="no basis 'x'; there are: pca-1, sae-1"):
        copied_study.basis("x")
    with pytest.raises(mn.InputError, match="no selection 'x'"):
        copied_study.export("x")
    with pytest.raises(mn.InputError, match="kind of basis must be one of pca, sae, active"):
        copied_study.fit("ica")


def test_an_active_basis_is_of_the_pools_rows_and_the_pools_gradients(copied_study):
    basis = copied_study.fit("active", layer=1, n_axes=4)
    pool = copied_study.activations.matrix(1)[copied_study.pool_rows]
    ids = {copied_study.corpus[int(i)].id for i in copied_study.pool_rows}
    found = copied_study.gradients(split="pool")
    assert set(found.ids) <= ids  # what judges axes has not made them
    assert not set(copied_study.gradients(n=12).ids) & ids
    again = mn.ActiveSubspaceBasis(n_axes=4).fit(pool, gradients=found.matrix(1))
    np.testing.assert_allclose(basis.components_, again.components_, atol=1e-5)
    stored = copied_study.basis("active-1")
    assert stored.fingerprint == basis.fingerprint
    assert stored.gradient_share_total_ == basis.gradient_share_total_
    with pytest.raises(mn.InputError, match='one layer, not "concat"'):
        copied_study.fit("active", layer="concat")


def test_an_active_basis_is_not_computed_twice(copied_study, monkeypatch):
    first = copied_study.fit("active", layer=2, n_axes=4)

    def fail(*_args, **_options):
        raise AssertionError("computed again")

    for name in ("rows.gradients", "folder.load_model"):
        monkeypatch.setattr(f"mnskills_viz.study.{name}", fail)
    copied_study.fit("active", layer=1, n_axes=3)  # the gradients of all layers are there
    monkeypatch.setattr(mn.ActiveSubspaceBasis, "fit", fail)
    assert copied_study.fit("active", layer=2, n_axes=4).fingerprint == first.fingerprint


def test_a_layer_is_chosen_by_the_categories_of_the_pool(copied_study, monkeypatch):
    rows = copied_study.pool_rows
    names = ["even" if i % 2 else "odd" for i in range(len(rows))]
    monkeypatch.setattr(copied_study, "_categories_of_pool", lambda: names)
    planted = mn.Activations.matrix

    def matrix(self, layer):
        X = planted(self, layer).copy()
        if layer == 2:
            X[rows] += 20 * np.std(X) * np.array(names == np.array("odd"))[:, None]
        return X

    monkeypatch.setattr(mn.Activations, "matrix", matrix)
    table = copied_study.layers()
    assert table["layer"].tolist() == [0, 1, 2, 3]
    assert table.attrs["target"] == "category"
    assert table.loc[table["chosen"], "layer"].tolist() == [2]
    assert copied_study.fit("pca", layer="auto", n_axes=4).source_["layer"] == 2
    assert "pca-2" in copied_study.basis_names


@pytest.mark.filterwarnings("ignore:no layer tells")
def test_the_comparison_of_layers_is_kept(copied_study, monkeypatch):
    table = copied_study.layers()

    def fail(*_args, **_options):
        raise AssertionError("computed again")

    monkeypatch.setattr("mnskills_viz.study.bases.compare_layers", fail)
    again = mn.Study.open(copied_study.path).layers()
    pd.testing.assert_frame_equal(table, again)
    assert again.attrs == table.attrs
    monkeypatch.undo()
    (copied_study.path / "results" / "layers.parquet").write_bytes(b"junk")
    pd.testing.assert_frame_equal(table, copied_study.layers())


@pytest.mark.filterwarnings("ignore:no layer tells")
def test_without_categories_layers_are_compared_by_errors_and_without_these_not(
    copied_study, monkeypatch
):
    none = [None] * len(copied_study.pool_rows)
    monkeypatch.setattr(copied_study, "_categories_of_pool", lambda: none)
    table = copied_study.layers()
    assert (table.attrs["target"], table.attrs["rows"]) == ("error", 44)
    copied_study.activations.logprobs = np.full(60, np.nan, dtype=np.float32)
    (copied_study.path / "results" / "layers.parquet").unlink()
    with pytest.raises(
        mn.InputError, match=r"the pool has neither .* name a layer instead"
    ) as said:
        copied_study.fit(layer="auto")
    assert "\n" not in str(said.value)


def test_errors_follow_the_loss_of_the_references(tiny_model, tiny_study):
    probe = tiny_study.corpus.take(tiny_study.probe_rows)
    found = mn.probe_errors(tiny_model, probe, progress=False)
    np.testing.assert_allclose(found, tiny_study.probe_errors(), atol=1e-6)
    logprobs = tiny_study.activations.logprobs[tiny_study.probe_rows]
    assert (np.argsort(found) == np.argsort(-logprobs)).all()
    assert found.mean() == pytest.approx(0.5)
    with pytest.raises(mn.InputError, match="1 of 1 examples have no response"):
        mn.probe_errors(tiny_model, mn.load_corpus([{"prompt": "?"}]))
