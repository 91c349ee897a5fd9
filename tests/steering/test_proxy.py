"""Utilities are compared with steered passes, with planted truth, and with closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.activations.targets import targets
from mnskills_viz.bases.active_subspace import gradient_share
from mnskills_viz.corpus import Example
from mnskills_viz.corpus.splits import halves
from mnskills_viz.steering.concat import increments
from mnskills_viz.steering.doses import best_doses, verify_best
from mnskills_viz.steering.proxy import first_order, first_order_values, share_of_gradient
from tests.activations.test_gradients import target
from tests.activations.test_pairs import plain_values, tiny

COLUMNS = ["axis", "layer", "dose", "utility", "low", "high", "damage", "null_low", "null_high"]


def test_first_order_utility_is_the_slope_of_steered_passes(tiny_study, tiny_model):
    """Against small measured doses of every axis, both phases, reference target."""
    basis, corpus = tiny_study.basis("pca-1"), tiny_study.corpus[:4]
    table = mn.proxy(tiny_model, basis, corpus, target="reference", progress=False)
    dose = 1e-2
    for axis in (0, 3, 7):
        slopes = []
        for example in corpus:
            ends = []
            for sign in (1, -1):
                with mn.SteeringVector.from_axis(basis, axis, dose=sign * dose).apply(tiny_model):
                    ends.append(target(tiny_model, example, 1, np.zeros(32), "prompt"))
            slopes.append((ends[0] - ends[1]) / (2 * dose))
        assert table["utility"][axis] == pytest.approx(np.mean(slopes), rel=0.05, abs=1e-3)


def test_columns_are_the_contract(tiny_study):
    table = tiny_study.results("proxy", "pca-1")
    assert list(table.columns) == COLUMNS
    assert (table["low"] <= table["utility"]).all()
    assert (table["utility"] <= table["high"]).all()


def test_a_basis_a_layer_gives_rows_for_each(tiny_study, tiny_model):
    bases = {layer: mn.PCABasis(3).fit(tiny_study.activations.matrix(layer)) for layer in (0, 2)}
    table = mn.proxy(tiny_model, bases, tiny_study.corpus[:3], progress=False)
    assert table["layer"].tolist() == [0, 0, 0, 2, 2, 2]
    with pytest.raises(mn.InputError, match="say where to push"):
        mn.proxy(tiny_model, bases[0], tiny_study.corpus[:3])
    with pytest.raises(mn.InputError, match="method must be"):
        mn.proxy(tiny_model, bases, tiny_study.corpus[:3], method="guess")
    with pytest.raises(mn.InputError, match='only method="pass@k" samples answers'):
        mn.proxy(tiny_model, bases, tiny_study.corpus[:3], temperature=1.0)
    with pytest.raises(mn.InputError, match="a mapping says the layers itself"):
        mn.proxy(tiny_model, bases, tiny_study.corpus[:3], layer=2)


# -------------------------------------------------------------------------------- first order


def test_the_table_is_the_mean_of_the_values(tiny_study, tiny_model):
    corpus, basis = tiny_study.corpus[:8], tiny_study.basis("pca-1")
    found = mn.gradients(tiny_model, corpus, layers=[1], progress=False)
    values = first_order_values(found, basis, 1)
    table = first_order(found, {1: basis})
    assert values.shape == (len(found.ids), 8)
    np.testing.assert_allclose(table["utility"], values.mean(axis=0))
    # The interval is that of a mean: about 1.96 of its standard errors to either side.
    widths = (table["high"] - table["low"]) / values.std(axis=0, ddof=1) * np.sqrt(len(values))
    assert widths.between(2.8, 4.2).all()
    some = mn.proxy(tiny_model, basis, corpus, axes=[5, 2], progress=False)
    pd.testing.assert_frame_equal(some, table.iloc[[2, 5]].reset_index(drop=True))


def test_concatenated_layers_have_the_slope_of_their_increments(tiny_study, tiny_model):
    acts, corpus = tiny_study.activations, tiny_study.corpus[:5]
    basis = mn.PCABasis(4).fit(acts.matrix("concat"), source=acts.source("concat"))
    table = mn.proxy(tiny_model, basis, corpus, progress=False)
    assert table["layer"].tolist() == ["concat"] * 4
    found, step = targets(tiny_model, corpus, "contrast"), 2e-3
    for axis in range(4):
        ends = []
        for sign in (1, -1):
            with increments(basis, axis, sign * step).apply(tiny_model):
                ends.append(plain_values(tiny_model, found).mean())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert table["utility"][axis] == pytest.approx(slope, rel=0.03, abs=1e-3)


def test_the_share_of_the_gradient_is_that_of_its_projection(tiny_study, tiny_model):
    acts = tiny_study.activations
    bases = {layer: mn.PCABasis(3).fit(acts.matrix(layer)) for layer in (1, 3)}
    bases |= {"concat": mn.PCABasis(5).fit(acts.matrix("concat"), source=acts.source("concat"))}
    found = mn.gradients(tiny_model, tiny_study.corpus[:6], progress=False)
    table = share_of_gradient(found, bases)
    assert table["layer"].tolist() == [1, 3, "concat"]
    np.testing.assert_allclose(table["random"], [3 / 32, 3 / 32, 5 / 128])
    grads = found.matrix(1).astype(float)
    projected = grads @ bases[1].components_.T @ bases[1].components_
    assert table["share"][0] == pytest.approx((projected**2).sum() / (grads**2).sum(), rel=1e-5)
    assert table["share"][1] == pytest.approx(
        gradient_share(bases[3].components_, found.matrix(3)).sum()
    )
    every = mn.PCABasis(32).fit(acts.matrix(1))
    assert share_of_gradient(found, {1: every})["share"][0] == pytest.approx(1)


# ------------------------------------------------------------------------------ measured doses


def agreement(model, basis, corpus, layer, dose, axes=None) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and odd parts of measured doses, axis by axis."""
    slopes = mn.proxy(model, basis, corpus, layer, axes=axes, progress=False)
    doses = mn.proxy(
        model, basis, corpus, layer, method="dose", doses=[dose], axes=axes, progress=False
    )
    assert list(doses.columns) == COLUMNS
    np.testing.assert_allclose(doses["null_high"], slopes["null_high"], rtol=1e-3)
    return slopes["utility"].to_numpy(), doses["utility"].to_numpy()


