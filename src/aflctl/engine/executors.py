"""Which executor runs a configuration, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from aflctl.errors import EnvironmentProblem, UserError
from aflctl.train.executors.serial import Serial
from aflctl.train.executors.stacked import Stacked
from aflctl.train.executors.workers import Workers

if TYPE_CHECKING:
    from aflctl.api import Model
    from aflctl.config.schema import Engine
    from aflctl.train.executors import Executor
    from aflctl.train.jobs import Kit

STACK_BELOW_MFLOP = 30.0
WORKERS_ABOVE_MFLOP = 15.0
STACK_MEMORY_BYTES = 1 << 30


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place(name: str) -> torch.device:
    """`engine.device` as a device that is there."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{name!r} is no device", where="engine.device", hint="use cpu, cuda or cuda:0") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise EnvironmentProblem(
                f"this machine has {count} CUDA devices, {name!r} was asked for", where="engine.device", hint="use cpu"
            )
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise UserError(f"{name!r} is not supported", where="engine.device", hint="use cpu, cuda or cuda:0")
    return device


def choose(engine: Engine, model: Model, kit: Kit, flops: float, concurrency: int) -> tuple[Executor, dict[str, Any]]:
    """(the executor, what was picked and why).

    The rule for `auto`, measured on two cores (docs/explanation/performance.md): with at least 4 tasks in flight, a
    model that stacks and less than 30 MFLOP a step, `stacked`; else from 15 MFLOP a step and two cores on, `workers`;
    else `serial`.
    """
    name, step = engine.executor, 3 * flops * kit.local.batch_size / 1e6
    stacks = model.stacks and not kit.task.random and not kit.task.buffers.numel()
    many = min(cores(), concurrency) if engine.workers is None else engine.workers
    why = "asked for"
    cuda = kit.feed.device.type == "cuda"
    if name == "auto":
        if cuda:
            name = "stacked" if stacks and concurrency >= 2 else "serial"
            why = f"on a GPU, {concurrency} tasks in flight" + ("" if stacks else ", the model does not stack")
        elif stacks and concurrency >= 4 and step < STACK_BELOW_MFLOP:
            name, why = "stacked", f"a step costs {step:.1f} MFLOP and up to {concurrency} tasks are in flight"
        elif many > 1 and step >= WORKERS_ABOVE_MFLOP and not kit.task.random:
            name, why = "workers", f"a step costs {step:.1f} MFLOP, {many} cores and {concurrency} tasks in flight"
        else:
            name, why = "serial", f"a step costs {step:.1f} MFLOP, {concurrency} tasks in flight, {many} cores"
    if name == "stacked":
        if not stacks:
            raise UserError(
                f"the model {type(model).__name__} does not stack (it has BatchNorm, dropout or recurrent layers)",
                where="engine.executor",
                hint="use engine.executor: workers, serial or auto",
            )
        rows = _rows(engine, kit)
        return Stacked(kit, rows), {"name": name, "why": why, "rows": rows}
    if name == "workers":
        if cuda:
            raise UserError("workers are threads on CPU cores", where="engine.executor", hint="use stacked on a GPU")
        if kit.task.random:
            raise UserError(
                f"the model {type(model).__name__} has dropout, whose masks come from torch's one global generator",
                where="engine.executor",
                hint="use engine.executor: serial",
            )
        return Workers(kit, many), {"name": name, "why": why, "workers": many}
    return Serial(kit), {"name": name, "why": why}


def _rows(engine: Engine, kit: Kit) -> int:
    """Jobs in one stack: weights, gradient, momentum and as much again for temporaries must fit."""
    gpu = kit.feed.device.type == "cuda"
    free = torch.cuda.mem_get_info(kit.feed.device)[0] // 4 if gpu else STACK_MEMORY_BYTES
    memory = engine.max_memory_bytes or free
    most = 1024 if gpu else 128
    return max(1, min(most, memory // (32 * max(1, kit.task.size))))
