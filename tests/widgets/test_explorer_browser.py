"""What one does in the explorer, by mouse and by key, in JupyterLab in a real browser."""

import ast
import base64
import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.activations.tokens import Role
from tests.widgets.lab import (
    ARGUMENTS,
    BASIS,
    CHROMIUM,
    COMMANDS,
    KERNEL,
    Notebook,
    jupyterlab,
    needs_browser,
    write_notebook,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")

pytestmark = needs_browser


@pytest.fixture(scope="module")
def study(tiny_study: mn.Study, tmp_path_factory: pytest.TempPathFactory) -> mn.Study:
    """A copy that may be labelled."""
    folder = tmp_path_factory.mktemp("lab") / "study"
    shutil.copytree(tiny_study.path, folder)
    return mn.Study.open(folder)


@pytest.fixture(scope="module")
def notebook(study: mn.Study) -> Iterator[Notebook]:
    """One JupyterLab, one kernel, one page for all tests here."""
    folder = study.path.parent
    write_notebook(folder / "explore.ipynb", study.path)
    with jupyterlab(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        notebook = Notebook(browser, address, "explore.ipynb")
        notebook.run_all()
        yield notebook
        browser.close()


@pytest.fixture
def page(notebook: Notebook):
    """The page, with nothing browsed and axis 0 looked at."""
    page = notebook.page
    if page.input_value(".mn-search"):
        page.fill(".mn-search", "")
        page.locator(".mn-found").wait_for(state="hidden")
    notebook.go_to(0)
    if page.locator(".mn-found").is_visible():
        page.click(".mn-found-clear")
        page.locator(".mn-found").wait_for(state="hidden")
    yield page
    notebook.shows_no_error()


@pytest.fixture(scope="module")
def cut_study(study: mn.Study, demo_rows: mn.Corpus, tiny_folder) -> mn.Study:
    """A study whose texts were read no further than 40 tokens; half of the answers are long."""
    rows = [
        replace(row, response="\n".join([row.response] * 40)) if i % 2 else row
        for i, row in enumerate(demo_rows)
    ]
    corpus = mn.Corpus(rows, "cut")
    cut = mn.Study.create(study.path.parent / "cut", model=str(tiny_folder), corpus=corpus)
    with pytest.warns(UserWarning, match="were cut to 40 tokens"):
        cut.collect(layers=[1], max_length=40, truncate=True, progress=False)
    cut.fit("pca", layer=1, n_axes=3)
    cut.quality(BASIS)
    return mn.Study.open(cut.path)


# -------------------------------------------------------------------------- what is read in it


def in_kernel(page, code: str) -> None:
    """Run code beside the notebook's cells."""
    status = page.evaluate(
        f"async (code) => (await {KERNEL}.requestExecute({{ code }}).done).content.status", code
    )
    assert status == "ok"


@contextlib.contextmanager
def held(page, method: str, before: str = "None") -> Iterator[None]:
    """Have a method of the study wait at its beginning, so that one can look around meanwhile."""
    in_kernel(
        page,
        f"""
import threading
from mnskills_viz.progress import tell
go_on = threading.Event()
def _waiting(*asked, _then=explorer._study.{method}, **options):
    {before}
    assert go_on.wait(120)
    return _then(*asked, **options)
explorer._study.{method} = _waiting""",
    )
    try:
        yield
    finally:
        in_kernel(page, f"go_on.set(); del explorer._study.{method}")


def number_of_rows(said: str) -> int:
    return int(re.match(r"[\d,]+", said)[0].replace(",", ""))


def rows_found(page) -> list[int]:
    """Rows on all pages of what was found."""
    rows: list[int] = []
    while True:
        here = page.locator(".mn-found .mn-example").evaluate_all(
            "(items) => items.map((item) => Number(item.dataset.row))"
        )
        rows += here
        after = page.locator(".mn-found-next")
        if not after.is_visible() or after.is_disabled():
            return rows
        place = page.locator(".mn-place").inner_text()
        after.click()
        page.wait_for_function(
            "(before) => document.querySelector('.mn-place').textContent !== before", arg=place
        )


def corners_of(python: str) -> list[tuple[float, float]]:
    """The polygon in a line of Python, which is read and not run."""
    call = ast.parse(python, mode="eval").body
    assert isinstance(call, ast.Call)
    return [(float(x), float(y)) for x, y in ast.literal_eval(call.args[1])]


def is_inside(point: np.ndarray, corners: list[tuple[float, float]]) -> bool:
    """Whether the outline winds around a point: the sum of the angles it is seen under."""
    x, y = (np.array(corners) - point).T
    angles = np.arctan2(y, x)
    turns = np.diff(angles, append=angles[0])
    around = (turns + np.pi) % (2 * np.pi) - np.pi
    return bool(round(around.sum() / (2 * np.pi)) % 2)


def drag(page, way: list[tuple[float, float]], steps: int = 6) -> None:
    page.mouse.move(*way[0])
    page.mouse.down()
    for place in way[1:]:
        page.mouse.move(*place, steps=steps)
    page.mouse.up()


def box_of(page, selector: str) -> dict[str, float]:
    page.locator(selector).first.scroll_into_view_if_needed()
    return page.locator(selector).first.bounding_box()


def z_shown(text: str) -> float:
    return float(text.replace("−", "-"))


# -------------------------------------------------------------------------- as it is opened


def test_the_first_prompt_is_a_row_and_is_steered_as_the_chat_that_it_is(page, notebook, study):
    prompt = page.locator(".mn-prompt")
    row = int(re.fullmatch(r"row (\d+), as it stands", notebook.said(".mn-prompt-from"))[1])
    assert study.corpus[row].meta["split"] == "probe"
    assert prompt.input_value() == study.corpus[row].prompt_text
    assert not prompt.evaluate("(field) => field === document.activeElement")
    page.locator(".mn-dose").fill("-2")
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-info:has-text('steered along axis 0 with -2')")
    python = page.locator(".mn-steer .mn-python code").first.text_content()
    assert python == f"study.steer([study.corpus[{row}].prompt], '{BASIS}', axis=0, dose=-2)"

    prompt.fill("")  # it is not filled again while one writes
    assert notebook.said(".mn-prompt-from") == ""
    page.fill(".mn-notes", "seen")
    notebook.is_saved()
    assert prompt.input_value() == ""


LIST = """() => [...document.querySelectorAll(".mn-axis-list li")].map((item) => {
  const { top, height } = item.getBoundingClientRect();
  return [item.dataset.axis, top, height];
})"""
SIGN = """(item) => getComputedStyle(item.querySelector(".mn-badges"), "::after").content"""


def choose_basis(page, study: mn.Study, name: str) -> None:
    page.select_option(".mn-basis select", name)
    page.wait_for_function(
        f"document.querySelectorAll('.mn-axis-list li').length === {study.basis(name).n_axes_}"
    )


def test_axes_are_said_to_be_judged_and_stay_where_they_are(page, study):
    judged = "!document.querySelector('.mn-axis-list').matches('.mn-judging')"
    choose_basis(page, study, next(name for name in study.basis_names if name != BASIS))
    in_kernel(page, "explorer._judging.join()")  # it may never have been judged
    page.wait_for_function(judged)
    for file in study.path.glob(f"results/quality-{BASIS}*"):
        file.unlink()
    badges = page.locator(".mn-axis-list .mn-badge")
    first, second = (page.locator(f".mn-axis-list li[data-axis='{axis}']") for axis in (0, 1))
    with held(page, "quality", before="tell(1, 4)"):
        choose_basis(page, study, BASIS)
        page.wait_for_selector(".mn-axis-list.mn-judging")
        page.wait_for_selector(".mn-status-busy:has-text('quality is being computed')")
        page.wait_for_selector(".mn-foot .mn-progress-said:has-text('25 %')")
        known = badges.count()
        assert known == study.basis(BASIS).n_axes_  # its utility was measured
        assert first.evaluate(SIGN).startswith('"judging axes…"')
        assert second.evaluate(SIGN).startswith('"…"')
        before = page.evaluate(LIST)
    page.wait_for_function(judged)
    assert badges.count() > known
    assert page.evaluate(LIST) == before
    assert page.locator(".mn-foot .mn-progress").is_hidden()
    assert first.evaluate(SIGN) == "none"


# ---------------------------------------------------------------------------------- the map


def map_is_drawn(page) -> None:
    """Wait until the points are there and the plot has the width of its place."""
    page.wait_for_function(
        """() => {
          const plot = document.querySelector(".mn-scatter .js-plotly-plot");
          return plot?.data?.[1]?.x?.length && plot._fullLayout.width === plot.clientWidth;
        }"""
    )
    page.locator(".mn-scatter").scroll_into_view_if_needed()


def test_the_map_is_drawn_in_the_colours_of_its_legend(page):
    map_is_drawn(page)
    page.wait_for_timeout(1000)  # WebGL paints some frames later
    inks = page.locator(".mn-map-legend li span").evaluate_all(
        "(marks) => marks.map((mark) => getComputedStyle(mark).color.match(/\\d+/g).map(Number))"
    )
    assert len(inks) > 3
    taken = base64.b64encode(page.locator(".mn-scatter").screenshot()).decode()
    found = page.evaluate(
        """async ([taken, inks]) => {
          const bytes = await (await fetch(`data:image/png;base64,${taken}`)).blob();
          const image = await createImageBitmap(bytes);
          const canvas = new OffscreenCanvas(image.width, image.height);
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, image.width, image.height);
          const found = inks.map(() => 0);
          for (let i = 0; i < data.length; i += 4)
            inks.forEach((ink, k) => {
              // Points are drawn with opacity 0.8 on the ground, one on another.
              if (ink.every((value, c) => Math.abs(data[i + c] - value) <= 56)) found[k] += 1;
            });
          return found;
        }""",
        [taken, inks],
    )
    assert min(found) > 8, dict(zip(map(tuple, inks), found, strict=True))


def test_a_lasso_by_mouse_takes_the_rows_that_lie_in_it(page, study):
    map_is_drawn(page)
    box = box_of(page, ".mn-scatter .nsewdrag")
    spans = page.evaluate(
        """() => {
          const plot = document.querySelector(".mn-scatter .js-plotly-plot");
          return [plot._fullLayout.xaxis.range, plot._fullLayout.yaxis.range];
        }"""
    )
    # A diamond around the middle, so large that its rows need more than one page.
    middle = np.array([box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]])
    reach = np.array([0.45 * box["width"], 0.45 * box["height"]])
    way = [tuple(middle + reach * side) for side in ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, 0.02))]
    drag(page, way)
    page.wait_for_selector(".mn-found[data-what='lasso'] .mn-example")

    python = page.locator(".mn-found .mn-python code").text_content()
    assert python.startswith(f"mn.within_polygon(study.z('{BASIS}')[:, [0, 1]], ")
    corners = corners_of(python)
    z = study.z(BASIS)[:, :2].astype(np.float64)
    within = [row for row, point in enumerate(z) if is_inside(point, corners)]
    assert 20 < len(within) < len(z)
    assert number_of_rows(page.locator(".mn-found h4").inner_text()) == len(within)
    found = rows_found(page)
    assert sorted(found) == within
    assert found == sorted(found, key=lambda row: -z[row, 0])

    # The polygon is the diamond that the mouse went along: |x| + |y| <= 1 in its own measures.
    (left, right), (low, high) = spans
    at = np.array([(left + right) / 2, (low + high) / 2])
    size = np.array([0.45 * (right - left), 0.45 * (high - low)])
    away = np.abs((z - at) / size).sum(axis=1)
    assert {*np.flatnonzero(away < 0.96)} <= {*within} <= {*np.flatnonzero(away < 1.04)}

    # The line itself gives the same rows.
    assert sorted(eval(python, {"mn": mn, "study": study})) == within

    page.click(".mn-found-clear")
    page.locator(".mn-found").wait_for(state="hidden")


