"""Seconds, tasks a second and memory of a plan, from a thousand to a million clients.

    python benchmarks/plan_scale.py [clients ...]        default: 1000 10000 100000 1000000

Each size runs in a process of its own, so that its peak is its own: phones on WiFi, LTE and 5G at constant rates,
Markov availability, one task per client (at least 100,000), one hundredth of the clients (at least 100) in flight.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any


def config(clients: int) -> dict[str, Any]:
    """The plan of issue-sized federations; `tasks` used updates end it."""
    tasks, flying = max(100_000, clients), max(100, clients // 100)
    return {
        "algorithm": {"name": "fedbuff", "buffer_size": max(10, flying // 10)},
        "dataset": "synthetic",
        "model": {"name": "mlp", "hidden": [64]},
        "clients": {"count": clients, "concurrency": flying},
        "fleet": {
            "devices": {"phone-high": 1, "phone-mid": 1, "phone-low": 1},
            "networks": {"wifi": 1, "lte": 1, "nr": 1},
            "availability": "markov",
        },
        "stop": {"updates": tasks},
    }


def one(clients: int) -> None:
    """Plans once and prints what it took."""
    import resource
    import time

    from aflctl.engine.plans.planning import plan

    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        document = plan(config(clients), runs_dir=folder).document
    print(
        json.dumps(
            {
                "clients": clients,
                "tasks": document["totals"]["tasks"],
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "vectors": document["schedule"]["vectors"],
                "virtual_s": document["totals"]["virtual_s"],
                "staleness": document["staleness"]["mean"],
                "digest": document["digests"]["schedule"][:12],
            }
        )
    )


def main(sizes: list[int]) -> None:
    """A line per size, and bytes per client between the smallest and the largest."""
    print(f"{'clients':>10} {'tasks':>10} {'seconds':>8} {'cpu s':>8} {'tasks/s':>9} {'peak MiB':>9}  schedule")
    seen = []
    for clients in sizes:
        words = [sys.executable, __file__, "--one", str(clients)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        seen.append(row)
        print(
            f"{row['clients']:>10,} {row['tasks']:>10,} {row['seconds']:>8.1f} {row['cpu_seconds']:>8.1f} "
            f"{row['tasks'] / row['seconds']:>9,.0f} {row['peak_mib']:>9,.0f}  {row['digest']}",
            flush=True,
        )
    if len(seen) > 1:
        grown = (seen[-1]["peak_mib"] - seen[0]["peak_mib"]) * 2**20 / (seen[-1]["clients"] - seen[0]["clients"])
        print(f"peak memory grows by {grown:.0f} bytes a client, what is in flight included")


if __name__ == "__main__":
    if "--one" in sys.argv:
        one(int(sys.argv[-1]))
    else:
        main([int(a) for a in sys.argv[1:]] or [1000, 10_000, 100_000, 1_000_000])
