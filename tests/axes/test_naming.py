import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import mnskills_viz as mn
from mnskills_viz.axes.contrast import contrast_terms
from mnskills_viz.axes.detection import (
    ModelJudge,
    TextJudge,
    auc_interval,
    detection,
    held_out,
    label_logprobs,
    score,
)
from mnskills_viz.axes.naming import (
    phrase,
    suggest_from_contrast,
    suggest_from_model,
    suggest_labels,
)
from mnskills_viz.selection.text_vectors import TFIDF, text_vectors

FILL = ["".join(letters) for letters in itertools.product("bdfg", "aeiou", "klmn", "aeiou")]
STRANGE = [
    "",
    " \n\t",
    "<script>alert('x')</script>",
    "שלום עולם, مرحبا بالعالم",
    "word " * 20_000,
    "🙂" * 40,
    "素数は何ですか",
    "12 + 34 = 46",
    "half of a pair \ud800",
]


def planted(n=120, seed=0):
    """Texts of fill words; at the positive pole many say apple, some cherry pie, at the other plum.

    The poles are the first and the last third, z falls from row to row.
    """
    rng = np.random.default_rng(seed)
    texts, categories = [], []
    for i in range(n):
        words = list(rng.choice(FILL, 4))
        third = 3 * i // n
        if third == 0:
            words += ["apple"] if i % 8 else []
            words += ["cherry", "pie"] if i % 2 else []
        if third == 2:
            words += ["plum"]
        texts.append(" ".join(words))
        categories.append(("fruit", None, "stone fruit")[third])
    return texts, categories, np.linspace(2, -2, n)


def by_words(texts):
    return text_vectors(texts, TFIDF)


# ------------------------------------------------------------------------------------- contrast


def closed_form(texts, positive, negative):
    """Log-odds ratios and z of single words and pairs, counted and computed term by term."""

    def terms(text):
        words = text.lower().split()
        return {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}

    everywhere = Counter(t for text in texts for t in terms(text))
    here = Counter(t for row in positive for t in terms(texts[row]))
    there = Counter(t for row in negative for t in terms(texts[row]))
    n_here, n_there, n_all = (sum(c.values()) for c in (here, there, everywhere))
    prior = (n_here + n_there) / 2
    found = {}
    for term, count in everywhere.items():
        a = prior * count / n_all
        odds = [
            (c[term] + a) / (n + prior - c[term] - a) for c, n in ((here, n_here), (there, n_there))
        ]
        log_odds = math.log(odds[0]) - math.log(odds[1])
        found[term] = log_odds, log_odds / math.sqrt(1 / (here[term] + a) + 1 / (there[term] + a))
    return found


def test_planted_words_come_first_in_the_order_of_the_closed_form():
    texts, _, _ = planted()
    table = contrast_terms(texts, range(20), range(100, 120))
    expected = closed_form(texts, range(20), range(100, 120))
    for row in table.itertuples():
        log_odds, z = expected[row.term]
        assert row.log_odds == pytest.approx(row.pole * log_odds)
        assert row.z == pytest.approx(row.pole * z)
    for _, of_pole in table.groupby("pole"):
        assert of_pole["z"].is_monotonic_decreasing
        assert (of_pole["z"] > 0).all()
    positive = table[table["pole"] == 1]["term"].tolist()
    assert positive[:2] == ["apple", "cherry pie"]  # a pair as telling as its words stands for them
    assert table[table["pole"] == -1]["term"].iloc[0] == "plum"


def test_terms_with_a_word_in_common_are_shown_once():
    texts, _, _ = planted()
    table = contrast_terms(texts, range(20), range(100, 120), n=30)
    for _, of_pole in table.groupby("pole"):
        words = [word for term in of_pole["term"] for word in set(term.split())]
        assert len(words) == len(set(words))


