"""What the figures of proxy and steering draw, read back from their HTML and seen in a browser."""

import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnskills_viz.widgets.arm_figures import arms_figure, prompt_figure
from mnskills_viz.widgets.dose_figures import dose_figure
from mnskills_viz.widgets.layer_map import layer_map
from mnskills_viz.widgets.magnitudes import short
from mnskills_viz.widgets.proxy_figures import proxy_figure
from mnskills_viz.widgets.side_by_side import differences, side_by_side

HOSTILE = '<script>alert("&")</script>\x00\u202e שלום 🎈'
SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")
LABELS = {(3, 1): HOSTILE, (3, -1): "sums", (0, 1): "strings and regular expressions, long ones"}
DIAMOND = "M0-5.5"


def proxy(layers=(12,), n: int = 8, seed: int = 0) -> pd.DataFrame:
    """First-order rows; chance reaches 0.01, and axis 3 is beyond it, axis 1 on the other side."""
    rng = np.random.default_rng(seed)
    tables = []
    for layer in layers:
        utility = rng.uniform(-0.008, 0.008, n)
        utility[3 % n], utility[1 % n] = 0.03 + layer / 1000, -0.02
        columns = {
            "axis": np.arange(n),
            "layer": layer,
            "dose": NAN,
            "utility": utility,
            "low": utility - 0.002,
            "high": utility + 0.002,
            "damage": NAN,
            "null_low": -0.01,
            "null_high": 0.01,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def concatenated() -> pd.DataFrame:
    """The axes of two blocks, and of several blocks side by side."""
    return pd.concat([proxy((20, 100)), proxy().assign(layer="concat")], ignore_index=True)


def measured(table: pd.DataFrame, dose: float = 2.0) -> pd.DataFrame:
    return table.assign(dose=dose, utility=table["utility"] * 0.9, damage=0.001 * dose**2)


def extreme() -> pd.DataFrame:
    """Huge, unknown, infinite, without a band of chance, and nothing but zero."""
    table = proxy(n=6)
    table.loc[0, ["utility", "low", "high"]] = [3e9, NAN, math.inf]
    table.loc[1, "utility"] = NAN
    table.loc[2, "utility"] = -math.inf
    table.loc[4, ["null_low", "null_high"]] = NAN
    table.loc[5, ["utility", "null_low", "null_high"]] = 0.0
    return table


def shares(layers) -> pd.DataFrame:
    held = np.linspace(0.05, 0.3, len(layers))
    return pd.DataFrame({"layer": layers, "share": held, "random": 0.06})


def doses() -> pd.DataFrame:
    d = np.array([-4.0, -2, -1, 0, 1, 2, 4])
    return pd.DataFrame(
        {
            "dose": d,
            "shift": 0.8 * d,
            "leakage": 0.1 * np.abs(d),
            "carried": np.where(d == 0, NAN, 0.7),
            "carried_leakage": np.where(d == 0, NAN, 0.1),
            "perplexity": 5 * np.exp(0.1 * d**2),
            "kl": 0.02 * d**2,
            "repetition": 0.05 * np.abs(d),
            "ended": 1 - 0.2 * np.abs(d),
            "length": 60 + d,
        }
    )


def broken_doses() -> pd.DataFrame:
    table = doses()
    table.loc[0, "perplexity"] = math.inf
    table.loc[6, ["perplexity", "shift", "kl"]] = [3e28, -4e7, NAN]
    return table


def sampled(layers=(12,)) -> pd.DataFrame:
    """As `sampled_arms` names its arms."""
    pushed = [
        f"layer-{layer}-{what}-dose{dose}"
        for layer in layers
        for what in ("axis-3", "random-0", "random-1")
        for dose in ("+0.5", "-2.0")
    ]
    names = ["unsteered", *pushed, "temperature-0.4"]
    value = np.linspace(0.3, 0.7, len(names))
    columns = {"arm": names, "metric": "pass@1", "value": value}
    return pd.DataFrame(columns | {"low": value - 0.1, "high": value + 0.1})


def arms() -> pd.DataFrame:
    values = {
        "unsteered": 0.4,
        "axis 3 +2": 0.6,
        "random 1": 0.35,
        "random 2": 0.45,
        "temperature 1.2": 0.42,
        HOSTILE: NAN,
    }
    rows = [
        {"arm": arm, "metric": metric, "value": v + up, "low": v + up - 0.05, "high": v + up + 0.05}
        for metric, up in (("pass@1", 0.0), ("pass@8", 0.2))
        for arm, v in values.items()
    ]
    return pd.DataFrame(rows)


def prompts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": ["unsteered", "text prompt", "vector"],
            "effect": [0.31, 0.52, 0.47],
            "low": [0.26, 0.46, 0.41],
            "high": [0.36, 0.58, 0.53],
            "kl_to_text": [0.3, 0.0, 0.12],
            "kl": [0.0, 0.21, 0.09],
            "tokens": [0, 143, 0],
            "pass_rate": [0.5, 0.6, 0.58],
            "pass_low": [0.4, 0.5, 0.5],
            "pass_high": [0.6, 0.7, 0.7],
        }
    )


