import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.evaluation import grading, run
from mnskills_viz.evaluation.pass_at_k import pass_at_k
from mnskills_viz.evaluation.run import evaluate, graded, probe_errors
from mnskills_viz.evaluation.samples import is_finished, read_samples, read_texts
from mnskills_viz.evaluation.tables import paired_difference, scores

OPTIONS = {"n": 3, "temperature": 1.0, "max_new_tokens": 6, "progress": False}


def has_an_e(example, text):
    """A verifier that a random model passes now and then."""
    return float("e" in text)


@pytest.fixture(scope="module")
def corpus(demo_rows):
    return demo_rows[:12]


@pytest.fixture(scope="module")
def expected(tiny_model, corpus):
    """What the same prompts, samples and seed give without any of it."""
    prompts = [example.messages for example in corpus]
    texts = mn.generate(tiny_model, prompts, n=3, temperature=1.0, max_new_tokens=6)
    return np.array([sum("e" in text for text in samples) for samples in texts])


def samples_table(c, n=4, logprob=None, ids=None):
    m = len(c)
    return pd.DataFrame(
        {
            "id": ids or [f"e{i}" for i in range(m)],
            "category": ["odd" if i % 2 else "even" for i in range(m)],
            "n": n,
            "c": c,
            "logprob": np.full(m, np.nan) if logprob is None else logprob,
        }
    )


# ------------------------------------------------------------------------------- the table


def test_the_table_sums_up_what_was_sampled(tiny_model, corpus, expected):
    assert 0 < expected.sum() < 36
    poles = {"axis 0 +": corpus.ids[:5], "axis 0 -": corpus.ids[5:]}
    table = evaluate(tiny_model, corpus, k=(1, 3), verifier=has_an_e, groups=poles, **OPTIONS)
    assert list(table.columns) == ["group", "metric", "value", "low", "high", "n"]
    categories = sorted({example.category for example in corpus})
    assert table["group"].unique().tolist() == ["all", *categories, *poles]
    found = table.set_index(["group", "metric"])
    for k in (1, 3):
        assert found["value"]["all", f"pass@{k}"] == np.mean(pass_at_k(3, expected, k))
        assert found["value"]["axis 0 +", f"pass@{k}"] == np.mean(pass_at_k(3, expected[:5], k))
    losses = mn.collect(tiny_model, corpus, layers=[0], errors=True, progress=False).logprobs
    assert found["value"]["all", "logprob"] == pytest.approx(losses.mean(), rel=1e-6)
    assert found["n"]["all", "pass@1"] == 12
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert json.loads(json.dumps(table.attrs)) == table.attrs
    assert table.attrs["corpus"]["hash"] == corpus.hash


def test_the_demo_corpus_is_judged_by_its_own_rules(tiny_model, corpus, tmp_path):
    """Answers written into the store by hand are right for `auto`; nothing is generated."""
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tiny_model, corpus, tmp_path / "e", after=0)
    lines = []
    for place, example in enumerate(corpus):
        right = [example.response, f"It is {example.answer}, or not.", "Answer: never"]
        lines += [{"id": example.id, "sample": s, "text": t} for s, t in enumerate(right)]
        assert place < 12
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "e" / "samples.jsonl").write_text(text)
    table = evaluate(tiny_model, corpus, k=[1, 3], store=tmp_path / "e", **OPTIONS)
    found = table.set_index(["group", "metric"])["value"]
    assert found["all", "pass@1"] == pytest.approx(1 / 3)
    assert found["all", "pass@3"] == 1.0


