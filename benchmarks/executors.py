"""Executors against bare torch loops and against each other; ratios are taken in turns in one process.

    python benchmarks/executors.py [--repeats 5] [--only serial|workers|stacked] [--gpu]

CPU seconds of this process, but wall seconds for two processes, two threads, and a GPU. A step's time is printed as a
share of the machine's floor (benchmarks/floor.py).
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import time
from statistics import median
from typing import Any

import torch
from floor import floor_ms
from workloads import bare, interleaved, ratio, workload

from aflctl.train.allocator import keep_freed_memory
from aflctl.train.executors.stacked import Stacked
from aflctl.train.executors.workers import Workers
from aflctl.train.jobs import train


def row(what: str, name: str, speed: float, bar: str, ms: float, low: float) -> None:
    """One line: the ratio, its bar, and a step's time as a share of the machine's floor."""
    print(f"{what:23s} | {name:31s} | {speed:5.2f} {bar:9s} | {ms:8.4f} ms a step, floor {low:.4f}: {low / ms:.0%}")


def serial_row(name: str, repeats: int) -> None:
    kit, specs, plain = workload(name, 3)
    steps = sum(s.steps for s in specs)
    taken = interleaved(repeats, bare=lambda: bare(plain, kit, specs), serial=lambda: [train(kit, s) for s in specs])
    low = floor_ms(name)
    ms = 1e3 * median(taken["serial"]) / steps
    speed = ratio(taken["bare"], taken["serial"])
    row("serial / bare loop", name, speed, "(bar 0.9)", ms, low)


def _two(name: str, rounds: int, ready: Any, go: Any, out: Any) -> None:
    torch.set_num_threads(1)
    kit, specs, plain = workload(name, 3)
    bare(plain, kit, specs[:1])
    ready.release()
    for _ in range(rounds):
        go.acquire()
        start = time.perf_counter()
        bare(plain, kit, specs)
        out.put(time.perf_counter() - start)


def workers_row(name: str, repeats: int) -> None:
    context = mp.get_context("spawn")
    ready, out = context.Semaphore(0), context.Queue()
    gates = [context.Semaphore(0) for _ in range(2)]
    loops = [context.Process(target=_two, args=(name, repeats, ready, gate, out), daemon=True) for gate in gates]
    for p in loops:
        p.start()
    for _ in loops:
        ready.acquire()
    kit, specs, _ = workload(name, 6)
    workers = Workers(kit, 2)

    def pooled() -> None:
        for s in specs:
            workers.start(s, s.task)
        for s in specs:
            workers.result(s)

    pooled()
    joint, ours = [], []
    for _ in range(repeats):
        for gate in gates:
            gate.release()
        joint.append(max(out.get() for _ in loops))
        start = time.perf_counter()
        pooled()
        ours.append(time.perf_counter() - start)
    workers.close()
    steps = sum(s.steps for s in specs)
    low = floor_ms(name) / 2
    row("workers=2 / two loops", name, ratio(joint, ours), "(bar 0.9)", 1e3 * median(ours) / steps, low)


def stacked_row(name: str, repeats: int, rows: int = 32, device: str = "cpu", bar: str = "(bar 5)") -> None:
    kit, specs, _ = workload(name, rows, epochs=3, device=device)

    def stacked() -> None:
        executor = Stacked(kit, rows)
        for s in specs:
            executor.start(s, 0)
        for s in specs:
            executor.result(s)

    clock = time.process_time if device == "cpu" else time.perf_counter
    taken = interleaved(repeats, clock, serial=lambda: [train(kit, s) for s in specs], stacked=stacked)
    steps = sum(s.steps for s in specs)
    ms = 1e3 * median(taken["stacked"]) / steps
    low = floor_ms(name, device)
    speed = ratio(taken["serial"], taken["stacked"])
    where = "" if device == "cpu" else f" on {device}"
    row(f"stacked {rows} / serial{where}", name, speed, bar, ms, low)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--repeats", type=int, default=5)
    ask.add_argument("--gpu", action="store_true")
    ask.add_argument("--only", choices=("serial", "workers", "stacked"), default=None)
    given = ask.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a run does; the bare loop of the same process has it too
    print(f"torch {torch.__version__}")
    if given.gpu:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        print(torch.cuda.get_device_name())
        for name in ("2NN 784-200-200-10, batch 10", "CIFAR CNN, batch 50"):
            for rows in (100, 300, 1000):
                stacked_row(name, max(2, given.repeats // 2), rows, "cuda", "")
        return
    big = ("MLP 784-512-256-10, batch 64", "CIFAR CNN, batch 50")
    small = ("digits MLP 64-64-10, batch 32", "logistic on MNIST, batch 32")
    rows = {"serial": (serial_row, big), "workers": (workers_row, big), "stacked": (stacked_row, small)}
    for kind, (measure, names) in rows.items():
        for name in names if given.only in (None, kind) else ():
            measure(name, given.repeats)


if __name__ == "__main__":
    main()
