"""Cold start: `aflctl run smoke` from process start to exit, and what of it are imports.

    python benchmarks/start.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

RUN = ["-c", "from aflctl.cli.app import main; main()", "run", "smoke", "-q", "--runs-dir"]


def seconds(*options: str) -> tuple[float, float, str]:
    """(wall, CPU, stderr) of one run in a fresh process and a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *options, *RUN, folder], capture_output=True, text=True, check=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--repeats", type=int, default=3)
    given = ask.parse_args()
    taken = [seconds()[:2] for _ in range(given.repeats)]
    traced = seconds("-X", "importtime")[2]
    imports = sum(int(us) for us in re.findall(r"^import time:\s+(\d+) \|", traced, re.MULTILINE)) / 1e6
    wall, cpu = (median(column) for column in zip(*taken, strict=True))
    print(f"aflctl run smoke: {wall:.2f} s wall (bar 6), {cpu:.2f} s CPU")
    print(f"of which imports: {imports:.2f} s (bar 3), traced")


if __name__ == "__main__":
    main()