def test_steering_changes_answers_and_references(tiny_model, corpus, tmp_path):
    vector = mn.SteeringVector({1: np.linspace(-20, 20, 32)})
    plain = graded(tiny_model, corpus, verifier=has_an_e, **OPTIONS)
    steered = graded(tiny_model, corpus, verifier=has_an_e, steering=vector, **OPTIONS)
    with vector.apply(tiny_model):
        losses = mn.collect(tiny_model, corpus, layers=[0], errors=True, progress=False).logprobs
    np.testing.assert_allclose(steered["logprob"], losses, rtol=1e-5)
    assert not np.allclose(plain["logprob"], steered["logprob"])
    with pytest.raises(mn.InputError, match="pass a SteeringVector"):
        graded(
            tiny_model,
            corpus,
            steering=vector.apply(tiny_model),
            store=tmp_path / "e",
            **OPTIONS,
        )
    assert list(tmp_path.iterdir()) == []


def test_greedy_is_one_answer(tiny_model, corpus):
    options = OPTIONS | {"temperature": 0.0}
    one = graded(tiny_model, corpus, verifier=has_an_e, **(options | {"n": 1}))
    three = graded(tiny_model, corpus, verifier=has_an_e, **options)
    assert (three["c"] == 3 * one["c"]).all()


def test_a_model_without_chat_template_reads_the_prompt_and_a_line_break(tmp_path):
    from tests.tiny_model import save_tiny_model

    model = mn.load_model(str(save_tiny_model(tmp_path / "m", chat=False)), dtype="float32")
    rows = mn.load_corpus([{"prompt": "1 + 1", "answer": "2"}, {"prompt": "a", "answer": "b"}])
    seen = {}
    graded(
        model, rows, verifier=lambda e, t: seen.setdefault(e.id, t) == "", **(OPTIONS | {"n": 1})
    )
    texts = mn.generate(model, ["1 + 1\n", "a\n"], temperature=1.0, max_new_tokens=6)
    assert [seen[i] for i in rows.ids] == [text for (text,) in texts]


# ------------------------------------------------------------------------------- the store


def _interrupted(model, corpus, store, after, **options):
    """Evaluate until so many completions are there, and stop as Ctrl-C does."""
    add, count = run.Kept.add, [0]

    def add_some(kept, *completion):
        if count[0] == after:
            raise KeyboardInterrupt
        count[0] += 1
        add(kept, *completion)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Kept, "add", add_some)
        return evaluate(model, corpus, k=1, store=store, **(OPTIONS | options))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_stopped_goes_on_to_the_same_table(
    dtype, tiny_folder, corpus, tmp_path, monkeypatch
):
    """In bfloat16 a text depends on its batch: the part that was stopped is made again whole."""
    monkeypatch.setattr(run, "SAMPLES_A_PART", 9)
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 4)
    model = mn.load_model(str(tiny_folder), dtype=dtype)
    options = OPTIONS | {"verifier": has_an_e, "k": (1, 3)}
    whole = evaluate(model, corpus, store=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        _interrupted(model, corpus, tmp_path / "stopped", after=14)
    file = tmp_path / "stopped" / "samples.jsonl"
    assert len(file.read_text().splitlines()) == 14
    with pytest.raises(mn.InputError, match=r"not finished .14 of 36 completions"):
        read_samples(tmp_path / "stopped")
    with file.open("a") as torn:
        torn.write('{"id": "')
    resumed = evaluate(model, corpus, store=tmp_path / "stopped", **options)
    pd.testing.assert_frame_equal(resumed, whole)
    lines = {
        name: sorted((tmp_path / name / "samples.jsonl").read_text().splitlines())
        for name in ("whole", "stopped")
    }
    assert lines["stopped"] == lines["whole"]


@pytest.mark.parametrize("after", [1, 7, 34])
def test_greedy_goes_on_from_between_the_copies_of_an_answer(after, tiny_model, corpus, tmp_path):
    options = OPTIONS | {"verifier": has_an_e, "temperature": 0.0}
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tiny_model, corpus, tmp_path / "e", after=after, temperature=0.0)
    resumed = graded(tiny_model, corpus, store=tmp_path / "e", **options)
    pd.testing.assert_frame_equal(resumed, graded(tiny_model, corpus, **options))
    assert len((tmp_path / "e" / "samples.jsonl").read_text().splitlines()) == 36


