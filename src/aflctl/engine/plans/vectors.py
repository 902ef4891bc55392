"""What stands in for tensors in a plan: vectors of length 0 where a method allows it, untrained real ones where not.

Which of the two is found by trying: the method runs the first events of its schedule with both. Vectors of length 0
will do if no hook objects and the two schedules, bytes included, are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from aflctl.api import Job
from aflctl.train.batches import moved
from aflctl.train.jobs import scalar

if TYPE_CHECKING:
    from aflctl.api import Algorithm, Assignment, Batch, FederatedData, Setup
    from aflctl.sim.stand_in import Task
    from aflctl.train.batches import Feed
    from aflctl.train.task import FlatTask

Names = tuple[str, ...]


class NeedsValues(Exception):
    """Vectors of length 0 are not enough for this method; the message says why."""


class Client(NamedTuple):
    """The client half of a method: what it takes to make a task's upload without training."""

    algorithm: Algorithm[Any]
    memory: Mapping[str, Tensor]
    task: FlatTask
    feed: Feed
    data: FederatedData
    lr: float

    def untrained(self, order: Assignment, client: int, steps: int) -> dict[str, Tensor]:
        """What a client would send up that did no step: `start`, then `finish`."""
        algorithm, n = self.algorithm, float(self.data.samples[client])
        numbers = (scalar(self.lr), scalar(0.0), scalar(0.0), scalar(float(steps)), scalar(n))
        job = Job(dict(order.tensors), dict(self.memory), *numbers)
        w, memory = algorithm.start(self.task, self._local(client) if algorithm.probes else None, job)
        return algorithm.finish(w, job._replace(memory=memory))[0]

    def _local(self, client: int) -> Batch:
        data = moved(self.data.train(client), self.feed.device)
        return self.feed.batch(data, torch.arange(len(data), device=self.feed.device))


class Untrained:
    """Vectors of the real size: the initial model travels down and comes back as it was sent.

    `clients_s`: seconds of this machine that went into the clients' half of that.
    """

    kind = "real size"

    def __init__(self, client: Client, wire: int) -> None:
        self.client, self.wire, self.clients_s = client, wire, 0.0
        self.sizes: dict[Any, tuple[int, dict[str, Tensor]]] = {}
        self.table: dict[Names, set[tuple[int, int]]] = {}

    def weigh(self, order: Assignment, client: int, steps: int) -> tuple[int, int]:
        """As the trainer does it: the bytes of the tensors, unless the method says otherwise."""
        shape = tuple((name, tuple(t.shape)) for name, t in sorted(order.tensors.items()))
        known = self.sizes.get(shape)
        if known is None:
            up = self.client.untrained(order, client, steps)
            known = self.sizes[shape] = (_bytes(up), up)
        down, up_bytes = _bytes(order.tensors) + self.wire, known[0] + self.wire
        self.table.setdefault(tuple(order.tensors), set()).add((down, up_bytes))
        return (
            down if order.down_bytes is None else order.down_bytes,
            up_bytes if order.up_bytes is None else order.up_bytes,
        )

    def upload(self, task: Task) -> Mapping[str, Tensor]:
        """Made anew for each task, since methods may work on it in place."""
        began = time.perf_counter()
        if self.client.algorithm.probes:
            shape = tuple((name, tuple(t.shape)) for name, t in sorted(task.order.tensors.items()))
            up = {name: t.clone() for name, t in self.sizes[shape][1].items()}
        else:
            up = self.client.untrained(task.order, task.client, task.steps)
        self.clients_s += time.perf_counter() - began
        return up


class Empty:
    """Vectors of length 0. The bytes come from `table`, what the real ones weighed by the names that were sent."""

    kind = "length 0"

    def __init__(self, client: Client, table: Mapping[Names, set[tuple[int, int]]]) -> None:
        self.client, self.table = client, table
        self._bytes: dict[Names, tuple[int, int]] = {}
        self._up: dict[Names, Mapping[str, Tensor]] = {}

    def weigh(self, order: Assignment, client: int, steps: int) -> tuple[int, int]:
        """Looked up."""
        names = tuple(order.tensors)
        known = self._bytes.get(names) or self._look(names)
        if order.down_bytes is None and order.up_bytes is None:
            return known
        return (
            known[0] if order.down_bytes is None else order.down_bytes,
            known[1] if order.up_bytes is None else order.up_bytes,
        )

    def upload(self, task: Task) -> Mapping[str, Tensor]:
        """One for all: nothing can be written into it."""
        names = tuple(task.order.tensors)
        up = self._up.get(names)
        if up is None:
            up = self._up[names] = self.client.untrained(task.order, task.client, task.steps)
        return up

    def _look(self, names: Names) -> tuple[int, int]:
        found = self.table.get(names, set())
        if len(found) != 1:
            what = "no size is known" if not found else "the size varies"
            raise NeedsValues(f"{what} for what it sends ({', '.join(names) or 'nothing'})")
        (known,) = found
        self._bytes[names] = known
        return known


def hollow(setup: Setup) -> Setup:
    """The same setup around a vector of length 0: no layout, no parameters."""
    empty = setup.init.new_zeros(0)
    return replace(setup, layout={}, init=empty, modules={}, buffers={}, flops={})


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
