"""What a step costs alone and in stacks of several heights: the numbers behind `auto` (engine/parts/auto.py).

    python benchmarks/heights.py [--heights 2 4 8 32]

CPU seconds of this process, so that other processes disturb less; the best of several turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from workloads import WORKLOADS, workload

from aflctl.engine.parts.auto import estimates
from aflctl.train.allocator import keep_freed_memory
from aflctl.train.executors.rowwise import rowwise
from aflctl.train.executors.stacked import Stack
from aflctl.train.flops import count_flops
from aflctl.train.jobs import Kit, Spec, train


def best(work: Callable[..., object], *given: object, turns: int = 4) -> float:
    """CPU seconds of the quickest turn; one more to warm up."""
    taken = []
    for _ in range(turns + 1):
        start = time.process_time()
        work(*given)
        taken.append(time.process_time() - start)
    return min(taken[1:])


def alone(kit: Kit, specs: Sequence[Spec]) -> None:
    """One after the other."""
    for spec in specs:
        train(kit, spec)


def together(kit: Kit, specs: Sequence[Spec]) -> None:
    """As one stack."""
    Stack(kit, specs).train(plain=True)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--heights", type=int, nargs="+", default=[2, 4, 8, 32])
    given = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print("ms a step: measured (estimated by the rule)")
    for name, (spec, _, batch, _) in WORKLOADS.items():
        kit, specs, plain = workload(name, max(given.heights), epochs=1)
        mflop = 3 * count_flops(plain, spec) * batch / 1e6
        mparam = kit.task.size / 1e6
        linear = rowwise(kit.task.module, list(kit.task.layout)) is not None
        steps = specs[0].steps
        one, rule = best(alone, kit, specs[:2]) / 2 / steps, estimates(mflop, mparam, 1, 1, linear)
        told = [f"alone {1e3 * one:.3f} ({rule['serial']:.3f})"]
        for height in given.heights:
            row = best(together, kit, specs[:height]) / height / steps
            rule = estimates(mflop, mparam, 1, height, linear)
            told.append(f"of {height}: {1e3 * row:.3f} ({rule['stacked']:.3f})")
        print(f"{name:30s} {mflop:7.2f} MFLOP  " + "  ".join(told), flush=True)


if __name__ == "__main__":
    main()