def test_a_finished_one_is_read_without_the_model(tiny_model, corpus, tmp_path, monkeypatch):
    store = tmp_path / "e"
    before = evaluate(tiny_model, corpus, k=1, store=store, **OPTIONS)
    kept = {file.name: file.read_bytes() for file in store.iterdir()}
    monkeypatch.setattr(run, "complete", None)
    monkeypatch.setattr(run, "collect", None)
    monkeypatch.setattr(grading, "verify", None)  # grades are remembered, too
    pd.testing.assert_frame_equal(evaluate(None, corpus, k=1, store=store, **OPTIONS), before)
    samples = read_samples(store)
    pd.testing.assert_frame_equal(scores(samples, 1), before)
    assert samples["id"].tolist() == corpus.ids
    assert samples.attrs == before.attrs
    assert {file.name: file.read_bytes() for file in store.iterdir()} == kept


def test_another_verifier_needs_no_new_samples(tiny_model, corpus, tmp_path, monkeypatch):
    first = graded(tiny_model, corpus, store=tmp_path / "e", **OPTIONS)
    monkeypatch.setattr(run, "complete", None)
    second = graded(tiny_model, corpus, store=tmp_path / "e", verifier=has_an_e, **OPTIONS)
    assert first["c"].sum() == 0 < second["c"].sum()
    assert second.attrs["verifier"] == "function has_an_e"
    assert read_samples(tmp_path / "e")["c"].sum() == 0  # what a function says is not kept


def test_every_verifier_keeps_its_own_verdicts(tiny_model, corpus, tmp_path, monkeypatch):
    store, by_letter = tmp_path / "e", "regex:e"
    rows = mn.load_corpus([{"id": e.id, "prompt": e.prompt, "answer": "e"} for e in corpus])
    assert not is_finished(store)
    graded(tiny_model, rows, store=store, verifier=has_an_e, **OPTIONS)
    assert not is_finished(store)
    with pytest.raises(mn.InputError, match=r"'auto' has not judged .* no named one has"):
        read_samples(store)
    auto = graded(tiny_model, rows, store=store, **OPTIONS)
    assert is_finished(store)
    assert not is_finished(store, by_letter)
    letters = graded(tiny_model, rows, store=store, verifier=by_letter, **OPTIONS)
    assert 0 == auto["c"].sum() < letters["c"].sum()
    monkeypatch.setattr(grading, "verify", None)
    pd.testing.assert_frame_equal(read_samples(store), auto)
    pd.testing.assert_frame_equal(read_samples(store, by_letter), letters)
    pd.testing.assert_frame_equal(graded(None, rows, store=store, **OPTIONS), auto)
    assert is_finished(store, by_letter)
    with pytest.raises(mn.InputError, match=r"'exact' has not judged.*have: .*auto.*") as caught:
        read_samples(store, "exact")
    assert by_letter in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(mn.InputError, match="what a function says of samples is not kept"):
        read_samples(store, has_an_e)
    texts = read_texts(store)
    counts = [sum("e" in text for text in texts[i]) for i in rows.ids]
    assert letters["c"].tolist() == counts


