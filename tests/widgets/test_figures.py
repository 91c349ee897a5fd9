"""What the figures draw, read back from their SVG."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.widgets import figures

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"

FIGURES = {
    "histogram": lambda: figures.histogram(np.random.default_rng(0).standard_normal(500)),
    "empty histogram": lambda: figures.histogram([]),
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


def test_an_axis_is_named_by_its_labels_and_else_by_its_categories():
    row = {
        "axis": 3,
        "label_positive": "",
        "label_negative": "Sums",
        "categories_positive": "strings 75%, logic 20%",
        "categories_negative": "lists 50%",
    }
    table = pd.DataFrame([row, {"axis": 4, "label_negative": "", "label_positive": HOSTILE}])
    known = figures.pole_labels(table.fillna(""))
    assert known == {(3, 1): "strings", (3, -1): "Sums", (4, 1): HOSTILE, (4, -1): ""}


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
    ],
)
def test_nothing_and_nothing_but_zeros_can_be_drawn(svg):
    assert "nan" not in text_of(svg)
    assert "inf" not in svg
