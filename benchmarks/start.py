"""Cold start: `aflctl run smoke` from process start to exit, what of it are imports, and what of those is torch.

python benchmarks/start.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

RUN = "from aflctl.cli.app import main; main()"
LISTED = f"""
import json, sys
try:
    {RUN}
finally:
    print(json.dumps(list(sys.modules)), file=sys.stderr)
"""
IMPORTS = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception:
        pass  # made on the fly by the module before it
"""


def seconds(program: str, *words: str) -> tuple[float, float, str]:
    """(wall, CPU, stderr) of a fresh process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def smoke(program: str = RUN) -> tuple[float, float, str]:
    """The run, into a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(program, "run", "smoke", "-q", "--runs-dir", folder)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--repeats", type=int, default=3)
    given = ask.parse_args()
    modules = json.loads(smoke(LISTED)[2].splitlines()[-1])
    runs = [smoke()[:2] for _ in range(given.repeats)]
    imports = [seconds(IMPORTS, json.dumps(modules))[:2] for _ in range(given.repeats)]
    torch = [seconds("import torch")[:2] for _ in range(given.repeats)]
    rows = (
        ("aflctl run smoke", runs, " (bar 6)"),
        (f"its {len(modules)} modules alone", imports, " (bar 3)"),
        ("torch alone, the machine's floor", torch, ""),
    )
    for what, taken, bar in rows:
        wall, cpu = (median(column) for column in zip(*taken, strict=True))
        print(f"{what}: {wall:.2f} s wall{bar}, {cpu:.2f} s CPU")


if __name__ == "__main__":
    main()