FIGURES = {
    "proxy": lambda: proxy_figure(proxy(), LABELS),
    "proxy without labels": lambda: proxy_figure(proxy(), most=3),
    "proxy at layers with doses": lambda: proxy_figure(
        pd.concat([proxy(range(30), 64), measured(proxy(range(30), 5))]), LABELS
    ),
    "proxy of several": lambda: proxy_figure(
        {"contrast": proxy(), HOSTILE: proxy(seed=1), "measured": measured(proxy())}, LABELS
    ),
    "proxy with concatenated layers": lambda: proxy_figure(concatenated(), LABELS),
    "proxy of extremes": lambda: proxy_figure(extreme(), LABELS),
    "proxy of one": lambda: proxy_figure(proxy(n=1)),
    "proxy of zeros": lambda: proxy_figure(proxy() * 0),
    "proxy of nothing": lambda: proxy_figure(proxy().head(0)),
    "map": lambda: layer_map(proxy(range(30), 32), shares(range(30))),
    "map of many": lambda: layer_map(proxy(range(30), 64)),
    "map of a few": lambda: layer_map(proxy((9, 12), 8), shares((9,))),
    "map with concatenated layers": lambda: layer_map(concatenated(), shares((9, "concat"))),
    "map of extremes": lambda: layer_map(extreme()),
    "map of one": lambda: layer_map(proxy(n=1)),
    "map of nothing": lambda: layer_map(proxy().head(0)),
    "dose": lambda: dose_figure(doses(), (-1, 2)),
    "dose of extremes": lambda: dose_figure(broken_doses(), (0, 1)),
    "dose of some columns": lambda: dose_figure(doses()[["dose", "shift", "kl", "ended"]]),
    "dose of a narrow band": lambda: dose_figure(
        doses().assign(kl=[2.82, 0.282, 0.0282, 0, 0.0282, 0.282, 2.82]), (-0.1875, 0.1875)
    ),
    "dose of one": lambda: dose_figure(doses().iloc[[3]], (0, 0)),
    "dose of nothing": lambda: dose_figure(doses().head(0)),
    "arms": lambda: arms_figure(arms()),
    "arms as sampled": lambda: arms_figure(sampled((9, "concat"))),
    "arms of extremes": lambda: arms_figure(arms().assign(value=lambda t: 1e9 * t["value"])),
    "arms of one": lambda: arms_figure(arms().head(1)),
    "arms of nothing": lambda: arms_figure(arms().head(0)),
    "prompt": lambda: prompt_figure(prompts()),
    "prompt without side effects": lambda: prompt_figure(prompts()[["arm", "effect"]]),
    "prompt of nothing": lambda: prompt_figure(prompts().head(0)),
}


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html.encode())


def texts_of(html: str) -> list[str]:
    """What is in sight; not what is said when the mouse is over it."""
    root = parsed(html)
    for title in root.iter(f"{SVG}title"):
        title.text = ""
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def groups(html: str) -> Iterator[tuple[str, ElementTree.Element]]:
    """Rows or cells of a figure: what is said of each, and the element."""
    for group in parsed(html).iter(f"{SVG}g"):
        said = group.find(f"{SVG}title")
        if said is not None:
            yield said.text, group


def titles_of(html: str) -> list[str]:
    return [title.text for title in parsed(html).iter(f"{SVG}title")]


