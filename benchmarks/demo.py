"""Time and memory of the whole demo, cold and warm, as a newcomer runs it.

The embedded model is converted beforehand if it was not: that is part of the first run only, and
its time is printed apart.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = [sys.executable, "-c", "from mnskills_viz.cli import main; main()", "demo"]
LOAD = [sys.executable, "-c", "import mnskills_viz as mn; mn.load_model('embedded')"]


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of a command, and the largest memory of any command so far in GB."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    elapsed = time.perf_counter() - start
    return elapsed, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def main() -> None:
    print(f"load the embedded model, first time {timed(LOAD)[0]:6.1f} s")
    print(f"load the embedded model, again      {timed(LOAD)[0]:6.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        study = str(Path(folder) / "demo_study")
        for name in ("demo, cold", "demo, warm"):
            elapsed, memory = timed([*DEMO, study])
            print(f"{name:35} {elapsed:6.1f} s  largest memory so far {memory:.2f} GB")


if __name__ == "__main__":
    main()