def points_of(page) -> bytes:
    """The map as it is painted, with no pointer over it."""
    page.locator(".mn-scatter").scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)  # its buttons fade
    return page.locator(".mn-scatter").screenshot()


OUTLINES = ".mn-scatter .selectionlayer path, .mn-scatter .zoomlayer path"


def test_a_lasso_that_is_cleared_leaves_the_map_as_it_was(page):
    map_is_drawn(page)
    before = points_of(page)
    box = box_of(page, ".mn-scatter .nsewdrag")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for reach in (100, 60):  # the second one begins within the first
        drag(page, [(x - reach, y), (x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)])
        page.wait_for_function(
            """(reach) => {
              const path = document.querySelector(".mn-scatter .selectionlayer path");
              return path && Math.abs(path.getBBox().width - 2 * reach) < 4;
            }""",
            arg=reach,
        )
    page.wait_for_selector(".mn-found[data-what='lasso']")
    assert points_of(page) != before
    page.click(".mn-found-clear")
    page.locator(".mn-found").wait_for(state="hidden")
    page.wait_for_function(f"document.querySelectorAll('{OUTLINES}').length === 0")
    assert points_of(page) == before  # nothing is dimmed, nothing larger


def test_a_box_in_numbers_is_drawn_on_the_map_and_said_to_be_one(page, study):
    map_is_drawn(page)
    page.click(".mn-within summary")
    for i, end in enumerate((-0.5, 1.25, -1.0, 0.75)):
        page.locator(".mn-within input").nth(i).fill(str(end))
    page.click(".mn-within-show")
    page.wait_for_selector(".mn-found[data-what='lasso'] h4:has-text('in a box on axes 0 and 1')")
    z = study.z(BASIS)[:, :2]
    within = ((z >= [-0.5, -1.0]) & (z <= [1.25, 0.75])).all(axis=1)
    assert number_of_rows(page.locator(".mn-found h4").inner_text()) == within.sum() > 0
    page.wait_for_function(f"document.querySelectorAll('{OUTLINES}').length > 0")
    page.select_option(".mn-map-axes select >> nth=1", "2")  # where it was not drawn
    page.wait_for_function(f"document.querySelectorAll('{OUTLINES}').length === 0")
    assert page.locator(".mn-found").is_visible()
    page.select_option(".mn-map-axes select >> nth=1", "1")
    page.wait_for_function(f"document.querySelectorAll('{OUTLINES}').length > 0")
    page.click(".mn-within summary")


