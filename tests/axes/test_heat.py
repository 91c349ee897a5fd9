"""Heat is compared with the rows that `collect` reads, and token by token with transformers."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import mnskills_viz as mn
from mnskills_viz import models
from mnskills_viz.activations.rows import Activations
from mnskills_viz.activations.tokens import COUNTED, Role, Tokens, counted, tokenize
from mnskills_viz.axes.heat import Heat, token_heat, token_texts
from mnskills_viz.corpus import Example
from tests.activations.test_architectures import Case
from tests.tiny_model import save_tiny_model

LONG = "a line of text that is long enough, and again; " * 220  # 10,000 characters
ODD = [
    Example("emoji", "What is 👩‍👩‍👧 and 🇩🇪?", "🙂🙃 a family"),
    Example("cjk", "漢字𠮷とは何ですか", "文字です。"),
    Example("rtl", "שלום עולם, مرحبا", "‏ع abc"),
    Example("accents", "e\u0301 and é, \u200b\ufeff", "na\u00efve\t\n"),
    Example("markup", "<script>alert('x')</script> & <s>", "</script>"),
]


def collected(model, corpus, **options) -> Activations:
    return mn.collect(model, corpus, progress=False, **options)


def fitted(acts: Activations, layer, kind: str = "pca"):
    """A basis of the activations at a layer, with its source."""
    rows, source = acts.matrix(layer), acts.source(layer)
    if kind == "sae":
        sae = mn.SAEBasis(n_axes=5, n_latents=48, k=6, max_epochs=3)
        with pytest.warns(UserWarning, match="dictionary is not better"):
            return sae.fit(rows, source=source)
    return mn.PCABasis(6).fit(rows, source=source)


def errors(heats: list[Heat], expected: np.ndarray) -> np.ndarray:
    """Of the coordinates of every text, relative to their length."""
    found = np.stack([heat.coordinates for heat in heats])
    assert found.shape == expected.shape
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)


def last_row(heats: list[Heat]) -> np.ndarray:
    return np.stack([heat.running[-1] for heat in heats])


def allclose(found, expected) -> bool:
    scale = np.nanmax(np.abs(expected))
    return np.allclose(found, expected, rtol=1e-5, atol=1e-5 * scale, equal_nan=True)


# ------------------------------------------------------------------------------- what it adds up to


@pytest.mark.parametrize("exclude_sinks", [True, False])
@pytest.mark.parametrize("tokens", COUNTED)
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("layer", [2, "concat"])
def test_heat_of_tokens_sums_to_the_coordinate(
    tiny_model, demo_rows, pooling, tokens, exclude_sinks, layer
):
    options = {"pooling": pooling, "tokens": tokens, "exclude_sinks": exclude_sinks}
    corpus = demo_rows[:24]
    acts = collected(tiny_model, corpus, **options)
    basis = fitted(acts, layer)
    heats = token_heat(tiny_model, corpus, basis)
    expected = basis.transform(acts.matrix(layer))
    assert errors(heats, expected).max() < 1e-5
    assert allclose(last_row(heats), expected)
    for heat in heats:
        assert not heat.contributions[~heat.counted].any()
        assert heat.contributions.dtype == heat.running.dtype == np.float32


@pytest.mark.parametrize("layer", [1, "concat"])
def test_heat_on_the_axes_of_a_dictionary_sums_to_the_coordinate(tiny_model, demo_rows, layer):
    acts = collected(tiny_model, demo_rows, layers=[1, 3])
    basis = fitted(acts, layer, "sae")
    heats = token_heat(tiny_model, demo_rows, basis)
    assert errors(heats, basis.transform(acts.matrix(layer))).max() < 1e-5


def test_heat_of_other_texts_is_on_the_ruler_of_the_basis(tiny_model, demo_rows):
    """`concat` divides by scales: those of the rows that the basis was fitted on."""
    acts = collected(tiny_model, demo_rows[:30])
    basis = fitted(acts, "concat")
    others = demo_rows[40:44]
    there = collected(tiny_model, others)
    heats = token_heat(tiny_model, others, basis)
    assert errors(heats, basis.transform(there.matrix_as(basis.source_))).max() < 1e-5
    assert errors(heats, basis.transform(there.matrix("concat"))).max() > 0.01


def test_a_row_that_is_cut_has_the_heat_of_what_is_left(tiny_model, demo_rows):
    options = {"max_length": 60, "truncate": True}
    with pytest.warns(UserWarning, match="rows were cut"):
        acts = collected(tiny_model, demo_rows, layers=[1], **options)
    basis = fitted(acts, 1)
    with pytest.warns(UserWarning, match="rows were cut"):
        heats = token_heat(tiny_model, demo_rows, basis)
    assert errors(heats, basis.transform(acts.matrix(1))).max() < 1e-5
    assert [len(heat.tokens) for heat in heats] == acts.n_tokens.tolist()
    whole = [row.text for row in tokenize(tiny_model.tokenizer, demo_rows)]
    read = ["".join(heat.tokens) for heat in heats]
    cut = acts.truncated
    assert cut.any()
    assert not cut.all()
    for text, part, is_cut in zip(whole, read, cut, strict=True):
        assert text.startswith(part)
        assert (len(part) < len(text)) == is_cut


def test_a_basis_that_was_saved_gives_the_same_heat(tiny_model, demo_rows, tmp_path):
    basis = fitted(collected(tiny_model, demo_rows, layers=[1, 2]), "concat")
    basis.save(tmp_path / "basis")
    (before,) = token_heat(tiny_model, demo_rows[:1], basis)
    (after,) = token_heat(tiny_model, demo_rows[:1], mn.load_basis(tmp_path / "basis"))
    np.testing.assert_array_equal(before.contributions, after.contributions)


@pytest.mark.parametrize("token_budget", [1, 700, 100_000])
def test_heat_does_not_depend_on_the_batch(tiny_model, demo_rows, token_budget):
    corpus = mn.Corpus([*demo_rows[:12], *ODD], "mixed")
    basis = fitted(collected(tiny_model, demo_rows, layers=[3]), 3)
    alone = [token_heat(tiny_model, [example], basis)[0] for example in corpus]
    together = token_heat(tiny_model, corpus, basis, token_budget=token_budget)
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_array_equal(one.roles, other.roles)
        np.testing.assert_array_equal(one.counted, other.counted)
        assert allclose(other.contributions, one.contributions)
        assert allclose(other.running, one.running)


def test_rows_that_must_not_share_a_batch_do_not(tiny_folder, demo_rows, tmp_path):
    """With long RoPE scaling a long row would change the others of its batch."""
    folder = shutil.copytree(tiny_folder, tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    rope = {"rope_type": "longrope", "factor": 16.0, "rope_theta": 10_000.0}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config |= {"rope_parameters": rope | {"original_max_position_embeddings": 64}}
    (folder / "config.json").write_text(json.dumps(config))
    model = mn.load_model(str(folder), dtype="float32")
    assert models.longest_shared(model) == 64
    basis = fitted(collected(model, demo_rows, layers=[3]), 3)
    together = token_heat(model, demo_rows, basis, token_budget=100_000)
    for example, heat in zip(demo_rows, together, strict=True):
        (alone,) = token_heat(model, [example], basis)
        assert allclose(heat.contributions, alone.contributions)


# -------------------------------------------------------------------- token by token, independently


def by_hand(basis, states, mask, *, mean_of: bool):
    """Contributions and running coordinates in float64, from states [n_layers, n_tokens, d]."""
    source = basis.source_
    width, k = states.shape[-1], basis.n_axes_
    contributions = np.zeros((states.shape[1], k))
    running = np.zeros((states.shape[1], k))
    counted = np.zeros(states.shape[1], dtype=bool)
    for i, (layer, scale) in enumerate(zip(source["layers"], source["scales"], strict=True)):
        here = slice(i * width, (i + 1) * width)
        hidden = states[layer] / scale - basis.mean_[here].astype(float)
        own = hidden @ basis.components_[:, here].astype(float).T
        kept = mask.copy()
        if mean_of and source["options"]["exclude_sinks"]:
            norms = np.linalg.norm(states[layer], axis=1)
            below = mask & (norms <= 4 * np.sort(norms)[(len(norms) - 1) // 2])
            kept = below if below.any() else mask
        counted |= kept
        for t in range(len(own)):
            if kept[t]:
                contributions[t] += own[t] / kept.sum()
            if mean_of:
                so_far = np.flatnonzero(kept[: t + 1])
                running[t] += own[so_far].mean(axis=0) if len(so_far) else np.nan
            else:
                running[t] += own[min(t, np.flatnonzero(kept)[-1])]
    return counted, contributions, running


@pytest.fixture(scope="module")
def case_of(tmp_path_factory, tiny_folder, demo_rows):
    words = " ".join(example.prompt for example in demo_rows[10:16])
    made = [
        {"id": "short", "prompt": "2+2?", "response": "4"},
        {"id": "loud", "prompt": words[:200], "response": " so be the end of it"},
        {"id": "all that counts is loud", "prompt": words[:200], "response": " the the the"},
    ]
    corpus = mn.Corpus([*demo_rows[:7], demo_rows[50], *mn.load_corpus(made)], "mixed")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    @functools.cache
    def build(name: str) -> Case:
        folder = tmp_path_factory.mktemp("heat") / name
        return Case(name, folder, tokenizer, corpus)

    return build


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2", "gpt_neox", "bloom"])
@pytest.mark.parametrize("layer", [1, "concat"])
@pytest.mark.parametrize("tokens", ["content", "response"])
@pytest.mark.filterwarnings("ignore:n_axes=6 clipped")
def test_heat_equals_plain_transformers(case_of, name, layer, tokens):
    case = case_of(name)
    acts = case.collect(tokens=tokens)
    basis = fitted(acts, layer)
    heats = token_heat(case.model, case.corpus, basis)
    assert errors(heats, basis.transform(acts.matrix(layer))).max() < 1e-5
    rows = tokenize(case.tokenizer, case.corpus)
    for heat, row, states in zip(heats, rows, case.states("alone"), strict=True):
        expected = by_hand(basis, states, counted(row, tokens), mean_of=True)
        np.testing.assert_array_equal(heat.counted, expected[0])
        assert allclose(heat.contributions, expected[1])
        assert allclose(heat.running, expected[2])


@pytest.mark.parametrize("tokens", ["prompt", "content"])
def test_heat_of_the_last_token_is_that_tokens_alone(case_of, tokens):
    case = case_of("llama")
    acts = case.collect(pooling="last", tokens=tokens, layers=[0, 2])
    basis = fitted(acts, "concat")
    heats = token_heat(case.model, case.corpus, basis)
    rows = tokenize(case.tokenizer, case.corpus)
    for heat, row, states in zip(heats, rows, case.states("alone"), strict=True):
        place = row.response_start - 1 if tokens == "prompt" else len(row) - 1
        assert np.flatnonzero(heat.counted).tolist() == [place]
        mask = np.arange(len(row)) == place
        expected = by_hand(basis, states, mask, mean_of=False)
        assert allclose(heat.contributions, expected[1])
        assert allclose(heat.running, expected[2])


def test_a_token_that_is_left_out_for_its_norm_has_no_heat(case_of):
    """The loud one of the architecture's embeddings; it would have had most of it."""
    case = case_of("llama")
    at = case.corpus.ids.index("loud")
    quiet, loud = (
        token_heat(case.model, case.corpus, fitted(case.collect(exclude_sinks=sinks), 1))[at]
        for sinks in (True, False)
    )
    the = quiet.tokens.index(" the", int(np.flatnonzero(quiet.roles == Role.RESPONSE)[0]))
    assert not quiet.counted[the]
    assert not quiet.contributions[the].any()
    assert loud.counted[the]
    lengths = np.linalg.norm(loud.contributions, axis=1)
    assert lengths[the] > 5 * np.median(lengths[loud.counted])


