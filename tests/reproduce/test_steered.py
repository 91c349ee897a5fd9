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

OPTIONS = {
    "axes": 2, "doses": (3.0, 0.5), "twins": 2, "n": 4, "max_new_tokens": 1, "progress": False
}  # fmt: skip
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


def test_chosen_axes_are_reported_in_every_dose_and_only_they(found):
    by_name = {one["name"]: one for one in found["candidates"]}
    for metric, name in found["chosen"].items():
        assert by_name[name][metric] == max(one[metric] for one in found["candidates"])
    chosen = {*found["chosen"].values()}
    axes = {by_name[name]["axis"] for name in chosen}
    assert {one["name"] for one in of_kind(found, "axis")} == chosen
    others = {name for name, one in by_name.items() if one["axis"] in axes} - chosen
    assert {one["name"] for one in of_kind(found, "axis dose")} == others
    assert others
    kinds = [one["kind"] for one in found["reported"]]
    assert kinds[:3] == ["unsteered", "text prompt", "temperature"]


def test_random_twins_stand_beside_the_vector_chosen_by_the_larger_k_alone(found):
    name = found["chosen"]["pass@4"]
    assert [one["name"] for one in of_kind(found, "random")] == [
        f"random {number}, as long as {name}" for number in (1, 2)
    ]


def test_random_twins_have_the_norm_of_their_vector_and_directions_of_their_own(study, problems):
    tried = candidates(study, "pca-1", 2, (1.0, 2.0), progress=False)
    made = arms(problems, tried, [tried[1], tried[2]], PROMPT, twins=4, seed=0)
    (v,) = tried[2].vector.directions.values()
    controls = [arm.vector.directions for arm in made if arm.kind == "random"]
    R = np.array([direction for (direction,) in (one.values() for one in controls)])
    np.testing.assert_allclose(np.linalg.norm(R, axis=1), np.linalg.norm(v), rtol=1e-5)
    cosines = np.corrcoef(np.vstack([v, R]))
    assert np.abs(cosines[np.triu_indices(5, 1)]).max() < 0.9
    assert len(controls) == 4
    assert tried[2].name != tried[1].name


def test_no_more_than_twelve_arms_are_reported_by_default(study, problems):
    tried = candidates(study, "pca-1", 3, (1.0, 2.0), progress=False)
    assert len(arms(problems, tried, [tried[0], tried[2]], PROMPT, twins=5, seed=0)) == 12


def test_one_that_is_best_by_both_metrics_is_reported_once(study, problems):
    tried = candidates(study, "pca-1", 1, (1.0,), progress=False)
    made = arms(problems, tried, [*tried, *tried], PROMPT, twins=1, seed=0)
    assert [arm.kind for arm in made[3:]] == ["axis", "random"]


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
        ({"twins": 0}, "twins must be at least 1"),
        ({"prompt": " "}, "system prompt is empty"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_sampled(
    study, problems, tmp_path, options, said
):
    with pytest.raises(mn.InputError, match=said):
        measure_steering(study, "pca-1", problems, store=tmp_path / "s", **OPTIONS | options)
    assert not (tmp_path / "s").exists()