def test_a_lasso_is_of_the_axes_that_the_map_shows(page, study):
    page.select_option(".mn-map-axes select >> nth=0", "3")
    page.select_option(".mn-map-axes select >> nth=1", "2")
    page.wait_for_function(
        "document.querySelector('.mn-scatter .xtitle')?.textContent.startsWith('axis 3')"
    )
    box = box_of(page, ".mn-scatter .nsewdrag")
    x, y, width, height = (box[name] for name in ("x", "y", "width", "height"))
    corner = [(0.5, 0.03), (0.97, 0.03), (0.97, 0.97), (0.5, 0.97), (0.5, 0.05)]
    drag(page, [(x + right * width, y + down * height) for right, down in corner])
    page.wait_for_selector(".mn-found[data-what='lasso'] .mn-example")
    python = page.locator(".mn-found .mn-python code").text_content()
    assert "[:, [3, 2]]" in python
    z = study.z(BASIS)[:, [3, 2]].astype(np.float64)
    within = [row for row, point in enumerate(z) if is_inside(point, corners_of(python))]
    assert sorted(rows_found(page)) == within

    page.select_option(".mn-map-axes select >> nth=0", "0")
    page.select_option(".mn-map-axes select >> nth=1", "1")


# ------------------------------------------------------------------------- range and search


