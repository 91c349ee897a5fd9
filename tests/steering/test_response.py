import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.steering.divergence import Span, divergence
from mnskills_viz.steering.response import (
    Response,
    Trial,
    dose_grid,
    dose_response,
    repetition,
    respond,
    response_table,
)
from mnskills_viz.steering.safe_band import Limits, safe_band

PROMPTS = ["2 + 2 is", "The largest of 3, 9, 4 is", "One two three", "Sort these: 9, 4, 7"]
SENTENCES = ["The river rises in the hills.", "Bread is made from flour and water, and baked."]


@pytest.fixture(scope="module")
def basis(tiny_study):
    return tiny_study.basis("pca-1")


@pytest.fixture(scope="module")
def table(tiny_model, basis):
    return dose_response(
        tiny_model,
        basis,
        2,
        PROMPTS,
        doses=(-3, 3, 60),
        neutral=SENTENCES,
        max_new_tokens=10,
        progress=False,
    )


def row_of(table, dose):
    return table[table["dose"] == dose].iloc[0]


def logits(model, ids):
    with torch.no_grad():
        return model._module(torch.tensor([ids])).logits[0].double()


def streams(model, ids):
    """Residual stream after each block, by plain transformers; the last is after the norm."""
    with torch.no_grad():
        found = model._module(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return [h[0].double().numpy() for h in found[1:]]


# ------------------------------------------------------------------------------- repetition


def test_repetition_of_known_texts():
    assert repetition(["a", "b", "c", "d", "e", "f"]) == 0
    assert repetition(["or"] * 10) == pytest.approx(1 - 1 / 7)  # seven 4-grams, one distinct
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 - 4 / 5)
    assert repetition(["a", "b", "a", "b"], n=2) == pytest.approx(1 - 2 / 3)
    assert repetition([1, 2, 3]) == 0  # too short to repeat anything


# ------------------------------------------------------------------------------- divergence


def test_divergence_agrees_with_plain_torch_one_text_at_a_time(tiny_model, basis):
    vector = mn.SteeringVector.from_axis(basis, 0, dose=4.0)
    texts = [tiny_model.tokenizer(text)["input_ids"] for text in [*SENTENCES, *PROMPTS]]
    spans = [Span(ids, 1, len(ids)) for ids in texts]
    found = divergence(tiny_model, spans, spans, None, vector)
    for ids, kl in zip(texts, found, strict=True):
        p = logits(tiny_model, ids)[1:].log_softmax(-1)
        with vector.apply(tiny_model):
            q = logits(tiny_model, ids)[1:].log_softmax(-1)
        expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
        assert kl == pytest.approx(expected.mean().item(), rel=1e-4)
    assert found.min() > 1e-3


def test_divergence_compares_the_same_positions_of_longer_texts(tiny_model):
    """A text after a prefix against the text alone; and nothing diverges from itself."""
    ids = tiny_model.tokenizer(SENTENCES[1])["input_ids"]
    prefix = tiny_model.tokenizer(SENTENCES[0])["input_ids"]
    alone, after = Span(ids, 0, len(ids)), Span(prefix + ids, len(prefix), len(prefix + ids))
    (found,) = divergence(tiny_model, [after], [alone])
    p = logits(tiny_model, prefix + ids)[len(prefix) :].log_softmax(-1)
    q = logits(tiny_model, ids).log_softmax(-1)
    assert found == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-4)
    assert divergence(tiny_model, [after, alone], [after, alone]).tolist() == [0, 0]


# --------------------------------------------------------------------------- dose by dose


def test_dose_0_changes_nothing_exactly(table, tiny_model):
    zero = row_of(table, 0)
    assert (zero["kl"], zero["shift"], zero["leakage"]) == (0, 0, 0)
    assert zero["texts"] == [t for (t,) in mn.generate(tiny_model, PROMPTS, max_new_tokens=10)]
    assert np.isnan(zero["carried"])
    assert table["dose"].tolist() == [-3, 0, 3, 60]


def test_texts_are_those_of_the_steered_model(table, tiny_model, basis):
    vector = mn.SteeringVector.from_axis(basis, 2, dose=3.0)
    expected = mn.generate(tiny_model, PROMPTS, vector, max_new_tokens=10)
    assert row_of(table, 3)["texts"] == [text for (text,) in expected]


