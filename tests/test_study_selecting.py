"""Every strategy and format through a study, and what a recipe keeps."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mnskills_viz as mn

STRATEGIES = (
    "random",
    "top",
    "weakness",
    "d_optimal",
    "k_center",
    "facility_location",
    "category",
    "text_diversity",
    "influence",
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("unit", ["rows", "tokens"])
def test_every_strategy_keeps_the_budget_and_replays(copied_study, strategy, unit):
    budget = 12 if unit == "rows" else 300
    chosen = copied_study.select(strategy, budget, "pca-1", unit=unit)
    pool = copied_study.pool
    assert len(set(chosen.receipts["id"])) == len(chosen) > 3
    assert [pool[int(i)].id for i in chosen.indices] == chosen.receipts["id"].tolist()
    if unit == "rows":
        assert len(chosen) == 12
    else:
        spent = copied_study.activations.n_response[copied_study.pool_rows][chosen.indices]
        assert 0.8 * budget < spent.sum() <= budget
    again = mn.Study.open(copied_study.path).replay(
        copied_study.path / "selections" / strategy / "recipe.json"
    )
    assert again.receipts["id"].tolist() == chosen.receipts["id"].tolist()


def test_response_tokens_are_those_of_the_tokenizer(tiny_study):
    tokenizer = tiny_study.model.tokenizer
    for row in (0, 7, 50):
        response = tiny_study.corpus[row].response
        n = len(tokenizer(response, add_special_tokens=False)["input_ids"])
        assert abs(int(tiny_study.activations.n_response[row]) - n) <= 1  # a token at the border


def test_weakness_is_measured_on_the_prompts_about_the_pools_mean(tiny_study):
    model, basis = tiny_study.model, tiny_study.basis("pca-1")
    prompts = mn.collect(model, tiny_study.corpus, layers=[1], tokens="prompt", progress=False)
    z = basis.transform(prompts.matrix(1))
    z = z - z[tiny_study.pool_rows].mean(axis=0)
    ruler = tiny_study.ruler("pca-1")
    np.testing.assert_allclose(ruler.probe, z[tiny_study.probe_rows], atol=0.01)
    np.testing.assert_allclose(ruler.scale, z[tiny_study.pool_rows].std(axis=0), rtol=0.01)
    content = tiny_study.ruler("pca-1", "content")
    assert np.abs(content.probe - ruler.probe).max() > 0.1


def test_a_row_that_a_test_set_holds_is_left_out_and_said(tiny_folder, demo_rows, tmp_path):
    leaked = demo_rows[0]
    test = [{"id": "t-0", "prompt": leaked.prompt, "response": leaked.response}]
    study = mn.Study.create(
        tmp_path / "s",
        model=str(tiny_folder),
        corpus=demo_rows,
        test=mn.load_corpus(test),
        dtype="float32",
    )
    assert study.contamination()["id"].tolist() == [leaked.id]
    study.collect(layers=[1], progress=False)
    study.fit("pca", layer=1, n_axes=4)
    chosen = study.select("random", len(study.pool_rows) - 1)
    assert leaked.id not in set(chosen.receipts["id"])
    assert chosen.recipe["exclude"] == [leaked.id]
    assert any("held-out set" in note for note in chosen.recipe["notes"])
    kept = study.select("random", len(study.pool_rows), decontaminate=False, name="all")
    assert leaked.id in set(kept.receipts["id"])


def test_rows_without_a_response_are_left_out_and_said(tiny_folder, demo_rows, tmp_path):
    mute = replace(demo_rows[1], response="")
    corpus = mn.Corpus([demo_rows[0], mute, *demo_rows[2:]], "demo")
    study = mn.Study.create(tmp_path / "s", model=str(tiny_folder), corpus=corpus, dtype="float32")
    study.collect(layers=[1], progress=False)
    study.fit("pca", layer=1, n_axes=4)
    chosen = study.select("random", len(study.pool_rows) - 1)
    assert mute.id not in set(chosen.receipts["id"])
    assert any("no response to learn from" in note for note in chosen.recipe["notes"])
    with pytest.raises(mn.InputError, match="cannot be taken: they have no response"):
        study.select("random", 3, include=[mute.id])
    with pytest.raises(mn.InputError, match="expected a list of ids, not 'one'"):
        study.select("random", 3, exclude="one")


def test_lists_may_be_generators(copied_study):
    ids = copied_study.pool.ids
    lists = {"include": (i for i in ids[4:6]), "exclude": (i for i in ids[:2])}
    chosen = copied_study.select("random", 30, "pca-1", **lists).receipts["id"].tolist()
    assert chosen[:2] == ids[4:6]
    assert not {*ids[:2]} & {*chosen}


def test_a_pole_has_the_same_weakness_in_every_selection(copied_study):
    table = copied_study.weakness("pca-1").set_index(["axis", "pole"])["shrunk"]
    for strategy in ("random", "k_center", "weakness"):
        receipts = copied_study.select(strategy, 12, "pca-1").receipts
        for row in receipts.itertuples():
            assert row.weakness == pytest.approx(table[row.axis, row.pole])


def test_test_rows_given_leave_pool_and_probe(tiny_folder, demo_rows, tmp_path):
    test = mn.Corpus([demo_rows[3], demo_rows[-1]], "mine")
    study = mn.Study.create(tmp_path / "s", model=str(tiny_folder), corpus=demo_rows, test=test)
    assert study.test.ids == test.ids
    assert not set(test.ids) & set(study.corpus.ids)
    assert len(study.corpus) == len(demo_rows) - 2
    assert mn.Study.open(study.path).test.hash == study.test.hash


def test_utility_weighs_the_quotas(copied_study):
    with_utility = copied_study.select("weakness", 10, "pca-1", utility=True)
    ruler, utility = copied_study.ruler("pca-1"), copied_study.results("proxy", "pca-1")["utility"]
    plain = mn.select(
        ruler.pool,
        "weakness",
        10,
        ids=copied_study.pool.ids,
        scale=ruler.scale,
        probe=ruler.probe,
        error=copied_study.probe_errors(),
        utility=utility,
        texts=[f"{e.prompt_text}\n{e.response}" for e in copied_study.pool],
    )
    assert with_utility.receipts["id"].tolist() == plain.receipts["id"].tolist()
    again = copied_study.replay(with_utility.recipe)
    assert again.receipts["id"].tolist() == with_utility.receipts["id"].tolist()


@pytest.mark.parametrize("form", ["trl", "openai", "axolotl", "llama-factory", "hf"])
def test_every_format_is_exported_and_passes_its_preflight(copied_study, form):
    copied_study.select("random", 12, "pca-1")
    folder = copied_study.export("random", form)
    findings = copied_study.preflight(folder.name)
    assert findings.empty, findings.to_string()
    if form == "trl":
        (folder / "train.jsonl").write_text(json.dumps({"prompt": []}) + "\n")
        assert not copied_study.preflight(folder.name).empty


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": "left"}, "side must be"),
        ({"unit": "bytes"}, "unit must be"),
        ({"errors": "guess"}, "errors must be"),
        ({"strategy": "weakness", "errors": "verifier"}, "evaluate"),
        ({"strategy": "best"}, "unknown strategy 'best'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(copied_study, options, words):
    before = copied_study.selection_names
    with pytest.raises(mn.InputError, match=words) as caught:
        copied_study.select(**{"strategy": "random", "budget": 5, "basis": "pca-1"} | options)
    assert "\n" not in str(caught.value)
    assert copied_study.selection_names == before