def test_a_range_of_the_histogram_filters_to_the_rows_in_it(page, study):
    box = box_of(page, ".mn-plot")
    across = box["y"] + box["height"] / 2
    drag(page, [(box["x"] + share * box["width"], across) for share in (0.553, 0.746)])
    page.wait_for_selector(".mn-found[data-what='range'] .mn-example")
    python = page.locator(".mn-found .mn-python code").text_content()
    low, high = map(float, re.search(r"0\], ([-\d.]+), ([-\d.]+)\)", python).groups())
    z = study.z(BASIS)[:, 0]
    within = np.flatnonzero((z >= low) & (z < high))
    assert 0 < len(within) < len(z)
    assert number_of_rows(page.locator(".mn-found h4").inner_text()) == len(within)
    assert sorted(rows_found(page)) == within.tolist()
    said = page.locator(".mn-range").inner_text()
    assert said.endswith(f": {len(within)} of {len(z)} rows")

    # It is the range under the mouse, out to the edges of the bars.
    ends = page.locator(".mn-scale span").all_inner_texts()
    limit = z_shown(ends[-1].removesuffix(" σ"))
    bar = 2 * limit / 48
    places = [2 * limit * (share - 0.5) for share in (0.553, 0.746)]
    assert places[0] - bar <= low <= places[0]
    assert places[1] <= high <= places[1] + bar

    page.click(".mn-brush-clear")
    page.locator(".mn-found").wait_for(state="hidden")


def bars_of(page) -> list[tuple[str, np.ndarray]]:
    """Colour of each layer of bars, and how tall it is at each of the 48 places, in rows."""
    layers = page.locator(".mn-layer:not([hidden])").evaluate_all(
        "(paths) => paths.map((path) => [path.getAttribute('fill'), path.getAttribute('d')])"
    )
    found = []
    for colour, drawn in layers:
        tall = np.zeros(48)
        for left, height in re.findall(r"M([\d.]+) [\d.]+h.88v([\d.]+)h", drawn):
            tall[int(float(left))] = float(height)
        found.append((colour, tall))
    return found


def test_bars_are_categories_on_one_another_in_the_colours_of_the_map(page, study):
    z = study.z(BASIS)[:, 0]
    limit = z_shown(page.locator(".mn-scale span").last.inner_text().removesuffix(" σ"))
    names = [example.category for example in study.corpus]
    legend = page.locator(".mn-categories button").evaluate_all(
        """(buttons) => buttons.map((button) => [
          button.querySelector(".mn-category-name").textContent,
          button.querySelector(".mn-swatch").style.color,
          Number(button.querySelector("b").textContent)])"""
    )
    of_map = page.locator(".mn-map-legend li").evaluate_all(
        "(items) => items.map((i) => [i.textContent.slice(1), i.firstChild.style.color])"
    )
    assert [[name, ink] for name, ink, _ in legend] == of_map
    assert {name: n for name, _, n in legend} == dict(Counter(names))

    def bars_by_hand(name: str) -> np.ndarray:
        mine = [value for value, own in zip(z, names, strict=True) if own == name]
        return np.histogram(mine, bins=48, range=(-limit, limit))[0]

    peak = np.histogram(z, bins=48, range=(-limit, limit))[0].max()
    layers = bars_of(page)
    assert len(layers) == len(legend) == len({colour for colour, _ in layers})
    for (_, tall), (name, *_) in zip(layers, legend, strict=True):
        np.testing.assert_allclose(tall * peak / 100, bars_by_hand(name), atol=0.9 * peak / 100)


def test_a_category_is_highlighted_by_mouse_and_key_and_counted_in_a_range(page, study):
    z = study.z(BASIS)[:, 0]
    first = page.locator(".mn-categories button").nth(1)
    name, before = first.locator(".mn-category-name").inner_text(), bars_of(page)
    first.click()
    page.wait_for_selector(".mn-categories [aria-pressed='true']")
    colour, _ = bars_of(page)[0]  # it stands on the ground now
    assert colour == before[1][0]
    mine = np.array([example.category == name for example in study.corpus])
    assert page.locator(".mn-caption >> nth=0").inner_text() == (
        f"{mine.sum()} of {len(z)} rows: {name}"
    )
    page.focus(".mn-plot")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mn-found[data-what='range']")
    python = page.locator(".mn-found .mn-python code").text_content()
    low = float(re.search(r"0\], ([-\d.]+), None\)", python)[1])
    assert int(first.locator("b").inner_text()) == (mine & (z >= low)).sum()
    page.keyboard.press("Escape")
    page.locator(".mn-found").wait_for(state="hidden")
    first.focus()
    page.keyboard.press("Enter")
    page.locator(".mn-categories [aria-pressed='true']").wait_for(state="detached")
    assert bars_of(page)[0][0] == before[0][0]
    assert first.evaluate("(button) => button === document.activeElement")


def test_a_range_is_picked_by_key(page, study):
    page.focus(".mn-plot")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mn-found[data-what='range']")
    python = page.locator(".mn-found .mn-python code").text_content()
    high = float(re.search(r"None, ([-\d.]+)\)", python)[1])
    within = np.flatnonzero(study.z(BASIS)[:, 0] < high)
    assert number_of_rows(page.locator(".mn-found h4").inner_text()) == len(within)
    page.focus(".mn-plot")
    page.keyboard.press("Escape")
    page.locator(".mn-found").wait_for(state="hidden")


