import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.progress import tell
from mnskills_viz.widgets.explorer import Explorer

BASIS = "pca-1"
POLES = ("positive", "negative")


@pytest.fixture
def study(tiny_study: mn.Study, tmp_path: Path) -> mn.Study:
    """A copy that may be labelled; the quality of its axes is kept."""
    for basis in tiny_study.basis_names:
        tiny_study.quality(basis)
    shutil.copytree(tiny_study.path, tmp_path / "study")
    return mn.Study.open(tmp_path / "study")


class Browser:
    """What the front end would do: send messages, keep the answers."""

    def __init__(self, explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._explorer = explorer
        self._seq = 0
        self.answers: list[dict] = []
        monkeypatch.setattr(explorer, "send", self.answers.append)

    def send(self, kind: str, **content) -> None:
        self._explorer._handle_custom_msg({"type": kind} | content, [])

    def label(self, axis: int, field: str, value: str, basis: str = BASIS) -> int:
        self._seq += 1
        self.send("label", basis=basis, axis=axis, field=field, value=value, seq=self._seq)
        return self._seq


@pytest.fixture
def explorer(study: mn.Study) -> Explorer:
    return mn.explore(study, BASIS)


@pytest.fixture
def browser(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(explorer, monkeypatch)


def draw(explorer: Explorer) -> None:
    """What a front end does: it is painted, then it draws the empty figure that it is sent."""
    explorer._handle_custom_msg({"type": "ready"}, [])
    assert explorer.map.data == ()
    explorer.map._js2py_layoutDelta = {"layout_delta": {}, "layout_edit_id": 1}
    assert len(explorer.map.data) == 2


def test_a_study_without_a_basis_says_what_to_do_first(demo_rows, tmp_path):
    bare = mn.Study.create(tmp_path / "bare", corpus=demo_rows)
    with pytest.raises(mn.InputError, match=r'fit one first: study\.fit\("pca"\)'):
        mn.explore(bare)


def test_an_unknown_basis_is_named(study):
    with pytest.raises(mn.InputError, match="no basis 'nope'; there are: pca-1"):
        mn.explore(study, "nope")


def test_choosing_an_axis_changes_the_card_and_not_the_list(explorer, browser):
    before = explorer.axes
    browser.send("axis", axis=3)
    assert explorer.card["axis"] == 3
    assert explorer.axes == before


def test_choosing_a_basis_shows_its_axes_from_the_first(explorer, browser, study):
    other = next(name for name in study.basis_names if name != BASIS)
    browser.send("axis", axis=2)
    browser.send("basis", basis=other)
    assert (explorer.card["basis"], explorer.card["axis"]) == (other, 0)
    assert len(explorer.axes) == study.basis(other).n_axes_


def test_sort_filter_and_search_reach_the_list(explorer, browser):
    browser.label(4, "positive", "quails")
    browser.send("list", sort="weakness", only="all", query="quail")
    assert [entry["axis"] for entry in explorer.axes] == [4]
    assert explorer.setting["query"] == "quail"


def test_saved_is_said_only_when_it_is_on_disk(explorer, browser, study, monkeypatch):
    def on_disk_now(message):
        found.append(mn.Study.open(study.path).annotations.get(BASIS, 1, "positive"))

    found: list[str] = []
    monkeypatch.setattr(explorer, "send", on_disk_now)
    browser.label(1, "positive", "sorts lists")
    assert found == ["sorts lists"]


def test_a_label_is_shown_in_list_and_card(explorer, browser):
    seq = browser.label(0, "negative", "spells words")
    assert browser.answers == [{"type": "saved", "seq": seq}]
    assert explorer.axes[0]["negative"]["label"] == "spells words"
    assert explorer.card["negative"]["label"] == "spells words"


def test_a_late_label_goes_to_the_axis_it_was_written_for(explorer, browser, study):
    browser.send("axis", axis=2)
    browser.label(1, "positive", "written just before")
    assert study.annotations.labels(BASIS) == {(1, 1): "written just before"}
    assert explorer.card["axis"] == 2


def test_undo_jumps_to_the_axis_it_changes(explorer, browser, study):
    browser.label(1, "positive", "first")
    browser.send("axis", axis=5)
    browser.send("undo")
    assert explorer.card["axis"] == 1
    assert explorer.card["positive"]["label"] == ""
    assert study.annotations.get(BASIS, 1, "positive") == ""
    browser.send("axis", axis=6)
    browser.send("redo")
    assert (explorer.card["axis"], explorer.card["positive"]["label"]) == (1, "first")


def test_undo_goes_to_another_basis_too(explorer, browser, study):
    other = next(name for name in study.basis_names if name != BASIS)
    browser.label(2, "notes", "hm", basis=other)
    browser.send("undo")
    assert (explorer.card["basis"], explorer.card["axis"]) == (other, 2)


def test_undo_of_what_belongs_to_a_lost_basis_says_so(explorer, browser, study):
    study.annotations.set("lost", 2, "notes", "hm", session=explorer._session)
    browser.send("undo")
    assert explorer.card["basis"] == BASIS
    assert "lost, a basis that is no longer here" in explorer.status["text"]


def test_nothing_to_undo_is_said(explorer, browser):
    browser.send("undo")
    assert explorer.status["text"] == "nothing to undo"


def test_labels_are_there_again_in_a_new_explorer(browser, study):
    browser.label(0, "positive", "kept")
    again = mn.explore(mn.Study.open(study.path), BASIS)
    assert again.axes[0]["positive"]["label"] == "kept"


def test_an_expanded_example_comes_whole(explorer, browser, study):
    row = explorer.card["positive"]["examples"][0]["row"]
    browser.send("example", row=row)
    assert browser.answers[-1]["response"] == study.corpus[row].response


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "axis", "axis": 99}, "axes 0 to 7, not 99"),
        ({"type": "basis", "basis": "nope"}, "no basis 'nope'"),
        ({"type": "example", "row": -1}, "row -1 is not there"),
        ({"type": "list", "sort": "beauty", "only": "all", "query": ""}, "sorted by one of"),
        ({"type": "steer", "prompt": " ", "dose": 2}, "the prompt is empty"),
        ({"type": "steer", "prompt": "x", "dose": float("nan")}, "dose must be a number"),
        ({"type": "dance"}, "does not know"),
    ],
)
def test_what_goes_wrong_is_said_in_the_status_line(explorer, browser, message, words):
    shown = (explorer.card, explorer.axes)
    browser.send(**{"kind" if k == "type" else k: v for k, v in message.items()})
    assert explorer.status["level"] == "error"
    assert words in explorer.status["text"]
    assert (explorer.card, explorer.axes) == shown


