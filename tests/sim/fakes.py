"""A world with hand-set durations, a trainer with scripted results, and the wiring of a loop over both. No tensors."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Local, Lost, Setup, Step, Update
from aflctl.seam import Load, Result
from aflctl.sim.books import Books, Entry
from aflctl.sim.bulk import BulkBooks
from aflctl.sim.chance import Chance
from aflctl.sim.flights import NS
from aflctl.sim.loop import Limits, Loop
from aflctl.sim.world import Trip, Work

Away = Mapping[int, Sequence[tuple[float, float]]]


class Leg(NamedTuple):
    """Seconds of one task: download, compute per step, upload; `lost` = seconds after dispatch at which it is lost."""

    step: float
    down: float = 0.0
    up: float = 0.0
    lost: float | None = None
    reason: str = "dropout"


class FakeWorld:
    """`legs(client, nth)`, or a mapping client -> one leg or one per task (the last one repeats).

    `away` is client -> [(from, to)] in seconds; nobody else ever goes offline. A bare number is seconds per step.
    """

    def __init__(self, legs: Any, clients: int, away: Away | None = None) -> None:
        self.clients, self._legs = clients, legs
        self._away = {c: [(round(a * NS), round(b * NS)) for a, b in spans] for c, spans in (away or {}).items()}
        self.asked: list[str] = []

    def leg(self, client: int, nth: int) -> Leg:
        legs = self._legs(client, nth) if callable(self._legs) else self._legs[client]
        if isinstance(legs, list):
            legs = legs[min(nth, len(legs) - 1)]
        return legs if isinstance(legs, Leg) else Leg(float(legs))

    def device_of(self, client: int) -> str:
        return "even" if client % 2 == 0 else "odd"

    def link_of(self, client: int) -> str:
        return "wire"

    def online(self, client: int, t: int) -> bool:
        return not any(a <= t < b for a, b in self._away.get(client, ()))

    def next_any_online(self, t: int, excluded: Callable[[int], bool]) -> int | None:
        self.asked.append("next")
        backs = [b for c, spans in self._away.items() if not excluded(c) for _, b in spans if b > t]
        return min(backs, default=None)

    def expected_s(self, client: int, work: Work) -> float:
        leg = self.leg(client, 0)
        return leg.down + leg.step * work.steps + leg.up

    def trip(self, client: int, nth: int, t: int, work: Work) -> Trip:
        leg = self.leg(client, nth)
        down = t + round(leg.down * NS)
        done = down + round(leg.step * NS) * work.steps
        parts = (("download", down), ("compute", done), ("upload", done + round(leg.up * NS)))
        lost = None if leg.lost is None else t + round(leg.lost * NS)
        why: Any = None if lost is None else leg.reason
        return Trip(t, parts, lost, why, leg.step * NS, 0, done - down, nth, work.steps, work)

    def epoch_end(self, trip: Trip, now: int, per_epoch: int) -> int:
        done = (now - trip.segments[0][1]) / trip.per_step_ns
        epochs = max(1, -int(-done // per_epoch))
        return min(trip.steps, epochs * per_epoch)

    def shorten(self, trip: Trip, client: int, now: int, steps: int) -> Trip:
        down = trip.segments[0][1]
        done = down + round(trip.per_step_ns * steps)
        up = trip.segments[2][1] - trip.segments[1][1]
        return trip._replace(segments=(("download", down), ("compute", done), ("upload", done + up)), steps=steps)

    def energy_of(
        self, client: int, download: int, compute: int, offline: int, upload: int
    ) -> tuple[float, float, float]:
        return (download + compute + offline + upload) / NS, 0.0, 0.0


class FakeTrainer:
    """Writes down what the loop asks of it. `load` says what a task is, `settled` how many steps it really took."""

    def __init__(
        self,
        load: Callable[[int, int], Load] | None = None,
        settled: Mapping[int, int] | None = None,
        broken: Sequence[int] = (),
    ) -> None:
        self.load = load or (lambda client, nth: Load(1, 1, 1, 1, 10, 20))
        self.settled, self.broken = settled or {}, broken
        self.said: list[tuple[Any, ...]] = []
        self.steps: dict[int, int] = {}

    def of(self, *words: str) -> list[tuple[Any, ...]]:
        """Only these calls."""
        return [line for line in self.said if line[0] in words]

    def submit(self, task: int, client: int, nth: int, order: Assignment, version: int) -> Load:
        got = self.load(client, nth)
        self.steps[task] = got.steps
        self.said.append(("submit", task, client, nth, version))
        return got

    def launch(self, task: int, due: int) -> None:
        self.said.append(("launch", task, due / NS))

    def settle(self, task: int) -> int:
        self.said.append(("settle", task))
        self.steps[task] = self.settled[task]
        return self.settled[task]

    def truncate(self, task: int, steps: int) -> None:
        self.said.append(("truncate", task, steps))
        self.steps[task] = steps

    def discard(self, task: int) -> None:
        self.said.append(("discard", task))

    def collect(self, task: int) -> Result:
        self.said.append(("collect", task))
        return Result({}, {}, {"loss": float(task)}, self.steps[task], task not in self.broken, 1)

    def commit(self, task: int, weight: float | None) -> None:
        self.said.append(("commit", task, weight))

    def advance(self) -> None:
        self.said.append(("advance",))


class Sum:
    """A schedule digest that keeps the integers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, ...]] = []

    def ints(self, *values: int | None) -> None:
        self.rows.append(values)

    def packed(self, data: bytes) -> None:
        self.rows += struct.iter_unpack("<10q", data)


