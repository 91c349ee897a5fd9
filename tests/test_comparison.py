"""Two studies of one corpus, with different models."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.comparison import changed_poles
from mnskills_viz.selection.weakness import reference_errors


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_folder, demo_rows):
    """A study of the same corpus with a model that differs in one weight matrix."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "other"
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    model.model.layers[0].mlp.down_proj.weight.data.mul_(1.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    study = mn.Study.create(
        tmp_path_factory.mktemp("studies") / "after",
        model=str(folder),
        corpus=demo_rows,
        dtype="float32",
    )
    study.collect(progress=False)
    return study


def test_a_study_compared_with_itself_has_not_moved(tiny_study):
    table = mn.compare(tiny_study, tiny_study, "pca-1")
    assert len(table) == 8
    assert np.abs(table[["shift", "shift_low", "shift_high"]]).to_numpy().max() < 1e-6
    assert (table[["change_positive", "change_negative"]] == 0).all(axis=None)
    assert table.attrs["mean_error_before"] == table.attrs["mean_error_after"] == 0.5


def test_shift_is_the_mean_step_along_the_axis_in_standard_deviations(tiny_study, trained):
    table = mn.compare(tiny_study, trained, "pca-1")
    basis, rows = tiny_study.basis("pca-1"), tiny_study.probe_rows
    step = (trained.activations.matrix(1) - tiny_study.activations.matrix(1))[rows]
    steps = step @ basis.components_.T / basis.scale_
    np.testing.assert_allclose(table["shift"], steps.mean(axis=0), atol=1e-4)
    half = 1.96 * steps.std(axis=0, ddof=1) / np.sqrt(len(rows))
    np.testing.assert_allclose(table["shift_high"] - table["shift"], half, rtol=1e-3)
    assert table["shift"].abs().max() > 0.05  # the models do differ


def test_errors_of_both_models_lie_in_the_distribution_of_the_first(tiny_study, trained):
    rows = tiny_study.probe_rows
    was, now = (-s.activations.logprobs[rows] for s in (tiny_study, trained))
    ruler = tiny_study.ruler("pca-1")
    z = ruler.probe / ruler.scale
    table = mn.compare(tiny_study, trained, "pca-1").set_index("axis")
    for axis, pole, sign in ((0, "positive", 1), (3, "negative", -1)):
        for name, losses in (("before", was), ("after", now)):
            errors = [
                (sum(other < loss for other in was) + 0.5 * sum(other == loss for other in was))
                / len(was)
                for loss in losses
            ]
            weight = [max(0.0, sign * value) for value in z[:, axis]]
            mean = sum(w * e for w, e in zip(weight, errors, strict=True)) / sum(weight)
            assert table.loc[axis, f"error_{pole}_{name}"] == pytest.approx(mean, abs=1e-5)
        low, change, high = (
            table.loc[axis, f"change_{pole}{suffix}"] for suffix in ("_low", "", "_high")
        )
        assert low < change < high


def test_examples_are_listed_from_the_most_improved_on(tiny_study, trained):
    table = mn.compare_examples(tiny_study, trained)
    assert table["change"].is_monotonic_increasing
    assert set(table["id"]) == {tiny_study.corpus[int(i)].id for i in tiny_study.probe_rows}
    first = table.iloc[0]
    row = tiny_study.corpus.ids.index(first["id"])
    gain = trained.activations.logprobs[row] - tiny_study.activations.logprobs[row]
    assert first["change"] == pytest.approx(-gain, abs=1e-6)


def test_studies_of_different_corpora_are_refused(tiny_study, tiny_folder, demo_rows, tmp_path):
    other = mn.Study.create(
        tmp_path / "other", model=str(tiny_folder), corpus=demo_rows[2:], dtype="float32"
    )
    with pytest.raises(mn.InputError, match="different corpora"):
        mn.compare(tiny_study, other, "pca-1")


def test_rows_that_were_read_in_different_ways_are_refused(
    tiny_study, tiny_folder, demo_rows, tmp_path
):
    other = mn.Study.create(
        tmp_path / "other", model=str(tiny_folder), corpus=demo_rows, dtype="float32"
    )
    other.collect(progress=False, layers=[1], pooling="last")
    with pytest.raises(mn.InputError, match="different options"):
        mn.compare(tiny_study, other, "pca-1")


def test_the_interval_of_a_pole_is_that_of_the_weighted_mean(tiny_study, trained):
    table = mn.compare(tiny_study, trained, "pca-1").set_index("axis")
    rows = tiny_study.probe_rows
    was, now = (-s.activations.logprobs[rows] for s in (tiny_study, trained))
    change = reference_errors(now, was) - reference_errors(was)
    ruler = tiny_study.ruler("pca-1")
    for axis in range(8):
        weight = [max(0.0, z) for z in ruler.probe[:, axis] / ruler.scale[axis]]
        mean = sum(m * d for m, d in zip(weight, change, strict=True)) / sum(weight)
        spread = sum(m**2 * (d - mean) ** 2 for m, d in zip(weight, change, strict=True))
        half = 1.96 * spread**0.5 / sum(weight)
        assert table.loc[axis, "change_positive"] == pytest.approx(mean, abs=1e-5)
        high = table.loc[axis, "change_positive_high"]
        assert high - table.loc[axis, "change_positive"] == pytest.approx(half, rel=1e-3)


def test_poles_have_changed_if_their_interval_leaves_out_zero():
    columns = ("change_positive", "change_negative")
    limits = {
        f"{c}_{end}": 0.1 * (1 if end == "high" else -1) for c in columns for end in ("low", "high")
    }
    table = pd.DataFrame([{"axis": axis} | limits for axis in range(3)])
    table.loc[1, ["change_positive_low", "change_positive_high"]] = -0.3, -0.1
    table.loc[2, ["change_negative_low", "change_negative_high"]] = 0.1, 0.3
    assert changed_poles(table) == (["axis 1 +"], ["axis 2 -"])


def test_concatenated_layers_are_measured_with_the_first_studys_ruler(
    tiny_study, trained, tmp_path
):
    shutil.copytree(tiny_study.path, tmp_path / "study")
    study = mn.Study.open(tmp_path / "study")
    basis = study.fit("pca", layer="concat", n_axes=4)
    table = mn.compare(study, trained, "pca-concat")
    rows, scales = study.probe_rows, basis.source_["scales"]
    X = [
        np.concatenate(
            [s.activations.matrix(at) / scale for at, scale in enumerate(scales)], axis=1
        )
        for s in (study, trained)
    ]
    steps = (X[1] - X[0])[rows] @ basis.components_.T / basis.scale_
    np.testing.assert_allclose(table["shift"], steps.mean(axis=0), atol=1e-3)
    test = mn.Corpus(replace(e, id=f"t-{e.id}") for e in study.pool)  # the same prompts
    twin = mn.Study.create(
        tmp_path / "twin", model=study.about["model"]["name"], corpus=study.corpus, test=test,
        dtype="float32",
    )  # fmt: skip
    twin.collect(progress=False)
    twin.fit("pca", layer="concat", n_axes=4)
    np.testing.assert_allclose(
        twin._test_coordinates("pca-concat"), twin.ruler("pca-concat").pool, atol=0.01
    )