def test_search_finds_examples_by_text_and_axes_by_label(page, notebook, study):
    word = next(w for w in study.corpus[7].prompt_text.split() if len(w) > 5).upper()
    page.fill(".mn-search", word)
    page.wait_for_selector(f".mn-found[data-what='search'] small:has-text('{word}')")
    holds = [
        row
        for row, example in enumerate(study.corpus)
        if word.lower() in f"{example.prompt_text}\n{example.response}".lower()
    ]
    assert 7 in holds
    assert sorted(rows_found(page)) == holds
    page.fill(".mn-search", "")
    page.locator(".mn-found").wait_for(state="hidden")

    notebook.go_to(6)
    page.fill(".mn-label-negative", "wholly unheard-of")
    notebook.is_saved()
    page.fill(".mn-search", "UNHEARD-OF")
    page.wait_for_function("document.querySelectorAll('.mn-axis-list li').length === 1")
    assert page.get_attribute(".mn-axis-list li", "data-axis") == "6"
    page.wait_for_function(
        "document.querySelector('.mn-found h4').textContent.startsWith('0 rows')"
    )
    page.fill(".mn-search", "")
    page.wait_for_function("document.querySelectorAll('.mn-axis-list li').length > 1")


# --------------------------------------------------------------------------------- examples


def test_the_poles_hold_the_rows_farthest_out(page, study):
    z = study.z(BASIS)[:, 0]
    for pole, sign in (("negative", -1), ("positive", 1)):
        shown = page.locator(f".mn-pole-{pole} .mn-example")
        rows = shown.evaluate_all("(items) => items.map((item) => Number(item.dataset.row))")
        assert rows == np.argsort(-sign * z, kind="stable")[: len(rows)].tolist()
        said = [z_shown(text) for text in shown.locator(".mn-z").all_inner_texts()]
        np.testing.assert_allclose(said, z[rows], atol=0.0051)


def test_quantiles_go_from_low_to_high_and_pairs_are_of_one_category(page, study):
    z = study.z(BASIS)[:, 0]
    page.click(".mn-tools label:has-text('quantiles')")
    page.wait_for_selector(".mn-across-quantiles .mn-example")
    rows = page.locator(".mn-across .mn-example").evaluate_all(
        "(items) => items.map((item) => Number(item.dataset.row))"
    )
    assert len(rows) > 3
    assert (np.diff(z[rows]) > 0).all()

    page.click(".mn-tools label:has-text('matched')")
    page.wait_for_selector(".mn-across-matched .mn-pair")
    pairs = page.locator(".mn-pair").evaluate_all(
        """(pairs) => pairs.map((pair) => [...pair.querySelectorAll('.mn-example')].map(
             (item) => Number(item.dataset.row)))"""
    )
    for low, high in pairs:
        assert study.corpus[low].category == study.corpus[high].category
        assert z[low] < z[high]
    page.click(".mn-tools label:has-text('top')")
    page.wait_for_selector(".mn-pole-positive .mn-example")


def test_token_heat_reads_as_the_text_and_adds_up_to_the_coordinate(page, study):
    page.click(".mn-heat")
    page.wait_for_function(
        """() => [...document.querySelectorAll('.mn-poles .mn-example')].every(
             (item) => item.classList.contains('mn-heated'))"""
    )
    for toggle in page.locator(".mn-poles .mn-toggle").all():
        if toggle.is_visible() and toggle.get_attribute("aria-expanded") == "false":
            toggle.click()
    shown = page.locator(".mn-poles .mn-example").evaluate_all(
        """(items) => items.map((item) => ({
          row: Number(item.dataset.row),
          z: item.querySelector(".mn-z").textContent,
          sums: item.querySelector(".mn-sums").textContent,
          parts: [...item.querySelectorAll(".mn-text")].map((part) =>
            [...part.querySelectorAll(".mn-token")].map((t) => [t.textContent, t.title])),
        }))"""
    )
    assert len(shown) > 5
    z = study.z(BASIS)[:, 0]
    for example in shown:
        row = example["row"]
        prompt, response = ("".join(text for text, _ in part) for part in example["parts"])
        assert prompt == study.corpus[row].prompt_text
        assert response == study.corpus[row].response
        said = [float(n) for n in re.findall(r"[-+]?\d+\.\d+", example["sums"].replace("−", "-"))]
        *parts, together = said
        assert together == pytest.approx(z[row], abs=0.02)
        assert together == pytest.approx(z_shown(example["z"]), abs=0.02)
        assert sum(parts) == pytest.approx(together, abs=0.021)
        # What the tokens say of themselves adds up to what is said of prompt and answer.
        for part, told in zip(example["parts"], parts, strict=False):
            values = [z_shown(title.removesuffix(" σ")) for _, title in part]
            assert sum(values) == pytest.approx(told, abs=0.005 * (len(values) + 1))

    page.click(".mn-heat")
    page.locator(".mn-token").first.wait_for(state="detached")
    assert page.locator(".mn-sums:visible").count() == 0
    texts = page.locator(".mn-poles .mn-example .mn-text:first-of-type")
    assert texts.first.text_content() == study.corpus[shown[0]["row"]].prompt_text