def test_the_running_coordinate_begins_with_the_first_token_that_counts(tiny_model, demo_rows):
    basis = fitted(collected(tiny_model, demo_rows, layers=[1], tokens="response"), 1)
    (heat,) = token_heat(tiny_model, demo_rows[:1], basis)
    first = int(np.flatnonzero(heat.counted)[0])
    assert heat.roles[first] == Role.RESPONSE
    assert np.isnan(heat.running[:first]).all()
    assert np.isfinite(heat.running[first:]).all()
    n = heat.counted.sum()
    assert allclose(heat.running[first], heat.contributions[first] * n)


# --------------------------------------------------------------------------------------- the text


@pytest.mark.parametrize("example", ODD, ids=lambda e: e.id)
def test_tokens_joined_are_the_text_that_the_model_read(tiny_model, demo_rows, example):
    basis = fitted(collected(tiny_model, demo_rows, layers=[1]), 1)
    (heat,) = token_heat(tiny_model, [example], basis)
    (row,) = tokenize(tiny_model.tokenizer, [example])
    assert "".join(heat.tokens) == row.text
    assert len(heat.tokens) == len(heat.roles) == len(heat.counted) == len(row)
    assert not any("\N{REPLACEMENT CHARACTER}" in token for token in heat.tokens)
    assert "".join(t for t, r in zip(heat.tokens, heat.roles, strict=True) if r == Role.PROMPT) == (
        example.prompt
    )
    acts = collected(tiny_model, mn.Corpus([example], "odd"), layers=[1])
    assert errors([heat], basis.transform(acts.matrix(1))).max() < 1e-5


