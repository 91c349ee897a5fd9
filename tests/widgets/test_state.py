"""What is found is compared with the line of Python that the explorer shows for it."""

import json
import shutil

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.widgets.cards import axis_card, axis_list, rows_of_card
from mnskills_viz.widgets.facts import BasisFacts
from mnskills_viz.widgets.found import PAGE, found_page, found_rows
from mnskills_viz.widgets.map import AxisMap, MapChoice
from mnskills_viz.widgets.state import (
    ExplorerState,
    Found,
    python_of_card,
    python_of_found,
    python_of_heat,
    python_of_label,
    python_of_list,
)

BASIS = "pca-1"


@pytest.fixture(scope="module")
def facts(tiny_study: mn.Study) -> BasisFacts:
    return BasisFacts(tiny_study, BASIS)


@pytest.fixture(scope="module")
def axis_map(tiny_study, facts) -> AxisMap:
    return AxisMap(facts.z, facts.categories, tiny_study.corpus, None, lambda corners: None)


def run(line: str, study: mn.Study):
    """What a line gives that somebody copies into a cell."""
    return eval(line, {"mn": mn, "study": study})


def state(**looks) -> ExplorerState:
    return ExplorerState(BASIS, 2, **looks)


def test_a_state_comes_back_from_json_as_it_was():
    everything = state(
        sort="variance",
        only="named",
        query="a",
        mode="matched",
        heat=True,
        found=Found("lasso", corners=((0.0, 1.0), (2.0, 3.0), (1.0, -1.0)), on=MapChoice(3, 1)),
        map=MapChoice(1, 0, "error"),
    )
    assert ExplorerState.from_dict(json.loads(json.dumps(everything.as_dict()))) == everything


@pytest.mark.parametrize(
    "kept",
    [{}, {"basis": "b", "sort": "beauty"}, {"basis": "b", "found": 3}, {"basis": "b", "x": 1}],
)
def test_a_state_of_another_version_begins_anew(kept):
    found = ExplorerState.from_dict(kept)
    assert found == ExplorerState(kept.get("basis", ""))


def test_a_state_is_brought_within_a_basis_of_fewer_axes():
    wide = ExplorerState(BASIS, 7, found=Found("range", 6), map=MapChoice(5, 0, "error"))
    narrow = wide.within(3)
    assert (narrow.axis, narrow.found, narrow.map) == (2, Found(), MapChoice(0, 1, "error"))
    assert wide.within(8) == wide
    assert wide.within(1).map == MapChoice(0, 0, "error")


@pytest.mark.parametrize("sort", ["number", "variance", "utility", "weakness", "stability"])
def test_the_line_of_the_list_gives_its_table(tiny_study, facts, sort):
    table = run(python_of_list(state(sort=sort), facts.rows[0]), tiny_study)
    shown = [entry["axis"] for entry in axis_list(facts, {}, state(sort=sort))]
    assert list(table["axis"]) == shown


@pytest.mark.parametrize("sort", ["utility", "weakness"])
def test_what_was_not_measured_does_not_stand_in_the_line(tiny_study, sort):
    line = python_of_list(state(sort=sort), ["axis", "variance"])
    assert len(run(line, tiny_study)) == tiny_study.basis(BASIS).n_axes_


def test_the_line_of_the_card_gives_its_rows(tiny_study, facts):
    for mode in ("top", "quantiles", "matched"):
        looks = state(mode=mode)
        shown = rows_of_card(axis_card(facts, {}, looks))
        found = run(python_of_card(looks), tiny_study)
        rows = [*found.positive, *found.negative] if mode == "top" else np.ravel(found)
        assert sorted(shown) == sorted(map(int, rows))


@pytest.mark.parametrize(
    "found",
    [
        Found("range", 2, low=0.5),
        Found("range", 1, high=-0.25),
        Found("range", 0, low=-0.5, high=0.5),
        Found("search", text="What is"),
        Found("lasso", corners=((-1.5, -1.0), (1.0, -1.0), (0.2, 1.5)), on=MapChoice(3, 1)),
    ],
    ids=["above", "below", "between", "search", "lasso"],
)
def test_the_line_of_what_is_browsed_gives_its_rows(tiny_study, facts, axis_map, found):
    looks = state(found=found)
    rows = found_rows(facts, looks, axis_map)
    assert 0 < len(rows) < len(facts.z)
    assert sorted(rows) == sorted(run(python_of_found(looks), tiny_study))
    assert (np.diff(facts.z[rows, 2]) <= 0).all()  # the highest on the axis first


def test_pages_part_what_was_found(facts):
    looks = state(found=Found("range", 2))
    rows = found_rows(facts, looks, None)
    pages = found_page(facts, looks, rows)["pages"]
    shown = []
    for page in range(pages):
        found = state(found=Found("range", 2, page=page))
        shown += [e["row"] for e in found_page(facts, found, rows)["examples"]]
    assert shown == rows.tolist()
    assert pages == -(-len(rows) // PAGE)


def test_a_page_beyond_the_last_is_the_last(facts):
    found = state(found=Found("range", 2, page=99))
    rows = found_rows(facts, found, None)
    page = found_page(facts, found, rows)
    assert page["page"] == page["pages"] - 1
    assert page["examples"]


@pytest.mark.parametrize("value", ["it's", 'a "b"', "back\\slash", "two\nlines", "‏עברית"])
def test_the_line_of_a_label_sets_it(tiny_study, tmp_path, value):
    shutil.copytree(tiny_study.path, tmp_path / "study")
    study = mn.Study.open(tmp_path / "study")
    run(python_of_label("a 'basis'", 3, "notes", value), study)
    assert study.annotations.get("a 'basis'", 3, "notes") == value


def test_the_line_of_heat_is_a_call_of_the_study():
    assert python_of_heat("b", [1, 2]) == "study.heat('b', [1, 2])"
