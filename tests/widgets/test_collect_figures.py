"""What the figures of a collection draw, read back from their HTML."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.widgets import collect_figures as figures
from mnskills_viz.widgets.curves import Curve, curves

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"
LAYERS = [0, 1, 2, 3]


def tokens_table(text: str = " is") -> pd.DataFrame:
    """Six tokens: two of the template, of which the first is a sink; the fourth is one at 1, 2."""
    return pd.DataFrame(
        {
            "position": range(6),
            "token_id": [1, 5, 7, 8, 9, 10],
            "text": ["<s>", "\n", "What", text, " May", "."],
            "role": ["template", "template", "prompt", "prompt", "response", "response"],
            "counted": [False, False, True, True, True, True],
            "sink_at": [[], [], [], [1, 2], [], []],
        }
    )


def norms() -> np.ndarray:
    found = np.full((4, 6), 10.0)
    found[2:, 0] = 2000.0
    found[1:3, 3] = 50.0
    return found


FIGURES = {
    "strip": lambda: figures.token_strip(tokens_table(HOSTILE)),
    "counted": lambda: figures.counted_tokens({"all": ["prompt"] * 3}, {"all": [0, 1, 1]}),
    "map": lambda: figures.norm_map(norms(), tokens_table(HOSTILE)),
    "curves": lambda: curves(HOSTILE, [Curve(HOSTILE, [1, 2, 3, 4])], LAYERS),
}


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.encode())


def texts_of(html: str) -> list[str]:
    return [text.text or "" for text in parsed(html).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_and_what_it_shows_arrives_as_text(name):
    html = FIGURES[name]()
    assert html == FIGURES[name]()
    parsed(html)
    assert "<script" not in html
    assert not re.search(r"\b(href|src)=|url\(|nan|inf\b", html)
    if name != "counted":
        assert '<script>alert("&")' in " ".join(parsed(html).itertext()).replace("␣", " ")


@pytest.mark.parametrize("name", ["counted", "map", "curves"])
def test_a_drawing_has_a_name_and_a_description_for_screen_readers(name):
    root = next(parsed(FIGURES[name]()).iter(f"{SVG}svg"))
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all((child.text or "").strip() for child in root[:2])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_brings_its_colours_for_dark_pages(name):
    [style] = parsed(FIGURES[name]()).iter("style")
    assert '[data-jp-theme-light="false"]' in style.text
    assert "prefers-color-scheme:dark" in style.text


def test_the_strip_marks_roles_and_sinks_and_says_where():
    shown = [i for i in parsed(figures.token_strip(tokens_table())).iter("i") if i.get("title")]
    assert "".join(i.text for i in shown) == "<s>↵What is May."
    assert [i.get("class").split()[0] for i in shown] == tokens_table()["role"].tolist()
    assert [i.get("title") for i in shown if "sink" in i.get("class")] == [
        "token 0: template, does not count, left out at every layer",
        "token 3: prompt, counts, left out at layers 1 to 2",
    ]


def test_the_strip_counts_what_it_shows():
    key = [i.text for i in parsed(figures.token_strip(tokens_table())).iter("i")][:4]
    assert key == [
        "template, not counted: 2",
        "prompt: 2",
        "response: 2",
        "attention sink, left out: 2",
    ]


def test_immediate_repeats_of_the_first_token_are_marked_as_sinks():
    table = tokens_table()
    table["token_id"] = [1, 1, 7, 1, 9, 10]
    shown = [i for i in parsed(figures.token_strip(table)).iter("i") if i.get("title")]
    assert ["sink" in i.get("class") for i in shown] == [True, True, False, True, False, False]


def test_a_long_text_ends_with_the_number_of_what_is_not_shown():
    table = pd.concat([tokens_table()] * 200, ignore_index=True)
    table["position"] = range(len(table))
    html = figures.token_strip(table)
    assert f"… {len(table) - figures.MOST_TOKENS:,} more tokens" in html
    assert html.count("title=") == figures.MOST_TOKENS


def test_every_counted_token_has_its_mark_in_the_colour_of_its_role():
    roles = ["template", "prompt", "prompt", "response"]
    html = figures.counted_tokens(
        {"content": roles, "prompt": roles}, {"content": [0, 1, 1, 1], "prompt": [0, 1, 1, 0]}
    )
    marks = [
        (path.get("fill"), re.findall(r"M(\d+)", path.get("d")))
        for path in parsed(html).iter(f"{SVG}path")
    ]
    assert marks == [
        (figures.PROMPT, ["1", "2"]),
        (figures.RESPONSE, ["3"]),
        (None, ["0"]),
        (figures.PROMPT, ["1", "2"]),
        (None, ["0", "3"]),
    ]
    assert {"3 of 4", "2 of 4"} <= set(texts_of(html))


def test_the_map_draws_every_cell_once_and_the_outstanding_ones_in_their_own_colour():
    drawn = {figures.INK: np.zeros((4, 6), int), figures.SINK: np.zeros((4, 6), int)}
    for path in parsed(figures.norm_map(norms(), tokens_table())).iter(f"{SVG}path"):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", path.get("d")):
            drawn[path.get("fill")][3 - int(y), int(x) : int(x) + int(length)] += 1
    outstanding = norms() > 4 * np.median(norms(), axis=1, keepdims=True)
    np.testing.assert_array_equal(drawn[figures.SINK], outstanding)
    np.testing.assert_array_equal(drawn[figures.INK], ~outstanding)


def test_a_larger_norm_is_drawn_in_more_ink():
    found = np.geomspace(1, 3, 24).reshape(4, 6)
    shade = {}
    for path in parsed(figures.norm_map(found, tokens_table())).iter(f"{SVG}path"):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", path.get("d")):
            for column in range(int(x), int(x) + int(length)):
                shade[3 - int(y), column] = float(path.get("fill-opacity"))
    shades = [shade[layer, column] for layer in range(4) for column in range(6)]
    assert shades == sorted(shades)
    assert shades[0] < shades[-1]


def test_the_map_names_the_tokens_that_stand_out_and_the_largest_factor():
    html = figures.norm_map(norms(), tokens_table())
    assert {"<s> at 0", "␣is at 3"} <= set(texts_of(html))
    assert "Token 0 reaches 200 times the median of layer 2" in html
    assert "template" in texts_of(html)


def test_a_map_without_layers_that_differ_can_be_drawn():
    assert "norms from 1 to 1" in figures.norm_map(np.ones((2, 6)), tokens_table())


def lines_of(html: str) -> list[list[tuple[float, float]]]:
    """Points of each line, in per cents of the plot, downwards."""
    paths = [p.get("d") for p in parsed(html).iter(f"{SVG}path") if p.get("fill") == "none"]
    return [[tuple(map(float, p.split())) for p in d[1:].split("L")] for d in paths]


def test_a_curve_goes_through_its_values():
    html = curves("t", [Curve("a", [0, 0.25, 1, 0.5])], LAYERS, low=0, high=1)
    x, y = np.array(lines_of(html)[0]).T
    np.testing.assert_allclose(x, np.array(LAYERS) / 3 * 100, atol=0.01)
    np.testing.assert_allclose(y, [100, 75, 0, 50], atol=0.01)


def test_on_a_log_scale_equal_factors_are_equal_steps():
    html = curves("t", [Curve("a", [1, 10, 100, 1000])], LAYERS, log=True)
    _, y = np.array(lines_of(html)[0]).T
    np.testing.assert_allclose(np.diff(y), np.diff(y)[0], atol=0.02)
    assert {"1", "10", "100", "1,000"} <= set(texts_of(html))


def test_a_band_lies_around_its_curve():
    curve = Curve("a", [0.5] * 4, error=[0.1] * 4, colour=figures.PROMPT)
    root = parsed(curves("t", [curve], LAYERS, low=0, high=1))
    [band] = [p for p in root.iter(f"{SVG}path") if p.get("fill") == figures.PROMPT]
    heights = {float(point.split()[1]) for point in band.get("d")[1:-1].split("L")}
    assert heights == {40.0, 60.0}


def test_names_at_the_ends_of_curves_do_not_lie_on_each_other():
    drawn = [Curve(f"curve {i}", [0, 0, 0, 0.001 * i]) for i in range(4)]
    root = parsed(curves("t", drawn, LAYERS, low=0, high=1))
    places = [
        float(t.get("y")) for t in root.iter(f"{SVG}text") if (t.text or "").startswith("curve")
    ]
    assert np.diff(sorted(places)).min() > 14
    assert places == sorted(places, reverse=True)  # the highest value has the highest name
