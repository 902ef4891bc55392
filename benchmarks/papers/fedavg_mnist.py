"""McMahan et al. 2017, table 2: rounds of FedAvg until MNIST's test accuracy, 100 clients, a tenth of them per round.

    aflctl data prepare mnist
    python benchmarks/papers/fedavg_mnist.py [--rows 2nn-iid 2nn-shards cnn-iid cnn-shards] [--lr 0.05 0.1 0.2]
        [--runs-dir runs]

The paper tunes the learning rate on a multiplicative grid; so do we, on the values given, and print every one. The
partition `pathological` with `form: shards` gives every client two shards of the data sorted by label. With --runs-dir
the runs are kept, and one that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from aflctl import run

ROWS: dict[str, tuple[str, int, float, int, dict[str, Any], dict[str, Any]]] = {
    "2nn-iid": ("2NN, E=1, B=10, IID", 1, 0.97, 87, {"name": "mlp", "hidden": [200, 200]}, {"name": "iid"}),
    "2nn-shards": (
        "2NN, E=1, B=10, two shards", 1, 0.97, 664, {"name": "mlp", "hidden": [200, 200]},
        {"name": "pathological", "form": "shards"},
    ),
    "cnn-iid": ("CNN, E=5, B=10, IID", 5, 0.99, 20, {"name": "fedavg-cnn"}, {"name": "iid"}),
    "cnn-shards": (
        "CNN, E=5, B=10, two shards", 5, 0.99, 229, {"name": "fedavg-cnn"}, {"name": "pathological", "form": "shards"},
    ),
}  # fmt: skip


def rounds(row: str, lr: float, seed: int, runs_dir: Path) -> tuple[int | None, float]:
    """(rounds until the target, or None; the best accuracy)."""
    _, epochs, target, published, model, partition = ROWS[row]
    config = {
        "algorithm": "fedavg",
        "dataset": {"name": "mnist", "partition": partition},
        "model": model,
        "clients": {"count": 100, "concurrency": 10},
        "local": {"epochs": epochs, "batch_size": 10, "lr": lr},
        "fleet": {"devices": {"jetson-tx2-afl": 1}, "networks": {"ideal": 1}},
        "stop": {"versions": 3 * published, "accuracy": target},
        "evaluate": {"every": {"versions": 1}},
        "seed": seed,
    }
    summary = run(config, runs_dir=runs_dir).summary
    reached = summary["stop_reason"] == "accuracy"
    return summary["totals"]["versions"] if reached else None, summary["best"]["accuracy"]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rows", nargs="+", default=["2nn-iid", "2nn-shards"], choices=list(ROWS))
    ask.add_argument("--lr", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--runs-dir", type=Path)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table(given.rows, given.lr, given.seed, given.runs_dir or Path(folder))


def table(rows: list[str], rates: list[float], seed: int, runs_dir: Path) -> None:
    """Prints a row per learning rate."""
    print("| row | target | published rounds | learning rate | our rounds | best accuracy |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        name, _, target, published, _, _ = ROWS[row]
        for lr in rates:
            ours, best = rounds(row, lr, seed, runs_dir)
            told = "not reached" if ours is None else ours
            print(f"| {name} | {target:.0%} | {published} | {lr:g} | {told} | {best:.4f} |", flush=True)


if __name__ == "__main__":
    main()
