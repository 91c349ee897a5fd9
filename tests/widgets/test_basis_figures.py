"""What the figures of bases draw, read back from their HTML."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.axes.badges import LENGTH_R2
from mnskills_viz.bases.pca import parallel_analysis
from mnskills_viz.widgets import basis_figures as figures
from mnskills_viz.widgets.basis_figures import Merit

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")


def layers_table() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "layer": [3, 9, 15],
            "probe": [0.5, 0.8, 0.78],
            "probe_se": [0.02, 0.03, 0.02],
            "stability": [0.4, 0.5, 0.6],
            "variance": [0.7, 0.7, 0.7],
            "chosen": [False, False, True],
        }
    )
    table.attrs = {"target": "category", "metric": "balanced accuracy", "chance": 0.125}
    return table


def quality_table(**columns) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "axis": [0, 1, 2],
            "variance": [0.2, 0.1, 0.05],
            "stability": [0.95, 0.7, 0.3],
            "bootstrap_low": [0.9, 0.5, 0.2],
            "stability_null": 0.45,
            "redundancy": [0.0, 0.0, 0.95],
            "length_r2": [0.1, LENGTH_R2 + 0.1, 0.2],
            "length_r2_null": 0.15,
            "template_r2": [0.1, 0.1, NAN],
            "template_r2_null": 0.2,
            "token_r2": [0.5, 0.95, 0.6],
            "token_r2_null": 0.8,
            "mutual_information": [0.9, 0.1, 0.2],
            "mutual_information_null": 0.5,
            "gradient_share": [0.01, 0.03, 0.002],
            "gradient_share_null": 0.02,
        }
    )
    return table.assign(**columns)


MERITS = [
    Merit("variance held", {"PCA": 0.8, HOSTILE: 0.5, "random": 0.1}, percent=True),
    Merit("left unexplained", {"PCA": 0.2, HOSTILE: 0.5, "random": NAN}, better="less"),
    Merit("nothing known", {"PCA": NAN, HOSTILE: NAN, "random": NAN}),
]
FIGURES = {
    "spectrum": lambda: figures.spectrum([0.5, 0.2, 0.1], [0.3, 0.15, 0.12]),
    "layers": lambda: figures.layer_curve(layers_table()),
    "quality": lambda: figures.quality_figure(quality_table()),
    "comparison": lambda: figures.comparison(MERITS),
    "spectrum of nothing": lambda: figures.spectrum([]),
    "quality of nothing": lambda: figures.quality_figure(quality_table().head(0)),
    "comparison of nothing": lambda: figures.comparison([]),
}


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.encode())


def texts_of(html: str) -> list[str]:
    """What is in sight; not what is said when the mouse is over it."""
    root = parsed(html)
    for title in root.iter(f"{SVG}title"):
        title.text = ""
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def hovers(html: str) -> list[str]:
    return [rect.findtext(f"{SVG}title") for rect in parsed(html).iter(f"{SVG}rect") if len(rect)]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_the_same_each_time_and_loads_nothing(name):
    html = FIGURES[name]()
    assert html == FIGURES[name]()
    parsed(html)
    assert "<script" not in html
    assert not re.search(r"\b(href|src)=|url\(|nan|inf\b", html)
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


def lines_of(html: str) -> list[np.ndarray]:
    """Points of each curve, in per cents of the plot, downwards."""
    paths = [p.get("d") for p in parsed(html).iter(f"{SVG}path") if p.get("fill") == "none"]
    return [np.array([p.split() for p in d[1:].split("L")], dtype=float) for d in paths]


def test_the_spectrum_ends_at_the_sum_and_says_each_axis():
    html = figures.spectrum([0.5, 0.2, 0.125])
    assert "together 82.5%" in texts_of(html)[0]
    assert hovers(html)[1] == "axis 1: running sum 70%, each axis 20%"


def test_on_the_spectrum_equal_factors_are_equal_steps():
    _, each = lines_of(figures.spectrum([0.4, 0.2, 0.1, 0.05]))
    np.testing.assert_allclose(np.diff(each[:, 1]), np.diff(each[:, 1])[0], atol=0.02)


def test_the_spectrum_marks_where_axes_fall_below_chance():
    html = figures.spectrum([0.5, 0.2, 0.1], [0.3, 0.15, 0.12])
    assert "2 axes above chance" in texts_of(html)
    [mark] = [i for i in parsed(html).iter(f"{SVG}line") if i.get("stroke-dasharray")]
    ticks = {text.text: text.get("x") for text in parsed(html).iter(f"{SVG}text")}
    assert mark.get("x1") == ticks["1"]  # axes 0 and 1 are above


def test_the_count_of_a_spectrum_is_that_of_parallel_analysis():
    generator = np.random.default_rng(0)
    strong = generator.standard_normal((300, 4)) @ generator.standard_normal((4, 20)) * 3
    found = parallel_analysis(strong + generator.standard_normal((300, 20)))
    total = found.variances.sum()
    assert found.n_axes == 4
    html = figures.spectrum(found.variances / total, found.chance / total)
    assert "4 axes above chance" in texts_of(html)


@pytest.mark.parametrize("shares", [[1e-9], [0.0, 0.0], [1.0], [0.5, 0.5, 0.0]])
def test_a_spectrum_of_extremes_can_be_drawn(shares):
    html = figures.spectrum(shares, shares)
    lines = lines_of(html)
    assert [len(line) for line in lines] == [len(shares)] * 3  # running sum, each axis, chance
    assert np.isfinite(np.concatenate(lines)).all()
    assert f"together {sum(shares):.1%}" in texts_of(html)[0]


def test_the_chosen_layer_is_marked():
    html = figures.layer_curve(layers_table())
    assert "layer 15 is chosen" in texts_of(html)
    assert "layer 9: probe, balanced accuracy 0.8, stability of axes 0.5" in hovers(html)[1]
    probe, stability, _ = lines_of(html)
    np.testing.assert_allclose(probe[:, 1], [50, 20, 22], atol=0.01)
    np.testing.assert_allclose(stability[:, 1], [60, 50, 40], atol=0.01)


def test_a_probe_worse_than_the_mean_stays_in_the_picture():
    table = layers_table().assign(probe=[-0.2, 0.1, 0.2])
    assert all(line[:, 1].max() <= 100 for line in lines_of(figures.layer_curve(table)))


def test_every_axis_shows_its_values_and_its_badges():
    texts = texts_of(figures.quality_figure(quality_table()))
    assert {"20.0%", "0.95", "0.40", "0.90", "3.0"} <= set(texts)
    badges = [text.split("\u2003") for text in texts if "stable" in text and text != "stability"]
    assert badges == [
        ["✓ stable", "✓ follows categories"],
        ["fairly stable", "✓ uses the gradient", "! follows length", "! follows words"],
        ["! unstable", "! near-duplicate"],
    ]


def test_a_full_dot_is_beyond_chance_and_an_open_one_is_not():
    table = quality_table()[["axis", "variance", "gradient_share", "gradient_share_null"]]
    dots = list(parsed(figures.quality_figure(table)).iter(f"{SVG}circle"))[2:]  # after the key
    assert [dot.get("fill") != "none" for dot in dots] == [False, True, False]


def test_the_band_of_chance_is_as_wide_as_its_null():
    table = quality_table()[["axis", "variance", "length_r2", "length_r2_null"]]
    _, *bands = parsed(figures.quality_figure(table)).iter(f"{SVG}rect")  # after the key
    assert len(bands) == len(table)
    for band in bands:
        assert float(band.get("width").rstrip("%")) == pytest.approx(0.15 * figures.TRACK, abs=0.01)


def test_figures_that_are_not_known_are_left_out():
    texts = texts_of(figures.quality_figure(quality_table(stability=NAN, template_r2=NAN)))
    assert not {"stability", "template"} & set(texts)
    assert {"length", "words", "redundancy", "categories", "gradient"} <= set(texts)


def test_the_best_basis_is_marked_by_more_than_colour():
    texts = texts_of(figures.comparison(MERITS))
    assert {"80.0% ◆", "50.0%", "0.20 ◆", "0.50", "–"} <= set(texts)
    assert texts.count("less is better") == 1
    assert '<script>alert("&")' in " ".join(texts)