def test_heat_follows_the_axis(page, notebook, study):
    page.click(".mn-heat")
    notebook.go_to(3)
    page.wait_for_selector(".mn-poles .mn-heated .mn-sums")
    # In one go: rows become hot one after the other, and which one is the first may change.
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".mn-poles .mn-heated")].map((item) =>
          [item.dataset.row, item.querySelector(".mn-sums").textContent])"""
    )
    for row, said in shown:
        together = float(re.findall(r"[-+]?\d+\.\d+", said.replace("−", "-"))[-1])
        assert together == pytest.approx(study.z(BASIS)[int(row), 3], abs=0.02)
    page.click(".mn-heat")
    page.locator(".mn-token").first.wait_for(state="detached")


def test_heat_shows_what_was_not_read_and_why_a_row_has_none(page, notebook, cut_study):
    folder = cut_study.path.parent
    write_notebook(folder / "cut.ipynb", cut_study.path)
    other = Notebook(page.context.browser, notebook.address, "cut.ipynb")
    other.run_all()
    refused = int(other.page.locator(".mn-poles .mn-example").first.get_attribute("data-row"))
    why = "1 of 1 rows are longer than max_length 40"
    in_kernel(
        other.page,
        f"""
def _refuses_one(basis, rows, _then=explorer._study.heat, **options):
    if {refused} in rows:
        raise mn.InputError("{why} (the longest has 99 tokens); pass truncate=True to cut them")
    return _then(basis, rows, **options)
