"""Contamination: what counts as leaked, and what only looks alike."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.corpus import Example
from mnskills_viz.errors import InputError
from mnskills_viz.selection.contamination import BOILERPLATE, contamination
from mnskills_viz.selection.near_duplicates import words

QUESTION = (
    "A baker fills seven trays with nine rolls each, sells two thirds of them before noon and "
    "gives what is left to four neighbours in equal parts; how many rolls does each neighbour get?"
)


def examples(*prompts, response=""):
    return [Example(f"e{i}", prompt, response) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def demo():
    return mn.load_corpus("demo")


def test_nothing_in_the_demo_pool_is_flagged(demo):
    held_out = {"probe": demo.split("probe"), "test": demo.split("test")}
    table = contamination(demo.split("pool"), held_out)
    assert len(table) == 0
    assert list(table.columns) == ["row", "id", "split", "against", "part", "overlap", "text"]


def test_leaked_demo_rows_are_found_where_they_are(demo):
    pool, test = list(demo.split("pool")), demo.split("test")
    draw = np.random.default_rng(0)
    rows = sorted(draw.choice(len(pool), 40, replace=False).tolist())
    leaked = draw.choice(len(test), 40, replace=False).tolist()
    for row, which in zip(rows, leaked, strict=True):
        prompt = f"  {test[which].prompt_text.upper()}\n"
        pool[row] = dataclasses.replace(pool[row], prompt=prompt)
    table = contamination(pool, {"probe": demo.split("probe"), "test": test})
    assert table["row"].tolist() == rows
    assert table["against"].tolist() == [test[which].id for which in leaked]
    assert set(table["split"]) == {"test"}
    assert set(table["overlap"]) == {1.0}


@settings(max_examples=100, deadline=None)
@given(
    pool=st.lists(st.text("ab ", max_size=30), max_size=6),
    held=st.lists(st.text("ab ", max_size=30), max_size=6),
    n=st.integers(1, 4),
    tenths=st.integers(1, 10),
)
def test_overlap_is_that_of_all_pairs(pool, held, n, tenths):
    def grams(text):
        return {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}

    def overlap(one, other):
        if one == other:
            return 1.0
        a, b = grams(one), grams(other)
        return len(a & b) / min(len(a), len(b)) if a and b else 0.0

    texts = [words(text) or [text.strip()] for text in held]
    best = [
        max((overlap(words(text) or [text.strip()], other) for other in texts), default=0.0)
        for text in pool
    ]
    table = contamination(examples(*pool), {"test": examples(*held)}, n, tenths / 10)
    expected = [(i, value) for i, value in enumerate(best) if value >= tenths / 10]
    assert list(zip(table["row"], table["overlap"], strict=True)) == expected


def test_a_question_inside_a_long_prompt_is_found():
    long = "Some words that come first. " * 30 + QUESTION + " And some that follow it." * 30
    [found] = contamination(examples("Hello?", long), {"test": examples(QUESTION)}).itertuples()
    assert (found.row, found.overlap, found.part) == (1, 1.0, "prompt")
    assert found.text.startswith("a baker fills seven trays")
    assert len(found.text) <= 120


def test_the_other_numbers_of_a_template_make_another_task():
    other = QUESTION.replace("seven", "eleven").replace("two", "three").replace("four", "five")
    assert contamination(examples(other), {"test": examples(QUESTION)}).empty
    [found] = contamination(
        examples(other), {"test": examples(QUESTION)}, n=3, share=0.5
    ).itertuples()
    assert found.overlap == pytest.approx(1 - 9 / (len(QUESTION.split()) - 2))


def test_a_short_prompt_is_compared_whole():
    held_out = {"probe": examples("What is 3 + 4?", "Is it?")}
    pool = examples("What is 3 - 4?", "what is  3+4", "And what is 3 + 4?", "🙂")
    assert contamination(pool, held_out)["row"].tolist() == [1]


def test_a_leaked_solution_under_another_question_is_found_and_a_short_one_is_not():
    solution = " ".join(f"Step {i}: take {i * i} and add {i + 2} to it." for i in range(12))
    pool = [
        Example("a", "Another question", solution),
        Example("b", "Yet another", "Answer: 3"),
        Example("c", "Without", ""),
    ]
    held_out = [Example("x", "A question", solution.upper()), Example("y", "One", "Answer: 3")]
    [found] = contamination(pool, {"test": held_out}).itertuples()
    assert (found.row, found.against, found.part, found.overlap) == (0, "x", "response", 1.0)


def test_what_every_held_out_prompt_says_counts_for_nobody():
    numbers = range(BOILERPLATE + 2)
    frame = "Think step by step, write each step in a line of its own, and end with the answer: "
    held_out = examples(*(f"{frame} {QUESTION} {i}" for i in numbers))
    fresh = examples(f"{frame} {QUESTION} But how many rolls would that be for fifty trays?")
    assert contamination(fresh, {"test": held_out[:-2]})["row"].tolist() == [0]
    assert contamination(fresh, {"test": held_out}).empty
    assert len(contamination([held_out[3]], {"test": held_out})) == 1


def test_system_messages_are_not_compared():
    def chat(question):
        rules = {"role": "system", "content": QUESTION * 3}
        return Example(question, [rules, {"role": "user", "content": question}])

    held_out = {"test": [chat("What is red?"), chat("What is blue?")]}
    found = contamination([chat("What is green?"), chat("what is blue")], held_out)
    assert found["row"].tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n": 0}, "n must be at least 1"), ({"share": 1.2}, "share must be above 0 and at most 1")],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        contamination([], {}, **arguments)