def test_exchanging_the_poles_exchanges_the_terms():
    texts, _, _ = planted()
    one = contrast_terms(texts, range(20), range(100, 120))
    other = contrast_terms(texts, range(100, 120), range(20))
    for pole in (1, -1):
        a, b = (t[t["pole"] == p].iloc[:, 1:] for t, p in ((one, pole), (other, -pole)))
        assert a.reset_index(drop=True).equals(b.reset_index(drop=True))


def test_one_long_text_does_not_speak_for_a_pole():
    texts, _, _ = planted()
    texts[0] = "loud " * 20_000
    table = contrast_terms(texts, range(20), range(100, 120), n=30)
    assert "loud" not in set(table["term"])


def test_what_every_text_says_is_no_term_of_a_pole_whose_texts_are_shorter():
    texts, _, _ = planted()
    texts = [f"{'' if i < 20 else ' '.join(FILL[:9])} {t} answer" for i, t in enumerate(texts)]
    assert "answer" not in set(contrast_terms(texts, range(20), range(100, 120), n=30)["term"])


def test_function_words_are_no_terms():
    texts = ["the rose of the garden"] * 5 + ["a pear in a bowl"] * 5
    terms = set(contrast_terms(texts, range(5), range(5, 10))["term"])
    assert terms == {"garden", "rose", "bowl", "pear"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*STRANGE, "odd number", "even number"]), min_size=2, max_size=12))
def test_any_texts_have_a_finite_contrast(texts):
    half = len(texts) // 2
    table = contrast_terms(texts, range(half), range(half, len(texts)))
    assert np.isfinite(table[["log_odds", "z"]].to_numpy(dtype=float)).all()


def test_rows_that_there_are_not_are_refused():
    with pytest.raises(mn.InputError, match="no rows at the negative pole"):
        contrast_terms(["a b", "c d"], [0], [])
    with pytest.raises(mn.InputError, match="rows at the positive pole must be between 0 and 1"):
        contrast_terms(["a b", "c d"], [2], [1])


def test_a_label_names_categories_and_then_terms():
    texts, categories, _ = planted()
    labels = suggest_from_contrast(texts, categories, range(20), range(100, 120), n=2)
    assert labels == {1: "fruit: apple, cherry pie", -1: "stone fruit: plum"}
    without = suggest_from_contrast(texts, [None] * 120, range(20), range(100, 120), n=2)
    assert without == {1: "apple, cherry pie", -1: "plum"}
    assert suggest_from_contrast(["1", "2"], [None, None], [0], [1]) == {}


# ------------------------------------------------------------------------------------ detection


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
    st.lists(st.integers(0, 6), min_size=1, max_size=20),
)
def test_auc_and_accuracy_agree_with_scikit_learn(positive, other):
    found = score(np.array([*positive, *other], dtype=float), len(positive))
    truth = [1] * len(positive) + [0] * len(other)
    assert found.auc == pytest.approx(roc_auc_score(truth, [*positive, *other]))
    u = mannwhitneyu(positive, other).statistic
    assert found.auc == pytest.approx(u / (len(positive) * len(other)))
    assert 0 <= found.low <= found.auc <= found.high <= 1
    assert found.low < found.high
    if len({*positive, *other}) == len(positive) + len(other):  # without ties
        line = sorted([*positive, *other])[-len(positive)]
        called = [int(x >= line) for x in [*positive, *other]]
        assert found.accuracy == pytest.approx(balanced_accuracy_score(truth, called))


def test_equal_scores_say_nothing():
    found = score(np.zeros(30), 10)
    assert (found.auc, found.accuracy) == pytest.approx((0.5, 0.5))
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5, 3.0])
def test_the_interval_covers_the_true_area(shift):
    rng = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(shift / 2))  # two normal distributions `shift` apart
    covered = []
    for _ in range(1000):
        scores = np.concatenate([rng.normal(shift, size=20), rng.normal(size=20)])
        found = score(scores, 20)
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.995


def test_the_interval_solves_its_equation():
    low, high = auc_interval(0.8, 30, 20)
    for end in (low, high):
        spread = 1 + 24 * ((1 - end) / (2 - end) + end / (1 + end))
        assert abs(0.8 - end) == pytest.approx(
            1.959964 * math.sqrt(end * (1 - end) * spread / 600), rel=1e-5
        )


