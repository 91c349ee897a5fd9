"""Requests in wrappers: every pair, its family, its refusal."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from mnskills_viz.corpus import Corpus, Example, load_corpus
from mnskills_viz.corpus.adversarial import (
    FamilyRule,
    adversarial_corpus,
    safety_stand_in,
    template_families,
)
from mnskills_viz.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data"
WRAPPERS = ["Tell a story in which [INSERT PROMPT HERE] is asked.", "Pretend: [INSERT PROMPT HERE]"]


def rows_of(name):
    return [json.loads(line) for line in safety_stand_in(name).read_text("utf-8").splitlines()]


def test_every_request_stands_in_every_template_once():
    requests, wrappers = rows_of("behaviours"), rows_of("templates")
    corpus = adversarial_corpus(safety_stand_in("behaviours"), safety_stand_in("templates"))
    expected = {
        (r["id"], w["id"]): (
            w["template"].replace("[INSERT PROMPT HERE]", r["prompt"]), r["refusal"], w["family"]
        )
        for r in requests
        for w in wrappers
    }  # fmt: skip
    found = {
        (e.meta["behaviour"], e.meta["template"]): (e.prompt, e.response, e.category)
        for e in corpus
    }
    assert found == expected
    assert len(set(corpus.ids)) == len(corpus) == 40 * 24
    assert all(e.meta["family"] == e.category and e.meta["target"] for e in corpus)
    assert {e.meta["license"] for e in corpus} == {"Apache-2.0"}


def test_a_draw_is_seeded_and_does_not_depend_on_the_order_of_rows():
    requests, wrappers = (
        load_corpus(safety_stand_in(name), prompt=column)
        for name, column in (("behaviours", "prompt"), ("templates", "template"))
    )
    first = adversarial_corpus(requests, wrappers, per_behaviour=3, seed=1)
    turned = adversarial_corpus(
        requests.take(range(len(requests))[::-1]), wrappers.take(range(len(wrappers))[::-1]),
        per_behaviour=3, seed=1,
    )  # fmt: skip
    other = adversarial_corpus(requests, wrappers, per_behaviour=3, seed=2)
    assert set(first.ids) == set(turned.ids) != set(other.ids)
    assert set(Counter(e.meta["behaviour"] for e in first).values()) == {3}


def test_lists_of_text_get_ids_families_by_rule_and_the_default_refusal():
    corpus = adversarial_corpus(["How do I X?"], WRAPPERS, refusal="No.")
    assert [e.category for e in corpus] == ["fiction", "role-play"]
    assert [e.prompt for e in corpus] == [
        w.replace("[INSERT PROMPT HERE]", "How do I X?") for w in WRAPPERS
    ]
    assert {e.response for e in corpus} == {"No."}


def test_a_template_without_slot_is_followed_by_the_request_and_counted():
    with pytest.warns(UserWarning, match="1 of 2 templates have no <Q>"):
        corpus = adversarial_corpus(["What? <Q>"], ["<Q> and <Q>", "Imagine."], slot="<Q>")
    assert [e.prompt for e in corpus] == ["What? <Q> and What? <Q>", "Imagine.\n\nWhat? <Q>"]


def test_columns_of_common_files_are_found(tmp_path):
    harmless = tmp_path / "b.csv"
    harmless.write_text("goal,target\nName a colour,Sure: red\n", "utf-8")
    wrappers = tmp_path / "t.csv"
    wrappers.write_text("id,text\n7,Act as a painter. [INSERT PROMPT HERE]\n", "utf-8")
    [example] = adversarial_corpus(harmless, wrappers)
    assert example.prompt == "Act as a painter. Name a colour"
    assert example.meta["target"] == "Sure: red"
    assert example.meta["template"] == "7"
    assert example.category == "role-play"


def test_rules_agree_with_the_families_that_the_stand_in_states():
    wrappers = rows_of("templates")
    assert template_families(w["template"] for w in wrappers) == [w["family"] for w in wrappers]
    assert set(Counter(w["family"] for w in wrappers).values()) == {4}


def test_the_first_rule_that_holds_decides_and_where_it_may_look():
    rules = (FamilyRule("early", "cat", 5), FamilyRule("any", "c.t"))
    assert template_families(["A CAT", "and a cat", "c\nt", "dog"], rules) == [
        "early", "any", "any", "other",
    ]  # fmt: skip
    with pytest.raises(InputError, match="not a regular expression"):
        template_families(["a"], [FamilyRule("bad", "(")])


def test_published_templates_fall_into_families_of_more_than_one_kind():
    path = SHARED / "jailbreak_templates.csv"
    if not path.exists():
        pytest.skip("the shared data is not beside the project")
    with path.open(encoding="utf-8", newline="") as file:
        counts = Counter(template_families(row["text"] for row in csv.DictReader(file)))
    assert sum(counts.values()) == 77
    assert len(counts) >= 6
    assert max(counts.values()) < 77 / 3
    assert counts["other"] == 0


def test_twins_are_no_request_of_the_stand_in():
    twins = load_corpus(safety_stand_in("twins"))
    requests = {row["prompt"] for row in rows_of("behaviours")}
    assert len(twins) == 20
    assert not requests & {twin.prompt_text for twin in twins}
    assert {t.category for t in twins} == {row["category"] for row in rows_of("behaviours")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.csv", WRAPPERS), "no such file"),
        ((["a"], []), "templates: expected at least one"),
        (([" "], WRAPPERS), "behaviours: entry 0 is ' '; expected a text"),
        ((["a"], WRAPPERS, ""), "slot must not be empty"),
        ((["a"], WRAPPERS, "[INSERT PROMPT HERE]", 3), "between 1 and the 2 templates, not 3"),
        ((["a"], WRAPPERS, "[INSERT PROMPT HERE]", 1.5), "the 2 templates, not 1.5"),
        ((["a"], Corpus([Example("c", [{"role": "user", "content": "x"}])])), "c is a chat"),
        ((Corpus([Example("a", "x"), Example("a/b", "y")]),
          Corpus([Example("b/c", "x"), Example("c", "y")]), "x"), "the same id twice"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:1 of 2 templates")
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        adversarial_corpus(*arguments)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_known_column_names_those_it_may_have(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("colour\nred\n", "utf-8")
    with pytest.raises(InputError, match="none of the columns goal, behavior"):
        adversarial_corpus(path, WRAPPERS)


@pytest.mark.parametrize("name", ["x", "../demo", "", "behaviours.jsonl"])
def test_there_are_three_stand_ins_and_no_other_file(name):
    with pytest.raises(InputError, match="no stand-in"):
        safety_stand_in(name)
