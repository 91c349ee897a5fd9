"""Contamination: what counts as leaked, and what only looks alike."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.corpus import Example
from mnskills_viz.errors import InputError
from mnskills_viz.selection.contamination import BOILERPLATE, contamination
from mnskills_viz.selection.near_duplicates import figures, words

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
    pool=st.lists(st.text("ab 1-", max_size=30), max_size=6),
    held=st.lists(st.text("ab 1-", max_size=30), max_size=6),
    n=st.integers(1, 4),
    tenths=st.integers(1, 10),
)
def test_overlap_is_that_of_all_pairs(pool, held, n, tenths):
    def grams(text):
        return {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}

    def inside(one, other):
        return any(one == other[i : i + len(one)] for i in range(len(other) - len(one) + 1))

    def overlap(one, other):
        shorter, longer = sorted((one, other), key=len)
        if one and (one == other or (len(shorter) >= 8 and inside(shorter, longer))):
            return 1.0
        a, b = grams(one), grams(other)
        fewer, more = sorted((figures(one), figures(other)), key=len)
        same = any(list(some) == fewer for some in combinations(more, len(fewer)))
        return len(a & b) / min(len(a), len(b)) if a and b and same else 0.0

    texts = [words(text) for text in held]
    best = [max((overlap(words(text), other) for other in texts), default=0.0) for text in pool]
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


TEMPLATE = (
    "Solve the following task step by step and give the final answer as a single integer value, "
    "please: compute the sum of the numbers {} and {}"
)


@pytest.mark.parametrize("count", [1, 10, 11])
def test_other_numbers_in_a_long_template_are_no_leak(count):
    pool = examples(*(TEMPLATE.format(i, 3 * i % 500) for i in range(500)))
    held_out = examples(*(TEMPLATE.format(1000 + i, 2000 + i) for i in range(count)))
    assert contamination(pool, {"test": held_out}).empty
    again = contamination(pool, {"test": [*held_out, pool[7]]})
    assert again["row"].tolist() == [7]


def test_one_number_of_six_makes_another_task():
    task = "Read with care, think step by step, and write the list in one line: sort {} from low up"
    held_out = examples(task.format("31 4 15 92 65 35"))
    pool = examples(task.format("31 4 15 92 65 7"), task.format("31 4 15 92 65 −35"))
    assert contamination(pool, {"test": held_out}, share=0.1).empty


def test_other_words_in_a_template_of_the_pool_are_no_leak():
    task = TEMPLATE.replace("numbers {} and {}", "letters in {}")
    pool = examples(*(task.format("x" * i) for i in range(1, 40)))
    assert contamination(pool, {"test": examples(task.format("y"))}).empty


def test_a_question_that_many_held_out_prompts_wrap_is_found():
    held_out = examples(*(f"Variant {i}: {QUESTION} Thank you {i}." for i in range(40)))
    pool = examples("Is it?", QUESTION, f"Well, variant 7: {QUESTION} Thank you 7. Bye.")
    table = contamination(pool, {"test": held_out})
    assert table[["row", "against", "overlap"]].values.tolist() == [[1, "e0", 1], [2, "e7", 1]]


def test_a_text_of_eight_words_is_found_inside_another_and_a_shorter_one_is_not():
    eight = "which three rivers meet below the old mill"
    seven = "three rivers meet below the old mill"
    long = f"Please say {eight}, and why"
    for held_out, pool in ((long, (eight, seven)), (eight, (long, "meet below the old mill"))):
        assert contamination(examples(*pool), {"test": examples(held_out)})["row"].tolist() == [0]
    assert contamination(examples(long), {"test": examples(seven)}).empty


def test_an_empty_text_is_like_none_and_writing_makes_no_difference():
    assert contamination(examples("", " \u200b"), {"test": examples("", " ")}).empty
    held_out = examples("What is 1,000 − 12?", "🙂")
    pool = examples("what is １０００ - 1\u00ad2", " 🙂", "🙃")
    assert contamination(pool, {"test": held_out})["row"].tolist() == [0, 1]


def test_system_messages_are_not_compared():
    def chat(question):
        rules = {"role": "system", "content": QUESTION * 3}
        return Example(question, [rules, {"role": "user", "content": question}])

    held_out = {"test": [chat("What is red?"), chat("What is blue?")]}
    found = contamination([chat("What is green?"), chat("what is blue")], held_out)
    assert found["row"].tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be a whole number of words, at least 1, not 0"),
        ({"n": 2.5}, "n must be a whole number of words, at least 1, not 2.5"),
        ({"share": 1.2}, "share must be above 0 and at most 1"),
        ({"share": True}, "share must be above 0 and at most 1"),
        ({"against": {"test": ["a question"]}}, "test holds a str; expected examples"),
        ({"against": ["a question"]}, "against must name held-out data"),
        ({"pool": ["a question"]}, "pool holds a str; expected examples"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        contamination(**{"pool": [], "against": {}} | arguments)
    assert "\n" not in str(caught.value)