def description_of(html: str) -> str:
    return next(parsed(html).iter(f"{SVG}desc")).text


def per_cent(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name).rstrip("%"))


def marks_of(group: ElementTree.Element) -> list[float]:
    """Places of the marks in a row, across."""
    return [per_cent(mark, "x") for mark in group.iter(f"{SVG}svg") if mark.get("overflow")]


def is_diamond(group: ElementTree.Element) -> bool:
    return any(path.get("d").startswith(DIAMOND) for path in group.iter(f"{SVG}path"))


# ---------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_well_formed_the_same_each_time_and_loads_nothing(name):
    html = FIGURES[name]()
    assert html == FIGURES[name]()
    root = parsed(html)
    assert "<script" not in html
    assert not re.search(r"\b(href|src)=|url\(|\bnan\b|\binf\b", html)
    attributes = [v for e in root.iter() for k, v in e.attrib.items() if k != "style"]
    assert not any(re.search(r"\.\d{3,}", value) for value in attributes)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_name_a_description_and_colours_for_dark_pages(name):
    root = parsed(FIGURES[name]())
    svg = next(root.iter(f"{SVG}svg"))
    assert svg.get("role") == "img"
    assert [child.tag for child in svg][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all((child.text or "").strip() for child in svg[:2])
    assert '[data-jp-theme-light="false"]' in next(root.iter("style")).text


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_lies_beside_the_figure(name):
    for element in parsed(FIGURES[name]()).iter():
        for place in ("x", "x1", "x2"):
            if (element.get(place) or "").endswith("%"):
                assert -1 <= per_cent(element, place) <= 101
        assert (element.get("width") or "0")[0] != "-"


def test_a_figure_leaves_the_table_that_it_is_drawn_from_as_it_is():
    for figure, table in (
        (proxy_figure, proxy()),
        (layer_map, proxy()),
        (dose_figure, doses()),
        (arms_figure, arms()),
        (prompt_figure, prompts()),
    ):
        before = table.copy()
        figure(table)
        pd.testing.assert_frame_equal(table, before)


# --------------------------------------------------------------------------------------- proxy


def test_axes_stand_in_the_order_of_their_utility_over_the_edge_of_chance():
    table = proxy()
    table.loc[table["axis"] == 1, "null_high"] = 0.002  # left of zero the other end counts
    table.loc[table["axis"] == 5, ["utility", "null_high"]] = [0.009, 0.001]
    order = [int(said.split()[1]) for said, _ in groups(proxy_figure(table))]
    edge = np.where(table["utility"] >= 0, table["null_high"], -table["null_low"])
    times = (table["utility"].abs() / edge).to_numpy()
    assert order == list(np.argsort(-times))
    assert order[:3] == [5, 3, 1]


def test_axes_beyond_chance_have_another_shape_than_those_within():
    beyond = {said.split(" at")[0]: is_diamond(g) for said, g in groups(proxy_figure(proxy()))}
    assert {axis for axis, diamond in beyond.items() if diamond} == {"Axis 3", "Axis 1"}
    assert len(beyond) == 8
    assert "2 of them beyond chance: axis 3 at layer 12 +42.0" in description_of(
        proxy_figure(proxy())
    )


def test_a_diamond_lies_outside_its_shaded_band_and_a_circle_within():
    for _, row in groups(proxy_figure(proxy())):
        [band] = row.iter(f"{SVG}rect")
        left, right = per_cent(band, "x"), per_cent(band, "x") + per_cent(band, "width")
        [x] = marks_of(row)
        assert (left <= x <= right) != is_diamond(row)


def test_measured_doses_stand_below_the_slope_of_their_axis_and_layer():
    table = proxy((5, 7))
    best = table[(table["axis"] == 3) & (table["layer"] == 7)]
    html = proxy_figure(pd.concat([measured(best), measured(best, 0.5), table]))
    first, second, third, fourth = [said for said, _ in groups(html)][:4]
    assert first == "Axis 3 at layer 7, slope: +37.0 (+35.0 to +39.0), beyond chance"
    assert second.startswith("Axis 3 at layer 7, ±0.5σ: +33.3 ")
    assert second.endswith(", damage +0.2")
    assert third.startswith("Axis 3 at layer 7, ±2σ")
    assert fourth.startswith("Axis 3 at layer 5, slope")
    heights = [y for text, y in placed_texts(html) if text in ("slope", "±0.5σ", "±2σ")][:3]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3


def placed_texts(html: str) -> list[tuple[str, float]]:
    return [("".join(t.itertext()), float(t.get("y"))) for t in parsed(html).iter(f"{SVG}text")]


def test_values_of_several_tables_stand_side_by_side_under_their_names():
    html = proxy_figure({"contrast": proxy(), "reference": proxy(seed=1)})
    said = [text for text, _ in groups(html)]
    assert len(said) == 16
    for a, b in zip(said[::2], said[1::2], strict=True):
        assert a.replace("contrast", "reference").split(":")[0] == b.split(":")[0]


def test_axes_that_are_not_shown_are_counted_and_those_beyond_chance_among_them():
    html = proxy_figure(proxy((3, 4, 5), 32), most=4)
    assert len(list(groups(html))) == 4
    assert "⋮ 92 more, 2 of them beyond chance" in texts_of(html)
    assert "96 axes and layers, 6 of them beyond chance" in description_of(html)


def test_an_axis_without_a_utility_is_counted_and_one_without_chance_is_marked_as_untested():
    html = proxy_figure(extreme())
    said = dict(groups(html))
    assert "2 without a utility" in texts_of(html)
    assert len(said) == 4
    assert not any(is_diamond(g) for text, g in said.items() if "chance unknown" in text)
    assert sum("chance unknown" in text for text in said) == 2


def test_the_unit_follows_the_size_of_the_values():
    assert any("10⁻³ nats/token" in text for text in texts_of(proxy_figure(proxy())))
    sampled_answers = texts_of(proxy_figure(proxy(), unit="pass@1"))
    assert "utility in 10⁻³ pass@1 per standard deviation" in sampled_answers
    huge = texts_of(proxy_figure(extreme()))
    assert any("10⁹ nats/token" in text for text in huge)
    assert "+3.00" in huge
    assert max(map(len, huge)) < 60


def test_layers_are_numbered_as_blocks_whatever_their_type():
    table = proxy((2, 17))
    assert proxy_figure(table.astype({"layer": float})) == proxy_figure(table)
    assert layer_map(table.astype({"layer": float})) == layer_map(table)
    assert "nan" not in proxy_figure(pd.concat([table, table.drop(columns="layer")]))


def test_a_table_of_axes_without_layers_and_doses_is_enough():
    table = proxy()[["axis", "utility", "null_high"]]
    assert next(said.split(":")[0] for said, _ in groups(proxy_figure(table))) == "Axis 3"


def test_labels_of_both_poles_arrive_as_text():
    html = proxy_figure(proxy(), LABELS)
    label = [
        t for d in parsed(html).iter("{http://www.w3.org/1999/xhtml}div") for t in d.itertext()
    ]
    assert any(text.startswith('sums ↔ <script>alert("&")') for text in label)


# ----------------------------------------------------------------------------------------- map


def cells_of(html: str) -> dict[tuple[int, int], str]:
    found = (re.match(r"Layer (\d+), axis (\d+): (.*)", title) for title in titles_of(html))
    return {(int(m[1]), int(m[2])): m[3] for m in found if m}


def test_every_axis_at_every_layer_has_a_cell():
    table = proxy(range(30), 64)
    cells = cells_of(layer_map(table))
    assert len(cells) == 30 * 64
    for row in table.sample(50, random_state=0).to_dict("records"):
        times = row["utility"] / row["null_high"]
        written = f"{times:+.2f}".replace("-", "−")
        verdict = "beyond" if abs(times) > 1 else "within"
        assert cells[row["layer"], row["axis"]] == f"{written} times, {verdict} chance"


def test_cells_beyond_chance_are_marked_up_or_down_where_they_are():
    html = layer_map(proxy((4, 6), 8))
    marks = [t for t in parsed(html).iter(f"{SVG}text") if t.text in ("▲", "▼")][
        2:
    ]  # after the key
    assert sorted(t.text for t in marks) == ["▲", "▲", "▼", "▼"]
    for mark in marks:
        # Axis 1 is below zero, axis 3 above; a cell is 4 % wide and the first begins at 7.2 %.
        axis = 3 if mark.text == "▲" else 1
        assert per_cent(mark, "x") == pytest.approx(7.2 + 4 * (axis + 0.5))


def test_the_colour_steps_at_the_edge_of_chance_and_deepens_with_the_utility():
    table = proxy((0,), 6).assign(utility=[0.0, 0.0099, 0.0101, 0.02, 0.03, 3.0])
    cells = [p for p in parsed(layer_map(table)).iter(f"{SVG}path") if p.get("fill-opacity")]
    opacity = [float(cell.get("fill-opacity")) for cell in cells]
    assert opacity == sorted(opacity)
    assert opacity[0] == 0
    assert opacity[2] - opacity[1] > 0.15
    assert opacity[4] == opacity[5] < 1


def test_the_first_block_is_the_lowest_row():
    html = layer_map(proxy((20, 17), 3))
    heights = dict(placed_texts(html))
    assert heights["20"] < heights["17"]  # numbered from the top of the figure down
    cells = list(parsed(html).iter(f"{SVG}path"))
    rows = {p.find(f"{SVG}title").text[:8]: re.split("[ hl]", p.get("d"))[1] for p in cells}
    assert rows == {"Layer 20": "0", "Layer 17": "1"}


def test_a_cell_without_a_utility_is_struck_and_not_coloured():
    table = proxy((1, 2), 4).drop(index=5)
    html = layer_map(table)
    [struck] = [p for p in parsed(html).iter(f"{SVG}path") if not p.get("fill-opacity")]
    assert struck.find(f"{SVG}title").text == "Layer 2, axis 1: unknown"
    assert len(cells_of(html)) == 8


def test_measured_doses_are_not_on_the_map():
    table = proxy((1, 2), 4)
    assert layer_map(pd.concat([table, measured(table)])) == layer_map(table)


def test_concatenated_layers_stand_above_the_blocks_and_blocks_by_their_number():
    heights = dict(placed_texts(layer_map(concatenated())))
    assert heights["concat"] < heights["100"] < heights["20"]
    said = [text for text, _ in groups(proxy_figure(concatenated()))]
    assert any(text.startswith("Axis 3 at layer concat: ") for text in said)


def test_the_share_that_a_table_carries_is_drawn():
    table = proxy((4, 6))
    table.attrs["share"] = shares((4, 6)).to_dict("records")
    assert layer_map(table) == layer_map(proxy((4, 6)), shares((4, 6)))


def test_the_share_of_the_gradient_stands_beside_its_layer():
    html = layer_map(proxy((4, 6, 8), 3), shares((4, 8)))
    said = [text for text, _ in groups(html)]
    assert said == [
        "Layer 4: 5.0% of the gradient, random directions 6.0%",
        "Layer 8: 30.0% of the gradient, random directions 6.0%",
    ]
    bars = [per_cent(next(g.iter(f"{SVG}rect")), "width") for _, g in groups(html)]
    assert bars[1] / bars[0] == pytest.approx(6, rel=0.02)


# ---------------------------------------------------------------------------------------- doses


def test_the_safe_band_covers_its_doses_in_every_panel():
    html = dose_figure(doses(), (-1, 2))
    root = parsed(html)
    bands = [r for r in root.iter(f"{SVG}rect") if r.get("fill-opacity") == "0.13"]
    assert len(bands) == 7
    # Doses from -4 to 4, with room of 4 % at both ends, over 39 % of the width.
    for band in bands:
        assert per_cent(band, "width") == pytest.approx(3 / 8.64 * 39, abs=0.02)
    bold = [t for t in root.iter(f"{SVG}text") if t.get("font-weight") == "600"]
    ends = [t for t in bold if t.text in ("−1", "+2")]
    assert len(ends) == 4  # below both columns
    assert "Safe from −1 to +2 σ" in texts_of(html)
    assert "Safe from −1 to +2." in description_of(html)


def test_marks_within_the_safe_band_are_full_and_others_open():
    html = dose_figure(doses()[["dose", "ended"]], (-1, 2))
    drawn = [g for g in parsed(html).iter(f"{SVG}g") if "--mn-blue" in g.get("stroke", "")]
    assert ["--mn-blue" in g.get("fill") for g in drawn] == [0, 0, 1, 1, 1, 1, 0]


def test_panels_share_the_axis_of_doses():
    html = dose_figure(doses(), (-1, 2))
    rects = [r for r in parsed(html).iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    at = {}
    for rect in rects:
        dose = rect.find(f"{SVG}title").text.split(":")[0]
        at.setdefault(dose, set()).add(rect.get("x"))
    assert set(at) == {f"dose {d}" for d in ("−4", "−2", "−1", "0", "+1", "+2", "+4")}
    assert all(len(places) == 2 for places in at.values())  # one of each column of panels


def test_perplexity_is_drawn_over_that_of_dose_zero():
    said = titles_of(dose_figure(doses()))
    assert "dose 0: perplexity 1" in said
    assert f"dose +2: perplexity {math.exp(0.4):.3g}" in said
    assert "dose +2: perplexity 7.46" in titles_of(dose_figure(doses().query("dose != 0")))


def test_missing_columns_are_left_out():
    texts = " ".join(texts_of(dose_figure(doses()[["dose", "shift", "kl"]])))
    assert "shift" in texts
    assert "KL" in texts
    assert not any(word in texts for word in ("perplexity", "ended", "other axes", "safe"))


def test_what_is_not_known_leaves_a_gap_and_what_is_infinite_is_written():
    html = dose_figure(broken_doses()[["dose", "kl", "perplexity"]])
    lines = [e for e in parsed(html).iter(f"{SVG}line") if "--mn-blue" in e.get("stroke", "")]
    assert len(lines) == 5 + 5  # of 7 doses one is unknown, and one of the others infinite
    assert "∞" in texts_of(html)


def test_where_no_dose_is_safe_it_is_said():
    assert "No dose is safe" in texts_of(dose_figure(doses(), (0.0, 0.0)))


# ----------------------------------------------------------------------------------------- arms


def test_arms_are_drawn_on_each_metric_against_the_unsteered_and_the_random_ones():
    html = arms_figure(arms().query("metric == 'pass@1'"))
    rows = dict(groups(html))
    assert "axis 3 +2, pass@1: 0.600 (0.550 to 0.650)" in rows
    at = {said.split(",")[0]: marks_of(g)[0] for said, g in rows.items() if marks_of(g)}
    [band] = [r for r in parsed(html).iter(f"{SVG}rect") if r.get("fill-opacity") == "0.14"]
    left = per_cent(band, "x")
    assert at["random 1"] == pytest.approx(left, abs=0.02)
    assert at["random 2"] == pytest.approx(left + per_cent(band, "width"), abs=0.02)
    [dashed] = [e for e in parsed(html).iter(f"{SVG}line") if e.get("stroke-dasharray")]
    assert per_cent(dashed, "x1") == at["unsteered"]
    assert at["axis 3 +2"] > max(at["random 2"], at["unsteered"])


def test_no_arm_is_lost_on_any_metric():
    said = [text for text, _ in groups(arms_figure(arms()))]
    assert len(said) == 2 * 6
    assert sum(text.endswith("unknown") for text in said) == 2


def test_a_prompt_is_told_by_its_effect_its_side_effect_and_its_tokens():
    html = prompt_figure(prompts())
    said = [text for text, _ in groups(html)]
    assert len(said) == 3 * 5
    assert said[:2] == [
        "unsteered, effect: 0.310 (0.260 to 0.360) nats/token",
        "text prompt, effect: 0.520 (0.460 to 0.580) nats/token",
    ]
    assert "vector, unlike the text prompt: 0.120 nats/token" in said
    assert "vector, side effect (KL): 0.090 nats/token" in said
    assert "text prompt, prompt: 143 tokens" in said
    assert "vector, pass rate: 0.580 (0.500 to 0.700)" in said
    assert prompt_figure(prompts().set_index("arm")) == html


def test_measures_that_are_unknown_throughout_are_left_out():
    said = [text for text, _ in groups(prompt_figure(prompts().assign(kl=NAN, pass_rate=NAN)))]
    assert len(said) == 3 * 3


def test_sampled_arms_are_named_for_people_and_their_one_layer_once():
    one, two = arms_figure(sampled()), arms_figure(sampled((9, "concat")))
    assert {said.split(",")[0] for said, _ in groups(one)} == {
        *("unsteered", "axis 3 +0.5σ", "axis 3 −2σ", "random 0 +0.5σ", "random 0 −2σ"),
        *("random 1 +0.5σ", "random 1 −2σ", "temperature 0.4"),
    }
    assert titles_of(one)[0] == "What each arm scores, with 95 % intervals, at layer 12"
    assert {"9: axis 3 +0.5σ", "concat: axis 3 −2σ"} < {
        said.split(",")[0] for said, _ in groups(two)
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.25, "0.25"),
        (-4e7, "−4·10⁷"),
        (1e28, "10²⁸"),
        (2.5e-9, "2.5·10⁻⁹"),
        (0.0, "0"),
        (12345.6, "12,346"),
        (math.inf, "∞"),
        (NAN, "–"),
    ],
)
def test_a_number_of_any_size_is_short(value, written):
    assert short(value) == written