def test_a_text_of_ten_thousand_characters(tmp_path, demo_rows):
    model = mn.load_model(str(save_tiny_model(tmp_path / "tiny")), dtype="float32")
    model._module.config.max_position_embeddings = 16_384
    example = Example("long", LONG, "🙂" * 500)
    corpus = mn.Corpus([*demo_rows[:10], example], "long")
    acts = collected(model, corpus, layers=[1])
    basis = fitted(acts, 1)
    heats = token_heat(model, corpus, basis)
    assert len(heats[-1].tokens) > 3000
    assert LONG + "<|end|>\n<|assistant|>\n" + "🙂" * 500 in "".join(heats[-1].tokens)
    assert errors(heats, basis.transform(acts.matrix(1))).max() < 1e-5


def test_a_character_in_several_tokens_stands_whole_at_the_first():
    """The offsets are those of a byte-level tokenizer: pieces of 漢 and of an emoji overlap."""
    text = "a 漢🙂b"
    offsets = [(0, 1), (1, 3), (2, 3), (2, 3), (3, 4), (3, 4), (3, 4), (3, 5)]
    assert token_texts(tokens_of(text, offsets)) == ["a", " 漢", "", "", "🙂", "", "", "b"]


def test_what_a_tokenizer_strips_or_adds_is_in_no_ones_way():
    """A token that is not in the text, a space that no token covers, a line break at the end."""
    text = "ab cd\n"
    row = tokens_of(text, [(0, 0), (0, 2), (3, 5)])
    assert token_texts(row) == ["", "ab", " cd\n"]
    assert token_texts(row, whole=False) == ["", "ab", " cd"]
    marked = tokens_of("ab cd", [(0, 0), (0, 2), (0, 0), (3, 5), (0, 0)])
    assert token_texts(marked) == ["", "ab", "", " cd", ""]


