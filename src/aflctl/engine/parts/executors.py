"""Which executor runs a configuration, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from aflctl.engine.parts.auto import best, estimates
from aflctl.errors import EnvironmentProblem, UserError
from aflctl.train.executors.rowwise import rowwise
from aflctl.train.executors.serial import Serial
from aflctl.train.executors.stacked import Stacked
from aflctl.train.executors.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from aflctl.api import Model
    from aflctl.config.schema import Engine
    from aflctl.train.executors import Executor
    from aflctl.train.jobs import Kit

STACK_MEMORY_BYTES = 1 << 30


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place(name: str) -> torch.device:
    """`engine.device` as a device that is there; a GPU is told to give the same bits each time."""
    device = torch.device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        built = torch.version.cuda is not None
        raise EnvironmentProblem(
            f"torch sees {count} CUDA devices here, {name!r} was asked for" if built
            else f"this torch ({torch.__version__}) is built without CUDA, {name!r} was asked for",
            where="engine.device",
            hint="use engine.device: cpu" + (f", or cuda:0 to cuda:{count - 1}" if count else ""),
        )  # fmt: skip
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is taken
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda", device.index or 0)


def choose(
    engine: Engine, model: Model, kit: Kit, flops: float, concurrency: int, height: Callable[[], float]
) -> tuple[Executor, dict[str, Any]]:
    """(the executor, what was picked and why). `height` = jobs in a stack, expected of the schedule; asked if need be.

    On a GPU `auto` stacks whatever stacks, since a step of one job leaves most of it idle; on CPU see `auto.py`.
    """
    name: str = engine.executor
    step = 3 * flops * kit.local.batch_size / 1e6
    stacks = model.stacks and not kit.task.random and not kit.task.buffers.numel()
    many = min(cores(), concurrency) if engine.workers is None else engine.workers
    why, expected = "asked for", {}
    cuda = kit.feed.device.type == "cuda"
    if name == "auto" and cuda:
        name = "stacked" if stacks and concurrency >= 2 else "serial"
        why = f"on a GPU, {concurrency} tasks in flight" + ("" if stacks else ", the model does not stack")
    elif name == "auto":
        linear = not kit.task.modal and rowwise(kit.task.module, list(kit.task.layout)) is not None
        threads, mparam = 1 if kit.task.random else many, kit.task.size / 1e6
        high = 1.0
        if stacks and concurrency > 1 and best(estimates(step, mparam, threads, concurrency, linear)) == "stacked":
            high = height()  # only where it can matter: it plays the first events of the schedule
            expected["height"] = round(high, 2)
        costs = estimates(step, mparam, threads, high, linear)
        name = best(costs)
        told = ", ".join(f"{n} {ms:.2f}" for n, ms in costs.items())
        why = (
            f"a step costs {step:.1f} MFLOP, {concurrency} tasks in flight"
            + (f", {high:.1f} of them in a stack on average" if expected else "")
            + f", at most {many} threads; estimated ms a step: {told}"
        )
    if name == "stacked":
        if not stacks:
            raise UserError(
                f"the model {type(model).__name__} does not stack (it has BatchNorm, dropout or recurrent layers)",
                where="engine.executor",
                hint="use engine.executor: workers, serial or auto",
            )
        rows = _rows(engine, kit)
        return Stacked(kit, rows), {"name": name, "why": why, "rows": rows, **expected}
    if name == "workers":
        if cuda:
            raise UserError("workers are threads on CPU cores", where="engine.executor", hint="use stacked on a GPU")
        if kit.task.random:
            raise UserError(
                f"the model {type(model).__name__} has dropout, whose masks come from torch's one global generator",
                where="engine.executor",
                hint="use engine.executor: serial",
            )
        return Workers(kit, many, _ahead(engine, kit)), {"name": name, "why": why, "workers": many, **expected}
    return Serial(kit), {"name": name, "why": why, **expected}


def _rows(engine: Engine, kit: Kit) -> int:
    """Jobs in one stack: weights, gradient, momentum and as much again for temporaries must fit.

    On a GPU a quarter of all its memory, not of what happens to be free: who shares a stack decides the last bits.
    """
    gpu = kit.feed.device.type == "cuda"
    usual = torch.cuda.get_device_properties(kit.feed.device).total_memory // 4 if gpu else STACK_MEMORY_BYTES
    most = 1024 if gpu else 128
    return max(1, min(most, (engine.max_memory_bytes or usual) // (32 * max(1, kit.task.size))))


def _ahead(engine: Engine, kit: Kit) -> int | None:
    """Trainings and results that fit: a vector each, and as much again for a gradient and momentum under way."""
    room = engine.max_memory_bytes
    return None if room is None else max(1, room // (12 * max(1, kit.task.size)))
