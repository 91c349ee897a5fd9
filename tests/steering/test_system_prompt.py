from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.corpus.splits import halves, hash_of_id
from mnskills_viz.evaluation.tables import paired_difference, scores
from mnskills_viz.steering.sampled import Sampling, random_like
from mnskills_viz.steering.system_prompt import from_successes, from_system_prompt, judged_answers
from mnskills_viz.steering.zero_token import zero_token_prompt

SYSTEM = "Answer with one word."
QUESTIONS = ["What is 2 + 2?", "Which is larger, 3 or 9?", "Is 7 even or odd?"]
FRENCH = [
    ("What is the capital of Italy?", "La capitale de l'Italie est Rome."),
    ("Where do fish live?", "Les poissons vivent dans l'eau, dans les rivières et dans la mer."),
    ("What do bees make?", "Les abeilles font du miel."),
    ("When does winter begin?", "L'hiver commence au mois de décembre."),
    ("How many days are in a week?", "Il y a sept jours dans une semaine."),
    ("What is the sun?", "Le soleil est une étoile."),
]


def chat(text):
    return [{"role": "user", "content": text}]


def stream(model, messages, layer):
    """Ids of a rendered chat, and the residual stream after a block, by plain transformers."""
    ids = model.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    with torch.no_grad():
        found = model._module(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return ids, found[layer + 1][0].double().numpy()


def row_over_last(states, n):
    """Mean over the last n tokens, attention sinks by norm left out."""
    norms = np.linalg.norm(states, axis=1)
    kept = [i for i in range(len(states) - n, len(states)) if norms[i] <= 4 * np.median(norms)]
    return states[kept].mean(axis=0)


def told_apart(example, text):
    return float(len(text) % 2)


# -------------------------------------------------------------------------------- the vectors


def test_the_vector_is_with_minus_without_over_the_users_tokens(tiny_model):
    found = from_system_prompt(
        tiny_model, SYSTEM, [QUESTIONS[0], *map(chat, QUESTIONS[1:])], [0, 2]
    )
    tokenizer = tiny_model.tokenizer
    for layer, vector in found.items():
        differences = []
        for question in QUESTIONS:
            without, before = stream(tiny_model, chat(question), layer)
            system = {"role": "system", "content": SYSTEM}
            with_it, after = stream(tiny_model, [system, *chat(question)], layer)
            shared = tokenizer(f"{question}<|end|>\n<|assistant|>\n", add_special_tokens=False)
            n = len(shared["input_ids"])
            assert without[-n:] == with_it[-n:] == shared["input_ids"]
            differences.append(row_over_last(after, n) - row_over_last(before, n))
        assert list(vector.directions) == [layer]
        expected = np.mean(differences, axis=0)
        np.testing.assert_allclose(vector.directions[layer], expected, atol=1e-5)
        assert np.linalg.norm(expected) > 0.1
        assert vector.source["system"] == SYSTEM


def test_with_responses_it_is_over_their_tokens(tiny_model):
    questions, responses = zip(*FRENCH, strict=True)
    found = from_system_prompt(tiny_model, SYSTEM, questions, [1], responses)[1]
    differences = []
    for question, response in FRENCH:
        rows = []
        for messages in (chat(question), [{"role": "system", "content": SYSTEM}, *chat(question)]):
            said = tiny_model.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            n_prompt = len(tiny_model.tokenizer(said)["input_ids"])
            ids = tiny_model.tokenizer(said + response)["input_ids"]
            with torch.no_grad():
                states = tiny_model._module(torch.tensor([ids]), output_hidden_states=True)
            stream = states.hidden_states[2][0].double().numpy()
            rows.append(row_over_last(stream, len(ids) - n_prompt))
        differences.append(rows[1] - rows[0])
    np.testing.assert_allclose(found.directions[1], np.mean(differences, axis=0), atol=1e-5)


def answers_of(corpus, verdicts):
    texts = ["first words", "then other words", "and a third"]
    return [
        (example, texts[i], passed)
        for example, row in zip(corpus, verdicts, strict=False)
        for i, passed in enumerate(row)
    ]


def test_successes_minus_failures_within_the_same_problem(tiny_model, demo_rows):
    """Problems that are always or never solved say nothing, however many there are."""
    verdicts = [[True, False, False], [True, True, True], [False, True, True], [False] * 3]
    answers = answers_of(demo_rows, verdicts)
    found = from_successes(tiny_model, answers, [1, 3], progress=False)

    def row(example, text, layer):
        corpus = mn.Corpus([replace(example, response=text)])
        rows = mn.collect(tiny_model, corpus, layers=[layer], tokens="response", progress=False)
        return rows.matrix(layer)[0].astype(np.float64)

    for layer, vector in found.items():
        differences = []
        for i in (0, 2):
            sides = {True: [], False: []}
            for example, text, passed in answers:
                if example.id == demo_rows[i].id:
                    sides[passed].append(row(example, text, layer))
            differences.append(np.mean(sides[True], axis=0) - np.mean(sides[False], axis=0))
        np.testing.assert_allclose(
            vector.directions[layer], np.mean(differences, axis=0), atol=1e-5
        )


def test_equal_answers_count_as_often_as_they_came(tiny_model, demo_rows):
    a, b, c = answers_of(demo_rows, [[True, True, False]])
    often = from_successes(tiny_model, [a, a, a, b, c, (a[0], "", True)], [2], progress=False)[2]
    alone = [
        from_successes(tiny_model, [one, c], [2], progress=False)[2].directions[2] for one in (a, b)
    ]
    expected = 0.75 * alone[0] + 0.25 * alone[1]
    np.testing.assert_allclose(often.directions[2], expected, atol=1e-5)


def test_judged_answers_are_what_the_model_wrote_and_what_the_verifier_says(
    tiny_model, demo_rows, tmp_path
):
    sampling = Sampling(n=2, temperature=1.0, max_new_tokens=4, verifier=told_apart, seed=3)
    corpus = demo_rows[:3]
    found = judged_answers(tiny_model, corpus, sampling, progress=False)
    expected = mn.generate(
        tiny_model, [e.messages for e in corpus], n=2, temperature=1.0, max_new_tokens=4, seed=3
    )
    by_problem = [[text for e, text, _ in found if e.id == one.id] for one in corpus]
    assert [sorted(texts) for texts in by_problem] == [sorted(texts) for texts in expected]
    assert all(passed == bool(told_apart(e, text)) for e, text, passed in found)
    named = Sampling(n=2, temperature=1.0, max_new_tokens=4, verifier="exact", seed=3)
    stored = judged_answers(tiny_model, corpus, named, tmp_path / "answers", progress=False)
    assert [one[:2] for one in stored] == [one[:2] for one in found]
    again = judged_answers(tiny_model, corpus, named, tmp_path / "answers", progress=False)
    assert again == stored


# ----------------------------------------------------------------------- against the text


def test_halves_go_by_a_hash_of_the_ids_whatever_the_order(demo_rows):
    first, second = halves(demo_rows)
    assert {*first.ids, *second.ids} == set(demo_rows.ids)
    assert max(map(hash_of_id, first.ids)) < min(map(hash_of_id, second.ids))
    turned = halves(mn.Corpus(list(demo_rows)[::-1]))
    assert [set(half.ids) for half in turned] == [set(first.ids), set(second.ids)]


def reference(model, example, vector=None, system=None):
    """Mean log-probability of a response, by plain transformers."""
    messages = example.messages if system is None else [{"role": "system", "content": system}]
    messages = messages if system is None else messages + example.messages
    start = model.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    ids = start + model.tokenizer(example.response, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        if vector is None:
            logits = model._module(torch.tensor([ids])).logits[0]
        else:
            with vector.apply(model):
                logits = model._module(torch.tensor([ids])).logits[0]
    scores = logits.double().log_softmax(-1)
    positions = range(len(start), len(ids))
    return np.mean([scores[i - 1, ids[i]].item() for i in positions]), scores[len(start) - 1 : -1]


def test_the_report_agrees_with_plain_transformers_on_the_other_half(tiny_model):
    corpus = mn.Corpus([mn.Example(f"e{i}", q, r) for i, (q, r) in enumerate(FRENCH)])
    found = zero_token_prompt(
        tiny_model, corpus, SYSTEM, layers=[0, 2], doses=(1, 3), progress=False
    )
    choosing, reporting = halves(corpus)
    fitted = from_system_prompt(
        tiny_model, SYSTEM, [e.prompt for e in choosing], [0, 2], [e.response for e in choosing]
    )
    for row in found.grid.itertuples():
        push = row.dose * fitted[row.layer]
        change = [reference(tiny_model, e, push)[0] - reference(tiny_model, e)[0] for e in choosing]
        assert row.effect == pytest.approx(np.mean(change), abs=1e-5)
    best = found.grid.loc[found.grid["effect"].idxmax()]
    assert (found.layer, found.dose) == (best["layer"], best["dose"])
    np.testing.assert_allclose(
        found.vector.directions[found.layer],
        found.dose * fitted[found.layer].directions[found.layer],
        rtol=1e-6,
    )
    table = found.table.set_index("arm")
    assert list(table.index) == ["unsteered", "text prompt", "vector"]
    arms = {"unsteered": {}, "text prompt": {"system": SYSTEM}, "vector": {"vector": found.vector}}
    text = [reference(tiny_model, e, system=SYSTEM)[1] for e in reporting]
    for arm, options in arms.items():
        results = [reference(tiny_model, e, **options) for e in reporting]
        value = np.mean([result[0] for result in results])
        assert table.loc[arm, "value"] == pytest.approx(value, abs=1e-5)
        pairs = zip(text, [result[1] for result in results], strict=True)
        kl = np.mean([(p.exp() * (p - q)).sum(-1).mean().item() for p, q in pairs])
        assert table.loc[arm, "kl_to_text"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
        effect = table.loc[arm, "value"] - table.loc["unsteered", "value"]
        assert table.loc[arm, "effect"] == pytest.approx(effect)
        assert table.loc[arm, "low"] <= table.loc[arm, "effect"] <= table.loc[arm, "high"]
    n_system = len(tiny_model.tokenizer(f"<|system|>\n{SYSTEM}<|end|>\n")["input_ids"])
    assert table["tokens"].tolist() == [0, n_system, 0]
    assert table.loc["unsteered", "kl"] == 0
    assert (table.loc[["text prompt", "vector"], "kl"] > 0).all()


def test_the_choice_can_go_by_likeness_to_the_text_prompt(tiny_model):
    corpus = mn.Corpus([mn.Example(f"e{i}", q, r) for i, (q, r) in enumerate(FRENCH)])
    found = zero_token_prompt(
        tiny_model, corpus, SYSTEM, layers=[1, 3], doses=(0.5, 2), goal="likeness", progress=False
    )
    best = found.grid.loc[found.grid["kl_to_text"].idxmin()]
    assert (found.layer, found.dose) == (best["layer"], best["dose"])


def test_given_vectors_need_no_text_and_answers_can_be_sampled(tiny_model, demo_rows, tmp_path):
    vectors = {1: mn.SteeringVector({1: np.ones(32)}), 2: mn.SteeringVector({2: np.ones(32)})}
    sampling = Sampling(n=2, max_new_tokens=3, verifier=told_apart)
    found = zero_token_prompt(
        tiny_model,
        demo_rows[:8],
        vectors=vectors,
        doses=(-1, 1),
        target="contrast",
        sampling=sampling,
        store=tmp_path,
        progress=False,
    )
    table = found.table.set_index("arm")
    assert list(table.index) == ["unsteered", "vector"]
    assert table["kl_to_text"].isna().all()
    reporting = halves(demo_rows[:8])[1]
    scores = mn.evaluate(
        tiny_model,
        reporting,
        k=1,
        n=2,
        max_new_tokens=3,
        verifier=told_apart,
        steering=found.vector,
        progress=False,
    )
    expected = scores[(scores["group"] == "all") & (scores["metric"] == "pass@1")].iloc[0]
    assert table.loc["vector", "pass_rate"] == pytest.approx(expected["value"])
    folders = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert folders == ["unsteered", f"vector-{found.vector.fingerprint}"]


def test_one_store_takes_other_grids_and_measures_no_dose_twice(tiny_model, demo_rows, tmp_path):
    """Also after a stop: what was measured of the grid is in a file of the store."""
    vectors = {1: mn.SteeringVector({1: np.ones(32)})}
    options = {
        "vectors": vectors,
        "target": "contrast",
        "sampling": Sampling(n=1, max_new_tokens=2, verifier=told_apart),
        "progress": False,
    }
    corpus = demo_rows[:8]
    first = zero_token_prompt(tiny_model, corpus, doses=(-1, 1), store=tmp_path / "s", **options)
    known = (tmp_path / "s" / "doses.jsonl").read_bytes()
    again = zero_token_prompt(tiny_model, corpus, doses=(-1, 1), store=tmp_path / "s", **options)
    assert (tmp_path / "s" / "doses.jsonl").read_bytes() == known  # a line a measurement
    assert again.grid.equals(first.grid)
    other = zero_token_prompt(tiny_model, corpus, doses=(2, 3), store=tmp_path / "s", **options)
    alone = zero_token_prompt(tiny_model, corpus, doses=(2, 3), **options)
    assert other.table.equals(alone.table)
    names = {path.name for path in (tmp_path / "s").glob("vector-*")}
    assert names == {f"vector-{found.vector.fingerprint}" for found in (first, other)}


def test_a_multiple_of_a_vector_says_the_dose_that_it_is(tiny_study, tiny_model, demo_rows):
    """An axis at 2 standard deviations, three times: 6."""
    basis = tiny_study.basis("pca-1")
    axis = mn.SteeringVector.from_axis(basis, 0, dose=2)
    options = {"doses": (3,), "target": "contrast", "progress": False}
    found = zero_token_prompt(tiny_model, demo_rows[:8], vectors={1: axis}, **options)
    assert found.vector.source == axis.source | {"dose": 6.0, "multiple": 3.0}
    expected = mn.SteeringVector.from_axis(basis, 0, dose=6)
    np.testing.assert_allclose(found.vector.directions[1], expected.directions[1], rtol=1e-6)
    nameless = mn.SteeringVector(axis.directions, source={"from": "elsewhere"})
    found = zero_token_prompt(tiny_model, demo_rows[:8], vectors={1: nameless}, **options)
    assert found.vector.source == {"from": "elsewhere", "multiple": 3.0}


def test_a_vector_from_a_system_prompt_moves_matching_text_upward(embedded):
    """Speak French, said without a token: French answers to other questions become likelier."""
    questions, answers = zip(*FRENCH[:3], strict=True)
    system = "You speak French. Answer in French only."
    vector = 2 * from_system_prompt(embedded, system, questions, [15], answers)[15]
    others = [mn.Example(question, question, answer) for question, answer in FRENCH[3:]]
    before = np.mean([reference(embedded, e)[0] for e in others])

    def gain(push):
        return np.mean([reference(embedded, e, push)[0] for e in others]) - before

    assert gain(vector) > 0.15
    assert gain(-vector) < 0
    assert gain(random_like(vector, (0,))) < gain(vector) / 2


# -------------------------------------------------------------------------------- bad input


def test_bad_prompts_are_one_clear_line(tiny_model):
    def refused(match, system=SYSTEM, prompts=QUESTIONS, layers="all"):
        with pytest.raises(mn.InputError, match=match) as error:
            from_system_prompt(tiny_model, system, prompts, layers)
        assert "\n" not in str(error.value)

    refused("the system prompt is empty", system="  ")
    refused("the system prompt is empty", system=None)
    refused("prompts: the list is empty", prompts=[])
    refused("prompts: a list was expected", prompts="What?")
    refused("prompt 1 is empty", prompts=["What?", ""])
    refused('layers must be "all" or a list of integers, not 1', layers=1)
    refused('layers must be "all" or a list of integers', layers=[0.5])
    refused("prompt 0: .* do not fit the model's context of 1024", prompts=["word " * 1200])
    refused("prompt 0: .* do not fit the model's context of 1024", system="word " * 1200)
    refused(
        "has a system message of its own",
        prompts=[[{"role": "system", "content": "Be"}, *chat("a")]],
    )
    refused("the model has layers 0 to 3", layers=[4])
    with pytest.raises(mn.InputError, match=r"one to each of 3 prompts was expected.* found 1"):
        from_system_prompt(tiny_model, SYSTEM, QUESTIONS, "all", ["yes", "", ""])
    with pytest.raises(mn.InputError, match=r"prompt 1: .* do not fit the model's context of 1024"):
        from_system_prompt(tiny_model, SYSTEM, QUESTIONS, "all", ["a", "word " * 1200, "b"])


def test_templates_without_a_place_for_it_say_so(tiny_model):
    tokenizer, before = tiny_model.tokenizer, tiny_model.tokenizer.chat_template
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    )
    silent = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    try:
        tokenizer.chat_template = None
        with pytest.raises(mn.InputError, match="no chat template, and so no place"):
            from_system_prompt(tiny_model, SYSTEM, QUESTIONS)
        for template in (refusing + before, silent):
            tokenizer.chat_template = template
            with pytest.raises(mn.InputError, match="takes no system message") as error:
                from_system_prompt(tiny_model, SYSTEM, QUESTIONS)
            assert "\n" not in str(error.value)
    finally:
        tokenizer.chat_template = before


def test_bad_comparisons_are_one_clear_line(tiny_model, demo_rows):
    def refused(match, corpus=demo_rows[:8], system=SYSTEM, **options):
        with pytest.raises(mn.InputError, match=match) as error:
            zero_token_prompt(tiny_model, corpus, system, progress=False, **options)
        assert "\n" not in str(error.value)

    refused("doses must be finite multiples", doses=())
    refused("doses must be finite multiples", doses=(1, float("nan")))
    refused("doses must be finite multiples", doses=(0,))
    refused('goal must be "effect"', goal="best")
    refused("needs the system prompt's text", system=None)
    refused('target must be "contrast"', target="style")
    refused("cannot be parted into two halves", corpus=demo_rows[:3])
    refused("the model has layers 0 to 3", layers=[7])
    vectors = {1: mn.SteeringVector({1: np.ones(32)})}
    refused("no vector was given for layers \\[2\\]", vectors=vectors, layers=[2])
    refused("doses must be finite multiples", doses=["a"])
    refused("doses must be finite multiples", doses=2)
    refused('layers must be "all" or a list of integers, not 1', layers=1)
    refused('layers must be "all" or a list of integers, not 1', layers=1, vectors=vectors)
    refused("vectors must be a mapping of layers to vectors", vectors=vectors[1])
    refused("layer 2: .* found one of blocks \\[1\\]", vectors={2: vectors[1]})
    both = mn.SteeringVector({1: np.ones(32), 2: np.ones(32)})
    refused("layer 1: .* found one of blocks \\[1, 2\\]", vectors={1: both})
    refused("layer 1: .* found a ndarray", vectors={1: np.ones(32)})
    for seed in (-1, 1.5, "a"):
        refused("seed must be a whole number of at least 0", seed=seed)
    with pytest.raises(mn.InputError, match="none of 2 problems has both"):
        from_successes(tiny_model, answers_of(demo_rows, [[True], [False]]))


@pytest.mark.parametrize(
    ("neutral", "said"),
    [
        ([], "neutral texts: the list is empty"),
        ("Bread is baked.", "neutral texts: a list was expected"),
        (3, "neutral texts: a list of texts was expected"),
        ([""], "neutral text 0 must be a sentence, not ''"),
        (["Bread is baked.", " "], "neutral text 1 must be a sentence"),
        ([3], "neutral text 0 must be a sentence, not 3"),
        (["\ud800"], "neutral text 0 must be a sentence"),
        (["word " * 1200], "neutral text 0: .* do not fit the model's context of 1024"),
    ],
)
def test_neutral_sentences_are_refused_before_anything_is_measured(
    tiny_model, demo_rows, tmp_path, neutral, said
):
    with pytest.raises(mn.InputError, match=said) as error:
        zero_token_prompt(
            tiny_model, demo_rows[:8], SYSTEM, neutral=neutral, store=tmp_path / "s", progress=False
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s").exists()


def test_a_neutral_sentence_must_fit_with_the_system_prompt(tiny_model, demo_rows):
    """Alone it does: without the text prompt it is taken."""
    n = len(tiny_model.tokenizer("word " * 100)["input_ids"]) / 100
    long = "word " * int(940 / n)
    vectors = {1: mn.SteeringVector({1: np.ones(32)})}
    options = {"vectors": vectors, "neutral": [long], "target": "contrast", "progress": False}
    found = zero_token_prompt(tiny_model, demo_rows[:8], **options)
    assert np.isfinite(found.table["kl"]).all()
    with pytest.raises(mn.InputError, match=r"neutral text 0: .* the system prompt among them"):
        zero_token_prompt(tiny_model, demo_rows[:8], "Be kind. " * 60, **options)


def test_seeds_of_tables_are_whole_numbers():
    samples = pd.DataFrame(
        {"id": ["a", "b"], "category": None, "n": 1, "c": [0, 1], "logprob": np.nan}
    )
    for seed in (-1, 1.5, "a"):
        with pytest.raises(mn.InputError, match="seed must be a whole number of at least 0"):
            scores(samples, 1, seed=seed)
        with pytest.raises(mn.InputError, match="seed must be a whole number of at least 0"):
            paired_difference(samples, samples, seed=seed)