# ---------------------------------------------------------------------------------- side by side

words = st.lists(st.sampled_from(["a", "b", "the", "3.14", ",", "שלום", "今天", "\n", "<b>"]))
texts = st.one_of(words.map(" ".join), words.map("".join), st.text(max_size=30))


@given(texts, texts)
def test_the_pieces_are_the_texts_and_what_is_not_marked_is_in_both(before, after):
    left, right = differences(before, after)
    assert "".join(piece for _, piece in left) == before
    assert "".join(piece for _, piece in right) == after
    shared = [["".join(p.split()) for own, p in side if not own] for side in (left, right)]
    assert shared[0] == shared[1]


@given(texts)
def test_equal_texts_have_no_difference(text):
    html = side_by_side(text, text)
    assert "<del>" not in html
    assert "<ins>" not in html
    assert "The words are the same." in html


def test_differences_are_marked_word_by_word_by_elements_that_are_struck_and_underlined():
    html = side_by_side("The sum is 3.14 today.", "The sum is 3.15 today.", "How much?")
    assert "The sum is <del>3.14</del> today." in html
    assert "The sum is <ins>3.15</ins> today." in html
    assert "1 words struck, 1 underlined, 5 in both." in html
    assert "line-through" in html
    assert "underline" in html


def test_a_word_that_two_other_passages_share_by_chance_does_not_cut_the_mark():
    html = side_by_side("we cut and fold the paper", "we sing all night the song now")
    assert "we <del>cut and fold the paper</del>" in html


