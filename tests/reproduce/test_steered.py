"""Steering at inference: what is chosen on one half says nothing of the other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import mnskills_viz as mn
from benchmarks.reproduce.steered import PROMPT, arms, best_by, candidates, measure_steering, parted
from mnskills_viz.corpus import Corpus, Example
from mnskills_viz.corpus.splits import halves
from mnskills_viz.evaluation import run

OPTIONS = {"axes": 2, "doses": (3.0, 0.5), "n": 4, "max_new_tokens": 1, "progress": False}
SAMPLING = {"n": 4, "temperature": 0.8, "seed": 0, "max_new_tokens": 1, "logprobs": False}


@pytest.fixture(scope="module")
def study(tiny_study, tmp_path_factory):
    """A copy: utilities are measured here on other examples."""
    folder = tmp_path_factory.mktemp("steered") / "study"
    shutil.copytree(tiny_study.path, folder)
    return mn.Study.open(folder)


@pytest.fixture(scope="module")
def problems(study):
    """Problems whose answer is what random weights say at the first of the samples."""
    asked = mn.load_corpus("demo").split("test")[:16]
    drawn = {"max_new_tokens": 1, "temperature": 0.8, "seed": 0}
    answers: dict[str, str] = {}
    for half in halves(asked):  # a sample's random numbers go by its place
        texts = mn.generate(study.model, [e.messages for e in half], **drawn)
        answers |= {e.id: text.strip() or "?" for e, (text,) in zip(half, texts, strict=True)}
    return Corpus(Example(e.id, e.prompt, answer=answers[e.id]) for e in asked)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def found(study, problems, store):
    return measure_steering(study, "pca-1", problems, store=store, **OPTIONS)


def of_kind(found, kind):
    return [one for one in found["reported"] if one["kind"] == kind]


def right(study, corpus, vector=None, **options):
    """Right answers to each problem, sampled in one arm alone and kept nowhere."""
    table = mn.graded(
        study.model,
        corpus,
        steering=vector,
        progress=False,
        **SAMPLING | options,
    )
    return table.set_index("id")["c"]


def test_every_candidate_is_scored_on_the_choosing_half_by_sampling_that_vector(
    study, problems, found
):
    choosing, _ = halves(problems)
    assert len(found["candidates"]) == 4
    for one in found["candidates"]:
        basis = study.basis("pca-1")
        vector = mn.SteeringVector.from_axis(basis, one["axis"], dose=one["dose"])
        c = right(study, choosing, vector)
        assert one["pass@1"] == pytest.approx(c.mean() / 4)
        assert one["pass@4"] == pytest.approx((c > 0).mean())  # any of all samples
    assert any(one["pass@1"] for one in found["candidates"])


def test_every_arm_is_reported_on_the_other_half_in_the_order_of_its_ids(study, problems, found):
    _, reporting = halves(problems)
    assert found["ids"] == reporting.ids
    prompted = Corpus(
        replace(e, prompt=[{"role": "system", "content": PROMPT}, *e.messages]) for e in reporting
    )
    expected = {
        "unsteered": right(study, reporting),
        "text prompt": right(study, prompted),
        "temperature 1.2": right(study, reporting, temperature=1.2),
    }
    for one in found["candidates"]:
        vector = mn.SteeringVector.from_axis(study.basis("pca-1"), one["axis"], dose=one["dose"])
        expected[one["name"]] = right(study, reporting, vector)
    checked = [one for one in found["reported"] if one["kind"] != "random"]
    assert len(checked) >= 4
    for one in checked:
        assert one["c"] == expected[one["name"]].loc[found["ids"]].tolist()
    assert len({tuple(one["c"]) for one in checked}) > 1  # arms that are all alike show nothing


def test_candidates_are_the_axes_of_largest_utility_at_their_helpful_poles(study, found):
    utility = study.proxy("pca-1", progress=False).set_index("axis")["utility"]
    by_size = sorted(utility.index, key=lambda axis: -abs(utility[axis]))
    assert [one["axis"] for one in found["candidates"]] == np.repeat(by_size[:2], 2).tolist()
    for one in found["candidates"]:
        assert one["dose"] * utility[one["axis"]] > 0
        assert one["name"] == f"pca-1 {one['axis']} {one['dose']:+}"
    assert [abs(one["dose"]) for one in found["candidates"]] == [0.5, 3, 0.5, 3]


def test_answers_of_the_reporting_half_have_no_say_in_the_choice(study, problems, found, tmp_path):
    _, reporting = halves(problems)
    others = Corpus(
        replace(e, answer="no such answer") if e.id in set(reporting.ids) else e for e in problems
    )
    other = measure_steering(study, "pca-1", others, store=tmp_path, **OPTIONS)
    assert other["candidates"] == found["candidates"]
    assert other["chosen"] == found["chosen"]
    assert any(found["reported"][0]["c"])
    assert not any(any(one["c"]) for one in other["reported"])


def test_the_best_of_the_candidates_are_reported_with_a_random_twin_of_each(found):
    for metric, name in found["chosen"].items():
        by_name = {one["name"]: one for one in found["candidates"]}
        assert by_name[name][metric] == max(one[metric] for one in found["candidates"])
    axes = {one["name"] for one in of_kind(found, "axis")}
    assert axes == set(found["chosen"].values())
    assert len(of_kind(found, "random")) == len(axes)
    kinds = [one["kind"] for one in found["reported"]]
    assert kinds[:3] == ["unsteered", "text prompt", "temperature"]


def test_a_random_twin_has_the_norm_of_its_vector_and_another_direction(study, problems):
    tried = candidates(study, "pca-1", 2, (1.0, 2.0), progress=False)
    made = [arm for arm in arms(problems, [tried[1], tried[2]], PROMPT, seed=0) if arm.vector]
    assert [arm.kind for arm in made] == ["axis", "random"] * 2
    for axis, control in zip(made[::2], made[1::2], strict=True):
        (v,), (r,) = axis.vector.directions.values(), control.vector.directions.values()
        assert np.linalg.norm(r) == pytest.approx(np.linalg.norm(v), rel=1e-5)
        assert abs(v @ r) < 0.9 * np.linalg.norm(v) ** 2
    assert made[1].vector.fingerprint != made[3].vector.fingerprint


def test_one_that_is_best_by_both_metrics_is_reported_once(study, problems):
    tried = candidates(study, "pca-1", 1, (1.0,), progress=False)
    assert [a.kind for a in arms(problems, [*tried, *tried], PROMPT, 0)].count("axis") == 1


@pytest.mark.parametrize(
    ("scored", "best"),
    [
        ([(0.1, 0.2), (0.3, 0.1)], {"pass@1": 1, "pass@8": 0}),
        ([(0.1, 0.5), (0.2, 0.5)], {"pass@1": 1, "pass@8": 1}),  # the other metric decides
        ([(0.0, 0.0), (0.0, 0.0)], {"pass@1": 0, "pass@8": 0}),  # the larger utility
    ],
)
def test_ties_go_by_the_other_metric_then_to_the_first(scored, best):
    named = [{"pass@1": one, "pass@8": eight} for one, eight in scored]
    assert {metric: best_by(named, metric) for metric in best} == best


def test_a_problem_seen_before_is_not_reported_on(study, problems):
    choosing, reporting = halves(problems)
    probe = study.corpus[int(study.probe_rows[0])]
    again = {reporting[0].id: choosing[0].prompt, reporting[1].id: probe.prompt}
    repeated = Corpus(replace(e, prompt=again.get(e.id, e.prompt)) for e in problems)
    left, kept, left_out = parted(study, repeated)
    assert left.ids == choosing.ids
    assert kept.ids == reporting.ids[2:]
    assert left_out == 2
    with pytest.raises(mn.InputError, match="0 of 8 problems to report on"):
        parted(study, study.corpus.take(study.probe_rows))


def test_a_run_goes_on_where_it_was_stopped_and_comes_out_the_same(
    study, problems, store, found, monkeypatch
):
    folders = sorted(store.glob("*/*/*/samples.jsonl"))
    assert len(folders) == len(found["candidates"]) + len(found["reported"])
    whole = folders[-1].read_bytes()
    folders[-1].write_bytes(whole[: len(whole) // 2])  # killed in the middle of a line
    for grades in folders[-1].parent.glob("grades*"):
        grades.unlink()
    shutil.rmtree(folders[0].parent)
    complete, calls = run.complete, []

    def counted(model, prompts, todo, *args):
        calls.append(len(todo))
        return complete(model, prompts, todo, *args)

    monkeypatch.setattr(run, "complete", counted)
    again = measure_steering(study, "pca-1", problems, store=store, **OPTIONS)
    assert again == found
    assert len(calls) == 2
    assert sum(calls) < 2 * 8 * 4  # what was there is not sampled again
    measure_steering(study, "pca-1", problems, store=store, **OPTIONS)
    assert len(calls) == 2


def test_results_are_json_without_a_text_of_the_model_or_of_a_problem(problems, found):
    text = json.dumps(found)
    assert json.loads(text) == found
    assert not any(e.prompt_text in text for e in problems)
    assert found["split"] == {"chosen_on": 8, "reported_on": 8, "left_out": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 1.2}, "below 1.2, that of the control"),
        ({"doses": ()}, "doses above 0"),
        ({"doses": (1.0, -1.0)}, "doses above 0"),
        ({"axes": 0}, "at least 1"),
        ({"prompt": " "}, "system prompt is empty"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_sampled(
    study, problems, tmp_path, options, said
):
    with pytest.raises(mn.InputError, match=said):
        measure_steering(study, "pca-1", problems, store=tmp_path / "s", **OPTIONS | options)
    assert not (tmp_path / "s").exists()