explorer._study.heat = _refuses_one""",
    )
    other.page.click(".mn-heat")
    other.page.wait_for_function(
        """() => [...document.querySelectorAll('.mn-poles .mn-sums')].every(
             (said) => said.textContent && said.textContent !== 'reading tokens…')"""
    )
    for toggle in other.page.locator(".mn-poles .mn-toggle").all():
        if toggle.is_visible() and toggle.get_attribute("aria-expanded") == "false":
            toggle.click()
    left_out = other.page.locator(f".mn-example[data-row='{refused}']")
    assert left_out.locator(".mn-sums").inner_text() == f"no heat: {why}"
    assert "truncate=True" in left_out.locator(".mn-sums").get_attribute("title")
    assert left_out.locator(".mn-token").count() == 0
    assert other.page.locator(".mn-heat[aria-pressed='true']").count() == 1

    other.page.wait_for_function(
        """() => [...document.querySelectorAll('.mn-poles .mn-unread')].every(
             (rest) => !rest.textContent.endsWith(' …'))"""
    )
    shown = other.page.locator(".mn-poles .mn-heated").evaluate_all(
        """(items) => items.map((item) => ({
          row: Number(item.dataset.row),
          text: [...item.querySelectorAll(".mn-text")].map((part) => part.textContent),
          unread: [...item.querySelectorAll(".mn-unread")].map((p) => [p.textContent, p.title]),
        }))"""
    )
    heats = cut_study.heat(BASIS, [example["row"] for example in shown])
    assert {heat.is_whole for heat in heats} == {True, False}
    unfolded = [len(cut_study.corpus[example["row"]].response) > 600 for example in shown]
    assert any(unfolded)  # more than comes with the card, and than is drawn of what is folded up
    for example, heat in zip(shown, heats, strict=True):
        whole = cut_study.corpus[example["row"]]
        assert example["text"] == [whole.prompt_text, whole.response]
        unread = "".join(text for text, _ in example["unread"])
        read = [t for t, role in zip(heat.tokens, heat.roles, strict=True) if role != Role.TEMPLATE]
        assert "".join(read) + unread == whole.prompt_text + whole.response
        assert (unread == "") == heat.is_whole
        assert {title for _, title in example["unread"]} <= {"not read: cut by max_length"}

    # The arrow keys come to it after the tokens, and it is said what it is.
    text = other.page.locator(".mn-poles .mn-text:has(.mn-unread)").first
    text.focus()
    other.page.keyboard.press("End")
    item = other.page.locator(".mn-poles .mn-example:has(.mn-unread)").first
    assert item.locator(".mn-strongest").inner_text() == "not read: cut by max_length"
    other.shows_no_error()
    other.page.close()
    notebook.page.bring_to_front()


# ------------------------------------------------------------------------------ labels, quiz


def test_a_suggestion_becomes_the_label_by_a_click_only(page, notebook, study):
    notebook.go_to(1)
    page.click(".mn-suggest")
    page.wait_for_function(
        """() => document.querySelectorAll('.mn-suggestions:not([hidden])').length === 2"""
    )
    assert mn.Study.open(study.path).annotations.labels(BASIS).get((1, 1), "") == ""
    first = page.locator(".mn-suggestion").first
    text = first.locator(".mn-suggested").inner_text()
    field = first.locator("xpath=ancestor::section[1]").locator(".mn-label")
    first.click()
    notebook.is_saved()
    assert field.input_value() == text
    pole = "positive" if "mn-label-positive" in field.get_attribute("class") else "negative"
    assert mn.Study.open(study.path).annotations.get(BASIS, 1, pole) == text


def test_the_quiz_asks_rows_that_were_not_shown_and_keeps_the_score(page, notebook, study):
    notebook.go_to(2)
    page.click(".mn-quiz summary")
    assert page.locator(".mn-quiz-run").is_disabled()  # nothing to try yet
    page.fill(".mn-label-positive", "one end")
    notebook.is_saved()
    shown = page.locator(".mn-poles .mn-example").evaluate_all(
        "(items) => items.map((item) => Number(item.dataset.row))"
    )
    page.click(".mn-quiz-run")
    z, asked = study.z(BASIS)[:, 2], []
    row_of = {example.prompt_text: row for row, example in enumerate(study.corpus)}
    page.wait_for_selector(".mn-quiz .mn-said:has-text('question 1 of')")
    n = int(re.search(r"of (\d+)", notebook.said(".mn-quiz .mn-row .mn-said"))[1])
    for number in range(1, n + 1):
        notebook.page.wait_for_selector(f".mn-quiz .mn-said:has-text('question {number} of {n}')")
        asked.append(row_of[page.locator(".mn-quiz-prompt").text_content()])
        truth = z[asked[-1]] > 0
        answer = truth if number > 1 else not truth  # the first one wrong
        page.keyboard.press("ArrowRight" if answer else "ArrowLeft")
    page.wait_for_selector(f".mn-quiz-end:has-text('{n - 1} of {n} right')")
    notebook.waits_for(".mn-quiz-score", f"quiz {n - 1}/{n}")
    assert mn.Study.open(study.path).annotations.get(BASIS, 2, "quiz") == f"{n - 1}/{n}"
    assert len({*asked}) == n > 3
    assert not {*asked} & {*shown}
    page.click(".mn-quiz summary")


# ------------------------------------------------------------------------------------ keys


def test_keys_do_what_they_do_everywhere_and_nothing_to_the_notebook(page, notebook):
    """JupyterLab has commands on plain keys: ``x`` cuts the cell, ``b`` puts one below."""
    cells = page.locator(".jp-Cell").count()
    for place in (".mn-next-axis", ".mn-strategy", ".mn-dose", ".mn-axis-list", ".mn-plot"):
        page.focus(place)
        page.keyboard.press("b")
        page.wait_for_timeout(150)
        assert page.locator(".jp-Cell").count() == cells, place

    page.locator(".mn-dose").fill("2")
    page.locator(".mn-dose").press("ArrowRight")
    assert notebook.said(".mn-dose-number") == "+2.5 σ"
    page.focus(".mn-tools input")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".mn-across-quantiles .mn-example")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".mn-pole-positive .mn-example")
    page.select_option(".mn-strategy", index=0)
    page.focus(".mn-strategy")
    page.keyboard.press("ArrowDown")
    assert page.locator(".mn-strategy").evaluate("(chooser) => chooser.selectedIndex") == 1


# ---------------------------------------------------------------------------------- panels


def test_a_dose_is_tried_and_both_texts_are_shown(page, notebook, study):
    page.fill(".mn-prompt", "")
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-error:has-text('the prompt is empty')")
    page.fill(".mn-prompt", "What is 2 + 2?")
    page.locator(".mn-dose").fill("-3")
    assert notebook.said(".mn-dose-number") == "−3.0 σ"
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-info:has-text('steered along axis 0 with -3')")
    kept = mn.Study.open(study.path).results("steering", BASIS)
    row = kept[(kept["axis"] == 0) & (kept["dose"] == -3.0)].iloc[-1]
    for side, column in (("base", "unsteered"), ("steered", "steered")):
        text = page.locator(f".mn-output-{side}").text_content()
        assert text.strip()
        assert text == row[column]
    python = page.locator(".mn-steer .mn-python code").first.text_content()
    assert python == f"study.steer(['What is 2 + 2?'], '{BASIS}', axis=0, dose=-3)"


def test_a_long_run_is_stopped_and_the_next_one_runs(page, notebook):
    page.click(".mn-doses-run")
    page.locator(".mn-doses .mn-stop").click()
    page.wait_for_selector(".mn-status:has-text('stopped')")
    page.wait_for_selector(".mn-doses-run:not([disabled])")
    assert page.locator(".mn-stop:visible").count() == 0
    page.locator(".mn-dose").fill("1")
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-info:has-text('steered along axis 0 with +1')")


def test_a_selection_is_exported_and_a_trainer_would_take_it(page, study):
    page.select_option(".mn-strategy", "random")
    page.fill(".mn-budget", "12")
    page.fill(".mn-name-field", "a-dozen")
    page.click(".mn-select-run")
    page.wait_for_selector(".mn-size:has-text('12 rows')")
    assert page.locator(".mn-select .mn-drawing svg").count() >= 1
    page.select_option(".mn-format", "trl")
    page.click(".mn-export-run")
    page.wait_for_selector(".mn-verdict .mn-passes")
    folder = page.locator(".mn-path code").text_content()
    assert mn.preflight(folder).empty
    assert len((study.path / folder / "train.jsonl").read_text().splitlines()) == 12
    kept = mn.Study.open(study.path).selection("a-dozen")
    assert len(kept.indices) == 12
    first = page.locator(".mn-picked").first
    assert int(first.get_attribute("data-row")) == kept.indices[0]


def test_a_skill_is_taken_apart_into_axes(page, study):
    page.click(".mn-skill summary")
    category = study.corpus[0].category
    page.select_option(".mn-skill select[aria-label*='ategory'] >> nth=-1", category)
    page.click(".mn-skill-run")
    page.wait_for_selector(".mn-skill .mn-drawing svg")
    rows = [row for row, example in enumerate(study.corpus) if example.category == category]
    means = study.z(BASIS)[rows].mean(axis=0)
    chips = page.locator(".mn-skill .mn-go .mn-chip").all_inner_texts()
    assert int(chips[0]) == np.abs(means).argmax()
    page.locator(".mn-skill .mn-go .mn-chip").first.click()
    page.wait_for_selector(f".mn-title:has-text('Axis {chips[0]} ')")
    page.click(".mn-skill summary")


def test_neighbours_are_the_axes_whose_coordinates_go_along(page, notebook, study):
    page.click(".mn-neighbours summary")
    page.click(".mn-neighbours-run")
    page.wait_for_selector(".mn-neighbour-axes .mn-table")
    other = next(name for name in study.basis_names if name != BASIS)
    z, others = study.z(BASIS)[:, 0], study.z(other)
    alike = [np.corrcoef(z, along)[0, 1] if along.std() else 0.0 for along in others.T]
    best = int(np.abs(alike).argmax())
    row = page.locator(".mn-neighbour-axes tbody tr").first
    assert row.locator("th").inner_text().startswith(f"{other} {best}")
    assert z_shown(row.locator("td").last.inner_text()) == pytest.approx(alike[best], abs=0.0051)
    assert page.locator(".mn-neighbour-latents tbody tr").count() > 0

    page.locator(".mn-neighbour-axes .mn-link").first.click()
    notebook.title_is(best)
    page.wait_for_function(f"document.querySelector('.mn-basis select').value === '{other}'")
    choose_basis(page, study, BASIS)
    page.click(".mn-neighbours summary")


# --------------------------------------------------------------------------- accessibility


def grave_faults(page) -> dict[str, list]:
    """What axe finds in the explorer that is serious or worse, and what it cannot judge."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    # JupyterLab's body is 0 pixels high and hides what overflows: axe would take no text for seen.
    # Nor does it judge what one would have to scroll to.
    seen = "body { height: 100vh } .mn-explorer .mn-examples { max-height: none !important }"
    style = page.add_style_tag(content=seen)
    size = page.viewport_size
    page.set_viewport_size(size | {"height": 6000})
    page.wait_for_timeout(1000)  # axe fails where something moves meanwhile
    options = {"resultTypes": ["violations", "incomplete", "passes"]}
    found = axe.Axe().run(page, context=".mn-explorer", options=options).response
    page.set_viewport_size(size)
    style.evaluate("(style) => style.remove()")
    judged = [
        node for rule in found["passes"] if "contrast" in rule["id"] for node in rule["nodes"]
    ]
    assert len(judged) > 100, found["incomplete"]
    grave = {
        violation["id"]: [(node["target"], node["failureSummary"]) for node in violation["nodes"]]
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    }
    # Of what is half transparent it does not compute the contrast: it calls it "overlapped".
    unsure = [
        node["target"]
        for rule in found["incomplete"]
        if rule["id"] == "color-contrast"
        for node in rule["nodes"]
        if any((check["data"] or {}).get("messageKey") == "bgOverlap" for check in node["any"])
        if "svg" not in node["target"][-1]
        and page.locator(f".mn-busy {node['target'][-1].split(' > ')[-1]}").count()
    ]
    return grave | ({"half transparent": unsure} if unsure else {})


