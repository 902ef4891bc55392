"""The rule behind `engine.executor: auto`: three estimates of what a step costs, and the smallest of them.

Milliseconds of a step (forward and backward of one batch) of s MFLOP and P million parameters, with k workers, or in
stacks of h jobs:

    serial    D + c s
    workers   max(D, (D + c s) / k)     D is Python's and torch's dispatch, which threads cannot share
    stacked   V / h + v s + p P         what a stack's step costs is shared by its rows; p is memory traffic

The constants were fitted on one AMD EPYC core to what benchmarks/heights.py prints; the MLP 784-512-256-10, the 2NN,
the digits MLP and the logistic model gave the first line, three small CNNs the second. Another processor has other
constants, but they mostly grow together, and what is decided is a comparison.
"""

from __future__ import annotations

from typing import NamedTuple


class Costs(NamedTuple):
    """Milliseconds: D and c of a job alone, V, v and p of a row in a stack."""

    alone: float
    mflop: float
    stack: float
    stacked_mflop: float
    stacked_mparam: float


LINEAR = Costs(0.45, 0.0137, 0.5, 0.0075, 2.5)
"""Fully connected networks: one batched product per layer."""
MAPPED = Costs(1.6, 0.033, 2.7, 0.05, 2.5)
"""Everything else, stacked by torch.func.vmap: convolutions become grouped ones, which CPUs do slowly."""
WORTH = 0.9
"""Another executor than `serial` has to cost less than this share of it."""


def estimates(mflop: float, mparam: float, workers: int, height: float, linear: bool) -> dict[str, float]:
    """Executor -> milliseconds a step, for those that could run it: workers 1 = no threads, height 1 = no stacks."""
    costs = LINEAR if linear else MAPPED
    alone = costs.alone + costs.mflop * mflop
    found = {"serial": alone}
    if workers > 1:
        found["workers"] = max(costs.alone, alone / workers)
    if height > 1:
        found["stacked"] = costs.stack / height + costs.stacked_mflop * mflop + costs.stacked_mparam * mparam
    return found


def best(found: dict[str, float]) -> str:
    """The cheapest; `serial` unless another one is clearly cheaper."""
    name = min(found, key=lambda n: found[n])
    return name if found[name] < WORTH * found["serial"] else "serial"
