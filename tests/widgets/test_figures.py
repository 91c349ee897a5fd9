"""What the figures draw, read back from their SVG."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.widgets import figures

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
BROKEN = HOSTILE + "\ud800"  # half a surrogate pair, which JSON can hold and UTF-8 cannot
SVG = "{http://www.w3.org/2000/svg}"


def axes_table(n: int = 5, label: str = "") -> pd.DataFrame:
    utility = np.linspace(-0.02, 0.03, n)
    return pd.DataFrame(
        {
            "axis": np.arange(n),
            "utility": utility,
            "low": utility - 0.004,
            "high": utility + 0.004,
            "null_high": 0.015,
            "special": np.abs(utility) > 0.015,
            "weakness_positive": np.linspace(0.3, 0.7, n),
            "weakness_negative": np.linspace(0.6, 0.5, n),
            "label_positive": label,
            "label_negative": "",
            "categories_positive": "strings 75%, logic 20%",
            "categories_negative": "lists 50%",
        }
    )


FIGURES = {
    "forest": lambda: figures.forest(axes_table(label=HOSTILE)),
    "histogram": lambda: figures.histogram(np.random.default_rng(0).standard_normal(500)),
}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode())


def text_of(svg: str) -> str:
    return " ".join(parsed(svg).itertext())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_xml_with_a_name_and_a_description_for_screen_readers(name):
    root = parsed(FIGURES[name]())
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all((child.text or "").strip() for child in root[:2])


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_values_give_the_same_text(name):
    assert FIGURES[name]() == FIGURES[name]()


@pytest.mark.parametrize("name", FIGURES)
def test_coordinates_are_rounded_and_nothing_loads_or_runs(name):
    svg = FIGURES[name]()
    attributes = [v for e in parsed(svg).iter() for k, v in e.attrib.items() if k != "style"]
    assert not any(re.search(r"\.\d{3,}", value) for value in attributes)
    assert "<script" not in svg
    assert not re.search(r"\b(href|src)=|url\(", svg)


def test_labels_arrive_as_text():
    assert '<script>alert("&")' in text_of(FIGURES["forest"]())


def test_the_forest_is_sorted_and_shows_utilities_with_their_sign():
    rows = parsed(figures.forest(axes_table())).iter(f"{SVG}g")
    titles = [row.find(f"{SVG}title").text for row in rows]
    assert [title.split(":")[0] for title in titles] == [f"Axis {a}" for a in (4, 3, 2, 1, 0)]
    assert titles[0] == "Axis 4: +30.0 (+26.0 to +34.0), beats chance"
    assert titles[-1] == "Axis 0: −20.0 (−24.0 to −16.0), beats chance"
    assert "within chance" in titles[2]


def test_the_forest_says_its_unit_at_the_axis_once():
    texts = [text.text for text in parsed(figures.forest(axes_table())).iter(f"{SVG}text")]
    assert [text for text in texts if "nats" in text] == ["utility, 10⁻³ nats/token"]
    assert {"−20", "0", "+20"} <= set(texts)


def test_the_table_that_a_forest_is_drawn_from_stays_as_it_is():
    table = axes_table()
    figures.forest(table)
    pd.testing.assert_frame_equal(table, axes_table())


def test_only_special_axes_have_the_diamond():
    table = axes_table()
    svg = figures.forest(table)
    assert svg.count('d="M0-5.5') == table["special"].sum() == 3
    assert svg.count("<circle") == 2


def test_the_band_of_chance_is_drawn_symmetrically_about_zero():
    root = parsed(figures.forest(axes_table()))
    for band in root.iter(f"{SVG}rect"):
        left, width = (float(band.get(name).rstrip("%")) for name in ("x", "width"))
        assert left + width / 2 == pytest.approx(57, abs=0.02)  # where zero lies


def test_axes_without_a_utility_are_left_out_of_the_forest():
    table = axes_table()
    table.loc[1, "utility"] = np.nan
    assert "Axis 1:" not in figures.forest(table)
    assert "No values yet" in figures.forest(table.iloc[1:2])


def test_an_axis_is_named_by_its_labels_and_else_by_its_categories():
    row = axes_table().to_dict("records")[0]
    assert figures.axis_label(row) == "lists ↔ strings"
    assert figures.axis_label(row | {"label_negative": "Sums"}) == "Sums ↔ strings"


def test_the_histogram_counts_every_finite_value():
    svg = figures.histogram([-2.0, -1.0, 0.5, 2.0, np.nan], n_bins=4)
    assert "4 rows from −2.00 to +2.00" in svg
    below, above = (path.get("d") for path in parsed(svg).iter(f"{SVG}path"))
    assert (below.count("M"), above.count("M")) == (2, 2)


@pytest.mark.parametrize(
    "svg",
    [
        figures.histogram([]),
        figures.histogram([0.0]),
        figures.forest(axes_table().assign(utility=0.0, low=0.0, high=0.0, null_high=0.0)),
    ],
)
def test_nothing_and_nothing_but_zeros_can_be_drawn(svg):
    assert "nan" not in text_of(svg)
    assert "inf" not in svg
