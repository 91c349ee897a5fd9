"""Doses along an axis of concatenated layers, on the ruler that its rows were measured with."""

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.steering.concat import concat_vector, increments, vector_for
from tests.activations.test_collect import reference_rows


@pytest.fixture(scope="module")
def basis(tiny_study):
    acts = tiny_study.activations
    return mn.PCABasis(6).fit(acts.matrix("concat"), source=acts.source("concat"))


def coordinate(model, basis, example):
    """Coordinates by plain transformers' rows, what blocks add at their outputs included."""
    rows, source = reference_rows(model, example)[0], basis.source_
    scaled = zip(source["layers"], source["scales"], strict=True)
    return basis.transform(np.concatenate([rows[at] / c for at, c in scaled])[None])[0]


def test_increments_add_up_to_the_slices_of_the_axis(basis):
    """If no block answered, the stream after block l would have moved by dose * sigma * c_l q_l."""
    vector = increments(basis, 2, 1.5)
    width = basis.source_["widths"][0]
    carried = np.cumsum([vector.directions[at] for at in basis.source_["layers"]], axis=0)
    for i, scale in enumerate(basis.source_["scales"]):
        q = basis.components_[2, i * width : (i + 1) * width]
        np.testing.assert_allclose(
            carried[i], 1.5 * basis.scale_[2] * scale * q, rtol=1e-4, atol=1e-6
        )
    moved = sum(
        carried[i] @ basis.components_[2, i * width : (i + 1) * width] / scale
        for i, scale in enumerate(basis.source_["scales"])
    )
    assert moved == pytest.approx(1.5 * basis.scale_[2], rel=1e-5)


@pytest.mark.parametrize("dose", [0.5, -0.5])
@pytest.mark.parametrize("axis", [0, 3])
def test_a_dose_moves_the_pooled_coordinate_by_the_dose(basis, tiny_study, tiny_model, axis, dose):
    """On the texts that it was measured on; read by plain transformers."""
    texts = mn.Corpus(tiny_study.corpus[:8], "texts")
    vector = concat_vector(tiny_model, basis, axis, dose, texts)
    before = np.array([coordinate(tiny_model, basis, e)[axis] for e in texts])
    with vector.apply(tiny_model):
        after = np.array([coordinate(tiny_model, basis, e)[axis] for e in texts])
    assert (after - before).mean() / basis.scale_[axis] == pytest.approx(dose, rel=0.05)


def test_the_embedded_model_moves_by_the_dose_on_other_texts(embedded):
    """Within 15 %, where the increments alone overshoot."""
    layers = [2, 6, 10]
    corpus = mn.load_corpus("demo", limit=48)
    acts = mn.collect(embedded, mn.Corpus(corpus[:32], "x"), layers=layers, progress=False)
    basis = mn.PCABasis(4).fit(acts.matrix("concat"), source=acts.source("concat"))
    vector = concat_vector(embedded, basis, 1, 0.5, mn.Corpus(corpus[32:40], "some"))
    others = mn.Corpus(corpus[40:48], "others")
    before = np.array([coordinate(embedded, basis, e)[1] for e in others])
    with vector.apply(embedded):
        after = np.array([coordinate(embedded, basis, e)[1] for e in others])
    assert (after - before).mean() / basis.scale_[1] == pytest.approx(0.5, rel=0.15)


def test_what_was_measured_is_said(basis, tiny_study, tiny_model):
    vector = concat_vector(tiny_model, basis, 0, 0.5, mn.Corpus(tiny_study.corpus[:4], "texts"))
    assert vector.source["measured"] == pytest.approx(0.5, rel=0.05)
    assert vector.source["layer"] == "concat"
    assert list(vector.directions) == tiny_study.activations.layers


def test_vectors_of_doses_are_made_as_the_axis_was_fitted(basis, tiny_study, tiny_model):
    """Of concatenated layers measured on the first dozen texts; of one layer by its scale."""
    corpus = tiny_study.corpus
    found = vector_for(tiny_model, basis, 1, "concat", -0.5, corpus)
    texts = mn.Corpus(corpus[:12], "texts")
    assert found.fingerprint == concat_vector(tiny_model, basis, 1, -0.5, texts).fingerprint
    assert found.source["measured"] == pytest.approx(-0.5, rel=0.05)
    plain = tiny_study.basis("pca-1")
    of_layer = vector_for(tiny_model, plain, 1, 2, -0.5, corpus)
    np.testing.assert_allclose(
        of_layer.directions[2], -0.5 * plain.scale_[1] * plain.components_[1], rtol=1e-6
    )
    assert list(of_layer.directions) == [2]
    with pytest.raises(mn.InputError, match="was not fitted on concatenated layers"):
        vector_for(tiny_model, plain, 1, "concat", 0.5, corpus)


def test_what_cannot_be_done_is_one_line(basis, tiny_study, tiny_model):
    texts = mn.Corpus(tiny_study.corpus[:2], "texts")
    with pytest.raises(mn.InputError, match="was not fitted on concatenated layers"):
        concat_vector(tiny_model, tiny_study.basis("pca-1"), 0, 1.0, texts)
    with pytest.raises(mn.InputError, match="axes 0 to 5"):
        concat_vector(tiny_model, basis, 6, 1.0, texts)
    with pytest.raises(mn.InputError, match="finite"):
        concat_vector(tiny_model, basis, 0, float("nan"), texts)