def tokens_of(text, offsets) -> Tokens:
    n = len(offsets)
    where = np.array(offsets, dtype=np.int32).reshape(-1, 2)
    return Tokens(text, np.zeros(n, np.int32), where, np.zeros(n, np.uint8), 0)


def test_tokens_of_a_base_model_without_template(tmp_path, demo_rows):
    model = mn.load_model(str(save_tiny_model(tmp_path / "base", chat=False)), dtype="float32")
    acts = collected(model, demo_rows, layers=[1])
    basis = fitted(acts, 1)
    heats = token_heat(model, demo_rows, basis)
    read = [f"{example.prompt_text}\n{example.response}" for example in demo_rows]
    assert ["".join(heat.tokens) for heat in heats] == read
    assert errors(heats, basis.transform(acts.matrix(1))).max() < 1e-5


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_any_text_is_cut_into_its_tokens_and_its_heat_adds_up(tiny_model, bases, pairs):
    corpus = mn.Corpus([Example(str(i), p, r) for i, (p, r) in enumerate(pairs)], "drawn")
    rows = tokenize(tiny_model.tokenizer, corpus)
    for basis in bases:
        heats = token_heat(tiny_model, corpus, basis)
        assert ["".join(heat.tokens) for heat in heats] == [row.text for row in rows]
        acts = collected(tiny_model, corpus)
        assert errors(heats, basis.transform(acts.matrix_as(basis.source_))).max() < 1e-5


@pytest.fixture(scope="module")
def bases(tiny_model, demo_rows):
    acts = collected(tiny_model, demo_rows)
    return [fitted(acts, layer) for layer in (1, "concat")]


