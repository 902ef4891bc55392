"""The event loop alone: FedBuff with vectors of length 0, constant rates, nothing is trained.

    python benchmarks/loop.py [--clients 100000] [--flying 10000] [--tasks 200000]

Only the loop is timed: not the fleet's construction, not the plan's other parts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from plan_scale import config

from aflctl.engine.plans import planning


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--clients", type=int, default=100_000)
    ask.add_argument("--flying", type=int, default=10_000)
    ask.add_argument("--tasks", type=int, default=200_000)
    given = ask.parse_args()
    settings = config(given.clients)
    settings["clients"]["concurrency"] = given.flying
    settings["algorithm"]["buffer_size"] = max(10, given.flying // 10)
    settings["stop"] = {"updates": given.tasks}
    course = planning.Course.run

    def timed(self: Any, loop: Any, *more: Any) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        course(self, loop, *more)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{settings['fleet']['availability']}: {loop.tasks:,} tasks, {given.flying:,} in flight: "
            f"{loop.tasks / wall:,.0f} a second (bar 30,000), {loop.tasks / cpu:,.0f} a CPU second",
            flush=True,
        )

    planning.Course.run = timed  # type: ignore[method-assign]
    for availability in ("always", "markov"):
        settings["fleet"]["availability"] = availability
        with tempfile.TemporaryDirectory() as folder:
            planning.plan(settings, runs_dir=folder, host=False)


if __name__ == "__main__":
    main()