@pytest.mark.parametrize(("name", "dose"), [("gemma2", 0.5), ("gpt2", 0.5)])
def test_slopes_agree_with_the_odd_part_of_doses(tiny_model, demo_rows, name, dose):
    wide = {"sliding_window": 4096} if name == "gemma2" else {}
    model = tiny(name, tiny_model.tokenizer, **wide)
    acts = mn.collect(model, demo_rows, layers=[1], progress=False)
    basis = mn.PCABasis(8).fit(acts.matrix(1), source=acts.source(1))
    slopes, odd = agreement(model, basis, demo_rows[44:], 1, dose)
    assert np.abs(slopes - odd).max() < 0.1 * np.abs(odd).max()


def test_slopes_agree_with_the_odd_part_of_doses_in_the_embedded_model(embedded):
    """The first axis, three times as long as the next, takes more examples to be even."""
    corpus = mn.load_corpus("demo")
    acts = mn.collect(embedded, corpus.split("pool")[:16], layers=[15], progress=False)
    basis = mn.PCABasis(6).fit(acts.matrix(15), source=acts.source(15))
    slopes, odd = agreement(embedded, basis, corpus.split("probe")[:4], 15, 0.5, axes=[1, 4])
    assert np.abs(slopes - odd).max() < 0.1 * np.abs(odd).max()


def test_utility_and_damage_are_odd_and_even_parts(tiny_study, tiny_model):
    corpus, basis = tiny_study.corpus[:6], tiny_study.basis("pca-1")
    table = mn.proxy(
        tiny_model, basis, corpus, method="dose", doses=(2.0, 0.5), axes=[4, 1], progress=False
    )
    assert table[["axis", "dose"]].to_numpy().tolist() == [[4, 0.5], [4, 2], [1, 0.5], [1, 2]]
    found = targets(tiny_model, corpus, "contrast")
    before = plain_values(tiny_model, found).mean()
    for row in table.itertuples():
        ends = []
        for sign in (1, -1):
            vector = mn.SteeringVector.from_axis(basis, row.axis, dose=sign * row.dose)
            with vector.apply(tiny_model):
                ends.append(plain_values(tiny_model, found).mean())
        assert row.utility == pytest.approx((ends[0] - ends[1]) / (2 * row.dose), abs=2e-5)
        assert row.damage == pytest.approx(before - sum(ends) / 2, abs=2e-5)
        assert row.low <= row.utility <= row.high


