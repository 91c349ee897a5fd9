"""The explorer as a person meets it: in JupyterLab, in a real browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnskills_viz as mn

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]
BASIS = "pca-1"
SOON = 30_000  # ms; what takes longer than this will not come

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def study(tiny_study: mn.Study, tmp_path_factory: pytest.TempPathFactory) -> mn.Study:
    """A copy that may be labelled."""
    folder = tmp_path_factory.mktemp("lab") / "study"
    shutil.copytree(tiny_study.path, folder)
    return mn.Study.open(folder)


@pytest.fixture(scope="module")
def lab(study: mn.Study) -> Iterator[str]:
    """Address of a JupyterLab on loopback, its folder that of the study."""
    folder = study.path.parent
    write_notebook(folder / "explore.ipynb", study.path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "",
        "ServerApp.disable_check_xsrf": True,
        "LabApp.expose_app_in_browser": True,
        "LabApp.news_url": "None",
    }
    command += [f"--{name}={value}" for name, value in options.items()]
    # Settings of whoever runs the tests must not show.
    private = {
        name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")
    }
    log = folder / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=os.environ | private, stdout=out, stderr=out)
    try:
        wait_for_server(address, server, log)
        yield address
    finally:
        server.terminate()
        server.wait(15)


def write_notebook(path: Path, study: Path) -> None:
    source = f"import mnskills_viz as mn\nmn.explore(mn.Study.open({str(study)!r}), {BASIS!r})"
    cell = {"cell_type": "code", "id": "explore", "metadata": {}, "source": source}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {
        "cells": [cell | {"outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(notebook))


def wait_for_server(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{address}/api").read()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the browser's console says of our code."""
    return []


@pytest.fixture(scope="module")
def page(lab: str, complaints: list[str]) -> Iterator:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.set_default_timeout(SOON)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if is_ours(said) else None)
        open_notebook(page, lab)
        yield page
        browser.close()


def is_ours(said) -> bool:
    # The widget's module is loaded from a blob, and anywidget speaks for it.
    ours = said.location.get("url", "").startswith("blob:") or "widget" in said.text
    return said.type == "error" and ours


def open_notebook(page, lab: str) -> None:
    page.goto(f"{lab}/lab/tree/explore.ipynb", wait_until="commit")
    page.wait_for_selector(".jp-Notebook .cm-content")
    # A run that begins before the kernel is there never ends.
    page.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )


def run_all(page) -> None:
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".mn-explorer .mn-example")


def title_is(page, axis: int) -> None:
    page.wait_for_function(
        f"document.querySelector('.mn-title').textContent.startsWith('Axis {axis} ')"
    )


def saved_is_said(page) -> None:
    page.wait_for_function("document.querySelector('.mn-save-status').textContent === 'saved'")


def label_on_disk(study: mn.Study, axis: int, field: str) -> str:
    return mn.Study.open(study.path).annotations.get(BASIS, axis, field)


def test_the_explorer_in_jupyterlab(page, lab, study, complaints):
    run_all(page)
    assert page.locator(".mn-axis-list li").count() == study.basis(BASIS).n_axes_
    assert page.locator("text=Error displaying widget").count() == 0
    assert page.locator("[class^=mn-fallback]").is_hidden()

    # Axes by click and by key.
    page.click(".mn-axis-list li[data-axis='2']")
    title_is(page, 2)
    page.keyboard.press("j")
    title_is(page, 3)
    page.keyboard.press("k")
    page.keyboard.press("k")
    title_is(page, 1)
    page.click(".mn-next-axis")
    title_is(page, 2)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.classList.contains('mn-search')")
    page.keyboard.press("Escape")

    # A label is saved by itself; markup in it stays text.
    nasty = "adds <img src=x onerror=alert(1)> numbers"
    page.fill(".mn-label-positive", nasty)
    saved_is_said(page)
    assert label_on_disk(study, 2, "positive") == nasty
    assert page.locator(".mn-axis-list li[data-axis='2'] .mn-named").inner_text() == nasty
    assert page.locator(".mn-explorer img").count() == 0

    # What was typed just before leaving goes to the axis it was typed for.
    page.locator(".mn-label-negative").press_sequentially("spells")
    page.click(".mn-axis-list li[data-axis='5']")
    title_is(page, 5)
    saved_is_said(page)
    assert label_on_disk(study, 2, "negative") == "spells"
    assert page.input_value(".mn-label-negative") == ""

    # Undo goes to where it changes something.
    page.click(".mn-undo")
    title_is(page, 2)
    page.wait_for_function("document.querySelector('.mn-label-negative').value === ''")
    assert label_on_disk(study, 2, "negative") == ""
    page.click(".mn-redo")
    page.wait_for_function("document.querySelector('.mn-label-negative').value === 'spells'")

    # Steering, and an error that is shown.
    page.fill(".mn-prompt", "")
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-error:has-text('the prompt is empty')")
    page.fill(".mn-prompt", "What is 2 + 2?")
    page.locator(".mn-dose").fill("-3")
    page.click(".mn-steer-run")
    page.wait_for_selector(".mn-status-info:has-text('steered along axis 2 with -3')")
    assert page.locator(".mn-output-base").inner_text().strip()
    assert page.locator(".mn-output-steered").inner_text().strip()

    # Without its kernel the notebook still shows the axes; a new one has the labels.
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    kernel = page.evaluate("fetch('/api/kernels').then((r) => r.json()).then((k) => k[0].id)")
    page.wait_for_timeout(500)
    page.evaluate(f"fetch('/api/kernels/{kernel}/restart', {{ method: 'POST' }})")
    open_notebook(page, lab)
    page.wait_for_selector("[class^=mn-fallback] table")
    assert page.locator("[class^=mn-fallback] tbody tr").count() == study.basis(BASIS).n_axes_
    run_all(page)
    assert page.locator(".mn-axis-list li[data-axis='2'] .mn-named").nth(1).inner_text() == nasty

    # The page without a kernel complains of the lost widget, as it should; nothing else may.
    assert [c for c in complaints if "model not found" not in c] == []