@dataclass(frozen=True)
class Count:
    """State of the test methods: updates since the last version."""

    got: int = 0


class Plain(Algorithm[Count]):
    """A version every `every` updates; writes into `diary` what its hooks saw."""

    diary: Any = Field(default_factory=list)
    every: int = 1

    def init(self, setup: Setup, fleet: Fleet) -> Count:
        return Count()

    def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
        self.diary.append(("assign", fleet.now, client, fleet.version))
        return Assignment({})

    def receive(self, state: Count, update: Update, fleet: Fleet) -> Step[Count]:
        self.diary.append(("receive", fleet.now, update.client, update.staleness))
        got = state.got + 1
        return Step(Count(0), advanced=True) if got >= self.every else Step(Count(got))

    def lost(self, state: Count, lost: Lost, fleet: Fleet) -> Step[Count]:
        self.diary.append(("lost", fleet.now, lost.client, lost.reason))
        return Step(state)

    def of(self, *words: str) -> list[tuple[Any, ...]]:
        """Only these hooks."""
        return [line for line in self.diary if line[0] in words]


@dataclass
class Stage:
    """A loop, and everything around it that a test may look at."""

    loop: Loop
    world: Any
    trainer: Any
    books: Books
    digest: Sum
    entries: list[Entry] = field(default_factory=list)

    def play(self, events: int = 10**6, until: float = 1e9) -> Stage:
        """Lets events happen: so many, up to that moment, or until nothing can happen."""
        for _ in range(events):
            at = self.loop.peek()
            if at is None or at > until * NS:
                return self
            self.loop.step()
        return self

    @property
    def now(self) -> float:
        return self.loop.now / NS


def stage(
    algorithm: Algorithm[Any],
    world: Any,
    trainer: Any = None,
    *,
    concurrency: int = 1,
    limits: Limits | None = None,
    samples: Sequence[int] | None = None,
    seed: int = 0,
    local: Local | None = None,
    selection: Any = None,
    begin: bool = True,
    bulk: bool = False,
) -> Stage:
    """A loop over these parts, begun unless told otherwise; with `bulk` books that keep no entries."""
    trainer = trainer or FakeTrainer()
    sizes = list(samples or [1] * world.clients)
    setup: Any = SimpleNamespace(samples=sizes, concurrency=concurrency, local=local or Local(), size=5)
    chance = Chance(seed, seed, selection)
    chance.begin(sizes)
    entries: list[Entry] = []
    digest = Sum()
    books = BulkBooks(world, digest) if bulk else Books(world, digest, entries.append)
    loop = Loop(algorithm, trainer, world, setup, chance, books, limits=limits or Limits())
    if begin:
        loop.begin()
    return Stage(loop, world, trainer, books, digest, entries)