def test_perplexity_is_that_of_plain_transformers(tiny_model, basis):
    """Of the very tokens that were written, read by the unsteered model."""
    vector = mn.SteeringVector.from_axis(basis, 2, dose=60.0)
    found = respond(tiny_model, basis, vector, Trial(PROMPTS, SENTENCES, max_new_tokens=10))
    nats, n_tokens = 0.0, 0
    for prompt in PROMPTS:
        ids = tiny_model.tokenizer(prompt, return_tensors="pt")["input_ids"]
        with vector.apply(tiny_model):
            out = tiny_model._module.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10
            )[0].tolist()
        if out[-1] == tiny_model.tokenizer.eos_token_id:
            out = out[:-1]
        scores = logits(tiny_model, out).log_softmax(-1)
        start = ids.shape[1]
        nats -= sum(scores[i - 1, out[i]].item() for i in range(start, len(out)))
        n_tokens += len(out) - start
    assert found.perplexity == pytest.approx(np.exp(nats / n_tokens), rel=1e-4)
    assert sum(found.n_tokens) == n_tokens


def test_shift_is_that_of_rows_read_by_the_unsteered_model(table, tiny_model, basis):
    """Bytes of the tiny tokenizer survive decoding here, so that text can be read again."""
    tokenizer = tiny_model.tokenizer

    def coordinates(dose):
        found = []
        for prompt, text in zip(PROMPTS, row_of(table, dose)["texts"], strict=True):
            start, ids = len(tokenizer(prompt)["input_ids"]), tokenizer(prompt)["input_ids"]
            ids = ids + tokens[dose, text]
            stream = streams(tiny_model, ids)[1]
            norms = np.linalg.norm(stream, axis=1)
            kept = [i for i in range(start, len(ids)) if norms[i] <= 4 * np.median(norms)]
            found.append(basis.transform(stream[kept].mean(axis=0)[None])[0] / basis.scale_)
        return np.array(found)

    tokens = {}
    for dose in (0.0, 3.0):
        vector = mn.SteeringVector.from_axis(basis, 2, dose=dose)
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            with vector.apply(tiny_model):
                out = tiny_model._module.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10
                )[0, ids.shape[1] :].tolist()
            out = out[:-1] if out[-1] == tokenizer.eos_token_id else out
            tokens[dose, tokenizer.decode(out, skip_special_tokens=True)] = out
    shift = (coordinates(3.0) - coordinates(0.0)).mean(axis=0)
    steered = row_of(table, 3)
    assert steered["shift"] == pytest.approx(shift[2], rel=1e-3, abs=1e-4)
    others = np.delete(shift, 2)
    assert steered["leakage"] == pytest.approx(np.sqrt((others**2).mean()), rel=1e-3)


def test_carried_is_the_change_at_the_later_block(tiny_model, basis):
    table = dose_response(
        tiny_model, basis, 0, PROMPTS[:1], (2.0,), later=2, neutral=SENTENCES,
        max_new_tokens=2, progress=False,
    )  # fmt: skip
    vector = mn.SteeringVector.from_axis(basis, 0, dose=2.0)
    changes = []
    for text in SENTENCES:
        ids = tiny_model.tokenizer(text)["input_ids"]
        means = []
        for steering in (None, vector):
            if steering is None:
                stream = streams(tiny_model, ids)[2]
            else:
                with steering.apply(tiny_model):
                    stream = streams(tiny_model, ids)[2]
            norms = np.linalg.norm(stream, axis=1)
            first = next(i for i, token in enumerate(ids) if token != ids[0])
            kept = [i for i in range(first, len(ids)) if norms[i] <= 4 * np.median(norms)]
            means.append(stream[kept].mean(axis=0))
        changes.append(means[1] - means[0])
    expected = basis.components_ @ np.mean(changes, axis=0) / basis.scale_ / 2.0
    found = row_of(table, 2)
    assert found["carried"] == pytest.approx(expected[0], rel=1e-3)
    rest = np.sqrt((expected[1:] ** 2).mean())
    assert found["carried_leakage"] == pytest.approx(rest, rel=1e-3)


def test_ends_are_counted_and_empty_texts_have_no_coordinate(tiny_model, basis):
    """A model whose every token ends a text writes nothing."""
    config = tiny_model._module.generation_config
    before, config.eos_token_id = config.eos_token_id, list(range(600))
    vector = mn.SteeringVector.from_axis(basis, 0, dose=1.0)
    try:
        found = respond(tiny_model, basis, vector, Trial(PROMPTS, SENTENCES, max_new_tokens=8))
    finally:
        config.eos_token_id = before
    assert found.ended == [True] * 4
    assert found.n_tokens == [0] * 4
    assert found.texts == [""] * 4
    assert np.isnan(found.perplexity)
    table = response_table({0.0: found, 1.0: found}, 0)
    assert table["shift"].isna().all()
    assert safe_band(table) == (0, 0)


