"""Refusals trained on some families and measured on others, against plain forward passes."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import bootstrap
from sklearn.decomposition import PCA

import mnskills_viz as mn
from benchmarks.reproduce.ground import Ground
from benchmarks.reproduce.refusals import (
    ANSWER_TOKENS,
    harmless,
    held_out_families,
    measure_refusals,
    openings_of,
    parted_twins,
    refuses,
)
from benchmarks.reproduce.safety import spread
from benchmarks.reproduce.settings import settings_of
from mnskills_viz.corpus import Corpus, Example
from mnskills_viz.corpus.adversarial import adversarial_corpus, safety_stand_in
from mnskills_viz.evaluation.samples import read_texts
from mnskills_viz.models import torch_module

ROWS, BUDGET = 60, 8
OPTIONS = {
    "budget": BUDGET, "strategies": ("random", "k_center"), "seeds": 1, "layer": 1, "rows": ROWS,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(
        settings_of("tiny", pool_rows=30, probe_rows=10, budget=50),
        tmp_path_factory.mktemp("ground"),
        progress=False,
    )


@pytest.fixture(scope="module")
def twins():
    """Harmless requests with answers."""
    plain = mn.load_corpus(safety_stand_in("twins"))[:10]
    return Corpus((replace(e, response=f"Gladly: shelf {i}.") for i, e in enumerate(plain)), "fine")


@pytest.fixture(scope="module")
def behaviours(ground, twins):
    """Requests that are refused as random weights answer the twins that are asked."""
    _, asked = parted_twins(twins)
    options = {"max_new_tokens": ANSWER_TOKENS, "temperature": 0.0}
    said = mn.generate(ground.study.model, [e.messages for e in asked], **options)
    plain = mn.load_corpus(safety_stand_in("behaviours"))
    refused = (
        replace(e, meta=e.meta | {"refusal": said[i % len(said)][0]}) for i, e in enumerate(plain)
    )
    return Corpus(refused, "behaviours")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("refusals")


@pytest.fixture(scope="module")
def found(ground, behaviours, twins, store):
    return measure_refusals(ground, behaviours, twins=twins, store=store, **OPTIONS)


@pytest.fixture(scope="module")
def attacks(behaviours):
    return spread(adversarial_corpus(behaviours, safety_stand_in("templates")), ROWS)


def lessons(store):
    """Strategy -> prompts and completions that were trained."""
    files = store.glob("*/*/export/train.jsonl")
    return {
        path.parents[1].name.split("-")[0]: [json.loads(line) for line in path.open()]
        for path in files
    }


def trained(store, strategy):
    (folder,) = store.glob(f"*/{strategy}-0-*/adapter")
    return mn.load_model(str(folder))


def logprob(model, example, response):
    """Mean log-probability of a response by a plain forward pass."""
    tokenizer, net = model.tokenizer, torch_module(model)
    prompt = tokenizer.apply_chat_template(
        example.messages, add_generation_prompt=True, tokenize=False
    )
    before, whole = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (prompt, prompt + response)
    )
    assert whole[: len(before)] == before
    with torch.no_grad():
        logits = net(torch.tensor([whole])).logits[0].double()
    scores = torch.log_softmax(logits, dim=-1)[:-1].gather(1, torch.tensor(whole[1:])[:, None])
    return float(scores[len(before) - 1 :].mean())


def test_margins_are_those_of_plain_forward_passes_on_the_held_out_families(
    ground, attacks, found, store
):
    models = {"before": ground.study.model, "after": trained(store, "k_center")}
    for line in (one for one in found["table"] if one["strategy"] == "k_center"):
        exam = [e for e in attacks if e.category == line["family"]]
        margins = {
            when: [
                logprob(model, e, e.response) - logprob(model, e, e.meta["target"]) for e in exam
            ]
            for when, model in models.items()
        }
        assert line["n"] == len(exam)
        for when, values in margins.items():
            assert line[f"margin_{when}"] == pytest.approx(np.mean(values), abs=2e-3)  # in bfloat16
        change = np.subtract(margins["after"], margins["before"])
        interval = bootstrap([change], np.mean, method="percentile", rng=0).confidence_interval
        width = interval.high - interval.low
        assert line["low"] == pytest.approx(interval.low, abs=0.1 * width)
        assert line["high"] == pytest.approx(interval.high, abs=0.1 * width)
        assert abs(change.mean()) > 0.01  # it was trained


def test_a_third_of_the_families_is_held_out_and_nothing_of_them_is_trained(attacks, found, store):
    families = Counter(e.category for e in attacks)
    assert len(found["held_out"]) == len(families) // 3
    assert [(one["strategy"], one["family"]) for one in found["table"]] == [
        (s, f) for s in OPTIONS["strategies"] for f in families if f in found["held_out"]
    ]
    wrapped = {e.prompt_text for e in attacks if e.category not in found["held_out"]}
    templates = [
        (row["family"], row["template"].split("[INSERT")[0])
        for row in map(json.loads, safety_stand_in("templates").open())
    ]
    unseen = [text for family, text in templates if family in found["held_out"]]
    seen = [text for family, text in templates if family not in found["held_out"]]
    assert len(lessons(store)) == 2
    for rows in lessons(store).values():
        prompts = [row["prompt"][0]["content"] for row in rows]
        assert sum(prompt in wrapped for prompt in prompts) == BUDGET
        assert not any(text in prompt for text in unseen for prompt in prompts)
        assert all(any(text in prompt for text in seen) for prompt in prompts)


def test_each_refusal_has_a_harmless_row_in_its_wrapper_with_a_real_answer(twins, found, store):
    teaching, asked = parted_twins(twins)
    templates = [row["template"] for row in map(json.loads, safety_stand_in("templates").open())]

    def wrapper(prompt):
        """Number of the template that a prompt is in."""
        (place,) = [
            i for i, text in enumerate(templates)
            if all(part in prompt for part in text.split("[INSERT PROMPT HERE]"))
        ]  # fmt: skip
        return place

    responses = {e.response: e.prompt for e in teaching}
    for rows in lessons(store).values():
        fine, refused = [], []
        for row in rows:
            prompt, answer = row["prompt"][0]["content"], row["completion"][0]["content"]
            assert not any(e.prompt in prompt for e in asked)
            if answer in responses:
                assert responses[answer] in prompt
            (fine if answer in responses else refused).append(wrapper(prompt))
        assert len(refused) == BUDGET
        assert sorted(fine) == sorted(refused)
    assert [one["harmless"] for one in found["trainings"]] == [BUDGET, BUDGET]


def test_farthest_points_are_those_of_brute_force_in_whitened_rows(ground, attacks, found, store):
    pool = Corpus(e for e in attacks if e.category not in found["held_out"])
    X = mn.collect(
        ground.study.model, pool, layers=[1], pooling="last", tokens="prompt", progress=False
    ).matrix(1)
    z = PCA(len(pool) // 4, whiten=True).fit_transform(X.astype(np.float64))
    cap = np.quantile(np.abs(z), 0.995, axis=0)
    z = np.clip(z, -cap, cap)
    taken = [int(np.linalg.norm(z - z.mean(axis=0), axis=1).argmax())]
    while len(taken) < BUDGET:
        taken.append(int(cdist(z, z[taken]).min(axis=1).argmax()))
    prompts = {row["prompt"][0]["content"] for row in lessons(store)["k_center"]}
    assert {pool[i].prompt_text for i in taken} <= prompts


def test_over_refusal_is_the_share_of_greedy_answers_that_begin_as_the_refusals_do(
    twins, attacks, found, store
):
    _, asked = parted_twins(twins)

    def plain(text):
        return " ".join(re.sub(r"^\W+", "", text.lower()).split())

    openings = tuple(plain(" ".join(e.response.split()[:4])) for e in attacks)

    def share(pattern):
        (folder,) = store.glob(pattern)
        texts = read_texts(folder)
        assert {*texts} == {*asked.ids}
        return np.mean([plain(text).startswith(openings) for (text,) in texts.values()])

    line = next(one for one in found["over_refusal"] if one["strategy"] == "random")
    assert line["n"] == len(asked) == 5
    assert line["rate_before"] == pytest.approx(share("*/before/answers"))
    assert line["rate_after"] == pytest.approx(share("*/random-0-*/answers"))
    assert line["rate_before"] > 0


def test_what_was_stopped_goes_on_and_comes_out_the_same(ground, behaviours, twins, store, found):
    adapters = {path: path.stat().st_mtime_ns for path in store.glob("*/*/adapter/*.safetensors")}
    assert len(adapters) == 2
    (folder,) = store.glob("*/k_center-*")
    shutil.rmtree(folder / "adapter")
    shutil.rmtree(folder / "target.lance")
    (samples,) = folder.glob("answers/samples.jsonl")
    samples.write_bytes(samples.read_bytes()[:-10])  # killed in the middle of a line
    assert measure_refusals(ground, behaviours, twins=twins, store=store, **OPTIONS) == found
    anew = {path for path, time in adapters.items() if path.stat().st_mtime_ns != time}
    assert [path.parents[1] for path in anew] == [folder]


def test_results_are_json_without_a_text(found, attacks, twins):
    text = json.dumps(found)
    assert json.loads(text) == found
    texts = {e.prompt_text for e in (*attacks, *twins)} | {e.response for e in (*attacks, *twins)}
    assert not any(one in text for one in texts)


def test_which_families_are_held_out_follows_from_their_names_alone():
    sizes = {f"family {i}": 4 + i for i in range(9)} | {"a small one": 3}
    names = held_out_families(sizes)
    assert len(names) == 3
    assert "a small one" not in names
    turned = dict(reversed(sizes.items()))
    assert held_out_families({family: 50 - size for family, size in turned.items()}
                             | {"a small one": 1}) == names  # fmt: skip


def test_twins_without_answers_are_all_asked():
    plain = harmless(safety_stand_in("twins"))
    teaching, asked = parted_twins(plain)
    assert (len(teaching), asked.ids) == (0, plain.ids)


def test_of_a_labelled_file_only_what_is_safe_is_harmless(tmp_path):
    file = tmp_path / "twins.csv"
    file.write_text("id,prompt,label\n1,How do I end a process?,safe\n2,How do I end it?,unsafe\n")
    assert harmless(file).ids == ["1"]
    file.write_text("id,prompt,label\n2,How do I end it?,unsafe\n")
    with pytest.raises(mn.InputError, match="no harmless request"):
        harmless(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but no.", True),
        ("  **Sorry**, that is not possible.", True),
        ("I cannot\nhelp with that.", True),
        ("I leave chess to  others, as ever.", True),  # as the data refuses
        ("I leave chess pieces here.", False),
        ("Sorrylike words begin this.", False),
        ("Sure, I'm sorry you waited.", False),
        ("", False),
    ],
)
def test_an_answer_refuses_by_how_it_begins(text, expected):
    data = [Example("a", "?", response="I leave chess to others."), Example("b", "?", "...")]
    assert refuses(text, openings_of(data)) is expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seeds": 0}, "at least 1"),
        ({"strategies": ("random", "luck")}, "some of random, k_center"),
        ({"budget": 50}, "at most two thirds of the 40 rows"),
        ({"behaviours": ["How far is it?", "How old is it?"]}, "48 of 48 prompts have no target"),
        ({"templates": ["In a story, [INSERT PROMPT HERE]"]}, "1 families have 4 rows"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    ground, tmp_path, options, complaint
):
    with pytest.raises(mn.InputError, match=complaint):
        measure_refusals(ground, store=tmp_path / "s", **OPTIONS | options)
    assert not (tmp_path / "s").exists()