def test_measured_doses_are_kept_and_gone_on_with(tiny_study, tiny_model, tmp_path):
    corpus, basis, store = tiny_study.corpus[:4], tiny_study.basis("pca-1"), tmp_path / "doses"
    options = {"method": "dose", "axes": [0, 1], "store": store, "progress": False}
    table = mn.proxy(tiny_model, basis, corpus, **options)
    before = store.read_bytes()
    pd.testing.assert_frame_equal(mn.proxy(tiny_model, basis, corpus, **options), table)
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"doses": (0.5, 0.0)}, "finite numbers above 0"),
        ({"doses": (-1.0,)}, "finite numbers above 0"),
        ({"doses": (float("nan"),)}, "finite numbers above 0"),
        ({"doses": ()}, "finite numbers above 0"),
        ({"axes": [8]}, "axes 0 to 7"),
        ({"axes": []}, "nothing to push along"),
        ({"layer": 9}, "block 9 is not there"),
        ({"layer": "concat"}, "needs a basis fitted on"),
        ({"target": "style"}, "target must be"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(tiny_study, tiny_model, options, said):
    with pytest.raises(mn.InputError, match=said) as caught:
        mn.proxy(
            tiny_model, tiny_study.basis("pca-1"), tiny_study.corpus[:4], method="dose", **options
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["first-order", "dose"])
def test_axes_of_another_model_are_refused(tiny_study, tiny_model, method):
    rows = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    narrow = mn.PCABasis(3).fit(rows)
    with pytest.raises(mn.InputError, match="width 5, the model 32"):
        mn.proxy(tiny_model, narrow, tiny_study.corpus[:4], layer=1, method=method)
    other = tiny("llama", tiny_model.tokenizer, num_hidden_layers=4)
    other._module.lm_head.weight.data *= 2
    with pytest.raises(mn.InputError, match="made for another model"):
        mn.proxy(other, tiny_study.basis("pca-1"), tiny_study.corpus[:4], method=method)


def test_texts_that_do_not_fit_are_said(tiny_study, tiny_model):
    long = mn.Corpus([Example("long", "one two " * 2000, "5", "5")])
    for method in ("first-order", "dose"):
        with pytest.raises(mn.InputError, match="that fit the model's context; none of the 1"):
            mn.proxy(tiny_model, tiny_study.basis("pca-1"), long, method=method)
    empty = mn.Corpus([Example("empty", "", "3 + 4 = 7", "7")])
    assert len(mn.proxy(tiny_model, tiny_study.basis("pca-1"), empty, progress=False)) == 8


# ------------------------------------------------------------------------------- the best dose


def doses_of(slope, curve, doses, axis=0) -> pd.DataFrame:
    """A table as it would be if utility and damage followed the formula."""
    rows = [
        {"axis": axis, "layer": 1, "dose": d, "utility": slope, "damage": curve * d**2}
        for d in doses
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("slope", "curve", "dose", "gain", "clipped"),
    [
        (0.1, 0.05, 1.0, 0.05, False),  # u / 2c, u^2 / 4c
        (-0.1, 0.05, -1.0, 0.05, False),
        (0.4, 0.05, 2.0, 0.6, True),  # 4 is beyond what was measured
        (0.1, -0.01, 2.0, 0.24, True),  # no damage was seen
        (0.0, 0.05, 0.0, 0.0, False),
    ],
)
def test_the_best_dose_is_where_slope_and_damage_balance(slope, curve, dose, gain, clipped):
    best = best_doses(doses_of(slope, curve, (0.5, 1.0, 2.0)))
    assert best.columns.tolist() == ["axis", "layer", "dose", "gain", "clipped"]
    assert best["dose"][0] == pytest.approx(dose)
    assert best["gain"][0] == pytest.approx(gain)
    assert best["clipped"][0] == clipped


def test_slope_and_damage_are_least_squares_over_the_doses():
    rng = np.random.default_rng(0)
    doses = np.array([0.5, 1.0, 2.0])
    utility, damage = rng.uniform(0.05, 0.1, 3), rng.uniform(0.05, 0.1, 3) * doses**2
    table = pd.DataFrame(
        {"axis": 0, "layer": 1, "dose": doses, "utility": utility, "damage": damage}
    )
    slope = np.linalg.lstsq(doses[:, None], utility * doses, rcond=None)[0][0]
    curve = np.linalg.lstsq(doses[:, None] ** 2, damage, rcond=None)[0][0]
    assert best_doses(table)["dose"][0] == pytest.approx(slope / (2 * curve))


def test_the_best_dose_is_chosen_on_one_half_and_verified_on_the_other(
    tiny_study, tiny_model, tmp_path
):
    corpus, basis = tiny_study.corpus[:14], tiny_study.basis("pca-1")
    table = verify_best(tiny_model, basis, corpus, top=3, store=tmp_path / "doses", progress=False)
    assert table.columns.tolist() == (
        ["axis", "layer", "dose", "predicted", "gain", "low", "high", "clipped"]
    )
    assert len(table) == 3
    assert (table["predicted"].diff()[1:] <= 0).all()
    usable = set(targets(tiny_model, corpus, "contrast").ids)
    first, second = halves(mn.Corpus([e for e in corpus if e.id in usable]))
    assert not set(first.ids) & set(second.ids)
    chosen = best_doses(
        mn.proxy(
            tiny_model, basis, first, method="dose", axes=table["axis"].tolist(), progress=False
        )
    )
    np.testing.assert_allclose(table["dose"], chosen["dose"], atol=1e-6)
    found = targets(tiny_model, second, "contrast")
    before = plain_values(tiny_model, found)
    for row in table.itertuples():
        with mn.SteeringVector.from_axis(basis, row.axis, dose=row.dose).apply(tiny_model):
            gain = plain_values(tiny_model, found) - before
        assert row.gain == pytest.approx(gain.mean(), abs=2e-5)
    with pytest.raises(mn.InputError, match="cannot be parted into two halves"):
        verify_best(tiny_model, basis, corpus[:3])


# ------------------------------------------------------------------------------ a planted truth


def planted(tokenizer, seed: int):
    """A random model with a direction that drives its answer, and 8 of larger variance.

    Tokens vary along each decoy twice as far as along the planted direction. No weight reads a
    decoy: it only takes its part in the norms. Nothing but the embeddings writes the answer.

    Returns
    -------
    The model, and its directions [9, 32], decoys first.
    """
    model = tiny("llama", tokenizer, num_hidden_layers=2)
    module, rng = model._module, np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((32, 32)))[0].T
    decoys, answer = frame[:8], frame[8]
    coordinates = rng.standard_normal((len(tokenizer), 32)) * ([2.0] * 8 + [1.0] + [0.3] * 23)
    module.model.embed_tokens.weight.data = torch.tensor(coordinates @ frame).float()
    head = rng.standard_normal((len(tokenizer), 32))
    for digit in "0123456789":
        head[tokenizer.convert_tokens_to_ids(digit)] += (10 if digit == "7" else -10) * answer
    module.lm_head.weight.data = torch.tensor(head).float()
    blind = torch.tensor(np.eye(32) - decoys.T @ decoys).float()
    across = torch.tensor(answer).float()
    for name, weight in module.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            weight.data = 0.25 * (weight - torch.outer(across, across @ weight))
        elif weight.ndim == 2 and "embed" not in name:
            weight.data @= blind
    return model, frame[:9]


def basis_along(directions, rows):
    """Axes along directions, with the scale that rows have there."""
    spreads = (rows - rows.mean(axis=0)) @ directions.T
    assert (spreads[:, :8].std(axis=0) > 1.3 * spreads[:, 8].std()).all()
    ends = directions * spreads.std(axis=0)[:, None] * 3
    return mn.PCABasis(9).fit(np.concatenate([ends, -ends]).astype(np.float32))


def test_a_planted_direction_comes_before_decoys_of_larger_variance(tiny_model, demo_rows):
    corpus = mn.Corpus([Example(e.id, e.prompt_text[:60], "7", "7") for e in demo_rows], "7")
    for seed in range(20):
        model, directions = planted(tiny_model.tokenizer, seed)
        acts = mn.collect(model, corpus, layers=[0], tokens="prompt", progress=False)
        basis = basis_along(directions, acts.matrix(0))
        table = mn.proxy(model, basis, corpus[:12], layer=0, progress=False)
        cosines = np.abs(basis.components_ @ directions[8])
        assert cosines.argmax() == 8  # the axis of smallest variance
        assert cosines[8] > 0.999
        assert table["utility"].abs().argmax() == 8
        assert abs(table["utility"][8]) > table["null_high"][8]