def test_a_response_survives_json_and_the_sweep_is_made_of_responses(tiny_model, basis):
    seen = {}
    options = {"neutral": SENTENCES, "max_new_tokens": 4, "progress": False}
    table = dose_response(tiny_model, basis, 1, PROMPTS, (1,), on_dose=seen.__setitem__, **options)
    assert list(seen) == [0, 1]
    again = {dose: Response.from_dict(one.as_dict()) for dose, one in seen.items()}
    pd.testing.assert_frame_equal(response_table(again, 1), table)
    vector = mn.SteeringVector.from_axis(basis, 1, dose=1.0)
    alone = respond(tiny_model, basis, vector, Trial(PROMPTS, SENTENCES, max_new_tokens=4))
    assert alone == seen[1]
    own = dose_response(
        tiny_model, basis, 1, PROMPTS, (1,), vector_of=lambda dose: dose * vector, **options
    )
    pd.testing.assert_frame_equal(own, table)


def test_axes_of_concatenated_layers_are_read_as_they_were_fitted(tiny_model, tiny_study):
    rows = tiny_study.activations
    basis = mn.PCABasis(n_axes=3).fit(rows.matrix("concat"), source=rows.source("concat"))
    vector = mn.SteeringVector({1: np.zeros(32)})
    found = respond(tiny_model, basis, vector, Trial(PROMPTS, SENTENCES, max_new_tokens=4))
    assert np.isfinite(found.coordinates).all()
    assert np.isnan(found.moved).all()  # its directions are those of no one block


def test_nothing_is_carried_of_concatenated_layers_even_if_there_is_one(tiny_model):
    """Rows are divided by the layer's scale: the width fits a block, the directions do not."""
    rows = mn.collect(tiny_model, mn.load_corpus("demo", limit=12), layers=[1], progress=False)
    basis = mn.PCABasis(n_axes=3).fit(rows.matrix("concat"), source=rows.source("concat"))
    assert basis.components_.shape[1] == 32
    trial = Trial(PROMPTS[:1], SENTENCES, max_new_tokens=2)
    found = respond(tiny_model, basis, mn.SteeringVector({1: np.ones(32)}), trial)
    assert np.isnan(found.moved).all()
    table = response_table({0.0: found, 1.0: found}, 0)
    assert table[["carried", "carried_leakage"]].isna().all(axis=None)


# ------------------------------------------------------------------------------- safe band


def sweep(doses, **columns):
    start = {"perplexity": 5.0, "repetition": 0.1, "ended": 0.5, "length": 30.0, "kl": 0.0}
    return pd.DataFrame(
        {"dose": doses} | {n: columns.get(n, [v] * len(doses)) for n, v in start.items()}
    )


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("perplexity", 8.0),
        ("perplexity", 3.0),  # repetition lowers it
        ("perplexity", np.nan),
        ("repetition", 0.4),
        ("ended", 1.0),
        ("ended", 0.0),
        ("length", 5.0),
        ("length", 48.0),
        ("kl", 0.5),
    ],
)
def test_each_limit_cuts_the_band_on_its_own(name, broken):
    doses = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert safe_band(sweep(doses)) == (-2, 2)
    values = list(sweep(doses)[name])
    values[3] = broken
    assert safe_band(sweep(doses, **{name: values})) == (-2, 0)


NUMBERS = st.floats(0.01, 20) | st.just(float("nan"))
ROWS = st.tuples(st.floats(-20, 20), NUMBERS, st.floats(0, 1), st.floats(0, 1), NUMBERS, NUMBERS)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, max_size=8, unique_by=lambda row: row[0]), st.permutations(range(9)))
def test_the_band_holds_0_and_only_doses_that_pass(rows, order):
    names = ["dose", "perplexity", "repetition", "ended", "length", "kl"]
    start = (0.0, 5.0, 0.1, 0.5, 30.0, 0.0)
    table = pd.DataFrame([start, *(r for r in rows if r[0])], columns=names)
    table = table.iloc[[i for i in order if i < len(table)]]
    limits = Limits()
    low, high = safe_band(table, limits)
    assert low <= 0 <= high
    inside = table[(table["dose"] >= low) & (table["dose"] <= high) & (table["dose"] != 0)]
    assert (inside["perplexity"].between(5 / 1.5 - 1e-9, 7.5 + 1e-9)).all()
    assert (inside["kl"] <= limits.kl).all()
    assert ((inside["ended"] - 0.5).abs() <= limits.ended).all()
    for beyond in (
        table[table["dose"] > high].sort_values("dose").head(1),
        table[table["dose"] < low].sort_values("dose").tail(1),
    ):
        both = pd.concat([table[table["dose"] == 0], beyond])
        assert safe_band(both, limits) == (0, 0)  # it fails by itself


