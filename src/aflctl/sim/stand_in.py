"""A trainer that trains nothing: what tasks weigh follows from numbers, and what they would have learned is made up.

A plan runs the same loop and the same method as a run does; only this stands where the trainer stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aflctl.errors import HookFailed
from aflctl.seam import Load, Result

if TYPE_CHECKING:
    from aflctl.api import Assignment, Local


class Task(NamedTuple):
    """A task that is out; `version` is the base version that it started from."""

    client: int
    order: Assignment
    steps: int
    per_epoch: int
    version: int


class Vectors(Protocol):
    """What stands in for tensors: how many bytes a task moves, and what it sends up."""

    def weigh(self, order: Assignment, client: int, steps: int) -> tuple[int, int]:
        """(bytes down, bytes up)."""
        ...

    def upload(self, task: Task) -> Mapping[str, Any]:
        """What the task sends up."""
        ...


class Shadow(Protocol):
    """Told which jobs an executor would have been asked for, and when; `result` says whether to go on telling."""

    def start(self, task: int, steps: int) -> None: ...
    def shorten(self, task: int, steps: int) -> None: ...
    def cancel(self, task: int) -> None: ...
    def result(self, task: int) -> bool: ...


class StandIn:
    """Steps, batches and bytes as the real trainer would say them; nothing is computed, nothing is remembered.

        loss of a task from version v = top / (1 + v / 10)        (`falling`; else it is `top` always)

    Early stopping never happens: every task takes its planned number of steps, and `patient` says that one could stop.
    """

    def __init__(
        self,
        samples: Sequence[int],
        local: Local,
        vectors: Vectors,
        *,
        top: float = 1.0,
        falling: bool = False,
        shadow: Shadow | None = None,
    ) -> None:
        self.samples, self.local, self.vectors, self.shadow = samples, local, vectors, shadow
        self.falling, self.top = falling, top
        self.open: dict[int, Task] = {}
        self.steps = 0
        self.patient = False
        self._stats = losses(top)
        self._order: Assignment | None = None
        self._alike: tuple[Any, ...] = ()
        self._loads: dict[int, Load] = {}
        self._n = getattr(samples, "data", samples)  # an array's memory: indexing gives plain integers

    def submit(self, task: int, client: int, nth: int, order: Assignment, version: int) -> Load:
        """A client is sent `order`."""
        n = int(self._n[client])
        if order is not self._order:  # one assignment may go to many
            self._order = order
            if order.patience is not None:
                self.patient = True
            shapes = tuple((name, t.shape) for name, t in order.tensors.items())
            alike = shapes, order.epochs, order.steps, order.down_bytes, order.up_bytes
            if alike != self._alike:
                self._alike, self._loads = alike, {}
        load = self._loads.get(n)
        if load is None:
            load = self._loads[n] = self._load(client, n, order)
        self.open[task] = Task(client, order, load.steps, load.per_epoch, version)
        return load

    def _load(self, client: int, n: int, order: Assignment) -> Load:
        if n == 0:
            raise HookFailed(f"client {client} has no training samples and cannot be sent a task")
        local = self.local
        per_epoch = -(-n // local.batch_size)
        steps = order.steps or (None if order.epochs else local.steps) or (order.epochs or local.epochs) * per_epoch
        return Load(steps, per_epoch, n, local.batch_size, *self.vectors.weigh(order, client, steps))

    def launch(self, task: int, due: int) -> None:
        """The task will arrive."""
        if self.shadow is not None:
            self.shadow.start(task, self.open[task].steps)

    def settle(self, task: int) -> int:
        """Never asked: no task is provisional."""
        return self.open[task].steps

    def truncate(self, task: int, steps: int) -> None:
        """A recall: only the first `steps` steps count."""
        self.open[task] = self.open[task]._replace(steps=steps)
        if self.shadow is not None:
            self.shadow.shorten(task, steps)

    def discard(self, task: int) -> None:
        """The task is lost, cancelled or rejected."""
        if self.open.pop(task, None) is not None and self.shadow is not None:
            self.shadow.cancel(task)

    def collect(self, task: int) -> Result:
        """The upload of a task that arrived."""
        out = self.open.pop(task)
        self.steps += out.steps
        if self.shadow is not None and not self.shadow.result(task):
            self.shadow = None
        stats = losses(self.top / (1.0 + 0.1 * out.version)) if self.falling else self._stats
        return Result(out.order.tensors, self.vectors.upload(out), stats, out.steps, True)

    def commit(self, task: int, weight: float | None) -> None:
        """The update was used."""

    def advance(self) -> None:
        """A version was made."""


def losses(value: float) -> dict[str, float]:
    """The statistics of a task whose batches all had this loss."""
    square = value * value
    return {
        "loss": value, "loss_sq": square, "first_loss": value, "first_loss_sq": square, "last_loss": value,
    }  # fmt: skip
