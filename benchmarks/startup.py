"""How long a person waits before anything happens: import, help, a study's table.

Each is the median of several fresh processes, beside an empty Python process.
"""

import statistics
import subprocess
import sys
import time

RUNS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import mnskills_viz": ["-c", "import mnskills_viz"],
    "mnskills --help": ["-c", "import sys; sys.argv[1:] = ['--help'];"
                        "from mnskills_viz.cli import main; main()"],
    "import mnskills_viz.study": ["-c", "import mnskills_viz.study"],
}  # fmt: skip


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for name, arguments in COMMANDS.items():
        seconds(arguments)  # once for the disk cache
        times = [seconds(arguments) for _ in range(RUNS)]
        print(f"{name:28} {statistics.median(times):6.3f} s  (median of {RUNS})")


if __name__ == "__main__":
    main()
