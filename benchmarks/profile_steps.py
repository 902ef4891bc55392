"""Where the time of an SGD step goes, by torch's profiler: shares of operations, Python's part, page faults.

    python benchmarks/profile_steps.py [--rows 1] [--workload "digits MLP 64-64-10, batch 32"]

`--rows 1` profiles jobs one after the other, more rows a stack of so many jobs.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch.profiler import ProfilerActivity, profile
from workloads import WORKLOADS, workload

from aflctl.train.allocator import keep_freed_memory
from aflctl.train.executors.stacked import Stack
from aflctl.train.jobs import train

SHOWN = 8


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rows", type=int, default=1)
    ask.add_argument("--workload", choices=list(WORKLOADS), default=None)
    ask.add_argument("--give-back", action="store_true", help="let the allocator give memory back, as glibc does")
    given = ask.parse_args()
    torch.set_num_threads(1)
    if not given.give_back:
        keep_freed_memory()
    for name in [given.workload] if given.workload else list(WORKLOADS):
        kit, specs, _ = workload(name, given.rows, epochs=1)

        def work(kit=kit, specs=specs) -> None:  # type: ignore[no-untyped-def]
            if given.rows == 1:
                train(kit, specs[0])
            else:
                Stack(kit, specs).train(plain=True)

        work()
        steps = sum(s.steps for s in specs)
        before, cpu = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        work()
        cpu, after = time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            work()
        rows = sorted(seen.key_averages(), key=lambda r: -r.self_cpu_time_total)
        total = sum(r.self_cpu_time_total for r in rows)
        shares = ", ".join(f"{r.key.removeprefix('aten::')} {r.self_cpu_time_total / total:.0%}" for r in rows[:SHOWN])
        calls = sum(r.count for r in rows if r.key.startswith("aten::")) / steps
        faults, system = (after.ru_minflt - before.ru_minflt) / steps, after.ru_stime - before.ru_stime
        print(f"{name}, {given.rows} at once: {1e3 * cpu / steps:.3f} ms CPU a step,")
        print(f"    {1e3 * system / steps:.3f} of it in the system for {faults:.0f} page faults")
        print(f"    {calls:.0f} operations a step: {shares}", flush=True)


if __name__ == "__main__":
    main()