def test_a_store_of_something_else_is_refused_in_one_line(tiny_model, corpus, tmp_path):
    store = tmp_path / "e"
    graded(tiny_model, corpus, store=store, **OPTIONS)
    for other, said in [
        ({"seed": 1}, "options.seed: 0 there, 1 here"),
        ({"n": 2}, "options.n: 3 there, 2 here"),
        ({"steering": mn.SteeringVector({1: np.ones(32)})}, "options.steering: None there"),
    ]:
        with pytest.raises(mn.InputError, match=said) as caught:
            graded(tiny_model, corpus, store=store, **(OPTIONS | other))
        assert "\n" not in str(caught.value)
    with pytest.raises(mn.InputError, match=r"corpus.hash"):
        graded(tiny_model, corpus[:5], store=store, **OPTIONS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(mn.InputError, match="is there and is not an evaluation"):
        graded(tiny_model, corpus, store=tmp_path / "mine", **OPTIONS)
    with pytest.raises(mn.InputError, match="no model was given"):
        graded(None, corpus, store=tmp_path / "nothing", **OPTIONS)
    with pytest.raises(mn.InputError, match="no evaluation there"):
        read_samples(tmp_path / "nothing")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == ["e", "mine"]


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "x',
        "[]",
        '{"id": ["a"], "sample": 0, "text": ""}',
        '{"id": "a", "sample": "0", "text": ""}',
        '{"id": "a", "sample": true, "text": ""}',
        '{"id": "a", "sample": 0, "text": 5}',
    ],
)
def test_a_damaged_line_is_named(line, tiny_model, corpus, tmp_path):
    store = tmp_path / "e"
    graded(tiny_model, corpus, store=store, **OPTIONS)
    lines = (store / "samples.jsonl").read_text().splitlines()
    lines[4] = line
    (store / "samples.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(mn.InputError, match=r"samples.jsonl: line 5 is damaged; take that line"):
        read_samples(store)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("grades-auto.json", "{}", "damaged; delete it and run the same evaluate again"),
        ("grades-auto.json", "[", "damaged; delete it"),
        ("grades-auto.json", '{"versions": {}, "passes": []}', "damaged; delete it"),
        ("logprobs.json", "{", "damaged; delete it and run the same evaluate again"),
        ("logprobs.json", '{"a": []}', "damaged; delete it"),
        ("header.json", '{"format": 1}', "damaged, .* delete the folder"),
        ("header.json", '{"format": 1, "examples": [], "options": 3}', "delete the folder"),
        ("header.json", "[]", "delete the folder"),
        ("header.json", "{", "delete the folder"),
    ],
)
def test_a_damaged_file_is_named(name, content, said, tiny_model, corpus, tmp_path):
    store = tmp_path / "e"
    graded(tiny_model, corpus, store=store, **OPTIONS)
    (store / name).write_text(content)
    for read in (
        lambda: read_samples(store),
        lambda: graded(tiny_model, corpus, store=store, **OPTIONS),
    ):
        with pytest.raises(mn.InputError, match=f"{name} is {said}|{name} is damaged") as caught:
            read()
        assert "delete" in str(caught.value)
        assert "\n" not in str(caught.value)


CHILD = """
import sys
import mnskills_viz as mn
from mnskills_viz import generation
from mnskills_viz.evaluation import run
model = mn.load_model(sys.argv[1], dtype="float32")
corpus = mn.Corpus.from_jsonl(open(sys.argv[2]).read(), "demo")
run.SAMPLES_A_PART, generation.BATCH_ROWS = 6, 1
run.evaluate(model, corpus, k=1, n=3, temperature=1.0, max_new_tokens=40, store=sys.argv[3],
             progress=False)
"""


def test_killed_and_resumed_it_ends_with_the_same_table(tiny_model, tiny_folder, corpus, tmp_path):
    rows = tmp_path / "corpus.jsonl"
    rows.write_text(corpus.to_jsonl())
    store = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tiny_folder), str(rows), str(store)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    file = store / "samples.jsonl"
    while child.poll() is None and not (file.exists() and file.stat().st_size > 200):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = file.read_text().count("\n")
    assert 0 < kept < 36
    options = OPTIONS | {"max_new_tokens": 40, "verifier": has_an_e}
    resumed = graded(tiny_model, corpus, store=store, **options)
    pd.testing.assert_frame_equal(resumed, graded(tiny_model, corpus, **options))
    assert len(file.read_text().splitlines()) == 36


# ------------------------------------------------------------------------------- two models


