"""A notebook with the explorer in it, in JupyterLab: kernels come and go, labels stay."""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

import mnskills_viz as mn
from tests.widgets.lab import (
    ARGUMENTS,
    BASIS,
    CHROMIUM,
    Notebook,
    jupyterlab,
    needs_browser,
    write_notebook,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")

pytestmark = needs_browser

MOST_BYTES = 8_000_000
ENDLESS = "ab cd " * 16_667  # 100,000 characters
HOSTILE = (
    "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>",
    "\"double\" 'single' `back` &amp; &lt;b&gt; \\n {{x}} ${y} </textarea></style>",
    "\u202bשלום עולם مرحبا بالعالم\u202c then left to right",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b𝔘𝔫𝔦𝔠𝔬𝔡𝔢 表情",
    ENDLESS,
)


@pytest.fixture(scope="module")
def study(tiny_study: mn.Study, tmp_path_factory: pytest.TempPathFactory) -> mn.Study:
    """A copy that may be labelled."""
    folder = tmp_path_factory.mktemp("lab") / "study"
    shutil.copytree(tiny_study.path, folder)
    return mn.Study.open(folder)


@pytest.fixture(scope="module")
def hostile_study(study: mn.Study, tiny_folder) -> mn.Study:
    """24 rows whose prompts, answers, categories and ids try to be more than text."""
    rows = [
        mn.Example(
            id=f"{i} {text[:60]}",
            prompt=f"{text} {i}",
            response=f"{i} {HOSTILE[i // 5]}",
            category=text[:40],
        )
        for i, text in ((i, HOSTILE[i % 5]) for i in range(24))
    ]
    folder = study.path.parent / "hostile"
    hostile = mn.Study.create(
        folder, model=str(tiny_folder), corpus=mn.Corpus(rows, "hostile"), dtype="float32"
    )
    hostile.collect(max_length=512, truncate=True, progress=False)
    hostile.fit("pca", layer=1, n_axes=4)
    return mn.Study.open(folder)


@pytest.fixture(scope="module")
def lab(study: mn.Study) -> Iterator[str]:
    """A JupyterLab with two notebooks on one study."""
    for name in ("one", "two"):
        write_notebook(study.path.parent / f"{name}.ipynb", study.path)
    with jupyterlab(study.path.parent) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def one(browser, lab) -> Notebook:
    notebook = Notebook(browser, lab, "one.ipynb")
    notebook.run_all()
    return notebook


def on_disk(study: mn.Study, axis: int, field: str) -> str:
    return mn.Study.open(study.path).annotations.get(BASIS, axis, field)


def keep_state(study: mn.Study) -> None:
    """Make JupyterLab save what widgets hold in the notebook, from the next page on."""
    settings = study.path.parent / "JUPYTERLAB_SETTINGS_DIR" / "@jupyter-widgets"
    (settings / "jupyterlab-manager").mkdir(parents=True)
    plugin = settings / "jupyterlab-manager" / "plugin.jupyterlab-settings"
    plugin.write_text('{"saveState": true}')


def test_axes_are_switched_by_click_and_by_key(one, study):
    page = one.page
    assert page.locator(".mn-axis-list li").count() == study.basis(BASIS).n_axes_
    assert page.locator("[class^=mn-fallback]").is_hidden()
    one.go_to(2)
    page.keyboard.press("j")
    one.title_is(3)
    page.keyboard.press("k")
    page.keyboard.press("k")
    one.title_is(1)
    page.click(".mn-next-axis")
    one.title_is(2)
    page.click(".mn-prev-axis")
    one.title_is(1)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.classList.contains('mn-search')")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('mn-axis-list')")
    page.keyboard.press("End")
    one.title_is(study.basis(BASIS).n_axes_ - 1)
    one.shows_no_error()


