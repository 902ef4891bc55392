"""Private heads beside the plain method, in numbers: Dirichlet 0.1, the poster's fleet, several seeds.

    python benchmarks/personal.py [--dataset fashion-mnist] [--seeds 5] [--runs-dir runs/personal] [--minutes 8]
                                  [--markdown FILE]

Finished runs are not repeated, so it may be stopped (by itself after --minutes) and started again. Prints a table of
the clients' mean accuracy on their own test samples with 95 % intervals (Student's t over seeds), and the paired
difference that private heads make.
"""

from __future__ import annotations

import argparse
import json
import time
from math import sqrt
from pathlib import Path
from typing import Any

from scipy.stats import t as student

import aflctl

METHODS: dict[str, Any] = {
    "fedasync": "fedasync",
    "fedbuff": {"name": "fedbuff", "buffer_size": 5},
    "ca2fl": {"name": "ca2fl", "buffer_size": 5},
    "asyncdrop": "asyncdrop",
}
WRAPPERS: dict[str, Any] = {"plain": None, "private head": "fedper"}
SIZES: dict[str, dict[str, Any]] = {  # what two cores can do; digits has 50 samples a client, Fashion-MNIST 600
    "digits": {
        "clients": {"count": 30, "concurrency": 10},
        "local": {"epochs": 5, "batch_size": 16, "lr": 0.05, "momentum": 0.9},
        "stop": {"updates": 400},
        "evaluate": {"every": {"updates": 200}, "fine_tune": 5},
    },
    "fashion-mnist": {
        "clients": {"count": 100, "concurrency": 10},
        "local": {"epochs": 1, "batch_size": 32, "lr": 0.05, "momentum": 0.9},
        "stop": {"updates": 500},
        "evaluate": {"every": {"updates": 500}, "fine_tune": 2},
        "engine": {"executor": "serial"},
    },
}


def config(dataset: str, algorithm: Any, wrapper: Any, seed: int) -> dict[str, Any]:
    """One run."""
    data = {"name": dataset, "partition": {"name": "dirichlet", "alpha": 0.1, "min_size": 8}, "test_fraction": 0.25}
    found = {
        **SIZES[dataset], "dataset": data, "model": {"name": "mlp", "hidden": [64, 64]}, "fleet": "poster-1-1-1",
        "algorithm": algorithm, "seed": seed,
    }  # fmt: skip
    return found if wrapper is None else {**found, "personalization": wrapper}


def interval(values: list[float]) -> tuple[float, float]:
    """(mean, half width of the 95 % interval)."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, float("nan")
    sd = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * sd / sqrt(n)


def shown(values: list[float]) -> str:
    """`84.1 ± 1.2`, in per cent."""
    mean, half = interval(values)
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=list(SIZES), default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so long")
    parser.add_argument("--runs-dir", default="runs/personal")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    seeds = range(given.seeds)

    began = time.monotonic()

    def said(algorithm: Any, wrapper: Any, seed: int) -> dict[str, Any]:
        if time.monotonic() - began > 60 * given.minutes:
            raise SystemExit("not finished: start it again")
        got = aflctl.run(config(given.dataset, algorithm, wrapper, seed), runs_dir=given.runs_dir)
        summary = json.loads((got.path / "summary.json").read_text())
        print(got.path.name, f"{100 * summary['personal']['accuracy']:.1f}", flush=True)
        return {**summary["personal"], "global": summary["final"]["accuracy"]}

    alone = [said("local-only", None, seed) for seed in seeds]
    found = {
        (m, w): [said(method, wrapper, seed) for seed in seeds]
        for m, method in METHODS.items()
        for w, wrapper in WRAPPERS.items()
    }
    lines = [
        "| method | clients keep | client mean | minus plain | worst tenth | after fine-tuning | better than alone |",
        "|---|---|---|---|---|---|---|",
        "| local-only | everything "
        f"| {shown([a['accuracy'] for a in alone])} | | {shown([a['worst'] for a in alone])} | | |",
    ]
    for (m, w), rows in found.items():
        plain = found[m, "plain"]
        apart = [] if w == "plain" else [r["accuracy"] - p["accuracy"] for r, p in zip(rows, plain, strict=True)]
        lines.append(
            f"| {m} | {'nothing' if w == 'plain' else w} | {shown([r['accuracy'] for r in rows])} "
            f"| {shown(apart) if apart else ''} | {shown([r['worst'] for r in rows])} "
            f"| {shown([r['fine_tuned']['accuracy'] for r in rows])} "
            f"| {shown([r['better_than_local']['share'] for r in rows])} |"
        )
    text = "\n".join(lines)
    print(text)
    if given.markdown is not None:
        given.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
