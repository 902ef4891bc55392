"""Peak memory of a run against the number of clients: FedBuff, 100 in flight, the 2NN (784-200-200-10).

    python benchmarks/memory.py [--clients 1000 10000 100000] [--updates 300]

Each size runs in a process of its own; what is printed is that process's highest resident set.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile

CHILD = "--child"


def child(clients: int, updates: int) -> None:
    from aflctl import run

    config = {
        "algorithm": "fedbuff",
        "dataset": {"name": "synthetic", "features": 784, "mu": 3.0, "max_size": 200, "test_samples": 500},
        "model": {"name": "mlp", "hidden": [200, 200]},
        "clients": {"count": clients, "concurrency": 100},
        "local": {"batch_size": 10},
        "stop": {"updates": updates},
        "evaluate": {"every": {"updates": updates}},
    }
    with tempfile.TemporaryDirectory() as folder:
        result = run(config, runs_dir=folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"clients": clients, "peak_mib": peak, "host": dict(result.summary["host"])}))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--clients", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    ask.add_argument("--updates", type=int, default=300)
    ask.add_argument(CHILD, type=int, dest="child")
    given = ask.parse_args()
    if given.child:
        child(given.child, given.updates)
        return
    first = None
    print("clients   peak MiB   above the first   (bars: 1,536 MiB; growth to 100,000 under 100 MiB)")
    for clients in given.clients:
        words = [sys.executable, __file__, CHILD, str(clients), "--updates", str(given.updates)]
        told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        first = told["peak_mib"] if first is None else first
        peak, run_s = told["peak_mib"], told["host"]["run_s"]
        print(f"{clients:7,d}   {peak:8.0f}   {peak - first:+15.0f}   run {run_s:.1f} s")


if __name__ == "__main__":
    main()
