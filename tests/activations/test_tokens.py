import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.activations.tokens import Role, counted, parts, tokenize
from mnskills_viz.corpus import Example
from tests.tiny_model import save_tiny_model


def text_of(row, role):
    return "".join(
        row.text[a:b] for (a, b), r in zip(row.offsets, row.roles, strict=True) if r == role
    )


def test_roles_are_the_text_of_prompt_and_response(tiny_model):
    example = Example("x", "What is 2+2?", "2+2 = 4\nAnswer: 4")
    row = tokenize(tiny_model.tokenizer, [example])[0]
    assert text_of(row, Role.PROMPT) == example.prompt
    assert text_of(row, Role.RESPONSE) == example.response
    assert text_of(row, Role.TEMPLATE).startswith("<s><|user|>")
    assert row.roles[row.response_start] == Role.RESPONSE
    assert not (row.roles[: row.response_start] == Role.RESPONSE).any()


def test_the_rendered_text_is_the_templates_own(tiny_model):
    """Prompt, response and closing are token for token what apply_chat_template gives."""
    tokenizer = tiny_model.tokenizer
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Say hello."},
    ]
    row = tokenize(tokenizer, [Example("x", turns, "Hello!")], closing=True)[0]
    whole = [*turns, {"role": "assistant", "content": "Hello!"}]
    assert row.ids.tolist() == tokenizer.apply_chat_template(whole)["input_ids"]
    assert row.ids.tolist().count(tokenizer.bos_token_id) == 1  # no double BOS


@pytest.mark.parametrize("prompt", ["user", "assistant", "<s>", "a", "end", "\n"])
def test_a_prompt_that_stands_in_the_template_too_is_found_where_it_is(tiny_model, prompt):
    row = tokenize(tiny_model.tokenizer, [Example("x", prompt + "?", "yes")])[0]
    starts = row.offsets[row.roles == Role.PROMPT]
    assert starts[0][0] == len("<s><|user|>\n")
    assert starts[-1][1] == len("<s><|user|>\n" + prompt + "?")


def test_thinking_blocks_are_kept(tiny_model):
    response = "<think>two and two</think>4"
    row = tokenize(tiny_model.tokenizer, [Example("x", "2+2?", response)])[0]
    assert text_of(row, Role.RESPONSE) == response


def test_a_tokenizer_without_template_reads_plain_text(tmp_path):
    model = mn.load_model(str(save_tiny_model(tmp_path / "base", chat=False)), dtype="float32")
    row = tokenize(model.tokenizer, [Example("x", "2+2?", "4")])[0]
    assert row.text == "2+2?\n4"
    assert text_of(row, Role.PROMPT) == "2+2?"
    assert text_of(row, Role.RESPONSE) == "4"


@pytest.mark.parametrize(
    ("which", "roles"),
    [
        ("prompt", {Role.PROMPT}),
        ("response", {Role.RESPONSE}),
        ("content", {Role.PROMPT, Role.RESPONSE}),
        ("all", set(Role)),
    ],
)
def test_counted_tokens_have_the_roles_asked_for(tiny_model, which, roles):
    row = tokenize(tiny_model.tokenizer, [Example("x", "What is 2+2?", "It is 4.")])[0]
    mask = counted(row, which, exclude_sinks=False)
    assert set(row.roles[mask]) == roles
    assert not np.isin(row.roles[~mask], list(roles)).any()


def test_the_first_token_and_its_repeats_never_count(tmp_path):
    model = mn.load_model(str(save_tiny_model(tmp_path / "base", chat=False)), dtype="float32")
    row = tokenize(model.tokenizer, [Example("x", "<s><s>hello <s>", "")])[0]
    first = row.ids[0]
    mask = counted(row, "all")
    n_repeats = int(np.argmax(row.ids != first))
    assert n_repeats >= 2
    assert not mask[:n_repeats].any()
    assert mask[n_repeats:].all()  # a later repeat is an ordinary token


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 20))
def test_parts_hold_every_item_once_and_no_more_than_fits(sizes, most):
    found = list(parts(sizes, most))
    assert [i for part in found for i in range(len(sizes))[part]] == list(range(len(sizes)))
    assert all(sum(sizes[part]) <= most or len(sizes[part]) == 1 for part in found)
