"""Near-duplicates: what counts as one, against all pairs."""

import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.errors import InputError
from mnskills_viz.selection.near_duplicates import (
    BOILERPLATE,
    NearDuplicates,
    figures,
    shingles,
    words,
)

LONG = (
    "A farmer has twelve hens and each of them lays five eggs in a week. She sells four of every "
    "ten eggs at the market and keeps the others. How many eggs does she keep in three weeks?"
)


def kept(check, n):
    """Rows taken one after the other, each that is admitted."""
    taken = []
    for row in range(n):
        if check.admits(row):
            check.add(row)
            taken.append(row)
    return taken


def kept_by_all_pairs(alike, n):
    taken = []
    for row in range(n):
        if not any(alike(row, other) for other in taken):
            taken.append(row)
    return taken


@settings(max_examples=150, deadline=None)
@given(
    starts=st.lists(st.text("ab c1+.", max_size=20), max_size=25),
    frame=st.sampled_from(["", " a b c a a b b", " c c c 1"]),
    tenths=st.integers(1, 10),
)
def test_texts_are_kept_as_by_all_pairs(starts, frame, tenths):
    texts = [text + frame for text in starts]
    sets = [shingles(words(text)) for text in texts]
    different = {tuple(words(text)) for text in texts}
    in_many = [s for s in set().union(*sets) if sum(s in shingles(t) for t in different) > 10]

    def alike(i, j):
        if words(texts[i]) == words(texts[j]):
            return bool(words(texts[i])) or texts[i].strip() == texts[j].strip()
        one, other = (sets[i] - set(in_many)), (sets[j] - set(in_many))
        least = min(len(one), len(other))
        return (
            figures(words(texts[i])) == figures(words(texts[j]))
            and 10 * len(sets[i] & sets[j]) >= tenths * len(sets[i] | sets[j])
            and least > 0
            and 10 * len(one & other) >= tenths * least
        )

    check = NearDuplicates(texts, None, tenths / 10, None)
    assert kept(check, len(texts)) == kept_by_all_pairs(alike, len(texts))


INSTRUCTION = (
    "You check every step twice before you answer. Read the problem below, write down what is "
    "asked, decide which operation is needed, carry it out, check the result with an estimate, "
    "and then write only the result on the last line without any unit or comment."
)


@pytest.mark.parametrize("count", [2, 500])
def test_different_sums_behind_one_long_instruction_are_different(count):
    texts = [f"{INSTRUCTION} What is {i} + {7 * i % 501}?\n{i + 7 * i % 501}" for i in range(count)]
    assert len(kept(NearDuplicates(texts, None, 0.8, None), count)) == count


def test_what_the_pool_repeats_makes_no_texts_alike_and_copies_are_caught_all_the_same():
    draw = random.Random(0)
    names = ["".join(draw.choices("bcdfgklm", k=9)) for _ in range(200)]
    texts = [f"{INSTRUCTION} Which trees grow near {name} in winter?" for name in names]
    assert len(kept(NearDuplicates(texts, None, 0.8, None), 200)) == 200
    copies = [
        texts[0].upper(),
        texts[1].replace(" ", "\n "),
        texts[2].replace("estimate", "guess"),
        texts[3].replace("estimate", "guess") + " Please.",
    ]
    assert kept(NearDuplicates(texts + copies, None, 0.8, None), 204) == list(range(200))


def test_equal_texts_are_near_duplicates_however_many_there_are():
    texts = [INSTRUCTION, INSTRUCTION.upper()] * 30 + ["🙂", " 🙂 "]
    assert kept(NearDuplicates(texts, None, 0.8, None), 62) == [0, 60]


def test_what_is_boilerplate_does_not_depend_on_the_order_of_rows():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefg", k=9)) for _ in range(5000)]
    turned = texts[::-1]
    pairs = [(draw.randrange(5000), draw.randrange(5000)) for _ in range(300)]
    one, other = (NearDuplicates(rows, None, 0.4, None) for rows in (texts, turned))
    for taken, _ in pairs:
        one.add(taken)
        other.add(4999 - taken)
    found = [one.admits(row) for _, row in pairs]
    assert found == [other.admits(4999 - row) for _, row in pairs]
    assert 0 < sum(found) < 300
    assert one._texts._common == other._texts._common
    assert len(one._texts._common) > BOILERPLATE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße, ＧＲＯＳＳ", ["strasse", "gross"]),
        ("cafe\u0301", ["café"]),
        ("crois\u00adsant\u200b \ufeff１２", ["croissant", "12"]),
        ("3 − 4 – 5‐6", ["3", "-", "4", "-", "5", "-", "6"]),
        ("spring – and – x", ["spring", "and", "x"]),
        ("2×3÷4", ["2", "*", "3", "/", "4"]),
        ("1,000 and 12,345,678.5", ["1000", "and", "12345678", "5"]),
        ("1,2,3 and 1,000,5", ["1", "2", "3", "and", "1", "000", "5"]),
        (" \u200b", []),
    ],
)
def test_words_are_the_same_however_they_are_written(text, expected):
    assert words(text) == expected


