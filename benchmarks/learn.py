"""Every method on real digits: Dirichlet 0.5, 60 clients, the poster's fleet, the defaults of its paper.

    python benchmarks/learn.py [--seeds 1] [--only fedbuff fadas]      prints the table of docs/benchmarks/learn.md

A constant model reaches 10 %. Where a method's unit of work is not the others' (one gradient, one poll, one pass over
all data), it gets its own length; the column "settings" says what differs from the preset `quickstart`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from statistics import fmean

from aflctl import run
from aflctl.plugins import registry

OWN: dict[str, list[str]] = {
    "ace": ["stop.updates=3000"],
    "asgd": ["stop.updates=3000"],
    "bounded-staleness-sgd": ["stop.updates=3000"],
    "central": ["stop.updates=8", "evaluate.every.updates=1"],
    "fedcompass": ["clients.count=20", "clients.concurrency=20", "algorithm.min_steps=2", "algorithm.max_steps=10"],
    "malenia": [
        "clients.concurrency=60",
        'fleet={"devices":{"jetson-tx2":1},"networks":{"wifi":1}}',
        "algorithm.server_optimizer.lr=6",
        "stop.versions=60",
        "stop.updates=20000",
        "evaluate.every.versions=10",
    ],
    "quafl": ["stop.versions=800", "stop.updates=20000", "evaluate.every.versions=40"],
    "rennala": ["stop.updates=3000"],
    "ringleader": [
        "clients.concurrency=60",
        "algorithm.lr=0.2",
        "stop.versions=1800",
        "stop.updates=200000",
        "evaluate.every.versions=60",
    ],
    "ringmaster": ["stop.updates=3000"],
    "scaffold": ["local.momentum=0"],
    "fedac": ["local.momentum=0"],
}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seeds", type=int, default=1)
    ask.add_argument("--only", nargs="*")
    given = ask.parse_args()
    columns = "method, final accuracy, best, updates, versions, virtual time, mean staleness, traffic, settings"
    print("| " + " | ".join(columns.split(", ")) + " |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for entry in registry().entries("algorithms"):
        if entry.distribution != "aflctl" or (given.only and entry.name not in given.only):
            continue
        own = OWN.get(entry.name, [])
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(given.seeds):
                try:
                    result = run("quickstart", sets=[f"algorithm={entry.name}", *own, f"seed={seed}"], runs_dir=folder)
                except Exception as error:
                    print(f"{entry.name}, seed {seed}: {error}", file=sys.stderr)
                    break
                found.append(result.summary)
        if not found:
            print(f"| {entry.name} | did not finish | | | | | | | {', '.join(own)} |", flush=True)
            continue
        final = [s["final"].get("personal_accuracy") or s["final"]["accuracy"] for s in found]
        mark = " (own model of each client)" if "personal_accuracy" in found[0]["final"] else ""
        totals = found[0]["totals"]
        traffic = (totals["bytes_up"] + totals["bytes_down"]) / 1e6
        print(
            f"| {entry.name} | {fmean(final):.3f}{mark} | {fmean(s['best']['accuracy'] for s in found):.3f} "
            f"| {totals['updates']} | {totals['versions']} | {totals['virtual_s']:.0f} s "
            f"| {found[0]['staleness']['mean']:.2f} | {traffic:.0f} MB | {', '.join(own)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