def test_the_difference_is_paired(tiny_model):
    """Against the paired t-interval, and far narrower than two intervals that are not paired."""
    generator = np.random.default_rng(0)
    difficulty = generator.random(400)
    c = [generator.binomial(8, p) for p in (difficulty, np.clip(difficulty + 0.05, 0, 1))]
    before, after = (samples_table(one, 8) for one in c)
    shuffled = after.sample(frac=1, random_state=0)
    row = paired_difference(before, shuffled).iloc[0]
    d = (c[1] - c[0]) / 8
    half = 1.96 * d.std(ddof=1) / 20
    assert row["difference"] == pytest.approx(d.mean())
    assert row["before"] == pytest.approx(c[0].mean() / 8)
    assert (row["low"], row["high"]) == pytest.approx((d.mean() - half, d.mean() + half), abs=4e-3)
    apart = scores(before, 1).iloc[0]
    assert row["high"] - row["low"] < 0.6 * (apart["high"] - apart["low"])
    assert row["n"] == 400


def test_fixed_and_broken_examples_are_named():
    before, after = samples_table([0, 4, 1, 4, 2]), samples_table([4, 0, 1, 3, 3])
    table = paired_difference(before, after, k=(1, 4))
    assert table.attrs["fixed"] == ["e0", "e4"]  # half of the samples is not more than half
    assert table.attrs["broken"] == ["e1"]
    whole = table[table["group"] == "all"]
    assert whole["metric"].tolist() == ["pass@1", "pass@4"]
    assert whole[["fixed", "broken"]].to_numpy().tolist() == [[2, 1], [2, 1]]
    even = table[table["group"] == "even"].iloc[0]
    assert (even["fixed"], even["broken"], even["n"]) == (2, 0, 3)
    assert json.loads(json.dumps(table.attrs)) == table.attrs


def test_a_category_called_all_does_not_take_the_place_of_all():
    before, after = samples_table([0, 4, 0, 4]), samples_table([4, 4, 4, 4])
    for table in (before, after):
        table["category"] = ["all", "x", "all", 'category "all"']
    names = ["all", 'category "all"', 'category "category "all""', "x"]
    sums = scores(before, 1).set_index("group")
    assert sums.index.tolist() == names
    assert sums["value"].tolist() == [0.5, 0.0, 1.0, 1.0]
    differences = paired_difference(before, after).set_index("group")
    assert differences["difference"].tolist() == [0.5, 1.0, 0.0, 0.0]


def test_values_of_k_may_come_from_a_generator(tiny_model, corpus):
    options = OPTIONS | {"verifier": has_an_e}
    found = evaluate(tiny_model, corpus, k=(k for k in (3, 1)), **options)
    pd.testing.assert_frame_equal(found, evaluate(tiny_model, corpus, k=(1, 3), **options))
    table = samples_table([1, 2])
    metrics = paired_difference(table, table, k=(k for k in (1, 2)))["metric"].unique()
    assert metrics.tolist() == ["pass@1", "pass@2"]


def test_log_probabilities_are_compared_where_both_are_known():
    before = samples_table([0, 0, 0], logprob=np.array([-1.0, np.nan, -3.0]))
    after = samples_table([0, 0, 0], logprob=np.array([-0.5, -1.0, -2.0]))
    table = paired_difference(before, after).set_index(["group", "metric"])
    row = table.loc[("all", "logprob")]
    assert (row["difference"], row["n"]) == (0.75, 2)
    assert pd.isna(row["fixed"])


