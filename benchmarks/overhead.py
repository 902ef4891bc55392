"""What a whole run costs beside its clients' SGD steps, and where that goes.

    python benchmarks/overhead.py [--updates 1000] [--every 50] [--profile]

FedAsync on MNIST (random data of its shape where the set is not there), the 2NN (784-200-200-10), 100 clients with 600
samples each, 10 in flight, one local epoch with batches of 10, executor serial. Wall seconds, and CPU seconds of the
thread that trains, which other processes disturb less. `--profile` prints Python's profile of the rest.
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
from aflctl.engine.course.drive import Driver
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


class Clock:
    """Seconds by the wall and by this thread's CPU, summed up over many calls."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.thread_time() - self._began[1]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--updates", type=int, default=1000)
    ask.add_argument("--every", type=int, default=50)
    ask.add_argument("--profile", action="store_true")
    given = ask.parse_args()
    steps, events, whole, count = Clock(), Clock(), Clock(), [0]
    profile, play = cProfile.Profile(), Driver.run

    def timed(kit: Kit, spec: Spec) -> Trained:
        profile.disable()
        with steps:
            out = train(kit, spec)
        count[0] += spec.steps
        if given.profile:
            profile.enable()
        return out

    def driven(driver: Driver) -> str:
        with events:
            return play(driver)

    serial.train, Driver.run = timed, driven  # type: ignore[attr-defined, method-assign]
    for dataset in ({"name": "mnist"}, {"name": "synthetic", "features": 784, "max_size": 600, "test_samples": 10_000}):
        try:
            with tempfile.TemporaryDirectory() as place, whole:
                run(config(given.updates, given.every, dataset), runs_dir=place)
            break
        except DataMissing:
            print(f"no MNIST in {folder()}: random data of its shape instead")
    profile.disable()
    print(f"{dataset['name']}: {given.updates} updates, {count[0]} steps of {1e3 * steps.cpu / count[0]:.3f} ms CPU")
    for what, clock in (("from time 0 to the last event", events), ("from call to return", whole)):
        wall, cpu = clock.wall - steps.wall, clock.cpu - steps.cpu
        print(
            f"  {what}: {clock.wall:.1f} s, outside SGD steps {wall:.2f} s = {wall / clock.wall:.1%} (bar 5 %); "
            f"CPU {clock.cpu:.1f} s, outside {cpu:.2f} s = {cpu / clock.cpu:.1%}, "
            f"{1e3 * cpu / given.updates:.2f} ms an update"
        )
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