@settings(max_examples=60)
@given(st.integers(6, 200), st.integers(0, 15), st.integers(2, 30), st.integers(0, 3))
def test_held_out_rows_were_not_shown_and_lie_where_they_should(rows, n_shown, n, seed):
    z = np.random.default_rng(rows).normal(size=rows).round(1)
    if rows // 3 - n_shown < 2:
        with pytest.raises(mn.InputError, match="rows leave none to try a label on"):
            held_out(z, n_shown, n, seed)
        return
    positives, negatives = held_out(z, n_shown, n, seed)
    assert len(positives) == len(negatives) == min(n, rows // 3 - n_shown)
    assert len({*positives, *negatives}) == 2 * len(positives)
    order = np.argsort(-z, kind="stable")
    assert not {*positives, *negatives} & {*order[:n_shown], *order[rows - n_shown :]}
    assert (z[positives] >= np.sort(z)[rows - rows // 3]).all()
    assert z[positives].min() >= z[negatives].max()
    again = held_out(z, n_shown, n, seed)
    assert all(np.array_equal(a, b) for a, b in zip((positives, negatives), again, strict=True))


def test_the_true_label_is_found_and_a_foreign_one_is_not():
    texts, _, z = planted(240)
    judge = TextJudge(by_words)
    positives, negatives = held_out(z, 12, 40)
    of_pole, others = [texts[i] for i in positives], [texts[i] for i in negatives]
    found = detection("apple, cherry pie", of_pole, others, judge)
    assert found.auc > 0.9
    assert found.low > 0.8
    assert found.accuracy > 0.8
    assert found.n == 80
    foreign = detection("zebra, violin", of_pole, others, judge)
    assert (foreign.auc, foreign.accuracy) == pytest.approx((0.5, 0.5))
    opposite = detection("plum", of_pole, others, judge)
    assert opposite.auc < 0.5


def test_detection_refuses_what_cannot_be_scored():
    judge = TextJudge(by_words)
    with pytest.raises(mn.InputError, match="the label is empty"):
        detection(" ", ["a"], ["b"], judge)
    with pytest.raises(mn.InputError, match="0 rows of the pole and 1 others"):
        detection("odd", [], ["b"], judge)
    with pytest.raises(mn.InputError, match="n must be a whole number of at least 2"):
        held_out(np.zeros(100), 3, 1)


def test_the_model_judge_is_plain_log_probability(tiny_model):
    import torch

    module, tokenizer = tiny_model._module, tiny_model.tokenizer
    labels, context = ["odd numbers", "a", "months of the year"], "What is 3 + 4?\n\nTopic:"
    expected = []
    for label in labels:
        before = tokenizer(context)["input_ids"]
        after = tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = module(torch.tensor([before + after])).logits[0].log_softmax(dim=-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        expected.append(sum(float(logits[p, t]) for p, t in zip(places, after, strict=True)))
    assert label_logprobs(tiny_model, context, labels) == pytest.approx(expected, abs=1e-3)


def test_a_text_longer_than_the_context_is_read_from_its_end(tiny_model):
    text = "apple " * 3000 + "plum\n\nTopic:"
    ids = tiny_model.tokenizer(text)["input_ids"]
    n_label = len(tiny_model.tokenizer(" odd", add_special_tokens=False)["input_ids"])
    end = tiny_model.tokenizer.decode(ids[-(1024 - n_label) :])
    assert len(ids) > 1024
    assert label_logprobs(tiny_model, text, ["odd"]) == pytest.approx(
        label_logprobs(tiny_model, end, ["odd"]), abs=1e-3
    )


def test_the_embedded_model_tells_what_a_text_is_about(embedded):
    rows = mn.load_corpus("demo", limit=400)
    months, rectangles = (
        [e.prompt_text for e in rows if e.meta["family"] == family][:4]
        for family in ("months-later", "rectangles")
    )
    of_months, of_area = ModelJudge(embedded).scores(
        ["months of the year", "area of a rectangle"], [*months, *rectangles]
    )
    assert score(of_months, 4).auc > 0.9
    assert score(of_area, 4).auc < 0.1


# ------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (' "Odd numbers."\nTexts:\n- What', "Odd numbers"),
        ("\n\n- months of the year", "months of the year"),
        ("- 233, 49", ""),
        ("", ""),
        ("razor, razor, razor", ""),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a " + "long phrase with many words " * 9, ""),
        ("x" * 200, "x" * 80),
        ("a very long topic that goes on and on " + "about " * 2 + "y" * 90, None),
    ],
)
def test_an_answer_becomes_one_short_line(answer, said):
    found = phrase(answer)
    assert len(found) <= 80
    assert "\n" not in found
    if said is not None:
        assert found == said


def test_a_random_model_suggests_lines_or_nothing(tiny_model):
    texts = [e.prompt_text for e in mn.load_corpus("demo", limit=24)]
    found = suggest_from_model(tiny_model, [*texts[:12], *STRANGE], texts[12:])
    assert found == suggest_from_model(tiny_model, [*texts[:12], *STRANGE], texts[12:])
    assert len(found) == len({label.casefold() for label in found}) <= 3
    assert all(label == phrase(label) for label in found)


def test_a_pole_without_texts_is_refused(tiny_model):
    with pytest.raises(mn.InputError, match="no text at the other pole"):
        suggest_from_model(tiny_model, ["a"], [" "])


# ---------------------------------------------------------------------------------- all of them


def corpus_of(texts, categories):
    rows = zip(texts, categories, strict=True)
    return mn.Corpus(mn.Example(str(i), text, category=c) for i, (text, c) in enumerate(rows))


def test_suggestions_are_scored_and_the_best_comes_first():
    texts, categories, z = planted(240)
    table = suggest_labels(None, corpus_of(texts, categories), z, TextJudge(by_words))
    assert table.columns.tolist() == ["pole", "label", "source", "auc", "low", "high", "n"]
    assert table["pole"].tolist() == [1, -1]
    assert table["label"][0] == "fruit: apple, cherry pie"
    assert table["label"][1].startswith("stone fruit: plum")
    assert (table["auc"] > 0.9).all()
    assert (table["source"] == "contrast").all()


def test_labels_are_made_without_the_rows_that_try_them():
    texts, categories, z = planted(240)
    for pole in (1, -1):
        for i in held_out(pole * z, 12, 20)[0]:
            texts[i], categories[i] = "secret treasure", "hidden"
    table = suggest_labels(None, corpus_of(texts, categories), z, TextJudge(by_words))
    assert not table["label"].str.contains("secret|treasure|hidden").any()


def test_strange_texts_break_nothing(tiny_model):
    texts = [*STRANGE, "What is odd?", "Is it even?"] * 3
    corpus = corpus_of(texts, [None] * len(texts))
    z = np.random.default_rng(0).normal(size=len(texts))
    told = []
    for judge in (TextJudge(by_words), ModelJudge(tiny_model)):
        table = suggest_labels(
            tiny_model, corpus, z, judge, tell=lambda done, total: told.append((done, total))
        )
        assert table["auc"].between(0, 1).all()
        for _, of_pole in table.groupby("pole"):
            assert of_pole["auc"].is_monotonic_decreasing
    assert told == [(i, 4) for i in range(1, 5)] * 2


def test_what_cannot_be_done_is_said_in_one_line():
    corpus = corpus_of(["one row"], ["x"])
    judge = TextJudge(by_words)
    with pytest.raises(mn.InputError, match="1 rows leave none to try a label on") as error:
        suggest_labels(None, corpus, np.zeros(1), judge)
    assert "\n" not in str(error.value)
    with pytest.raises(mn.InputError, match="2 coordinates and 1 examples"):
        suggest_labels(None, corpus, np.zeros(2), judge)