def test_figures_are_numbers_with_the_signs_before_them():
    assert figures(words("So 3 - 4x = -2 + y, no: 7 %")) == ["3", "-4x", "=-2", "7"]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 80),
    k=st.integers(1, 20),
    distance=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_coordinates_are_kept_as_by_all_pairs(seed, n, k, distance, dtype):
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, k)) * draw.lognormal(size=k)
    if n:
        near = draw.integers(0, n, n // 2)
        z[: n // 2] = z[near] + draw.normal(size=(n // 2, k)) * draw.choice([0, 0.01, 0.1])
        z[n // 3] = 0
    z = z.astype(dtype)
    exact = z.astype(np.float64)

    def alike(i, j):
        largest = max(np.linalg.norm(exact[i]), np.linalg.norm(exact[j]))
        return np.linalg.norm(exact[i] - exact[j]) <= distance * largest

    check = NearDuplicates(None, z, None, distance)
    assert kept(check, n) == kept_by_all_pairs(alike, n)


def test_case_white_space_and_punctuation_are_no_difference():
    check = NearDuplicates(
        [LONG, LONG.upper(), LONG.replace(" ", "\n\t "), f"«{LONG}»"], None, 1, None
    )
    check.add(0)
    assert [check.admits(row) for row in (1, 2, 3)] == [False] * 3


def test_one_word_of_a_long_text_is_a_near_duplicate_and_of_a_short_one_is_not():
    short = "How many eggs does she keep?"
    texts = [LONG, LONG.replace("twelve", "thirteen"), short, short.replace("eggs", "hens")]
    check = NearDuplicates(texts, None, 0.8, None)
    assert kept(check, 4) == [0, 2, 3]
    count = len(LONG.split())
    one, other = (shingles(words(text)) for text in texts[:2])
    similarity = len(one & other) / len(one | other)
    assert similarity == pytest.approx((count - 5) / (count + 1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 13 + 8?", "What is 13 - 8?"),
        ("What is 13 + 8?", "What is 18 + 3?"),
        ("2 < 3", "3 < 2"),
        ("猫が好きです", "犬が好きです"),
        ("🙂", "🙃"),
    ],
)
def test_tasks_that_differ_in_a_number_or_a_sign_are_different(one, other):
    assert kept(NearDuplicates([one, other, one], None, 0.8, None), 3) == [0, 1]


def test_the_demo_corpus_has_no_near_duplicate_at_the_default():
    texts = [f"{e.prompt}\n{e.response}" for e in mn.load_corpus("demo")]
    assert len(kept(NearDuplicates(texts, None, 0.8, None), len(texts))) == len(texts)


def test_copies_of_long_demo_rows_with_a_word_changed_are_caught():
    texts = [f"{e.prompt}\n{e.response}" for e in mn.load_corpus("demo", limit=1000)]
    long = [text for text in texts if len(re.findall(r"\w+", text)) >= 35]
    copies = [re.sub(r"[^\W\d]+", "other", text, count=1) for text in long]
    check = NearDuplicates(long + copies, None, 0.8, None)
    for row in range(len(long)):
        check.add(row)
    assert len(long) > 50
    assert not any(check.admits(len(long) + row) for row in range(len(long)))


def test_either_kind_of_nearness_is_enough():
    z = np.array([[3.0, 4.0], [30.0, 4.0], [3.01, 4.0], [0.0, -9.0]])
    texts = ["a b c d", "A b, c d", "e f g", "h i j"]
    assert kept(NearDuplicates(texts, z, 0.8, 0.01), 4) == [0, 3]
    assert kept(NearDuplicates(None, None, None, None), 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], None, 1.5, None), "text_similarity must be above 0 and at most 1, not 1.5"),
        ((["a"], None, True, None), "text_similarity must be above 0 and at most 1, not True"),
        ((None, np.ones((1, 1)), None, False), "z_distance must be at least 0 and below 1, not F"),
        ((None, None, 0.8, None), "text_similarity needs texts"),
        ((None, np.ones((1, 1)), None, 1.0), "z_distance must be at least 0 and below 1"),
        ((None, None, None, 0.1), "z_distance needs z"),
    ],
)
def test_limits_out_of_range_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        NearDuplicates(*arguments)
    assert "\n" not in str(caught.value)