def test_tables_of_different_examples_are_not_compared():
    with pytest.raises(mn.InputError, match=r"different examples .2 are in one only: e0, z"):
        paired_difference(samples_table([1, 2]), samples_table([1, 2], ids=["z", "e1"]))
    one, two = samples_table([1, 2]), samples_table([1, 2, 3], ids=["e0", "e1", "e1"])
    with pytest.raises(mn.InputError, match=r"after has an example more than once .e1."):
        paired_difference(one, two)
    with pytest.raises(mn.InputError, match=r"before has an example more than once .e1."):
        paired_difference(two, one)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"pole": ["e0", "zz"]}, "1 ids are not in the corpus: zz"),
        ({"pole": []}, "'pole' has no examples"),
        ({"odd": ["e0"]}, "'odd' has the name of a category"),
        ({"all": ["e0"]}, "'all' has the name of a category"),
    ],
)
def test_wrong_groups_say_so(groups, said):
    with pytest.raises(mn.InputError, match=said):
        scores(samples_table([1, 2]), 1, groups)


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": (1, 8)}, r"k must lie between 1 and n = 3, not \[1, 8\]"),
        ({"k": 0}, "k must lie between 1 and n"),
        ({"k": 1, "verifier": "guess"}, "unknown verifier"),
        ({"k": 1.5}, "k must be a whole number, or several, not 1.5"),
        ({"k": "1"}, "k must be a whole number, or several, not '1'"),
        ({"k": 1, "temperature": -1}, "temperature must be a number of at least 0, not -1"),
        ({"k": 1, "temperature": float("nan")}, "temperature must be .* not nan"),
        ({"k": 1, "n": 2.5}, "n must be a whole number of at least 1, not 2.5"),
        ({"k": 1, "seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"k": 1, "n": 0}, "k must lie between"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    options, said, tiny_model, corpus, tmp_path
):
    with pytest.raises(mn.InputError, match=said):
        evaluate(tiny_model, corpus, store=tmp_path / "e", **(OPTIONS | options))
    assert not (tmp_path / "e").exists()


def test_missing_answers_are_named(tiny_model):
    rows = mn.load_corpus([{"id": "a", "prompt": "x", "answer": "1"}, {"id": "b", "prompt": "y"}])
    with pytest.raises(mn.InputError, match="1 examples have no answer to verify by: b"):
        evaluate(tiny_model, rows, k=1, **OPTIONS)
    with pytest.raises(mn.InputError, match="the corpus is empty"):
        evaluate(tiny_model, rows[:0], k=1, **OPTIONS)


def test_an_unwritable_folder_is_said_in_one_line(tiny_model, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(mn.InputError, match="is there and is not an evaluation"):
        graded(tiny_model, corpus, store=tmp_path / "file", **OPTIONS)
    with pytest.raises(mn.InputError, match="cannot write"):
        graded(tiny_model, corpus, store=tmp_path / "file" / "e", **OPTIONS)


# ------------------------------------------------------------------------------- probe errors


def test_errors_from_verifiers_are_failure_rates(tiny_model, corpus, expected):
    found = probe_errors(tiny_model, corpus, "verifier", verifier=has_an_e, **OPTIONS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 - expected / 3, rtol=1e-6)


def test_errors_without_variance_say_so_and_come_from_log_probability(tiny_model, corpus):
    with pytest.warns(UserWarning, match="have no variance: all are 1, 3 samples") as caught:
        found = probe_errors(tiny_model, corpus, "verifier", **OPTIONS)
    assert "\n" not in str(caught[0].message)
    np.testing.assert_array_equal(found, probe_errors(tiny_model, corpus, progress=False))
    with pytest.raises(mn.InputError, match="method must be"):
        probe_errors(tiny_model, corpus, "guess")


# ------------------------------------------------------------------------------- for truth


def test_the_embedded_model_gets_its_own_answers_right(embedded):
    """Its greedy answers, taken for gold: all pass; and taken for each other's, none does."""
    prompts = ["What is the capital of France? One word.", "Say yes."]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = [text for (text,) in mn.generate(embedded, chats, max_new_tokens=8)]
    assert "Paris" in texts[0]
    options = {"n": 1, "temperature": 0.0, "max_new_tokens": 8, "progress": False}
    for answers, rate in ((texts, 1.0), (texts[::-1], 0.0)):
        rows = [{"prompt": p, "answer": a} for p, a in zip(prompts, answers, strict=True)]
        table = evaluate(embedded, mn.load_corpus(rows), k=1, verifier="exact", **options)
        assert table["value"].tolist() == [rate]
