"""What the panels show, beside what the study and the model themselves say."""

import json
import re
import threading
from collections import Counter

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.models import torch_module
from mnskills_viz.progress import listening
from mnskills_viz.steering.safe_band import safe_band
from mnskills_viz.widgets import panels
from mnskills_viz.widgets.dose_figures import dose_figure
from mnskills_viz.widgets.panels import steering
from mnskills_viz.widgets.panels.telling import each_pass

BASIS = "pca-1"
PROMPT = "What is 2 + 2?"


class Told:
    """Keeps what it is told; from call number `stop_at` on it stops the run."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[tuple[int, int]] = []
        self.stop_at = stop_at

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))
        if self.stop_at is not None and len(self.calls) >= self.stop_at:
            raise StoppedError


class StoppedError(Exception):
    pass


def hooks(study: mn.Study) -> int:
    return len(torch_module(study.model)._forward_pre_hooks)


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch):
    """Doses are measured on a few tokens only."""
    monkeypatch.setattr(steering, "DOSE_TOKENS", 3)
    monkeypatch.setattr(steering, "DOSES", (-1.0, 0.0, 1.0))


# ------------------------------------------------------------------------------------ steering


def test_a_run_shows_what_the_study_generates(copied_study):
    told = Told()
    with listening(told):
        shown = panels.steered(copied_study, BASIS, 1, 3.0, PROMPT, 6)
    table = copied_study.steer([PROMPT], BASIS, 1, 3.0, max_new_tokens=6).iloc[0]
    assert (shown["unsteered"], shown["steered"]) == (table["unsteered"], table["steered"])
    assert shown["python"] == "study.steer(['What is 2 + 2?'], 'pca-1', axis=1, dose=3)"
    assert not shown["busy"]
    json.dumps(shown, allow_nan=False)


def test_a_run_tells_of_every_token_of_both_texts(copied_study):
    told = Told()
    with listening(told):
        panels.steered(copied_study, BASIS, 1, 3.0, PROMPT, 6)
    done = [n for n, _ in told.calls]
    assert {total for _, total in told.calls} == {12}
    assert done == sorted(done)
    assert {0, 6} <= {*done} <= {*range(12)}
    tokenizer = copied_study.model.tokenizer
    kept = copied_study.steer([PROMPT], BASIS, 1, 3.0, max_new_tokens=6).iloc[0]
    most = sum(len(tokenizer(kept[text])["input_ids"]) for text in ("unsteered", "steered"))
    assert len(done) <= max(most, 12)


def test_pieces_put_together_are_the_texts(copied_study):
    shown = panels.steered(copied_study, BASIS, 0, 6.0, PROMPT, 8)
    for side in ("unsteered", "steered"):
        assert "".join(text for _, text in shown["pieces"][side]) == shown[side]
    shared = [
        "".join(t for own, t in shown["pieces"][s] if not own).split() for s in shown["pieces"]
    ]
    assert shared[0] == shared[1]


def test_the_unsteered_text_is_not_generated_twice(copied_study):
    panels.steered(copied_study, BASIS, 0, 2.0, PROMPT, 5)
    told = Told()
    with listening(told):
        panels.steered(copied_study, BASIS, 0, -2.0, PROMPT, 5)
    assert {total for _, total in told.calls} == {5}


def test_a_kept_run_needs_no_model(copied_study):
    first = panels.steered(copied_study, BASIS, 0, 2.0, PROMPT, 4)
    again, told = mn.Study.open(copied_study.path), Told()
    with listening(told):
        assert panels.steered(again, BASIS, 0, 2.0, PROMPT, 4) == first
    assert "model" not in vars(again)
    assert told.calls == []


@pytest.mark.parametrize("stop_at", [1, 3, 8])
def test_a_run_stops_at_any_token_and_leaves_the_model_as_it_was(copied_study, stop_at):
    before = mn.generate(copied_study.model, [PROMPT], max_new_tokens=5)
    with pytest.raises(StoppedError), listening(Told(stop_at)):
        panels.steered(copied_study, BASIS, 0, 4.0, PROMPT, 6)
    assert hooks(copied_study) == 0
    assert mn.generate(copied_study.model, [PROMPT], max_new_tokens=5) == before


@pytest.mark.parametrize(
    ("prompt", "dose", "words"),
    [(" \n", 1.0, "the prompt is empty"), ("x", float("nan"), "dose must be a number")],
)
def test_what_cannot_be_run_is_refused_in_one_line(copied_study, prompt, dose, words):
    with pytest.raises(mn.InputError, match=words):
        panels.steered(copied_study, BASIS, 0, dose, prompt)


def test_passes_of_another_thread_are_neither_told_nor_stopped(tiny_model):
    seen: list[int | None] = []
    with each_pass(tiny_model, seen.append):
        other = threading.Thread(target=mn.generate, args=(tiny_model, [PROMPT]))
        other.start()
        other.join()
        assert seen == []
        mn.generate(tiny_model, [PROMPT], max_new_tokens=2)
    n = len(tiny_model.tokenizer(PROMPT)["input_ids"])
    assert seen in ([0, n], [0])


def test_what_is_raised_inside_a_trace_comes_out_as_it_is(tiny_model, demo_rows):
    def stop(_):
        raise StoppedError

    with pytest.raises(StoppedError), each_pass(tiny_model, stop):
        mn.collect(tiny_model, demo_rows[:4], layers=[1], progress=False)
    rows = mn.collect(tiny_model, demo_rows[:4], layers=[1], progress=False)
    assert np.isfinite(rows.matrix(1)).all()


# --------------------------------------------------------------------------------------- doses


def test_doses_are_those_that_the_study_measures(copied_study):
    told = Told()
    with listening(told):
        shown = panels.dose_curve(copied_study, BASIS, 2)
    assert shown["doses"] == [-1.0, 0.0, 1.0]
    assert {total for _, total in told.calls} == {9}
    done = [n for n, _ in told.calls]
    assert done == sorted(done)
    table = copied_study.dose_response(BASIS, 2, (-1.0, 0.0, 1.0), max_new_tokens=3, progress=False)
    assert shown["band"] == [*safe_band(table)]
    assert shown["figure"] == dose_figure(table, safe_band(table))
    json.dumps(shown, allow_nan=False)


def test_kept_doses_are_shown_without_a_model(copied_study):
    assert panels.kept_dose_curve(copied_study, BASIS, 2) is None
    measured = panels.dose_curve(copied_study, BASIS, 2)
    again = mn.Study.open(copied_study.path)
    assert panels.kept_dose_curve(again, BASIS, 2) == measured
    assert "model" not in vars(again)
    assert panels.kept_dose_curve(again, BASIS, 3) is None


def test_doses_that_were_measured_before_a_stop_stay(copied_study):
    class AfterFirst(Told):
        def __call__(self, done: int, total: int) -> None:
            super().__call__(done, total)
            if done > total // 3:  # the second dose has begun
                raise StoppedError

    with pytest.raises(StoppedError), listening(AfterFirst()):
        panels.dose_curve(copied_study, BASIS, 2)
    kept = panels.kept_dose_curve(copied_study, BASIS, 2)
    assert kept is not None
    assert kept["doses"] == [0.0]
    assert kept["band"] is None
    told = Told()
    with listening(told):
        panels.dose_curve(copied_study, BASIS, 2)
    assert {total for _, total in told.calls} == {6}


def test_a_damaged_dose_is_measured_anew(copied_study):
    measured = panels.dose_curve(copied_study, BASIS, 2)
    (file,) = copied_study.path.glob(f"results/responses-{BASIS}/2-*--1.0.json")
    file.write_text("{")
    kept = panels.kept_dose_curve(copied_study, BASIS, 2)
    assert kept is not None
    assert kept["doses"] == [0.0, 1.0]
    assert panels.dose_curve(copied_study, BASIS, 2)["doses"] == measured["doses"]


# ----------------------------------------------------------------------------------- selecting


def test_a_selection_is_kept_and_counted(copied_study):
    shown = panels.selected(copied_study, BASIS, "random", 12, "rows", "mine")
    kept = mn.Study.open(copied_study.path).selection("mine")
    rows = copied_study.pool_rows[kept.indices]
    assert shown["n_rows"] == len(kept) == 12
    tokens = [copied_study.activations.n_response[row] for row in rows]
    assert shown["n_tokens"] == sum(map(int, tokens))
    first = [(e["id"], e["why"]) for e in shown["first"]]
    receipts = kept.receipts.head(len(first))
    assert first == [*zip(receipts["id"], receipts["reason"], strict=True)]
    assert shown["notes"] == kept.recipe["notes"]
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(
    ("strategy", "budget", "unit", "name"),
    [
        ("random", 12, "rows", ""),
        ("k_center", 300, "tokens", "spread"),
        ("weakness", 9, "rows", ""),
    ],
)
def test_the_line_of_python_makes_the_same_selection(copied_study, strategy, budget, unit, name):
    shown = panels.selected(copied_study, BASIS, strategy, budget, unit, name)
    ids = copied_study.selection(shown["name"]).receipts["id"].tolist()
    (line,) = shown["python"]
    again = eval(line, {"study": mn.Study.open(copied_study.path)})
    assert again.receipts["id"].tolist() == ids
    assert again.recipe["unit"] == unit


def test_composition_by_category_counts_the_picks(copied_study):
    shown = panels.selected(copied_study, BASIS, "random", 12, "rows", "")
    chosen = copied_study.selection("random")
    categories = [copied_study.pool[int(i)].category for i in chosen.indices]
    for name, count in Counter(categories).items():
        assert re.search(rf"random, {re.escape(str(name))}: {count} rows", shown["figure"])
    assert shown["figure"].count("<details") == 3


def test_every_pole_of_the_composition_adds_up_to_the_selection(copied_study):
    copied_study.annotations.set(BASIS, 0, "positive", "<b>bold</b>")
    shown = panels.selected(copied_study, BASIS, "random", 12, "rows", "")
    by_pole = shown["figure"].split("<details")[3]
    counts = [int(n) for n in re.findall(r"random, [^:]*: (\d+) rows", by_pole)]
    assert sum(counts) == 12
    z = copied_study.coordinates(BASIS)[copied_study.pool_rows] / copied_study.basis(BASIS).scale_
    farthest = z[np.arange(len(z)), np.abs(z).argmax(axis=1)]
    ends = Counter(
        (int(a), bool(f < 0)) for a, f in zip(np.abs(z).argmax(axis=1), farthest, strict=True)
    )
    drawn = re.findall(
        r"random, (?:axis )?(\d+) ([+−-])[^:]*: \d+ rows, [^;]*; the pool ([\d.]+)%", by_pole
    )
    assert drawn
    for axis, sign, share in drawn:
        assert float(share) == pytest.approx(100 * ends[int(axis), sign != "+"] / len(z), abs=0.06)
    assert "<b>bold" not in shown["figure"]


def test_overlap_counts_rows_in_both(copied_study):
    shown = panels.selected(copied_study, BASIS, "k_center", 10, "rows", "")
    mine = {*copied_study.selection("k_center").receipts["id"]}
    assert {one["name"] for one in shown["overlap"]} == {"random", "weakness"}
    for one in shown["overlap"]:
        theirs = {*copied_study.selection(one["name"]).receipts["id"]}
        assert one["shared"] == len(mine & theirs)
        assert one["jaccard"] == pytest.approx(len(mine & theirs) / len(mine | theirs))


def test_chance_is_what_random_draws_share(copied_study):
    n = len(copied_study.pool_rows)
    shown = panels.selected(copied_study, BASIS, "random", 20, "rows", "twenty")
    other = next(one for one in shown["overlap"] if one["name"] == "weakness")
    generator = np.random.default_rng(0)
    fixed = {*range(10)}
    draws = [{*generator.choice(n, 20, replace=False).tolist()} for _ in range(4000)]
    mean = np.mean([len(fixed & draw) / len(fixed | draw) for draw in draws])
    assert other["chance"] == pytest.approx(mean, rel=0.05)


def test_an_export_is_on_disk_and_passes_its_preflight(copied_study):
    selection = panels.selected(copied_study, BASIS, "random", 12, "rows", "")
    assert selection["problems"] is None
    shown = panels.exported(copied_study, "random", "trl")
    assert mn.preflight(shown["exported"]).empty
    assert (shown["problems"], shown["rules"]) == (0, [])
    assert (shown["n_rows"], shown["format"]) == (12, "trl")
    study = mn.Study.open(copied_study.path)
    assert str(eval(shown["python"][1], {"study": study})) == shown["exported"]
    assert eval(shown["python"][2], {"study": study}).empty


def test_findings_of_the_preflight_are_said(copied_study, monkeypatch):
    panels.selected(copied_study, BASIS, "random", 8, "rows", "")
    shown = panels.exported(copied_study, "random", "openai")
    findings = mn.preflight(shown["exported"])
    assert shown["problems"] == len(findings) > 0
    assert [one["message"] for one in shown["rules"]] == findings["message"].head(20).tolist()
    json.dumps(shown, allow_nan=False)


def test_tokens_are_checked_only_where_the_model_is_loaded(copied_study):
    panels.selected(copied_study, BASIS, "random", 12, "rows", "")
    cold = mn.Study.open(copied_study.path)
    assert "not counted" in panels.exported(cold, "random", "trl")["checked"]
    assert "model" not in vars(cold)
    assert copied_study.model is not None
    assert "not counted" not in panels.exported(copied_study, "random", "trl")["checked"]


def test_a_strategy_that_reads_can_be_stopped(copied_study):
    class UpToSecondPass(Told):
        def __call__(self, done: int, total: int) -> None:
            super().__call__(done, total)
            if (done, total) == (2, 0):
                raise StoppedError

    told = UpToSecondPass()
    with pytest.raises(StoppedError), listening(told):
        panels.selected(copied_study, BASIS, "influence", 8, "rows", "slow")
    assert (1, 0) in told.calls
    assert "slow" not in copied_study.selection_names
    assert hooks(copied_study) == 0
    shown = panels.selected(copied_study, BASIS, "influence", 8, "rows", "slow")
    assert shown["n_rows"] == 8


def test_a_wrong_budget_is_refused_in_one_line(copied_study):
    with pytest.raises(mn.InputError, match="budget must be at least 1, not 0"):
        panels.selected(copied_study, BASIS, "random", 0, "rows", "")


# ------------------------------------------------------------------------------------- skills


def a_category(study: mn.Study) -> str:
    return Counter(e.category for e in study.corpus if e.category).most_common(1)[0][0]


def test_a_category_is_the_mean_of_its_rows(tiny_study):
    category = a_category(tiny_study)
    shown = panels.skill(tiny_study, BASIS, "category", category)
    rows = [i for i, e in enumerate(tiny_study.corpus) if e.category == category]
    z = tiny_study.coordinates(BASIS) / tiny_study.basis(BASIS).scale_
    mean = z[rows].mean(axis=0)
    assert shown["n"] == len(rows)
    for axis in shown["axes"]:
        assert axis["mean"] == pytest.approx(mean[axis["axis"]], abs=1e-5)
        assert axis["low"] < axis["mean"] < axis["high"]
        assert axis["share"] == pytest.approx(mean[axis["axis"]] ** 2 / (mean**2).sum(), rel=1e-4)
    sizes = [abs(axis["mean"]) for axis in shown["axes"]]
    assert sizes == sorted(sizes, reverse=True)
    assert shown["running"] == ""
    json.dumps(shown, allow_nan=False)


def test_a_response_ends_where_its_row_lies(copied_study):
    shown = panels.skill(copied_study, BASIS, "row", 7)
    z = copied_study.coordinates(BASIS)[7] / copied_study.basis(BASIS).scale_
    for axis in shown["axes"]:
        assert axis["mean"] == pytest.approx(z[axis["axis"]], abs=1e-5)
        assert (axis["low"], axis["sure"]) == (None, False)
    at_the_end = [
        float(n.replace("−", "-")) for n in re.findall(r": (\S+) at the end", shown["running"])
    ]
    assert at_the_end == pytest.approx([a["mean"] for a in shown["axes"][:4]], abs=0.02)
    json.dumps(shown, allow_nan=False)


def test_a_skill_in_words_is_read_like_any_prompt(copied_study):
    text = "Add both numbers digit by digit & carry <b>the</b> one."
    told = Told()
    with listening(told):
        shown = panels.skill(copied_study, BASIS, "text", text)
    corpus = mn.load_corpus([{"prompt": text, "response": ""}])
    rows = mn.collect(copied_study.model, corpus, layers=[1], progress=False)
    z = copied_study.basis(BASIS).transform(rows.matrix(1))[0] / copied_study.basis(BASIS).scale_
    for axis in shown["axes"]:
        assert axis["mean"] == pytest.approx(z[axis["axis"]], abs=1e-3)
    assert told.calls
    assert "<b>the" not in shown["running"]


def test_the_line_of_python_takes_the_same_skill_apart(copied_study):
    for kind, value in (("category", a_category(copied_study)), ("row", 3), ("text", "Add 'two'.")):
        shown = panels.skill(copied_study, BASIS, kind, value)
        table = eval(shown["python"], {"study": copied_study})
        assert table["axis"].head(8).tolist() == [axis["axis"] for axis in shown["axes"]]


def test_a_row_that_was_read_needs_no_model(copied_study):
    first = panels.skill(copied_study, BASIS, "row", 5)
    cold = mn.Study.open(copied_study.path)
    assert panels.skill(cold, BASIS, "row", 5) == first
    assert "model" not in vars(cold)


def test_axes_are_named_for_the_pole_that_the_skill_leans_to(copied_study):
    for axis in range(8):
        copied_study.annotations.set(BASIS, axis, "positive", f"plus {axis}")
        copied_study.annotations.set(BASIS, axis, "negative", f"minus {axis}")
    shown = panels.skill(copied_study, BASIS, "row", 3)
    for axis in shown["axes"]:
        sign, word = ("+", "plus") if axis["mean"] > 0 else ("−", "minus")
        assert axis["name"] == f"{sign} {word} {axis['axis']}"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("category", "nope", "no category 'nope'; there are"),
        ("text", " ", "the text is empty"),
        ("row", 10_000, "row 10000 is not there"),
        ("row", -1, "row -1 is not there"),
        ("row", "three", "a row is a number"),
        ("dance", 1, "one of category, text, row, not 'dance'"),
    ],
)
def test_what_is_no_skill_is_refused_in_one_line(tiny_study, kind, value, words):
    with pytest.raises(mn.InputError, match=words) as caught:
        panels.skill(tiny_study, BASIS, kind, value)
    assert "\n" not in str(caught.value)


def test_reading_a_skill_can_be_stopped(copied_study):
    with pytest.raises(StoppedError), listening(Told(1)):
        panels.skill(copied_study, BASIS, "text", "Add both numbers.")
    assert hooks(copied_study) == 0
    assert not [*copied_study.path.glob("results/heat-*")]
    assert panels.skill(copied_study, BASIS, "text", "Add both numbers.")["axes"]


# --------------------------------------------------------------------------------------- quiz


def named(study: mn.Study) -> mn.Study:
    study.annotations.set(BASIS, 0, "positive", "sums")
    return study


def test_a_quiz_asks_rows_that_were_not_shown_and_counts(copied_study):
    study = named(copied_study)
    z = study.z(BASIS)[:, 0]
    shown = [*np.argsort(z)[:4], *np.argsort(-z)[:4]]
    quiz = panels.quiz_of(study, BASIS, 0, shown, seed=1)
    assert not {*quiz.rows} & {*shown}
    answers = [1, -1] * 5
    for n, answer in enumerate(answers[: len(quiz.rows)]):
        page = panels.quiz_shown(study, quiz)
        row = quiz.rows[n]
        assert page["example"]["prompt"] == study.corpus[row].prompt_text
        assert "z" not in page["example"]
        assert (page["at"], page["done"]) == (n, False)
        quiz = panels.answered(quiz, answer)
        last = panels.quiz_shown(study, quiz)["last"]
        assert last["right"] == ((z[row] > 0) == (answer > 0))
        assert last["z"] == pytest.approx(z[row])
    end = panels.quiz_shown(study, quiz)
    right = sum((z[r] > 0) == (a > 0) for r, a in zip(quiz.rows, answers, strict=False))
    assert quiz.result == f"{right}/{len(quiz.rows)}"
    assert end["done"]
    assert end["example"] is None
    assert end["said"].startswith(f"{right} of {len(quiz.rows)} right")
    json.dumps(end, allow_nan=False)


def test_only_a_score_beyond_guessing_speaks_for_the_label(copied_study):
    quiz = panels.quiz_of(named(copied_study), BASIS, 0, [])
    knows = guesses = quiz
    for n, truth in enumerate(quiz.truth):
        knows = panels.answered(knows, truth)
        guesses = panels.answered(guesses, truth if n % 2 else -truth)
    assert "tells the poles apart" in panels.quiz_shown(copied_study, knows)["said"]
    assert "not better yet" in panels.quiz_shown(copied_study, guesses)["said"]


def test_a_quiz_needs_a_label_and_ends(copied_study):
    with pytest.raises(mn.InputError, match="axis 0 has no label to try"):
        panels.quiz_of(copied_study, BASIS, 0, [])
    quiz = panels.quiz_of(named(copied_study), BASIS, 0, [], n=2)
    assert quiz.result == ""
    with pytest.raises(mn.InputError, match="must be 1 or -1, not 0"):
        panels.answered(quiz, 0)
    quiz = panels.answered(panels.answered(quiz, 1), 1)
    with pytest.raises(mn.InputError, match="the quiz is over"):
        panels.answered(quiz, 1)


# ---------------------------------------------------------------------------------- neighbours


def test_neighbours_are_the_axes_that_go_along(tiny_study):
    other = next(name for name in tiny_study.basis_names if name != BASIS)
    shown = panels.neighbours(tiny_study, BASIS, 1)
    mine, theirs = tiny_study.coordinates(BASIS)[:, 1], tiny_study.coordinates(other)
    correlations = [np.corrcoef(mine, theirs[:, a])[0, 1] for a in range(theirs.shape[1])]
    best = int(np.argmax(np.abs(correlations)))
    first = shown["axes"][0]
    assert (first["basis"], first["axis"]) == (other, best)
    assert first["correlation"] == pytest.approx(correlations[best], abs=1e-4)
    cosine = tiny_study.basis(BASIS).components_[1] @ tiny_study.basis(other).components_[best]
    assert first["cosine"] == pytest.approx(cosine, abs=1e-5)
    assert first["name"][0] == ("+" if correlations[best] > 0 else "−")
    json.dumps(shown, allow_nan=False)


def test_latents_point_where_their_decoder_says(tiny_study):
    shown = panels.neighbours(tiny_study, BASIS, 1)
    assert shown["latents"]
    for one in shown["latents"]:
        direction = tiny_study.basis(one["basis"]).dictionary_.components_[one["latent"]]
        axis = tiny_study.basis(BASIS).components_[1]
        cosine = direction @ axis / np.linalg.norm(direction)
        assert one["cosine"] == pytest.approx(cosine, abs=1e-5)
        assert 0 < one["density"] <= 1


def test_the_line_of_python_finds_the_same_neighbours(tiny_study):
    shown = panels.neighbours(tiny_study, BASIS, 1)
    table = eval(shown["python"], {"study": tiny_study})
    assert table["axis"].head(8).tolist() == [one["axis"] for one in shown["axes"]]
