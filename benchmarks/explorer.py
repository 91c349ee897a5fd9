"""What a person waits for in the explorer, on a study of 100,000 examples and 64 axes.

The study is that of ``made_up_study.py``. Measured are

- axis switch, in the kernel: from a message to the end of its handler, with every change of what
  is shown made into bytes as a Jupyter session makes them; in the three modes of examples, and
  with the map coloured by coordinate;
- axis switch, in a browser: JupyterLab and chromium; from the key press, by the browser's own
  clock, to the second animation frame after the title says the new axis;
- first paint: from the run of the cell to the first example on the screen, study opened and
  quality there already; `explore` alone is timed in the kernel;
- lasso: `within_polygon` on 1,000,000 points, 200 corners, against the even-odd rule edge by edge;
- size: the notebook with the explorer in it, its map drawn, saved as nbclient saves it.

Token heat is timed by ``benchmarks/heat.py``. Beside wall-clock time stands CPU time in the same
unit: of the kernel's process, its 95 % point where switches are timed; on the screen the mean of a
switch, of kernel, server and browser together, with all that they do until the next key. Where
CPU time is far below wall-clock time, the machine was busy with something else.

    python benchmarks/explorer.py [--rows 100000] [--axes 64] [--switches 100] [--no-browser]
                                  [--study FOLDER]
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' JupyterLab is the one used here

import numpy as np
from made_up_study import BASIS, make_study

import mnskills_viz as mn
from tests.widgets.lab import ARGUMENTS, CHROMIUM, Notebook, jupyterlab

MODES = ("top", "quantiles", "matched")
CORNERS, POINTS = 200, 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--axes", type=int, default=64)
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--no-browser", action="store_true", help="what the kernel does alone")
    parser.add_argument("--study", type=Path, help="keep the study here, or take the one there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = given.study or Path(place) / "study"
        if not (folder / "study.json").exists():
            make_study(folder, given.rows, given.axes)
        cpus = os.cpu_count()
        print(f"{given.rows:,} rows, {given.axes} axes, {given.switches} switches; {cpus} cores, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        in_the_kernel(folder, given.switches)
        lasso()
        saved_size(folder, Path(place))
        if not given.no_browser:
            in_a_browser(folder, Path(place), given.switches)


def said(what: str, found: str, asked: str, cpu: float | None = None) -> None:
    beside = "" if cpu is None else f"   CPU {cpu:.3g}"
    print(f"  {what:46} {found:28} {asked and 'asked ' + asked:16}{beside}", flush=True)


# ------------------------------------------------------------------------------- in the kernel


class Wire:
    """What a kernel does with a widget's changes: bytes, as a Jupyter session makes them."""

    def __init__(self) -> None:
        from jupyter_client.session import Session

        self._session = Session(key=b"benchmark")
        self.n_bytes = 0

    def publish(self, comm: Any, kind: str, data: Any = None, **rest: Any) -> None:
        """Stands for `comm.base_comm.BaseComm.publish_msg`."""
        content = {"data": data or {}, "comm_id": comm.comm_id}
        parts = self._session.serialize(self._session.msg(kind, content))
        buffers = rest.get("buffers") or []
        self.n_bytes += sum(map(len, parts)) + sum(memoryview(b).nbytes for b in buffers)


@contextlib.contextmanager
def wired() -> Iterator[Wire]:
    """Widgets made in here send what they would send a browser."""
    import comm

    wire = Wire()

    class Counted(comm.DummyComm):
        def publish_msg(self, msg_type: str, data: Any = None, **rest: Any) -> None:
            wire.publish(self, msg_type, data, **rest)

    before = comm.create_comm
    comm.create_comm = lambda *args, **options: Counted(*args, **options)
    try:
        yield wire
    finally:
        comm.create_comm = before


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall-clock seconds, CPU seconds, and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def in_the_kernel(folder: Path, switches: int) -> None:
    def opened() -> Any:
        return mn.explore(mn.Study.open(folder), BASIS)

    with wired() as wire:
        wall, cpu, explorer = timed(opened)
        said("explore(), study opened with it", f"{wall:.2f} s", "", cpu)

        def send(kind: str, **content: Any) -> None:
            explorer._handle_custom_msg({"type": kind} | content, [])

        for name, prepare_it in situations(send).items():
            prepare_it()
            taken, cpus, before = [], [], wire.n_bytes
            for number in range(switches + 1):
                axis = (number * 7 + 1) % len(explorer.axes)
                wall, cpu, _ = timed(lambda axis=axis: send("axis", axis=axis))
                if explorer.card["axis"] != axis:
                    raise RuntimeError(explorer.status["text"])
                if number:  # the first warms up
                    taken.append(1e3 * wall)
                    cpus.append(1e3 * cpu)
            kilobytes = (wire.n_bytes - before) / (switches + 1) / 1e3
            what = f"axis switch, kernel: {name} ({kilobytes:.0f} kB)"
            said(what, percentiles(taken), "100 ms", float(np.quantile(cpus, 0.95)))


