"""The loop of a plan: the real method on the real fleet, with a trainer that trains nothing."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aflctl.api import Algorithm, FederatedData, Setup
from aflctl.engine.parts import accept
from aflctl.engine.parts.build import chance_of, limits_of, model_of, setup_of, wrapped
from aflctl.engine.parts.live import live
from aflctl.engine.parts.stacks import Stacks
from aflctl.engine.plans.vectors import Client, Empty, Names, NeedsValues, Untrained, hollow
from aflctl.runs.records import Digest
from aflctl.sim.books import Books, Entry
from aflctl.sim.bulk import BulkBooks
from aflctl.sim.fleet import build_world
from aflctl.sim.loop import Loop
from aflctl.sim.stand_in import Shadow, StandIn, Task
from aflctl.sim.world import World

if TYPE_CHECKING:
    from aflctl.plan import Plan
    from aflctl.train.batches import Feed
    from aflctl.train.task import FlatTask

WARM_EVENTS, TRIAL_EVENTS, TRIAL_VERSIONS, TRIAL_S = 20, 200, 3, 2.0
HEIGHT_RESULTS, HEIGHT_EVENTS, MANY_ROWS = 64, 2000, 1 << 20
SAMPLE, LARGE = 256, 100_000


@dataclass
class Rehearsal:
    """A loop that trains nothing, and what was assumed for it."""

    loop: Loop
    books: Books
    digest: Digest
    trainer: StandIn
    kind: str
    why: str


@dataclass
class Scene:
    """What every rehearsal of one plan shares: data, model, fleet; and what the trial with real vectors found.

    reads    whether decisions of the method or of the selection depend on what training gives
    task_s   seconds of this machine per task of the loop, hooks and rows included
    sample   the first tasks
    """

    plan: Plan
    data: FederatedData
    task: FlatTask
    feed: Feed
    flops: float
    setup: Setup
    algorithm: Algorithm[Any]
    world: World
    task_s: float = 0.0
    sample: list[Task] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, data: FederatedData, base: Path) -> Scene:
        task, feed, flops = model_of(plan, data)
        setup = setup_of(plan, data, task)
        world = build_world(plan.config.fleet, setup.clients, plan.seeds["fleet"], base)
        return cls(plan, data, task, feed, flops, setup, wrapped(plan, setup), world)

    @property
    def reads(self) -> bool:
        return self.algorithm.reads_results or bool(getattr(self.plan.selection, "reads_results", False))

    def rehearse(self, emit: Callable[[Entry], None] | None, digest: Digest, shadow: Shadow | None) -> Rehearsal:
        """The loop, not begun, with vectors of length 0 where they will do."""
        table, why = self._try()
        if self.setup.clients >= LARGE:
            gc.collect()  # the trial's loops refer to themselves, and each holds arrays over all clients
        return self._stage(table, why, emit, digest, shadow)

    def again(self, why: str, emit: Callable[[Entry], None] | None, digest: Digest, shadow: Shadow | None) -> Rehearsal:
        """The same with vectors of the real size, because the others turned out not to do."""
        return self._stage(None, why, emit, digest, shadow)

    def height(self) -> float:
        """How many jobs would be trained at once, on average, by an executor that stacks all that wait.

        Counted over the second `concurrency` results, at most HEIGHT_RESULTS of them: at time 0 all are sent at once,
        so the first stack is as high as can be and says nothing. Depends on the configuration alone.
        """
        stacks = Stacks(MANY_ROWS)
        first, wanted = self.setup.concurrency, min(self.setup.concurrency, HEIGHT_RESULTS)
        stop = self.plan.config.stop
        if stop.updates is not None and stop.updates < first + wanted:
            first, wanted = 0, stop.updates
        loop = self._stage(None, "", None, Digest(), stacks).loop
        loop.begin()
        for results in (first, wanted):
            stacks.forget()
            while stacks.heard < results and loop.events < HEIGHT_EVENTS and loop.peek() is not None:
                loop.step()
        return stacks.mean

    # ---- which vectors ----
    def _try(self) -> tuple[dict[Names, set[tuple[int, int]]] | None, str]:
        """(bytes by names for vectors of length 0, or None; why not)."""
        from aflctl.engine.plans.forecast import Rows

        first = First()
        with TemporaryDirectory() as folder, closing(Rows(Path(folder), self.world)) as rows:
            real = self._stage(None, "", rows.entry, Digest(), first)
            vectors, first.trainer = real.trainer.vectors, real.trainer
            assert isinstance(vectors, Untrained)
            table = vectors.table
            real.loop.begin()
            events, began = _play(real.loop, WARM_EVENTS, TRIAL_S), time.perf_counter()
            vectors.clients_s = 0.0  # what the clients do is no part of the server's work
            more = _play(real.loop, TRIAL_EVENTS, TRIAL_S)
            self.task_s = (time.perf_counter() - began - vectors.clients_s) / max(1, more)
            self.sample = first.tasks
        events += more
        if self.reads:
            return None, "its decisions read what training gives"
        if self.algorithm.probes:
            return None, "its clients look at their data before they train"
        try:
            light = self._stage(table, "", None, Digest(), None)
            light.loop.begin()
            _play(light.loop, events, float("inf"))
        except Exception as error:
            return None, told(error)
        real.books.settle()
        light.books.settle()
        if light.digest.hexdigest() != real.digest.hexdigest():
            return None, "with vectors of length 0 it decides differently, or moves other numbers of bytes"
        return table, ""

    def _stage(
        self,
        table: dict[Names, set[tuple[int, int]]] | None,
        why: str,
        emit: Callable[[Entry], None] | None,
        digest: Digest,
        shadow: Shadow | None,
    ) -> Rehearsal:
        plan, setup, algorithm = self.plan, self.setup, self.algorithm
        own = sum(place.stop - place.start for n, (place, _) in setup.buffers.items() if n in algorithm.own_buffers)
        wire = 4 * (self.task.buffers.numel() - own)
        if table is not None:
            setup = hollow(setup)
            algorithm = wrapped(plan, setup)
        data, growing = live(plan, self.data)
        client = Client(algorithm, accept.memory(algorithm, setup), self.task, self.feed, data, setup.local.lr)
        vectors = Untrained(client, wire) if table is None else Empty(client, table)
        trainer = StandIn(
            data.samples, setup.local, vectors,
            top=log(max(2, self.data.spec.classes)), falling=self.reads, shadow=shadow,
        )  # fmt: skip
        books = Books(self.world, digest, emit) if emit is not None else BulkBooks(self.world, digest)
        loop = Loop(
            algorithm, trainer, self.world, setup, chance_of(plan, setup), books,
            flops=self.flops, family=plan.model.family, limits=limits_of(plan), params=self.task.size, growing=growing,
            activations=self.task.activations,
        )  # fmt: skip
        loop.check()
        return Rehearsal(loop, books, digest, trainer, vectors.kind, why)


def _play(loop: Loop, events: int, budget_s: float) -> int:
    """Lets up to so many events happen (more, until there are a few versions); returns how many did."""
    until, done = time.perf_counter() + budget_s, 0
    while loop.peek() is not None and time.perf_counter() < until:
        if done >= events and (budget_s == float("inf") or loop.advances >= TRIAL_VERSIONS):
            break
        loop.step()
        done += 1
    return done


class First:
    """Keeps the first tasks that are launched."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.trainer: StandIn | None = None

    def start(self, task: int, steps: int) -> None:
        if len(self.tasks) < SAMPLE and self.trainer is not None:
            self.tasks.append(self.trainer.open[task])

    def shorten(self, task: int, steps: int) -> None: ...
    def cancel(self, task: int) -> None: ...
    def result(self, task: int) -> bool:
        return len(self.tasks) < SAMPLE


def told(error: Exception) -> str:
    """Why vectors of length 0 will not do, in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = (str(cause).splitlines() or [""])[0]
    return text if isinstance(cause, NeedsValues) else f"{type(cause).__name__}: {text}"