def test_axe_finds_no_serious_violation_while_panels_are_busy(page):
    page.fill(".mn-prompt", "What is 3 + 4?")
    page.locator(".mn-dose").fill("3")
    with held(page, "steer", before="tell(1, 4)"):
        page.click(".mn-steer-run")
        page.wait_for_selector(".mn-steer .mn-progress-said:has-text('25 %')")
        grave = grave_faults(page)
        assert page.locator(".mn-outputs.mn-busy").count() == 1  # it was all the time
    assert grave == {}
    page.wait_for_selector(".mn-status-info:has-text('steered along axis 0 with +3')")

    # What was selected before stays in sight while the next is chosen.
    page.fill(".mn-budget", "9")
    page.click(".mn-select-run")
    page.wait_for_selector(".mn-size:has-text('9 rows')")
    page.wait_for_selector(".mn-select-run:not([disabled])")
    with held(page, "select", before="tell(1, 4)"):
        page.click(".mn-select-run")
        page.wait_for_selector(".mn-select .mn-progress-said:has-text('25 %')")
        grave = grave_faults(page)
        assert page.locator(".mn-select .mn-busy .mn-picked").count() > 0
    assert grave == {}
    page.wait_for_selector(".mn-select-run:not([disabled])")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_axe_finds_no_serious_violation(page, theme):
    page.evaluate(f"{COMMANDS}.execute('apputils:change-theme', {{ theme: 'JupyterLab {theme}' }})")
    page.wait_for_function(f"document.body.dataset.jpThemeName === 'JupyterLab {theme}'")
    page.evaluate("document.querySelectorAll('.mn-explorer details').forEach((d) => d.open = true)")
    page.fill(".mn-search", "the")
    page.wait_for_selector(".mn-found .mn-example")
    page.click(".mn-heat")
    page.wait_for_function(
        """() => [...document.querySelectorAll('.mn-example')].every(
             (item) => item.classList.contains('mn-heated'))"""
    )
    grave = grave_faults(page)
    page.click(".mn-heat")
    assert grave == {}
