"""What the figures of selections and of errors draw, read back from their HTML."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.evaluation.tables import scores
from mnskills_viz.selection.difference import composition
from mnskills_viz.selection.measures import Coverage, coverage
from mnskills_viz.selection.weakness import pole_weakness
from mnskills_viz.widgets.error_figures import (
    comparison_figure,
    evaluation_figure,
    weakness_figure,
)
from mnskills_viz.widgets.export_figures import loss_strip
from mnskills_viz.widgets.selection_figures import (
    composition_figure,
    coverage_figure,
    overlap_figure,
)

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")
N_POOL = 200

generator = np.random.default_rng(0)
POOL = generator.standard_normal((N_POOL, 4))
PROBE = generator.standard_normal((120, 12))
ERROR = np.clip(0.5 + 0.3 * PROBE[:, 0] + 0.1 * generator.standard_normal(120), 0, 1)
CATEGORIES = ["a"] * 120 + ["b"] * 60 + [HOSTILE] * 20
SELECTIONS = {
    "only a": np.arange(40),
    HOSTILE: np.arange(100, 140),
    "spread": np.arange(0, N_POOL, 5),
}


def weak() -> pd.DataFrame:
    return pole_weakness(PROBE, ERROR)


def equally_weak() -> pd.DataFrame:
    table = weak().assign(shrunk=0.5, low=0.5, high=0.5, mass=0.0)
    table.attrs["mean_error"] = 0.5
    return table


def compared(**columns) -> pd.DataFrame:
    """Axis 0 improved at +, got worse at -; of axis 1 nothing can be told, and - has nobody."""
    table = pd.DataFrame(
        {
            "axis": [0, 1],
            "shift": [0.4, -0.1],
            "shift_low": [0.3, -0.2],
            "shift_high": [0.5, 0.0],
            "error_positive_before": [0.8, 0.5],
            "error_positive_after": [0.5, 0.49],
            "change_positive": [-0.3, -0.01],
            "change_positive_low": [-0.4, -0.1],
            "change_positive_high": [-0.2, 0.08],
            "error_negative_before": [0.3, NAN],
            "error_negative_after": [0.4, NAN],
            "change_negative": [0.1, NAN],
            "change_negative_low": [0.05, NAN],
            "change_negative_high": [0.15, NAN],
        }
    ).assign(**columns)
    table.attrs |= {"mean_error_before": 0.5, "mean_error_after": 0.375}
    return table


def measured(rate: float) -> pd.DataFrame:
    """As `evaluate` gives it, of 30 problems with 4 samples each."""
    c = np.random.default_rng(1).binomial(4, rate, size=30)
    samples = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(30)],
            "category": ["a"] * 20 + [HOSTILE] * 10,
            "n": 4,
            "c": c,
            "logprob": -1.0 - c / 4,
        }
    )
    return scores(samples, k=(1, 4))


def covers(rows) -> Coverage:
    return coverage(POOL, rows, PROBE[:, :4])


def draws(n: int = 20) -> list[Coverage]:
    return [covers(np.random.default_rng(i).choice(N_POOL, 40, replace=False)) for i in range(n)]


COVERED = {name: covers(rows) for name, rows in SELECTIONS.items()}
LABELS = {(0, 1): HOSTILE, (0, -1): "easy ones"}
FIGURES = {
    "weakness": lambda: weakness_figure(weak(), LABELS),
    "weakness of few poles": lambda: weakness_figure(pole_weakness(PROBE[:, :2], ERROR)),
    "weakness without any": lambda: weakness_figure(equally_weak()),
    "weakness of nothing": lambda: weakness_figure(weak().head(0)),
    "comparison": lambda: comparison_figure(compared(), LABELS),
    "comparison of nothing": lambda: comparison_figure(compared().head(0)),
    "evaluation": lambda: evaluation_figure({"before": measured(0.2), HOSTILE: measured(0.6)}),
    "log-probabilities": lambda: evaluation_figure({"before": measured(0.2)}, "logprob"),
    "evaluation of nothing": lambda: evaluation_figure({}),
    "composition": lambda: composition_figure(composition(CATEGORIES, SELECTIONS)),
    "composition of nothing": lambda: composition_figure(
        composition(CATEGORIES, SELECTIONS).head(0)
    ),
    "coverage": lambda: coverage_figure(COVERED, draws(), covers(np.arange(N_POOL))),
    "coverage alone": lambda: coverage_figure(COVERED),
    "coverage of nothing": lambda: coverage_figure({}),
    "overlap": lambda: overlap_figure(SELECTIONS, N_POOL),
    "overlap of one": lambda: overlap_figure({"a": [1]}),
    "overlap of nothing": lambda: overlap_figure({}),
}


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.encode())


def texts_of(html: str) -> list[str]:
    """What is in sight; not what is said when the mouse is over it."""
    root = parsed(html)
    for title in root.iter(f"{SVG}title"):
        title.text = ""
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def labels_of(html: str) -> list[str]:
    return [
        text
        for div in parsed(html).iter("{http://www.w3.org/1999/xhtml}div")
        for text in div.itertext()
    ]


def groups(html: str) -> Iterator[tuple[str, ElementTree.Element]]:
    """Rows or cells of a figure: what is said of each, and the element."""
    for group in parsed(html).iter(f"{SVG}g"):
        said = group.find(f"{SVG}title")
        if said is not None:
            yield said.text, group


def said_of(html: str) -> list[str]:
    return [said for said, _ in groups(html)]


def marks_of(group: ElementTree.Element) -> list[tuple[float, float]]:
    """Places of the marks in a row, across."""
    return [
        float(mark.get("x").rstrip("%")) for mark in group.iter(f"{SVG}svg") if mark.get("overflow")
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_the_same_each_time_and_loads_nothing(name):
    html = FIGURES[name]()
    assert html == FIGURES[name]()
    parsed(html)
    assert "<script" not in html
    assert not re.search(r"\b(href|src)=|url\(|\bnan\b|\binf\b", html)
    attributes = [v for e in parsed(html).iter() for k, v in e.attrib.items() if k != "style"]
    assert not any(re.search(r"\.\d{3,}", value) for value in attributes)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_name_a_description_and_colours_for_dark_pages(name):
    root = parsed(FIGURES[name]())
    svg = next(root.iter(f"{SVG}svg"))
    assert svg.get("role") == "img"
    assert [child.tag for child in svg][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all((child.text or "").strip() for child in svg[:2])
    [style] = root.iter("style")
    assert '[data-jp-theme-light="false"]' in style.text
    assert "prefers-color-scheme:dark" in style.text


@pytest.mark.parametrize("name", [n for n in FIGURES if "nothing" not in n])
def test_nothing_is_drawn_outside_of_a_figure(name):
    svg = next(parsed(FIGURES[name]()).iter(f"{SVG}svg"))
    places = [
        float(element.get(end).rstrip("%"))
        for element in svg.iter()
        for end in ("x", "x1", "x2")
        if (element.get(end) or "").endswith("%")
    ]
    assert min(places) >= -0.01
    assert max(places) <= 100.01
    heights = [float(element.get("y")) for element in svg.iter(f"{SVG}text")]
    assert max(heights) <= float(svg.get("height"))


# ---------------------------------------------------------------------------------------- weak


def test_the_weakest_pole_comes_first_and_the_strongest_last():
    said = said_of(weakness_figure(weak(), most=3))
    assert said[0].startswith("axis 0 +: error")
    assert said[-1].startswith("axis 0 −: error")
    assert len(said) == 3 + 4
    assert "⋮ 17 poles between" in texts_of(weakness_figure(weak(), most=3))


def test_a_pole_is_called_weak_only_if_its_interval_leaves_out_the_mean():
    table = weak()
    mean = table.attrs["mean_error"]
    html = weakness_figure(table, most=len(table))
    said = dict(
        zip(
            ("weaker", "stronger", "cannot"),
            ("weaker than", "stronger than", "cannot be told"),
            strict=True,
        )
    )
    counts = {
        kind: sum(f", {words}" in line for line in said_of(html)) for kind, words in said.items()
    }
    weaker, stronger = (table["low"] > mean).sum(), (table["high"] < mean).sum()
    assert min(weaker, stronger) > 0
    assert counts == {
        "weaker": weaker,
        "stronger": stronger,
        "cannot": len(table) - weaker - stronger,
    }


def test_shrunk_and_raw_errors_stand_on_one_scale():
    table = weak()
    at = table.set_index(["axis", "pole"])
    places = []
    for said, group in groups(weakness_figure(table, most=len(table))):
        axis, sign = re.match(r"axis (\d+) ([+−])", said).groups()
        row = at.loc[int(axis), 1 if sign == "+" else -1]
        raw, shrunk = marks_of(group)
        places += [(row["weakness"], raw), (row["shrunk"], shrunk)]
    values, across = np.array(places).T
    slope, start = np.polyfit(values, across, 1)
    np.testing.assert_allclose(across, start + slope * values, atol=0.02)


def test_shares_of_the_budget_add_up():
    said = said_of(weakness_figure(weak(), most=24))
    shares = [int(re.search(r"(\d+)% of the budget", line)[1]) for line in said]
    assert abs(sum(shares) - 100) <= len(shares) / 2


def test_the_joint_regression_agrees_opposes_or_says_nothing():
    table = weak().head(4).assign(ridge=[0.2, 0.2, 0.001, -0.2], shrunk=[0.9, 0.1, 0.8, 0.7])
    table.attrs["mean_error"] = 0.5
    ends = {said[:8]: said.rsplit(": ", 1)[1] for said in said_of(weakness_figure(table))}
    assert ends == {
        "axis 0 +": "agrees",
        "axis 0 −": "opposes",
        "axis 1 +": "nothing",
        "axis 1 −": "opposes",
    }


def test_without_any_weak_pole_the_figure_says_so():
    assert any("No pole is weaker" in text for text in texts_of(weakness_figure(equally_weak())))
    assert not any("No pole is weaker" in text for text in texts_of(weakness_figure(weak())))


def test_a_pole_on_which_nobody_lies_has_no_raw_error():
    one_sided = np.column_stack([np.abs(PROBE[:, 0]), PROBE[:, 1:4]])
    html = weakness_figure(pole_weakness(one_sided, ERROR))
    [said] = [line for line in said_of(html) if line.startswith("axis 0 −")]
    assert "before shrinking unknown; support 0" in said


def test_poles_are_named_by_their_labels():
    html = weakness_figure(weak(), LABELS)
    assert "easy ones" in labels_of(html)
    assert said_of(html)[-1].startswith("axis 0 − (easy ones): error")  # whole when pointed at
    assert set(labels_of(weakness_figure(weak()))) == {"unnamed"}


# -------------------------------------------------------------------------------- before and after


def test_poles_are_sorted_from_improved_to_worse_and_called_so():
    html = comparison_figure(compared())
    verdicts = [re.match(r"axis (\d [+−]).*\), ([\w ]+);", line).groups() for line in said_of(html)]
    assert verdicts == [("0 +", "improved"), ("1 +", "cannot be told"), ("0 −", "worse")]
    assert {"improved", "worse", "cannot be told"} <= set(texts_of(html))
    assert {"1 improved", "1 worse", "1 cannot be told"} <= set(texts_of(html))


def test_the_line_of_the_whole_probe_is_the_change_of_its_mean_error():
    html = comparison_figure(compared())
    assert "whole probe −0.12" in texts_of(html)  # 0.375 less 0.5
    [line] = [line for line in parsed(html).iter(f"{SVG}line") if line.get("stroke-dasharray")]
    values = [-0.3, -0.01, 0.1]
    marks = [marks_of(group)[0] for _, group in groups(html)]
    slope, start = np.polyfit(values, marks, 1)
    assert float(line.get("x1").rstrip("%")) == pytest.approx(start + slope * -0.125, abs=0.02)


def test_a_shift_is_towards_the_pole_that_it_stands_beside():
    moved = {line[:8]: line.split("moved ")[1] for line in said_of(comparison_figure(compared()))}
    assert moved["axis 0 +"].startswith("+0.40")
    assert moved["axis 0 −"].startswith("−0.40")


def test_of_many_poles_the_middle_is_counted():
    table = pd.concat([compared().head(1).assign(axis=i) for i in range(20)])
    table.attrs |= compared().attrs
    html = comparison_figure(table, most=10)
    assert len(said_of(html)) == 10
    assert "⋮ 30 poles between" in texts_of(html)
    assert "20 improved" in texts_of(html)


def test_an_evaluation_shows_every_group_of_every_table():
    before, after = measured(0.2), measured(0.6)
    html = evaluation_figure({"before": before, "after": after}, "pass@4")
    rows = before[before["metric"] == "pass@4"].set_index("group")
    [said] = [line for line in said_of(html) if line.startswith("all, before")]
    low, high = rows.loc["all", ["low", "high"]]
    assert (
        said
        == f"all, before: {rows.loc['all', 'value']:.2f} ({low:.2f} to {high:.2f}), 30 examples"
    )
    assert len(said_of(html)) == 3 * 2
    assert {"before", "after"} <= set(texts_of(html))


def test_shares_are_drawn_from_0_to_1_and_log_probabilities_where_they_lie():
    tables = {"before": measured(0.2)}
    assert {"0", "1.0"} <= set(texts_of(evaluation_figure(tables)))
    rows = tables["before"].query("metric == 'logprob'")
    lowest = rows["low"].min()
    written = [
        float(t.replace("−", "-"))
        for t in texts_of(evaluation_figure(tables, "logprob"))
        if re.fullmatch(r"[−+][\d.]+", t)
    ]
    assert min(written) >= lowest - 0.2


def test_a_group_that_one_table_lacks_is_left_open():
    before, after = measured(0.2), measured(0.6)
    html = evaluation_figure({"before": before, "after": after[after["group"] == "all"]})
    assert [line.split(":")[0] for line in said_of(html)].count("a, before") == 1
    assert not any(line.startswith("a, after") for line in said_of(html))


# -------------------------------------------------------------------------------------- bought


def test_a_group_is_more_or_less_than_chance_by_the_band_of_random_draws():
    table = composition(CATEGORIES, SELECTIONS)
    said = {line.split(": ")[0]: line for line in said_of(composition_figure(table))}
    assert "40 rows, 100.0%, more than a random draw" in said["only a, a"]
    assert "0 rows, 0.0%, less" in said["only a, b"]
    assert "as a random draw may" in said["spread, a"]
    assert "the pool 60.0%" in said["spread, a"]


def test_share_pool_and_band_stand_on_one_scale():
    table = composition(CATEGORIES, {"only a": SELECTIONS["only a"]})
    places = []
    for (_, group), row in zip(
        groups(composition_figure(table)), table.to_dict("records"), strict=True
    ):
        [share] = marks_of(group)
        pool = next(e for e in group.iter(f"{SVG}line") if e.get("x1") == e.get("x2"))
        band = next(group.iter(f"{SVG}rect"))
        left, width = (float(band.get(name).rstrip("%")) for name in ("x", "width"))
        places += [(row["share"], share), (row["pool_share"], float(pool.get("x1").rstrip("%")))]
        places += [(row["low"], left), (row["high"], left + width)]
    values, across = np.array(places).T
    slope, start = np.polyfit(values, across, 1)
    np.testing.assert_allclose(across, start + slope * values, atol=0.03)


def test_more_than_four_selections_stand_in_several_rows_of_panels():
    many = {f"s{i}": SELECTIONS["spread"] for i in range(6)}
    html = composition_figure(composition(CATEGORIES, many))
    assert [f"s{i}" in texts_of(html) for i in range(6)] == [True] * 6
    assert labels_of(html).count("a") == 2


def test_of_many_groups_the_rest_is_counted():
    html = composition_figure(composition([f"g{i % 30:02}" for i in range(N_POOL)], SELECTIONS))
    assert "and 6 more groups" in texts_of(html)
    assert "40 rows" in texts_of(html)  # all of them, also those of groups that are not shown


# ------------------------------------------------------------------------------------- covered


def test_what_covers_better_than_random_draws_is_called_so_and_what_covers_less_too():
    corner = {"corner": np.argsort(-POOL[:, 0])[:40], "a draw": SELECTIONS["spread"]}
    html = coverage_figure({name: covers(rows) for name, rows in corner.items()}, draws())
    said = {line.split(": ")[0]: line for line in said_of(html)}
    assert said["corner, nearest pick, mean"].endswith("less well")
    assert said["corner, empty bins"].endswith("less well")
    assert said["a draw, nearest pick, mean"].endswith("as random draws")


def test_whether_more_or_less_is_better_depends_on_the_measure():
    whole = {"the pool": covers(np.arange(N_POOL))}
    said = {line.split(": ")[0]: line for line in said_of(coverage_figure(whole, draws()))}
    assert said["the pool, nearest pick, mean"].endswith("better than random draws")
    less = covers(np.arange(N_POOL))._replace(participation=1.0)
    said = {line.split(": ")[0]: line for line in said_of(coverage_figure({"x": less}, draws()))}
    assert said["x, directions"].endswith("less well")


def test_without_random_draws_nothing_is_judged():
    assert not any(
        "random" in line
        for line in [*said_of(FIGURES["coverage alone"]()), *texts_of(FIGURES["coverage alone"]())]
    )


# ------------------------------------------------------------------------------------ in common


def test_overlap_is_rows_in_both_of_rows_in_either():
    html = overlap_figure({"x": ["1", "2", "3"], "y": ["3", "4"], "z": ["9"]})
    assert said_of(html) == ["y and x: 25%", "z and x: 0%", "z and y: 0%"]
    assert {"3 rows", "2 rows", "1 rows"} <= set(texts_of(html))


def test_overlap_by_chance_is_that_of_random_draws():
    draw = np.random.default_rng(0)
    shared = []
    for _ in range(2000):
        a, b = (set(draw.choice(100, size, replace=False).tolist()) for size in (30, 50))
        shared.append(len(a & b) / len(a | b))
    [said] = said_of(overlap_figure({"a": range(30), "b": range(50)}, 100))
    by_chance = int(re.search(r"by chance (\d+)%", said)[1]) / 100
    assert by_chance == pytest.approx(np.mean(shared), abs=0.01)


# -------------------------------------------------------------------------------- learnt from


def test_every_token_is_in_sight_and_those_with_loss_are_marked():
    html = loss_strip(["<|user|>", "2+2?", "\n", HOSTILE, "<|end|>"], [False] * 3 + [True] * 2)
    tokens = [(i.get("class"), i.text) for i in parsed(html).iter("i") if i.get("title")]
    assert [kind for kind, _ in tokens] == ["template"] * 3 + ["response"] * 2
    assert [text for _, text in tokens][:3] == ["<|user|>", "2+2?", "↵"]
    assert "<script" not in html
    assert "read only: 3" in html
    assert "the loss is on these: 2" in html


def test_of_a_long_row_the_rest_is_counted():
    html = loss_strip(["a"] * 1000, [True] * 1000)
    assert "400 more tokens" in html
    assert "the loss is on these: 1000" in html