def test_a_label_that_cannot_be_saved_is_not_called_saved(explorer, browser, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("mnskills_viz.axes.annotations._append", full_disk)
    seq = browser.label(0, "positive", "lost?")
    assert browser.answers == [{"type": "failed", "seq": seq}]
    assert explorer.status["text"] == "OSError: no space left on device"


def run(explorer: Explorer, what: str, **asked) -> None:
    """Ask for long work, and wait until it is done."""
    explorer._handle_custom_msg({"type": what} | asked, [])
    explorer._job.join(60)
    assert not explorer._job.is_running


def run_steering(explorer: Explorer, **asked) -> None:
    run(explorer, "steer", **asked)


def test_steering_shows_what_the_study_generates(explorer, browser, study, monkeypatch):
    browser.send("axis", axis=1)
    run_steering(explorer, prompt="What is 2 + 2?", dose=3)
    assert explorer.status["level"] == "info", explorer.status
    expected = study.steer(["What is 2 + 2?"], BASIS, 1, 3.0).iloc[0]
    assert explorer.steering["unsteered"] == expected["unsteered"]
    assert explorer.steering["steered"] == expected["steered"]
    assert explorer.steering["busy"] is False
    assert explorer.steering["python"] == (
        "study.steer(['What is 2 + 2?'], 'pca-1', axis=1, dose=3)"
    )


def test_a_failing_run_ends_and_says_why(explorer, browser, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(explorer._study, "steer", broken)
    run_steering(explorer, prompt="x", dose=1.0)
    assert explorer.status["text"] == "RuntimeError: out of memory"
    assert explorer.steering["busy"] is False


def test_a_run_ends_when_it_is_stopped_and_another_can_begin(explorer, browser, monkeypatch):
    begun, stopped = threading.Event(), threading.Event()

    def endless(study, basis, axis, dose, prompt, row):
        begun.set()
        try:
            while True:
                tell(1, 0)
                time.sleep(0.001)
        finally:
            stopped.set()

    monkeypatch.setattr("mnskills_viz.widgets.panels.steered", endless)
    browser.send("steer", prompt="x", dose=1)
    assert begun.wait(10)
    browser.send("steer", prompt="y", dose=1)
    assert "a run is under way" in explorer.status["text"]
    browser.send("stop")
    assert stopped.wait(10)
    explorer._job.join(10)
    assert explorer.status["text"].startswith("stopped")
    assert explorer.steering.get("busy") is False


def test_a_brush_a_search_and_a_lasso_find_the_rows_of_the_closed_form(explorer, browser, study):
    z = study.z(BASIS)
    browser.send("axis", axis=2)
    browser.send("brush", low=0.5, high=None)
    assert sorted(explorer.rows) == np.flatnonzero(z[:, 2] >= 0.5).tolist()
    browser.send("search", query="WHAT IS")
    told = [
        i
        for i, e in enumerate(study.corpus)
        if "what is" in (e.prompt_text + "\n" + e.response).lower()
    ]
    assert sorted(explorer.rows) == told
    draw(explorer)
    explorer._lassoed(np.array([[0.0, -9.0], [9.0, -9.0], [9.0, 9.0], [0.0, 9.0]]))
    assert sorted(explorer.rows) == np.flatnonzero((z[:, 0] >= 0) & (z[:, 0] <= 9)).tolist()
    explorer._lassoed(None)
    assert explorer.found["what"] == ""


def test_an_explorer_opens_where_the_last_one_was_left(explorer, browser, study):
    browser.send("axis", axis=3)
    browser.send("list", sort="variance", only="all", query="a")
    browser.send("examples", mode="quantiles")
    browser.send("brush", low=-1, high=0.25)
    again = mn.explore(mn.Study.open(study.path))
    assert again.setting == explorer.setting | {"fallback": again.setting["fallback"]}
    assert (again.card, again.axes, again.found) == (explorer.card, explorer.axes, explorer.found)
    assert mn.explore(study, other_basis(study)).card["axis"] == 0


def other_basis(study) -> str:
    return next(name for name in study.basis_names if name != BASIS)


def test_every_action_leaves_the_line_that_does_it(explorer, browser, study):
    browser.send("axis", axis=3)
    assert explorer.status["python"] == f"study.axes({BASIS!r}).loc[3]"
    browser.label(3, "positive", "spells")
    browser.send("brush", low=1, high=2)
    browser.send("undo")
    lines = study.annotations.history()["python"].tolist()
    assert f"study.axes({BASIS!r}).loc[3]" in lines
    said = f"study.annotations.set({BASIS!r}, 3, 'positive', 'spells'"
    assert any(line.startswith(said) for line in lines)
    assert f"mn.within_range(study.z({BASIS!r})[:, 3], 1.0, 2.0)" in lines
    assert any(line.startswith("study.annotations.undo(") for line in lines)


def test_heat_of_the_examples_adds_up_to_where_they_lie(explorer, browser, study):
    browser.send("axis", axis=1)
    browser.send("heat", on=True)
    shown = {e["row"]: e["z"] for pole in POLES for e in explorer.card[pole]["examples"]}
    rows = wait_for_heat(browser, set(shown))
    for row, z in shown.items():
        heat = rows[row]
        parts = [sum(heat[side]["values"]) for side in ("prompt", "response")]
        assert heat["sum"] == pytest.approx(z, abs=2e-2)  # the store holds float16
        assert sum(parts) + heat["rest"] == pytest.approx(heat["sum"], abs=5e-3)
    # All axes at once: another one asks the model for nothing.
    browser.answers.clear()
    explorer._study.__dict__.pop("model", None)
    browser.send("axis", axis=1)
    assert {*wait_for_heat(browser, set(shown))} >= set(shown)
    assert "model" not in vars(explorer._study)


def wait_for_heat(browser, wanted: set[int]) -> dict[int, dict]:
    found: dict[int, dict] = {}
    for _ in range(600):
        for answer in browser.answers:
            if answer["type"] == "heat":
                found |= {int(row): heat for row, heat in answer["rows"].items()}
        if wanted <= set(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"no heat of {wanted - set(found)}")


def test_a_selection_is_made_exported_and_passes_preflight(explorer, browser, study):
    run(explorer, "select", strategy="random", budget=6, unit="rows", name="mine")
    assert explorer.selection["n_rows"] == 6
    assert "mine" in explorer.setting["selections"]
    run(explorer, "export", selection="mine", format="trl")
    assert explorer.selection["problems"] == 0
    folder = Path(explorer.selection["exported"])
    assert len((folder / "train.jsonl").read_text().splitlines()) == 6
    assert explorer.status["python"].startswith("study.preflight(")


def test_a_bad_budget_is_an_error_in_the_status_line(explorer, browser):
    run(explorer, "select", strategy="random", budget=0, unit="rows", name="")
    assert explorer.status["level"] == "error"
    assert explorer.selection.get("busy") is False


def test_a_selection_is_stopped_while_labels_are_saved(explorer, browser, study, monkeypatch):
    before = explorer.selection
    there = study.selection_names
    choose, go_on = explorer._study.select, threading.Event()

    def select(*asked, **options):
        assert go_on.wait(10)
        return choose(*asked, **options)

    monkeypatch.setattr(explorer._study, "select", select)
    browser.send("select", strategy="facility_location", budget=9, unit="rows", name="half")
    assert explorer.selection["busy"]
    seq = browser.label(1, "positive", "said meanwhile")
    assert {"type": "saved", "seq": seq} in browser.answers
    browser.send("stop")
    go_on.set()
    explorer._job.join(30)
    assert explorer.status["text"].startswith("stopped")
    assert explorer.selection == before | {"busy": False, "progress": None}
    assert study.selection_names == there
    assert not [*study.path.glob("selections/.*")]
    assert study.annotations.get(BASIS, 1, "positive") == "said meanwhile"


def test_the_score_of_a_quiz_is_kept_with_the_label(explorer, browser, study):
    browser.send("axis", axis=2)
    browser.label(2, "positive", "long")
    browser.send("quiz")
    while not explorer.quiz["done"]:
        row = explorer.quiz["example"]["row"]
        browser.send("answer", pole=1 if study.z(BASIS)[row, 2] > 0 else -1)
    n = explorer.quiz["n"]
    assert study.annotations.get(BASIS, 2, "quiz") == f"{n}/{n}"
    assert explorer.card["quiz"] == f"{n}/{n}"


def test_a_quiz_asks_nothing_that_was_shown(explorer, browser):
    browser.send("axis", axis=2)
    browser.label(2, "positive", "long")
    shown = {e["row"] for pole in POLES for e in explorer.card[pole]["examples"]}
    browser.send("quiz")
    asked = set()
    while not explorer.quiz["done"]:
        asked.add(explorer.quiz["example"]["row"])
        browser.send("answer", pole=1)
    assert not asked & shown


def test_panels_of_an_axis_are_filled(explorer, browser, study):
    run(explorer, "neighbours")
    assert explorer.status["level"] == "info", explorer.status
    assert {one["basis"] for one in explorer.neighbours["axes"]} == {other_basis(study)}
    run(explorer, "skill", kind="category", value=explorer.setting["categories"][0])
    assert explorer.skill["axes"]
    run(explorer, "skill", kind="text", value="adds two numbers")
    assert explorer.skill["n"] == 1
    run(explorer, "suggest")
    assert explorer.status["level"] == "info", explorer.status
    assert explorer.card["positive"]["label"] == ""  # nothing is ever applied by itself


def test_an_axis_that_is_another_by_now_is_not_labelled_or_steered(explorer, browser, study):
    study.fit("pca", layer=1, n_axes=3, name=BASIS)
    seq = browser.label(2, "positive", "of the fit that was seen")
    assert browser.answers[-1] == {"type": "failed", "seq": seq}
    assert "was fitted anew; press" in explorer.status["text"]
    assert len(study.annotations.table()) == 0
    browser.send("steer", prompt="x", dose=1)
    assert "was fitted anew" in explorer.status["text"]
    browser.send("refresh")
    assert explorer.card["n_axes"] == 3
    browser.label(2, "positive", "of this fit")
    assert study.annotations.get(BASIS, 2, "positive") == "of this fit"


def test_an_explorer_opens_after_a_refit_to_fewer_axes(explorer, browser, study):
    browser.send("axis", axis=7)
    browser.send("brush", low=0, high=None)
    browser.send("map", x=6, y=7, colour="category", view="axes")
    study.fit("pca", layer=1, n_axes=3, name=BASIS)
    again = mn.explore(study)
    assert (again.card["axis"], again.found["what"]) == (2, "")
    draw(again)
    assert again.status["level"] != "error"
    assert again.atlas["n"] == len(study.corpus)


@pytest.mark.parametrize(("basis", "axis"), [("nope", 1), ("../x", 1), (BASIS, 999), (BASIS, -1)])
def test_a_label_of_what_is_not_there_is_not_kept(explorer, browser, study, basis, axis):
    seq = browser.label(axis, "positive", "lost", basis=basis)
    assert browser.answers[-1] == {"type": "failed", "seq": seq}
    assert len(study.annotations.table()) == 0


def test_a_map_that_cannot_be_drawn_is_not_opened_again(explorer, browser, study):
    draw(explorer)
    before = explorer.atlas
    browser.send("map", x=0, y=99, colour="category", view="axes")
    assert explorer.status["level"] == "error"
    assert explorer.atlas == before
    assert mn.explore(study)._state.map == explorer._state.map


def test_a_box_of_numbers_is_a_lasso_for_the_keyboard(explorer, browser, study):
    draw(explorer)
    browser.send("box", low=[1.0, 9], high=[-0.5, -9])
    z = study.z(BASIS)[:, 0]
    assert sorted(explorer.rows) == np.flatnonzero((z >= -0.5) & (z <= 1)).tolist()


def test_a_second_quiz_asks_other_rows(explorer, browser):
    browser.label(0, "positive", "long")
    asked: list[set[int]] = []
    for _ in range(2):
        browser.send("quiz")
        asked.append(set())
        while not explorer.quiz["done"]:
            asked[-1].add(explorer.quiz["example"]["row"])
            browser.send("answer", pole=1)
    assert asked[0]
    assert not asked[0] & asked[1]


def test_a_score_is_of_the_label_that_was_tried(explorer, browser, study):
    browser.label(0, "positive", "long")
    browser.send("quiz")
    browser.label(0, "positive", "short")
    while not explorer.quiz["done"]:
        browser.send("answer", pole=1)
    assert study.annotations.get(BASIS, 0, "quiz") == ""
    assert "its score is not kept" in explorer.status["text"]


def test_heat_that_cannot_be_had_is_off_and_says_why(explorer, browser, monkeypatch):
    def broken(*_, **__):
        raise mn.InputError("no model here")

    with monkeypatch.context() as patch:
        patch.setattr(explorer._study, "heat", broken)
        browser.send("heat", on=True)
        for _ in range(200):
            if explorer.status["level"] == "error":
                break
            time.sleep(0.05)
        assert explorer.status["text"] == "no model here"
        assert explorer.setting["heat"] is False
    browser.send("heat", on=True)  # and it can be asked for again
    assert wait_for_heat(browser, {explorer.card["positive"]["examples"][0]["row"]})


def test_a_row_that_cannot_be_read_is_left_out_and_the_others_are_heated(
    explorer, browser, study, monkeypatch
):
    shown = [e["row"] for pole in POLES for e in explorer.card[pole]["examples"]]
    heat, long = explorer._study.heat, shown[2]

    def refuses_one(basis, rows, **options):
        if long in rows:
            raise mn.InputError("1 of 1 rows are longer than max_length 9")
        return heat(basis, rows, **options)

    monkeypatch.setattr(explorer._study, "heat", refuses_one)
    browser.send("heat", on=True)
    assert {*wait_for_heat(browser, {*shown} - {long})} == {*shown} - {long}
    why = {str(long): "1 of 1 rows are longer than max_length 9"}
    assert why in [answer["left_out"] for answer in browser.answers if answer["type"] == "heat"]
    assert explorer.status["level"] == "info"  # the row itself says it
    assert explorer.setting["heat"]
    browser.answers.clear()
    browser.send("axis", axis=0)
    said = [answer["left_out"] for answer in browser.answers if answer["type"] == "heat"]
    assert said[0] == why  # without asking again


def test_heat_says_where_a_text_was_cut(tiny_folder, demo_rows, tmp_path, monkeypatch):
    study = mn.Study.create(tmp_path / "cut", model=str(tiny_folder), corpus=demo_rows)
    with pytest.warns(UserWarning, match="were cut to 40 tokens"):
        study.collect(layers=[1], max_length=40, truncate=True, progress=False)
    study.fit("pca", layer=1, n_axes=2)
    explorer = mn.explore(study)
    browser = Browser(explorer, monkeypatch)
    browser.send("heat", on=True)
    shown = {e["row"] for pole in POLES for e in explorer.card[pole]["examples"]}
    for row, heat in wait_for_heat(browser, shown).items():
        example = study.corpus[row]
        read = "".join(heat["response"]["tokens"])
        assert heat["cut"] == (len(read.strip()) < len(example.response.strip()))
        if heat["cut"]:
            assert example.response.startswith(read.strip())
        assert study.kept_heat(explorer.setting["basis"], row).is_whole != heat["cut"]
    assert {heat["cut"] for heat in wait_for_heat(browser, shown).values()} == {True, False}


def test_two_explorers_on_one_study_keep_both_labels(explorer, browser, study, monkeypatch):
    other = mn.explore(mn.Study.open(study.path), BASIS)
    Browser(other, monkeypatch).label(1, "positive", "theirs")
    browser.label(1, "negative", "ours")
    browser.send("axis", axis=1)
    assert explorer.card["positive"]["label"] == "theirs"
    assert explorer.card["negative"]["label"] == "ours"


def test_refresh_finds_a_basis_that_was_fitted_meanwhile(explorer, browser, study):
    study.fit("pca", layer=2, n_axes=4)
    browser.send("refresh")
    assert "pca-2" in explorer.setting["bases"]


def forget_quality(study: mn.Study) -> None:
    for file in study.path.glob("results/quality-*"):
        file.unlink()


def test_quality_that_was_never_computed_does_not_keep_one_waiting(study):
    forget_quality(study)
    explorer = mn.explore(study, BASIS)
    assert study.kept_quality(BASIS) is None
    assert [entry["stability"] for entry in explorer.axes] == [None] * 8
    shown = {badge["text"] for entry in explorer.axes for badge in entry["badges"]}
    assert shown <= {"beats chance", "within chance"}  # utility was measured
    assert explorer.card["variance"] is None
    explorer._ipython_display_()


def test_badges_follow_when_quality_is_computed(study, tiny_study):
    forget_quality(study)
    explorer = mn.explore(study, BASIS)
    explorer._handle_custom_msg({"type": "ready"}, [])
    assert explorer.setting["judging"]
    assert explorer.status["text"].startswith("quality is being computed")
    explorer._handle_custom_msg({"type": "axis", "axis": 3}, [])
    explorer._judging.join(60)
    assert not explorer.setting["judging"]
    judged = mn.explore(tiny_study, BASIS)
    assert explorer.axes == judged.axes
    assert any(entry["badges"] for entry in explorer.axes)
    assert explorer.card["axis"] == 3
    assert explorer.card["variance"] == tiny_study.quality(BASIS)["variance"][3]


def test_what_one_does_meanwhile_leaves_it_said_that_quality_is_being_computed(study, monkeypatch):
    forget_quality(study)
    explorer = mn.explore(study, BASIS)
    go_on = threading.Event()
    computed = study.quality

    def waiting(*asked):
        tell(1, 4)
        assert go_on.wait(60)
        return computed(*asked)

    monkeypatch.setattr(explorer._study, "quality", waiting)
    explorer._handle_custom_msg({"type": "ready"}, [])
    while not explorer.status["progress"]:
        time.sleep(0.01)
    for message in (
        {"type": "axis", "axis": 3},
        {"type": "basis", "basis": other_basis(study)},
        {"type": "basis", "basis": BASIS},
        {"type": "refresh"},
    ):
        explorer._handle_custom_msg(message, [])
        assert explorer.setting["judging"]
        assert explorer.status["text"].startswith("quality is being computed")
        assert explorer.status["progress"]["done"] == 1
    assert explorer.status["python"] == f"study.axes({BASIS!r})"
    explorer._handle_custom_msg({"type": "undo"}, [])
    assert explorer.status["text"] == "nothing to undo"
    go_on.set()
    while explorer.setting["judging"]:
        explorer._judging.join(60)
        time.sleep(0.01)
    explorer._judging.join(60)  # a second one reads what the first kept, and may end at once
    assert explorer.status["text"] == "quality is computed, and kept"


def test_quality_of_the_basis_that_is_looked_at_follows_too(study):
    forget_quality(study)
    explorer = mn.explore(study, BASIS)
    explorer._handle_custom_msg({"type": "ready"}, [])
    explorer._handle_custom_msg({"type": "basis", "basis": other_basis(study)}, [])
    while explorer.setting["judging"]:
        explorer._judging.join(60)
        time.sleep(0.01)
    assert explorer.card["basis"] == other_basis(study)
    assert explorer.card["variance"] is not None


def test_quality_that_cannot_be_computed_says_why_once(study, monkeypatch):
    def broken(_):
        raise mn.InputError("rows are all equal")

    forget_quality(study)
    monkeypatch.setattr(study, "quality", broken)
    explorer = mn.explore(study, BASIS)
    explorer._handle_custom_msg({"type": "ready"}, [])
    explorer._judging.join(60)
    assert explorer.status["text"] == "rows are all equal"
    assert not explorer.setting["judging"]


def test_the_first_prompt_says_which_row_it_is(explorer, study):
    row = explorer.setting["prompt_row"]
    assert study.corpus[row].meta["split"] == "probe"
    assert study.corpus[row].prompt_text == explorer.setting["prompt"]


def test_undo_after_a_restart_takes_back_what_the_same_notebook_said(study, monkeypatch):
    def opened(notebook: str) -> tuple[Explorer, Browser]:
        monkeypatch.setenv("JPY_SESSION_NAME", f"/home/somebody/{notebook}.ipynb")
        explorer = mn.explore(mn.Study.open(study.path), BASIS)
        return explorer, Browser(explorer, monkeypatch)

    opened("mine")[1].label(1, "positive", "of mine")
    opened("theirs")[1].label(2, "positive", "of theirs, later")
    explorer, again = opened("mine")
    again.send("undo")
    assert study.annotations.labels(BASIS) == {(2, 1): "of theirs, later"}
    assert explorer.card["axis"] == 1
    again.send("undo")
    assert explorer.status["text"] == "nothing to undo"
    again.send("redo")
    assert study.annotations.get(BASIS, 1, "positive") == "of mine"


def test_undo_shows_a_basis_as_it_is_by_now(explorer, browser, study):
    browser.label(1, "positive", "of the fit that was seen")
    study.fit("pca", layer=1, n_axes=3, name=BASIS)
    study.annotations.set(BASIS, 2, "positive", "of the new fit", session=explorer._session)
    browser.send("undo")
    assert explorer.card["n_axes"] == 3
    assert (explorer.card["axis"], explorer.card["positive"]["label"]) == (2, "")
    assert len(explorer.axes) == 3


def test_a_cell_shows_the_widget_and_a_static_twin(explorer, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **_: shown.extend(objects))
    explorer._ipython_display_()
    live, still = shown
    assert "application/vnd.jupyter.widget-view+json" in live
    assert explorer.setting["fallback"] in still.data


def test_saved_output_stays_small(explorer):
    import json

    assert len(json.dumps([explorer.axes, explorer.card, explorer.setting])) < 60_000
