"""What the figures of skills draw, read back from their HTML."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mnskills_viz.activations.tokens import Role
from mnskills_viz.widgets.skill_figures import Line, running_figure, skill_figure

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")


def axis(number: int, mean: float, low: float | None, high: float | None, sure: bool, name="+ a"):
    return {
        "axis": number,
        "name": name,
        "mean": mean,
        "low": low,
        "high": high,
        "share": 0.25,
        "sure": sure,
    }


AXES = [
    axis(3, -1.5, -2.0, -1.0, True, "− lists"),
    axis(0, 1.0, 0.5, 1.5, True),
    axis(12, 0.2, -0.3, 0.7, False, HOSTILE),
]
ROLES = [Role.TEMPLATE] * 3 + [Role.PROMPT] * 17 + [Role.RESPONSE] * 20
VALUES = np.concatenate([np.full(3, NAN), 50 / np.arange(1, 38)])
FIGURES = {
    "skill": lambda: skill_figure(AXES),
    "skill of one text": lambda: skill_figure([axis(1, 0.5, None, None, False)]),
    "skill on its mean": lambda: skill_figure([axis(1, 0.0, NAN, NAN, False)]),
    "skill of nothing": lambda: skill_figure([]),
    "running": lambda: running_figure([HOSTILE] * 40, [Line(HOSTILE, VALUES)], ROLES),
    "running over one token": lambda: running_figure(["a"], [Line("x", [1.0])]),
    "running of nothing": lambda: running_figure(["a", "b"], [Line("x", [NAN, NAN])]),
}


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.encode())


def bars(html: str) -> list[dict[str, str]]:
    return [r.attrib for r in parsed(html).iter(f"{SVG}rect") if "--mn" in r.get("fill", "")]


def per_cent(value: str) -> float:
    return float(value.rstrip("%"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_has_a_title_and_escapes(name):
    html = FIGURES[name]()
    (svg,) = (e for e in parsed(html) if e.tag.endswith("svg"))
    assert svg.find(f"{SVG}title").text
    assert "<script" not in html.lower()
    assert "nan" not in html.lower()
    assert FIGURES[name]() == html


@pytest.mark.parametrize("name", ["skill", "skill of one text", "running"])
def test_nothing_is_drawn_beyond_the_width(name):
    for element in parsed(FIGURES[name]()).iter():
        for place in ("x", "x1", "x2"):
            value = element.get(place, "")
            if value.endswith("%"):
                assert -0.5 <= per_cent(value) <= 100.5


def test_bars_go_from_the_middle_to_the_mean_in_the_colour_of_its_pole():
    drawn = bars(skill_figure(AXES))
    ends = [(per_cent(b["x"]), per_cent(b["x"]) + per_cent(b["width"])) for b in drawn]
    reach = (ends[1][1] - 50) / 1.0  # per cent of the width a standard deviation
    assert ends[0][1] == pytest.approx(50, abs=0.02)
    assert 50 - ends[0][0] == pytest.approx(1.5 * reach, abs=0.05)
    assert ends[2] == pytest.approx((50, 50 + 0.2 * reach), abs=0.05)
    assert ["blue" in bar["fill"] for bar in drawn] == [True, False, False]


def test_what_may_be_chance_is_paler_and_said():
    html = skill_figure(AXES)
    opacity = [float(bar["fill-opacity"]) for bar in bars(html)]
    assert opacity[0] == opacity[1] > 2 * opacity[2]
    said = parsed(html).find(f".//{SVG}desc").text
    assert said.count("maybe chance") == 1
    assert "axis 3, − lists: −1.50 [−2.00, −1.00], 25% of the skill" in said


def test_one_text_has_no_interval_and_no_doubt():
    html = skill_figure([axis(1, 0.5, None, None, False)])
    assert "chance" not in html
    assert "[" not in parsed(html).find(f".//{SVG}desc").text
    assert float(bars(html)[0]["fill-opacity"]) > 0.8


def lines_of(html: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d"))]
        for path in parsed(html).iter(f"{SVG}path")
    ]


def test_a_line_begins_with_the_first_counted_token_and_ends_with_the_last():
    (line,) = lines_of(running_figure(["t"] * 40, [Line("x", VALUES)], ROLES))
    assert len(line) == 37
    assert (line[0][0], line[-1][0]) == (0, 100)


def test_the_scale_is_that_of_the_settled_part():
    (line,) = lines_of(running_figure(["t"] * 40, [Line("x", VALUES)], ROLES))
    settled = [y for _, y in line[4:]]
    assert 0 <= min(settled) < max(settled) <= 100
    assert line[0][1] < 0  # above the plot, where it is cut off


def test_places_are_linear_in_the_value():
    values = np.linspace(-2, 2, 30)
    (line,) = lines_of(running_figure(["t"] * 30, [Line("x", values)]))
    steps = np.diff([y for _, y in line])
    np.testing.assert_allclose(steps, steps[0], atol=0.02)
    assert steps[0] < 0


def test_a_gap_in_the_values_is_a_gap_in_the_line():
    html = running_figure(["t"] * 5, [Line("x", [1, 2, NAN, 2, 1])])
    (path,) = (p.get("d") for p in parsed(html).iter(f"{SVG}path"))
    assert path.count("M") == 2


def test_the_value_at_the_end_stands_beside_the_name():
    html = running_figure(["t"] * 3, [Line("3 + sums", [NAN, 0.5, -1.25])])
    assert "3 + sums: −1.25 at the end" in parsed(html).find(f".//{SVG}desc").text
    assert "−1.25" in [text.text for text in parsed(html).iter(f"{SVG}text")]


def test_the_beginning_of_the_response_is_marked_where_there_is_one():
    marked = running_figure(["t"] * 40, [Line("x", VALUES)], ROLES)
    assert "response" in [text.text for text in parsed(marked).iter(f"{SVG}text")]
    for roles in (None, [Role.PROMPT] * 40, [Role.RESPONSE] * 40):
        plain = running_figure(["t"] * 40, [Line("x", VALUES)], roles)
        assert "response" not in [text.text for text in parsed(plain).iter(f"{SVG}text")]


def test_a_place_quotes_the_text_so_far():
    html = running_figure(["one ", "two ", "three"], [Line("x", [1.0, 2.0, 3.0])])
    said = [t.text for t in parsed(html).iter(f"{SVG}title")]
    assert "token 2, …one two three: x +3.00" in said


def test_a_long_text_answers_to_the_mouse_in_few_places():
    n = 5_000
    html = running_figure(["t"] * n, [Line("x", np.sin(np.arange(n)))])
    strips = list(parsed(html).iter(f"{SVG}rect"))
    assert 80 < len(strips) <= 160
    assert per_cent(strips[-1].get("x")) + per_cent(strips[-1].get("width")) >= 98