def test_texts_of_any_script_arrive_as_text_and_run_their_own_way():
    html = side_by_side(HOSTILE, HOSTILE + " עוד", HOSTILE)
    assert "<script" not in html
    assert html.count('dir="auto"') == 3
    assert "<ins>עוד</ins>" in html
    parsed(html)


def test_an_empty_answer_and_a_long_one_are_said_to_be_so():
    html = side_by_side("", "word " * 2000)
    assert "<i>nothing</i>" in html
    assert "4,000 more characters" in html


# ------------------------------------------------------------------------------------ in sight

COLLISIONS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.mn-figure')) {
    const name = svg.closest('[data-name]').dataset.name, frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text, foreignObject, svg[overflow] g')]
      .map(e => [e.textContent, e.getBoundingClientRect()]);
    boxes.forEach(([text, a], i) => {
      if (a.left < frame.left - 8 || a.right > frame.right + 1 || a.bottom > frame.bottom + 1)
        found.push(`${name}: "${text}" leaves the figure`);
      for (const [other, b] of boxes.slice(0, i))
        if ((text || other) && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
          found.push(`${name}: "${text}" covers "${other}"`);
    });
  }
  return found;
}"""


@pytest.mark.browser
def test_letters_cover_neither_letters_nor_marks_nor_leave_the_figure_at_680_pixels():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's chromium is not installed")
    shown = "".join(f'<div data-name="{name}">{html()}</div>' for name, html in FIGURES.items())
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 696, "height": 900})
        page.set_content(f'<body style="margin:8px">{shown}</body>')
        found = page.evaluate(COLLISIONS)
        browser.close()
    assert found == []