def test_limits_can_be_set():
    table = sweep([0.0, 1.0], kl=[0.0, 0.5])
    assert safe_band(table, dataclasses.replace(Limits(), kl=1.0)) == (0, 1)


def test_doses_that_break_the_text_are_outside_the_band_on_the_tiny_model(table):
    low, high = safe_band(table)
    assert low <= 0 <= high < 60
    assert row_of(table, 60)["repetition"] > 0.5 + row_of(table, 0)["repetition"]


def test_doses_that_break_the_text_are_outside_the_band(embedded):
    """Along the first principal axis at layer 15, 16 standard deviations leave no sentence."""
    texts = [e for e in mn.load_corpus("demo") if len(e.prompt_text + e.response) < 100][:8]
    rows = mn.collect(embedded, mn.Corpus(texts), layers=[15], progress=False)
    basis = mn.PCABasis(n_axes=2).fit(rows.matrix(15), source=rows.source(15))
    table = dose_response(
        embedded,
        basis,
        0,
        ["The weather today is", "My sister likes to"],
        doses=(0.25, 16),
        neutral=SENTENCES[:1],
        max_new_tokens=12,
        progress=False,
    )
    assert safe_band(table) == (0, 0.25)
    assert row_of(table, 16)["kl"] > 1
    assert 0.5 < row_of(table, 0.25)["carried"] < 1.1


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "doses",
    [(), (1, float("nan")), (float("inf"),), ("much",), "12", None, 0.5, np.eye(2), (True,)],
)
def test_doses_must_be_finite_numbers(doses):
    with pytest.raises(mn.InputError, match="doses must be finite numbers") as error:
        dose_grid(doses)
    assert "\n" not in str(error.value)


def test_a_grid_is_ascending_each_dose_once_with_0():
    assert dose_grid(np.float32([2, -0.5, 2])) == [-0.5, 0, 2]
    assert str(dose_grid(d for d in (-0.0, 1))) == "[0.0, 1.0]"


def test_bad_input_is_one_clear_line(tiny_model, basis, tiny_study):
    def refused(match, axis=0, prompts=PROMPTS, doses=(1.0,), **options):
        with pytest.raises(mn.InputError, match=match) as error:
            dose_response(tiny_model, basis, axis, prompts, doses, progress=False, **options)
        assert "\n" not in str(error.value)

    refused("axis 8 is not there; the basis has axes 0 to 7", axis=8)
    refused("prompts: the list is empty", prompts=[])
    refused("prompts: a list was expected", prompts="2 + 2")
    refused("prompts: a list was expected", prompts=[{"role": "user", "content": "2"}])
    refused("prompts: a list of texts was expected, not a int", prompts=3)
    refused("prompts: a list of texts was expected, not a dict", prompts={"role": "user"})
    refused("prompt 1 is empty", prompts=["2", ""])
    refused("do not fit the model's context of 1024", prompts=["many words " * 1000])
    refused("neutral texts: the list is empty", neutral=[])
    refused("block 9 is not there", layer=9)
    refused("later=1: a block after the steered one was expected, 2 to 3", later=1)
    refused("later=4", later=4)
    for later in (1.5, "x", True):
        refused("later must be the number of a block or None", later=later)
    for seed in (-1, 1.5, "a", None):
        refused("seed must be a whole number of at least 0", seed=seed)
    for layer in (float("nan"), 1.0, "one"):
        refused("layer must be the number of a block", layer=layer)
    refused("later=3: block 3 is steered, the last one", layer=3, later=3)
    refused("max_new_tokens must be", max_new_tokens=0)
    refused("temperature must be", temperature=-1.0)
    nameless = mn.PCABasis(n_axes=2).fit(tiny_study.activations.matrix(1))
    with pytest.raises(mn.InputError, match="does not say its layer"):
        dose_response(tiny_model, nameless, 0, PROMPTS, (1.0,), progress=False)
    with pytest.raises(mn.InputError, match="dose 0 is missing"):
        response_table({}, 0)
    with pytest.raises(mn.InputError, match="dose 0 is missing"):
        safe_band(sweep([1.0]))
    with pytest.raises(mn.InputError, match="the table has no kl"):
        safe_band(sweep([0.0]).drop(columns="kl"))
