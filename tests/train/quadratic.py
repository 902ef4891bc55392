"""A federation whose arithmetic can be done by hand: client i wants to be at its own points, 1/2 |w - x|^2 on average.

gradient = w - mean(x);  one full step from w:  y = w - lr (w - m_i);  S steps:  y = m_i + (1 - lr)^S (w - m_i)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from fakes import Stage, stage
from torch import Tensor

from aflctl.api import Algorithm, Batch, DataSpec, Local, Modality, Samples, Setup
from aflctl.sim.streams import generator, key
from aflctl.train.batches import Feed
from aflctl.train.executors.serial import Serial
from aflctl.train.jobs import Kit
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool


class Quadratic:
    """A `Task` without a module: the loss is half the mean squared distance to the batch's points."""

    random = False

    def __init__(self, size: int) -> None:
        self.size, self.spec = size, DataSpec((Modality("x", (size,)),), 2)
        self.layout = {"w": (slice(0, size), (size,))}
        self.init = torch.zeros(size)
        self.buffers = self.running = torch.zeros(0)

    def training(self, on: bool) -> None:
        pass

    def clone(self) -> Quadratic:
        return self

    def logits(self, w: Tensor, x: Tensor, present: Tensor | None = None) -> Tensor:
        return -(x - w)

    def embed(self, w: Tensor, x: Tensor, present: Tensor | None = None) -> Tensor:
        return x

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        each = 0.5 * (w - batch.x).square().sum(-1)
        return (each * batch.mask).sum() / batch.mask.sum().clamp(min=1.0)


class Points:
    """Client c has these points."""

    def __init__(self, points: Sequence[Sequence[Sequence[float]]]) -> None:
        self._samples = [Samples((torch.tensor(p),), torch.zeros(len(p), dtype=torch.int64)) for p in points]
        self.samples = [len(p) for p in points]

    def train(self, client: int) -> Samples:
        return self._samples[client]


def hooked(algorithm: Algorithm[Any]) -> Algorithm[Any]:
    """The same method with a `loss` of its own, equal to the one it had: so that the task's loss is really asked."""
    own = type(algorithm)
    loss = {"loss": lambda self, task, w, batch, job: own.loss(self, task, w, batch, job)}
    return type(own.__name__, (own,), loss).model_construct(**algorithm.__dict__)  # type: ignore[attr-defined, no-any-return]


def federation(
    algorithm: Algorithm[Any],
    world: Any,
    points: Sequence[Sequence[Sequence[float]]],
    *,
    local: Local | None = None,
    concurrency: int | None = None,
    init: Sequence[float] | None = None,
    seed: int = 0,
    executor: Any = Serial,
    task: Any = None,
    **more: Any,
) -> Stage:
    """A real loop and a real pool over the quadratic; every number can be checked with a pencil."""
    local = local or Local(lr=0.5, batch_size=1000)
    task = task or Quadratic(len(points[0][0]))
    if init is not None:
        task.init = torch.tensor(init)
    data = Points(points)
    setup = Setup(task.layout, task.init, data.samples, concurrency or len(points), local)
    for wrap in more.pop("wraps", ()):
        algorithm = wrap(algorithm, setup)
    algorithm = hooked(algorithm) if isinstance(task, Quadratic) else algorithm
    kit = Kit(algorithm, task, Feed(task.spec), local)
    pool = Pool(
        kit, data, setup, executor(kit), ClientMemory(algorithm.memory(setup)),
        lambda client, nth: generator(key(seed, "batches", client, nth)), lambda client, nth: key(seed, client, nth),
    )  # fmt: skip
    begin = more.pop("begin", True)
    s = stage(
        algorithm, world, pool, concurrency=setup.concurrency, samples=data.samples, begin=False, seed=seed, **more
    )
    s.loop.setup = setup
    s.loop.params = setup.size
    if begin:
        s.loop.begin()
    return s


def model(s: Stage) -> list[float]:
    """The global model as numbers."""
    return s.loop.alg.params(s.loop.state).tolist()