def test_what_is_typed_is_saved_on_the_axis_it_was_typed_for(one, study):
    page = one.page
    one.go_to(2)
    page.fill(".mn-label-positive", "adds numbers")
    one.is_saved()
    assert on_disk(study, 2, "positive") == "adds numbers"
    assert one.said(".mn-axis-list li[data-axis='2'] .mn-named") == "adds numbers"

    # What was typed just before leaving goes with the axis that is left.
    page.locator(".mn-label-negative").press_sequentially("spells")
    one.go_to(5)
    one.is_saved()
    assert on_disk(study, 2, "negative") == "spells"
    assert page.input_value(".mn-label-negative") == ""

    # Notes and the state are saved in the same way.
    page.fill(".mn-notes", "look again")
    page.locator(".mn-said-of-labels").get_by_text("confirmed").click()
    page.wait_for_selector(".mn-axis-list li[data-axis='5'] .mn-state-confirmed")
    one.is_saved()
    assert on_disk(study, 5, "notes") == "look again"
    assert on_disk(study, 5, "state") == "confirmed"


def test_undo_goes_to_where_it_changes_something_and_redo_brings_it_back(one, study):
    page = one.page
    one.go_to(6)
    page.fill(".mn-label-positive", "before")
    one.is_saved()
    page.fill(".mn-label-positive", "after")
    one.is_saved()
    one.go_to(0)
    page.click(".mn-undo")
    one.title_is(6)
    one.value_is(".mn-label-positive", "before")
    assert on_disk(study, 6, "positive") == "before"
    page.click(".mn-undo")
    one.value_is(".mn-label-positive", "")
    assert on_disk(study, 6, "positive") == ""
    for text in ("before", "after"):
        page.click(".mn-redo")
        one.value_is(".mn-label-positive", text)
        assert on_disk(study, 6, "positive") == text
    one.shows_no_error()


def test_a_restarted_kernel_shows_the_labels_and_the_axis_as_they_were(one, study):
    one.go_to(2)
    one.restart()
    one.run_all()
    one.title_is(2)
    assert one.page.input_value(".mn-label-positive") == "adds numbers"
    assert one.page.input_value(".mn-label-negative") == "spells"


def test_a_killed_kernel_loses_nothing_that_was_said_to_be_saved(one, study):
    page = one.page
    one.go_to(4)
    # Whenever the page says "saved", it is noted what stood in the field at that moment.
    page.evaluate(
        """() => {
          const field = document.querySelector(".mn-label-positive");
          const sign = document.querySelector(".mn-save-status");
          window.promised = [];
          new MutationObserver(() => {
            if (sign.textContent === "saved") window.promised.push(field.value);
          }).observe(sign, { childList: true, characterData: true, subtree: true });
        }"""
    )
    label = page.locator(".mn-label-positive")
    for word in ("names ", "colours "):
        label.press_sequentially(word)
        one.is_saved()
    pid = one.kernel_pid
    label.press_sequentially("and shapes", delay=40)
    os.kill(pid, signal.SIGKILL)
    page.wait_for_function(
        "document.querySelector('.mn-save-status').textContent.startsWith('not saved yet')"
    )

    typed = "names colours and shapes"
    promised, kept = page.evaluate("window.promised"), on_disk(study, 4, "positive")
    assert promised[-1].startswith("names colours")
    assert kept.startswith(promised[-1])
    assert typed.startswith(kept)
    assert label.input_value() == typed  # what is not saved is still there to be copied

    page.click(".jp-Dialog button.jp-mod-accept")  # that a new kernel was started
    one.kernel_is_idle()
    one.run_all()
    one.title_is(4)
    assert page.input_value(".mn-label-positive") == kept
    assert one.kernel_pid != pid


def test_two_notebooks_on_one_study_keep_the_labels_of_both(one, browser, lab, study):
    two = Notebook(browser, lab, "two.ipynb")
    two.run_all()
    one.go_to(0)
    two.go_to(0)
    one.page.locator(".mn-label-positive").press_sequentially("from one", delay=20)
    two.page.locator(".mn-label-negative").press_sequentially("from two", delay=20)
    one.is_saved()
    two.is_saved()
    two.go_to(3)
    two.page.fill(".mn-notes", "of another axis")
    two.is_saved()
    assert on_disk(study, 0, "positive") == "from one"
    assert on_disk(study, 0, "negative") == "from two"
    assert on_disk(study, 3, "notes") == "of another axis"

    two.go_to(0)
    for notebook in (one, two):
        notebook.page.click(".mn-refresh")
        notebook.value_is(".mn-label-positive", "from one")
        notebook.value_is(".mn-label-negative", "from two")
    two.shows_no_error()
    two.page.close()


