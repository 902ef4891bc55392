"""One run of a method on the toy federation, through the real loop and the real trainer, with a note of everything."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aflctl.api import Algorithm, Assignment, Selection, Setup, Step
from aflctl.seam import Load, Result
from aflctl.sim.books import Books
from aflctl.sim.chance import Chance
from aflctl.sim.flights import Ticket
from aflctl.sim.loop import Limits, Loop
from aflctl.sim.streams import generator, key
from aflctl.testing import toy
from aflctl.testing.toy import Scene
from aflctl.testing.watch import Notes, watched
from aflctl.train.executors.serial import Serial
from aflctl.train.jobs import Kit, Spec
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool

KEPT_SPECS = 8
Make = Callable[[Setup], Algorithm[Any]]


class Sum:
    """A digest of numbers and tensors in the order in which they come."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def ints(self, *values: int | None) -> None:
        """Whole numbers."""
        self._sum.update(repr(values).encode())

    def floats(self, *values: float | None) -> None:
        """Numbers by their bits."""
        for v in values:
            self._sum.update(b"none" if v is None else struct.pack("<d", v))

    def tensors(self, named: Mapping[str, Tensor]) -> None:
        """Tensors by name, shape and bits."""
        for name, t in sorted(named.items()):
            self._sum.update(f"{name}{tuple(t.shape)}".encode())
            self._sum.update(t.detach().contiguous().numpy().tobytes())

    def text(self, text: str) -> None:
        """Words."""
        self._sum.update(text.encode())

    def hex(self) -> str:
        """What it all sums up to."""
        return self._sum.hexdigest()


class Trainer(Pool):
    """The real trainer, which keeps what was sent, what came back, and the first jobs themselves.

    `spoil(n, result)` may replace the n-th upload.
    """

    def prepare(self, spoil: Callable[[int, Result], Result] | None) -> Trainer:
        """Empty notes."""
        self.sent, self.came, self.specs = Sum(), Sum(), list[Spec]()
        self.spoil, self.collected, self.not_finite = spoil, 0, list[int]()
        return self

    def submit(self, task: int, client: int, nth: int, order: Assignment, version: int) -> Load:
        self.sent.tensors(order.tensors)
        scale = order.lr_scale
        self.sent.floats(*([scale] if isinstance(scale, (int, float)) else scale), order.work)
        self.sent.text(repr((order.tracks, order.version, order.epochs, order.steps, order.patience)))
        return super().submit(task, client, nth, order, version)

    def collect(self, task: int) -> Result:
        spec = self.open[task]
        if spec.patience is None and self.collected >= 4 and len(self.specs) < KEPT_SPECS:
            self.specs.append(replace(spec))
        result = super().collect(task)
        self.came.tensors(result.up)
        self.came.ints(result.steps)
        if not result.finite:
            self.not_finite.append(task)
        self.collected += 1
        return result if self.spoil is None else self.spoil(self.collected, result)


class Ledger(Books):
    """The real books, and what the server said of each upload."""

    def arrived(self, t: Ticket, *args: Any, **more: Any) -> None:
        step = next(a for a in args if isinstance(a, Step))
        self.said.floats(step.weight, *(float(v) for _, v in sorted(step.log.items())))
        self.said.text(f"{step.used}{step.tracks}{sorted(step.log)}")
        self.cut += t.interrupted
        super().arrived(t, *args, **more)

    said: Sum
    cut: int


@dataclass
class Play:
    """A run that was played to its end, or to its error."""

    scene: Scene
    setup: Setup
    algorithm: Algorithm[Any]
    trainer: Trainer
    books: Ledger
    loop: Loop
    schedule: Sum
    notes: Notes
    models: list[Tensor] = field(default_factory=list)
    error: Exception | None = None
    ended: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """Digests of every kind of output."""
        ends = Sum()
        if self.error is None:
            for client in range(self.setup.clients):
                memory = self.trainer.memory[client]
                ends.tensors({"w": self.algorithm.personal(self.loop.state, client, memory)})
        models = Sum()
        for w in self.models:
            models.tensors({"w": w})
        return {
            "schedule": self.schedule.hex(),
            "assignments": self.trainer.sent.hex(),
            "uploads": self.trainer.came.hex(),
            "weights": self.books.said.hex(),
            "models": models.hex(),
            "personal models": ends.hex(),
            "end": f"{self.ended} {type(self.error).__name__}",
        }


def stage(
    make: Make,
    scene: Scene,
    *,
    watch: bool = False,
    spoil: Callable[[int, Result], Result] | None = None,
    on_nonfinite: str = "stop",
    recalls: bool = False,
    selection: Selection | None = None,
) -> Play:
    """Everything wired together, at time 0. `recalls` asks every other flight to report early, whatever the method."""
    setup = toy.setup(scene)
    notes, seed = Notes(), scene.seed
    algorithm = make(setup)
    if watch or recalls:
        algorithm = watched(algorithm, notes, recalls=recalls)
    kit = Kit(algorithm, toy.task_of(scene), toy.feed(scene.modal), scene.local)
    trainer = Trainer(
        kit, toy.data(scene.clients, scene.modal), setup, Serial(kit), ClientMemory(algorithm.memory(setup)),
        lambda client, nth: generator(key(seed, "batches", client, nth)),
        lambda client, nth: key(seed, "dropout", client, nth),
    ).prepare(spoil)  # fmt: skip
    chance = Chance(seed, seed, selection)
    chance.begin(setup.samples)
    world, schedule = toy.world(scene.weather, scene.clients, seed), Sum()
    books = Ledger(world, schedule)
    books.said, books.cut = Sum(), 0
    loop = Loop(algorithm, trainer, world, setup, chance, books, flops=1.0, limits=Limits(on_nonfinite=on_nonfinite))
    return Play(scene, setup, algorithm, trainer, books, loop, schedule, notes)


def play(
    make: Make,
    scene: Scene,
    *,
    between: Callable[[Play], None] | None = None,
    enough: Callable[[Play], bool] | None = None,
    **how: Any,
) -> Play:
    """A run to its end; errors are kept, not raised. `between` is called after every event, `enough` may end it."""
    made = stage(make, scene, **how)
    try:
        made.loop.begin()
        made.models.append(made.algorithm.params(made.loop.state).clone())
        made.ended = _events(made, between, enough)
    except Exception as error:  # a method may raise anything
        made.error = error
    made.notes.close()
    return made


@contextmanager
def one_thread() -> Iterator[None]:
    """As in a run: more threads only wait for each other on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _events(made: Play, between: Callable[[Play], None] | None, enough: Callable[[Play], bool] | None) -> str:
    loop, scene, advances = made.loop, made.scene, 0
    while True:
        if loop.peek() is None:
            return "stalled"
        loop.step()
        if loop.advances != advances:
            advances = loop.advances
            made.models.append(made.algorithm.params(loop.state).clone())
        if between is not None:
            between(made)
        if made.trainer.collected >= scene.arrivals or (enough is not None and enough(made)):
            return "arrivals"
        if loop.events >= scene.events:
            return "events"


def told(error: Exception | None) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def differing(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    """The kinds of output in which two runs differ."""
    return [name for name in one if one[name] != two[name]]
