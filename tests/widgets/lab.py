"""JupyterLab in a real browser: what the browser tests share."""

import contextlib
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
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]
SOON = 60_000  # ms; what takes longer than this will not come
BASIS = "pca-1"

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Address of a JupyterLab on loopback that serves a folder."""
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
    news = folder / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    log = folder / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=os.environ | private, stdout=out, stderr=out)
    try:
        wait_for_server(address, server, log)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def wait_for_server(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/api").read()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


def write_notebook(path: Path, study: Path, basis: str = BASIS) -> None:
    """A notebook that says which process its kernel is, and shows the explorer."""
    sources = [
        "import os\nos.getpid()",
        "import mnskills_viz as mn\n"
        f"explorer = mn.explore(mn.Study.open({str(study)!r}), {basis!r})\nexplorer",
    ]
    empty: dict[str, Any] = {"metadata": {}, "outputs": [], "execution_count": None}
    notebook = {
        "cells": [
            {"cell_type": "code", "id": f"cell-{i}", "source": source} | empty
            for i, source in enumerate(sources)
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(notebook))


class Notebook:
    """A notebook in a page of a browser.

    Parameters
    ----------
    browser : playwright's Browser
    address : str
        Of the JupyterLab.
    name : str
        Of the notebook.

    Attributes
    ----------
    page : playwright's Page
    complaints : list of str
        What the console says of our code.
    """

    def __init__(self, browser: Any, address: str, name: str) -> None:
        self.address, self.name = address, name
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": 1500, "height": 1300})
        self.page.set_default_timeout(SOON)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", self._asked)
        self.open()

    def _heard(self, said: Any) -> None:
        # The widget's module is loaded from a blob, and anywidget speaks for it.
        ours = said.location.get("url", "").startswith("blob:") or "widget" in said.text
        if said.type == "error" and ours:
            self.complaints.append(said.text)

    def _asked(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.complaints.append(f"a dialog: {dialog.message}")
        dialog.accept()

    # --------------------------------------------------------------------------- the notebook

    def open(self) -> None:
        """Load the page, and wait for a kernel: a run that begins before it never ends."""
        self.page.goto(f"{self.address}/doc/tree/{self.name}", wait_until="commit")
        self.page.wait_for_selector(".jp-Notebook .cm-content")
        self.kernel_is_idle()

    def kernel_is_idle(self) -> None:
        self.page.wait_for_function(f"{KERNEL}?.status === 'idle'")

    def run_all(self) -> None:
        """Run all cells; what they showed before is gone."""
        self.page.evaluate(f"{COMMANDS}.execute('notebook:clear-all-cell-outputs')")
        self.page.evaluate(f"void {COMMANDS}.execute('notebook:run-all-cells')")
        self.page.wait_for_selector(".mn-explorer .mn-example")

    def restart(self) -> None:
        """Restart the kernel, as the menu does it after the question."""
        self.page.evaluate(f"{KERNEL}.restart()")
        self.kernel_is_idle()

    def save(self) -> None:
        self.page.evaluate(f"{COMMANDS}.execute('docmanager:save')")

    @property
    def kernel_pid(self) -> int:
        return int(self.page.locator(".jp-OutputArea-output pre").first.inner_text())

    # --------------------------------------------------------------------------- the explorer

    def said(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def waits_for(self, selector: str, text: str) -> None:
        """Wait until an element is there and says just this."""
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.textContent === text",
            arg=[selector, text],
        )

    def title_is(self, axis: int) -> None:
        self.page.wait_for_function(
            f"document.querySelector('.mn-title').textContent.startsWith('Axis {axis} ')"
        )

    def go_to(self, axis: int) -> None:
        self.page.click(f".mn-axis-list li[data-axis='{axis}']")
        self.title_is(axis)

    def is_saved(self) -> None:
        self.waits_for(".mn-save-status", "saved")

    def value_is(self, field: str, text: str) -> None:
        self.page.wait_for_function(
            "([field, text]) => document.querySelector(field).value === text", arg=[field, text]
        )

    def shows_no_error(self) -> None:
        """Nothing of ours failed so far, in the page or in its console."""
        assert self.page.locator("text=Error displaying widget").count() == 0
        assert self.complaints == []


KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
COMMANDS = "window.jupyterapp.commands"