def test_a_saved_notebook_is_small_and_shows_the_axes_without_a_kernel(one, study):
    page = one.page
    one.save()
    notebook = (study.path.parent / "one.ipynb").read_text()
    assert "application/vnd.jupyter.widget-view+json" in notebook
    assert "adds numbers" in notebook
    assert len(notebook) < MOST_BYTES / 100

    one.shows_no_error()
    one.restart()
    one.open()
    page.wait_for_selector("[class^=mn-fallback] table")
    assert page.locator("[class^=mn-fallback] tbody tr").count() == study.basis(BASIS).n_axes_
    assert "adds numbers" in one.said("[class^=mn-fallback] table")
    assert page.locator(".mn-explorer").count() == 0


def test_hostile_texts_are_shown_as_text(browser, lab, hostile_study):
    write_notebook(hostile_study.path.parent / "hostile.ipynb", hostile_study.path)
    notebook = Notebook(browser, lab, "hostile.ipynb")
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".mn-scatter .nsewdrag")

    # Labels and notes: typed, saved, shown in the list, the same after a restart.
    for axis, text in enumerate(HOSTILE[:4]):
        notebook.go_to(axis)
        page.fill(".mn-label-positive", text)
        page.fill(".mn-notes", text)
        notebook.is_saved()
        assert hostile_study.annotations.get(BASIS, axis, "positive") == text
        shown = page.locator(f".mn-axis-list li[data-axis='{axis}'] .mn-named").first
        assert shown.text_content() == text
    page.fill(".mn-label-negative", ENDLESS)
    notebook.is_saved()
    assert hostile_study.annotations.get(BASIS, 3, "negative") == ENDLESS

    # Prompts and answers: every row can be found, opened, and reads as it was written.
    page.fill(".mn-search", "ab cd")
    page.wait_for_selector(".mn-found[data-what='search']")
    for row in (0, 4, 13):
        page.fill(".mn-search", f"{HOSTILE[row % 5]} {row}"[-40:])
        found = page.locator(f".mn-found .mn-example[data-row='{row}']")
        found.wait_for()
        if (toggle := found.locator(".mn-toggle")).is_visible():
            toggle.click()
        whole = hostile_study.corpus[row].prompt_text
        page.wait_for_function(
            """([row, n]) => document.querySelector(
              `.mn-found .mn-example[data-row='${row}'] .mn-text`).textContent.length === n""",
            arg=[row, page.evaluate("(text) => text.length", whole)],
        )
        assert found.locator(".mn-text").first.text_content() == whole
    page.fill(".mn-search", "")
    notebook.shows_no_error()

    # Nothing of it became markup or ran, in the widget or in its static twin.
    twin = "[class^=mn-fallback]"
    for place in (".mn-explorer", twin):
        assert page.locator(f"{place} img, {place} script").count() == 0
    assert page.evaluate("window.harmed") is None
    notebook.save()
    notebook.restart()
    notebook.open()
    page.wait_for_selector(f"{twin} table")
    assert page.locator(f"{twin} img, {twin} script").count() == 0
    assert page.evaluate("window.harmed") is None
    assert (hostile_study.path.parent / "hostile.ipynb").stat().st_size < MOST_BYTES
    page.close()


def test_a_notebook_saved_with_the_state_of_its_widgets_is_small_enough(browser, lab, study):
    """JupyterLab keeps that only if it is asked to; it holds the front end and plotly's script."""
    keep_state(study)
    write_notebook(study.path.parent / "state.ipynb", study.path)
    notebook = Notebook(browser, lab, "state.ipynb")
    notebook.run_all()
    notebook.page.wait_for_selector(".mn-scatter .nsewdrag")
    notebook.save()
    saved = study.path.parent / "state.ipynb"
    assert "application/vnd.jupyter.widget-state+json" in saved.read_text()
    assert 4_000_000 < saved.stat().st_size < MOST_BYTES
    notebook.shows_no_error()
    notebook.page.close()