def situations(send: Callable[..., None]) -> dict[str, Callable[[], None]]:
    def coloured() -> None:
        send("examples", mode="top")
        send("ready")
        send("map", x=0, y=1, colour="coordinate", view="axes")

    modes = {mode: (lambda mode=mode: send("examples", mode=mode)) for mode in MODES}
    return modes | {"map by coordinate": coloured}


def percentiles(milliseconds: Sequence[float]) -> str:
    middle, high = np.quantile(milliseconds, [0.5, 0.95])
    return f"p50 {middle:.0f}, p95 {high:.0f} ms"


def lasso() -> None:
    from mnskills_viz.axes.regions import within_polygon

    generator = np.random.default_rng(0)
    points = generator.standard_normal((POINTS, 2)).astype(np.float32)
    angles = np.sort(generator.uniform(0, 2 * np.pi, CORNERS))
    radii = generator.uniform(0.4, 2.0, CORNERS)[:, None]
    polygon = radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    runs = [timed(lambda: within_polygon(points, polygon)) for _ in range(6)][1:]
    wall, cpu, found = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    differ = len(np.setxor1d(found, crossings(points, polygon)))
    what = f"lasso, {POINTS:,} points: {len(found):,} in, {differ} wrong"
    said(what, f"{1e3 * wall:.0f} ms", "500 ms", 1e3 * cpu)


def crossings(points: Any, polygon: Any) -> Any:
    """Points from which a ray to the right crosses an odd number of edges; edge by edge."""
    x, y = points.astype(np.float64).T
    odd = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return np.flatnonzero(odd)


# ------------------------------------------------------------------------------ in a notebook


def notebook(*sources: str) -> dict[str, Any]:
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": [
            empty | {"id": f"cell-{i}", "source": source} for i, source in enumerate(sources)
        ],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def open_study(folder: Path) -> str:
    return f"import mnskills_viz as mn\nstudy = mn.Study.open({str(folder.resolve())!r})"


EXPLORE = f"explorer = mn.explore(study, {BASIS!r})\nexplorer"
DRAW_MAP = "explorer._handle_custom_msg({'type': 'ready'}, [])  # as the front end asks for it"


def saved_size(folder: Path, place: Path) -> None:
    import nbclient
    import nbformat

    for name, sources in {"without its map": (), "with its map": (DRAW_MAP,)}.items():
        cells = notebook(open_study(folder), EXPLORE, *sources)
        made = nbformat.from_dict(cells)
        nbclient.NotebookClient(made, timeout=300, kernel_name="python3").execute(cwd=str(place))
        size = len(nbformat.writes(made).encode()) / 1e6
        said(f"notebook saved with the explorer, {name}", f"{size:.2f} MB", "8 MB")


# ------------------------------------------------------------------------------ in a browser

FRAMES = """
const frames = () => new Promise((done) => {
  requestAnimationFrame(() => requestAnimationFrame(done));
});
"""

FIRST_PAINT = f"""async (command) => {{
  {FRAMES}
  const start = performance.now();
  const there = () => document.querySelector(".mn-explorer .mn-example");
  const seen = new Promise((done) => {{
    const look = () => (there() ? done() : requestAnimationFrame(look));
    look();
  }});
  window.jupyterapp.commands.execute(command);
  await seen;
  await frames();
  return performance.now() - start;
}}"""