# ------------------------------------------------------------------------------ the embedded model


def test_heat_on_the_embedded_model(embedded):
    corpus = mn.load_corpus("demo", limit=8)
    acts = collected(embedded, corpus, layers=[5, 15])
    for layer in (15, "concat"):
        basis = fitted(acts, layer)
        heats = token_heat(embedded, corpus[:4], basis)
        assert errors(heats, basis.transform(acts.matrix(layer))[:4]).max() < 1e-5
    assert not any(heat.counted[0] for heat in heats)
    rows = tokenize(embedded.tokenizer, corpus[:4])
    assert ["".join(heat.tokens) for heat in heats] == [row.text for row in rows]


# ---------------------------------------------------------------------------------------- bad input


def said(*arguments, **options) -> str:
    with pytest.raises(mn.InputError) as caught:
        token_heat(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_examples_have_no_heat(tiny_model, bases):
    assert token_heat(tiny_model, [], bases[0]) == []


@pytest.mark.parametrize("source", [None, {}, {"layer": 1}, "layer 1"])
def test_a_basis_that_does_not_say_its_rows_is_refused(tiny_model, demo_rows, bases, source):
    acts = collected(tiny_model, demo_rows, layers=[1])
    basis = mn.PCABasis(3).fit(acts.matrix(1), source=source)
    assert "source=acts.source(layer)" in said(tiny_model, demo_rows, basis)
    assert "source=acts.source(layer)" in said(tiny_model, demo_rows, mn.PCABasis(3))


def test_a_basis_of_another_model_is_refused(tiny_model, demo_rows, bases, tmp_path):
    shallow = mn.load_model(str(save_tiny_model(tmp_path / "s", layers=2)), dtype="float32")
    what = said(shallow, demo_rows, bases[0])
    assert what.startswith("the basis was made for another model: n_layers 4 there, 2 here")
    tuned = mn.load_model(str(save_tiny_model(tmp_path / "t")), dtype="float32")
    with torch.no_grad():
        tuned._module.model.layers[0].mlp.down_proj.weight.mul_(1.1)
    assert "another model: weights" in said(tuned, demo_rows, bases[0])


def test_a_basis_of_other_rows_than_it_says_is_refused(tiny_model, demo_rows):
    acts = collected(tiny_model, demo_rows, layers=[1, 2])
    basis = mn.PCABasis(3).fit(acts.matrix("concat"), source=acts.source(1))
    assert "the basis has width 64, but its source says 1 x 32" in said(
        tiny_model, demo_rows, basis
    )


def test_options_of_another_version_are_refused(tiny_model, demo_rows):
    acts = collected(tiny_model, demo_rows, layers=[1])
    source = acts.source(1)
    source["options"] = source["options"] | {"window": 3}
    basis = mn.PCABasis(3).fit(acts.matrix(1), source=source)
    assert "window" in said(tiny_model, demo_rows, basis)


@pytest.mark.parametrize(
    ("examples", "what"),
    [("2+2?", "a str"), (["2+2?"], "a str"), (Example("a", "b"), "a Example"), (None, "NoneType")],
)
def test_what_is_no_example_is_refused(tiny_model, bases, examples, what):
    assert what in said(tiny_model, examples, bases[0])


def test_a_budget_without_tokens_is_refused(tiny_model, demo_rows, bases):
    assert "token_budget" in said(tiny_model, demo_rows, bases[0], token_budget=0)


def test_texts_that_the_basis_could_not_have_read_are_refused(tiny_model, bases, demo_rows):
    assert "longer than max_length 1024" in said(tiny_model, [Example("a", LONG)], bases[0])
    answers = fitted(collected(tiny_model, demo_rows, layers=[1], tokens="response"), 1)
    assert "no token that counts" in said(tiny_model, [Example("a", "2+2?")], answers)


def test_activations_that_are_not_finite_are_refused(tmp_path, demo_rows):
    model = mn.load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    basis = fitted(collected(model, demo_rows[:20], layers=[1]), 1)
    del basis.source_["model"]["weights"]  # or they would be seen to differ
    with torch.no_grad():
        model._module.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    what = said(model, demo_rows[:3], basis)
    assert "activations are not finite" in what
    assert any(example.id in what for example in demo_rows[:3])
