"""What a whole run costs beside its clients' SGD steps, and where that goes.

    python benchmarks/overhead.py [--updates 1000] [--every 50] [--profile]

FedAsync on MNIST's shape (the set itself if it is there), the 2NN (784-200-200-10), 100 clients with 600 samples each,
10 in flight, one local epoch with batches of 10, executor serial. `--profile` prints Python's profile of the rest.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from typing import Any

from aflctl import run
from aflctl.data import folder
from aflctl.errors import DataMissing
from aflctl.train.executors import serial
from aflctl.train.jobs import Kit, Spec, Trained, train


def config(updates: int, every: int, dataset: dict[str, Any]) -> dict[str, Any]:
    """The run."""
    return {
        "algorithm": "fedasync",
        "dataset": {**dataset, "partition": "iid"},
        "model": {"name": "mlp", "hidden": [200, 200]},
        "clients": {"count": 100, "concurrency": 10},
        "local": {"epochs": 1, "batch_size": 10, "lr": 0.05},
        "stop": {"updates": updates},
        "evaluate": {"every": {"updates": every}},
        "engine": {"executor": "serial"},
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--updates", type=int, default=1000)
    ask.add_argument("--every", type=int, default=50)
    ask.add_argument("--profile", action="store_true")
    given = ask.parse_args()
    spent, profile = [0.0, 0], cProfile.Profile()

    def timed(kit: Kit, spec: Spec) -> Trained:
        profile.disable()
        start = time.perf_counter()
        out = train(kit, spec)
        spent[0] += time.perf_counter() - start
        spent[1] += spec.steps
        if given.profile:
            profile.enable()
        return out

    serial.train = timed  # type: ignore[attr-defined]
    stand_in = {"name": "synthetic", "features": 784, "max_size": 600, "test_samples": 10_000}
    for dataset in ({"name": "mnist"}, stand_in):
        try:
            with tempfile.TemporaryDirectory() as place:
                began = time.perf_counter()
                host = run(config(given.updates, given.every, dataset), runs_dir=place).summary["host"]
            whole = time.perf_counter() - began
            break
        except DataMissing:
            print(f"no MNIST in {folder()}: random data of its shape instead")
    profile.disable()
    rest = host["run_s"] - spent[0]
    print(
        f"{dataset['name']}: {given.updates} updates, {spent[1]:.0f} steps: {host['run_s']:.2f} s, of which "
        f"{spent[0]:.2f} s in SGD steps ({1e3 * spent[0] / spent[1]:.3f} ms each); outside {rest:.2f} s = "
        f"{rest / host['run_s']:.1%} (bar 5 %), {1e3 * rest / given.updates:.2f} ms an update"
    )
    print(f"from call to return, data, pictures and report included: {whole:.2f} s, outside {1 - spent[0] / whole:.1%}")
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