WATCH = f"""() => {{
  {FRAMES}
  const title = () => document.querySelector(".mn-title").textContent;
  let [pressed, before, last] = [0, "", 0];
  window.switches = [];
  window.maps = [];
  const key = (event) => {{
    [pressed, before] = [event.timeStamp, title()];
    last = pressed;
  }};
  document.addEventListener("keydown", key, true);
  const changed = async () => {{
    if (!pressed || title() === before) return;
    const start = pressed;
    pressed = 0;
    await frames();
    window.switches.push(performance.now() - start);
  }};
  const all = {{ subtree: true, childList: true, characterData: true }};
  new MutationObserver(changed).observe(document.querySelector(".mn-explorer"), all);
  document.querySelector(".mn-scatter .js-plotly-plot").on("plotly_afterplot", async () => {{
    const start = last;
    await frames();
    if (start) window.maps.push(performance.now() - start);
  }});
}}"""

END_KERNELS = """async () => {
  const kernels = await (await fetch("/api/kernels")).json();
  await Promise.all(kernels.map(({ id }) => fetch(`/api/kernels/${id}`, { method: "DELETE" })));
}"""

PAUSE = 200
"""Milliseconds from what was painted to the next key: a quick reader."""


def in_a_browser(folder: Path, place: Path, switches: int) -> None:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        print("  no chromium: nothing is measured in a browser")
        return
    ready = f"{open_study(folder)}\nstudy.quality({BASIS!r})\n'ready'"
    for name, cells in {
        "warm": notebook(ready, EXPLORE),
        "cold": notebook(f"{open_study(folder)}\n{EXPLORE}"),
    }.items():
        (place / f"{name}.ipynb").write_text(json.dumps(cells))
    with jupyterlab(place) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = first_paint(browser, address)
        for name, choose in chosen(page).items():
            choose()
            measure_switches(page, name, switches)
        browser.close()


def first_paint(browser: Any, address: str) -> Any:
    """Time it in a new kernel and in one that has the study; gives the page of the latter."""
    run_all, run_next = "notebook:run-all-cells", "notebook:run-cell-and-select-next"
    page = Notebook(browser, address, "cold.ipynb").page
    cold = page.evaluate(FIRST_PAINT, run_all) / 1e3
    said("first paint, import and opening with it", f"{cold:.2f} s", "")
    page.evaluate(END_KERNELS)
    page.close()
    page = Notebook(browser, address, "warm.ipynb").page
    page.set_default_timeout(120_000)
    page.evaluate(f"void window.jupyterapp.commands.execute({run_next!r})")
    page.wait_for_selector(".jp-OutputArea-output:has-text('ready')")
    warm = page.evaluate(FIRST_PAINT, run_next) / 1e3
    said("first paint, study open", f"{warm:.2f} s", "2 s")
    page.wait_for_selector(".mn-scatter .js-plotly-plot .main-svg", state="attached")
    page.wait_for_timeout(3000)
    page.evaluate(WATCH)
    return page


def chosen(page: Any) -> dict[str, Callable[[], None]]:
    """The situations that axes are switched in, chosen as a person does."""

    def choose(mode: str, colour: str) -> None:
        page.evaluate(f"document.querySelector('.mn-segments input[value={mode}]').click()")
        # The explorer opens as it was left, the map's colour with it.
        page.select_option("select[aria-label='Colour of the points']", colour)
        page.wait_for_timeout(2000)

    modes = {mode: (lambda mode=mode: choose(mode, "category")) for mode in MODES}
    return modes | {"map by coordinate": lambda: choose("top", "coordinate")}


def measure_switches(page: Any, name: str, switches: int) -> None:
    last = page.locator(".mn-axis-list li").count() - 1
    page.click(".mn-axis-list li[data-axis='0']")
    page.wait_for_function("document.querySelector('.mn-title').textContent.startsWith('Axis 0 ')")
    page.wait_for_timeout(1000)
    page.evaluate("window.switches = []; window.maps = []")
    before = cpu_of_children()
    for number in range(switches):
        page.keyboard.press("j" if (number // last) % 2 == 0 else "k")
        page.wait_for_function(f"window.switches.length === {number + 1}")
        page.wait_for_timeout(PAUSE)
    cpu = 1e3 * (cpu_of_children() - before) / switches
    said(
        f"axis switch, screen: {name}", percentiles(page.evaluate("window.switches")), "250 ms", cpu
    )
    if maps := page.evaluate("window.maps"):
        said(f"  {len(maps)} times with the map drawn again", percentiles(maps), "")


def cpu_of_children() -> float:
    """CPU seconds of JupyterLab, its kernels and the browser."""
    import psutil

    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


if __name__ == "__main__":
    main()
