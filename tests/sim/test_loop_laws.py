"""Laws that hold for every method, fleet and policy, over drawn worlds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fakes import Count, FakeTrainer, FakeWorld, Leg, Plain, Stage, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.api import Assignment, Fleet, Step
from aflctl.config.fleet import FleetSpec
from aflctl.seam import Load
from aflctl.sim.fleet import build_world
from aflctl.sim.flights import CAUSES, NS
from aflctl.sim.loop import Limits, Loop
from aflctl.sim.streams import key, uniform

# ---- staleness conservation: ALGORITHMS 0.4 ----


class Buffer(Plain):
    """FedBuff's schedule; remembers the staleness of what was aggregated and of what waits."""

    def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
        return Assignment({})

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(update.staleness)
        return Step(Count(0), advanced=True) if state.got + 1 == self.every else Step(Count(state.got + 1))


def left_hand_side(s: Stage) -> int:
    """sum(tau of aggregated updates) + sum(current tau of in-flight and buffered updates)."""
    heard: list[int] = s.loop.alg.diary  # a buffered update's tau cannot change before the flush that consumes it
    return sum(heard) + sum(f.staleness for f in s.loop._instant["flying"].values())


@pytest.mark.parametrize(("concurrency", "buffer"), [(1, 1), (5, 1), (10, 1), (10, 5), (10, 10), (3, 7)])
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_staleness_is_conserved(concurrency: int, buffer: int, seed: int) -> None:
    # with constant concurrency C and replacement after the flush the sum is (C - 1) V after every single event;
    # replacements sent before the flush would make it C V
    legs = {
        c: [Leg(0.1 + uniform(key(seed, c, n)), 0.2 * uniform(key(seed, n, c))) for n in range(40)] for c in range(15)
    }
    s = stage(Buffer(every=buffer), FakeWorld(legs, 15), concurrency=concurrency, seed=seed)
    for _ in range(120):
        s.play(1)
        assert left_hand_side(s) == (concurrency - 1) * s.loop.versions[""]
        assert len(s.loop.tickets) == concurrency
    if concurrency == 1:
        assert set(s.loop.alg.diary) == {0}


class DispatchFirst(Loop):
    """The fault: who replaces the client that filled the buffer is sent before the buffer is applied."""

    def _tail(self, step: Step[Any], kind: int, ticket: Any = None) -> None:
        if not step.advanced or ticket is None:
            super()._tail(step, kind, ticket)
            return
        super()._tail(Step(self.state), kind, ticket)
        self.state = step.state
        for track in ticket.base:
            self.versions[track] += 1
            self.made[track].append(self.now)
        self.advances += 1
        self.trainer.advance()
        self.books.advanced(self.now, tuple(ticket.base), step)


@pytest.mark.parametrize(("concurrency", "buffer"), [(1, 1), (5, 1), (10, 5), (3, 7)])
def test_the_law_tells_a_dispatch_before_the_flush(
    concurrency: int, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fakes.Loop", DispatchFirst)
    world = FakeWorld(lambda client, nth: 0.1 + uniform(key(2, client, nth)), 15)
    s = stage(Buffer(every=buffer), world, concurrency=concurrency)
    for _ in range(60):
        s.play(1)
        assert left_hand_side(s) == concurrency * s.loop.versions[""]
    assert s.loop.versions[""] > 5


def test_mean_staleness_tends_to_concurrency_less_one_over_the_buffer() -> None:
    # the law divided by the number of updates K V: (C - 1) / K = 9 / 5, up to what is in flight
    world = FakeWorld(lambda client, nth: 0.1 + uniform(key(1, client, nth)), 15)
    s = stage(Buffer(every=5), world, concurrency=10).play(4000)
    assert abs(sum(s.loop.alg.diary) / 4000 - 9 / 5) < 0.02


def test_equal_clients_that_start_together_after_the_flush_are_synchronous() -> None:
    # C = N = K, equal durations, dispatch at the flush only: rounds, nobody ever stale
    class AtFlush(Buffer):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return fleet.draw(fleet.free) if state.got == 0 else []

    s = stage(AtFlush(every=4), FakeWorld(dict.fromkeys(range(4), 2), 4), concurrency=4).play(12)
    assert set(s.loop.alg.diary) == {0}
    assert (s.now, s.loop.versions[""]) == (6.0, 3)


# ---- drawn fleets, losses, recalls, limits ----

AVAILABILITY: list[list[dict[str, Any]]] = [
    [{"name": "always"}],
    [{"name": "delay-dropout", "probability": 0.4, "max_s": 8}],
    [{"name": "markov", "mean_on_s": 20, "mean_off_s": 10}],
    [{"name": "task-failure", "probability": 0.3}, {"name": "delay-dropout", "probability": 0.2, "max_s": 5}],
    [{"name": "markov", "mean_on_s": 8, "mean_off_s": 30}, {"name": "task-failure", "probability": 0.2}],
]


class Anything(Plain):
    """Versions now and then, rejections, base versions of the past, recalls, tracks: all by dice of its own."""

    recalls: str = ""
    tracked: bool = False

    def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
        tracks = (("a",), ("b",), ("a", "b"))[client % 3] if self.tracked else ("",)
        back = int(fleet.rng.integers(3))
        return Assignment({}, version={k: max(0, fleet.versions.get(k, 0) - back) for k in tracks}, tracks=tracks)

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append((update.client, update.sent_at, update.arrived_at, update.staleness))
        return Step(state, advanced=bool(fleet.rng.random() < 0.6), used=bool(fleet.rng.random() < 0.8))

    def lost(self, state: Count, lost: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append((lost.client, lost.sent_at, fleet.now, lost.staleness))
        return Step(state, advanced=bool(fleet.rng.random() < 0.1))

    def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
        return {c: self.recalls for c, f in fleet.flying.items() if f.staleness >= 3} if self.recalls else {}


class Sleepy(FakeTrainer):
    """Tasks of a few epochs; every fourth has early stopping, which ends somewhere above its bound."""

    def __init__(self) -> None:
        super().__init__(self.task)

    def task(self, client: int, nth: int) -> Load:
        epochs = 2 + (client + nth) % 4
        steps = 3 * epochs
        return Load(6, 3, 5, 2, 40_000, 40_000, True) if nth % 4 == 3 else Load(steps, 3, 5, 2, 40_000, 40_000)

    def settle(self, task: int) -> int:
        _, _, client, nth, _ = next(line for line in self.of("submit") if line[1] == task)
        self.steps[task] = 6 + 3 * ((client + nth) % 3)
        return self.steps[task]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    availability=st.sampled_from(AVAILABILITY),
    offline=st.sampled_from(["abort", "pause", "offline-compute"]),
    link=st.sampled_from(["constant", "varying"]),
    recalls=st.sampled_from(["", "epoch", "cancel"]),
    tracked=st.booleans(),
    timeout=st.sampled_from([None, 12]),
    oldest=st.sampled_from([None, 4]),
)
def test_the_books_of_any_run(
    seed: int, availability: Any, offline: Any, link: Any, recalls: str, tracked: bool, timeout: Any, oldest: Any
) -> None:  # fmt: skip
    devices = {"raspberry-pi-4": 1.0, "jetson-nano": 1.0}
    spec = FleetSpec(
        devices=devices, networks={"wifi": 1, "lte": 1}, availability=availability, offline=offline, link_mode=link
    )
    world = build_world(spec, 7, seed)
    method = Anything(recalls=recalls, tracked=tracked)
    limits = Limits(None if timeout is None else timeout * NS, oldest)
    s = stage(method, world, Sleepy(), concurrency=4, limits=limits, seed=seed, samples=[5] * 7, begin=False)
    s.loop.flops = 4e8
    s.loop.begin()
    s.play(150)
    ended = [e for e in s.entries if e.outcome != "flying"] + s.books.waiting
    heard = {(e.ticket.client, e.ticket.sent / NS): e for e in ended}
    for client, sent_at, ended_at, staleness in method.diary:
        entry = heard[client, sent_at]
        assert sum(entry.causes.values()) == staleness  # the causes sum to the staleness that the method saw
        assert entry.ended / NS == ended_at
    for e in ended:
        assert set(e.causes) == set(CAUSES)
        assert min(e.causes.values()) >= 0
        assert min(e.phases.values()) >= 0
        assert sum(e.phases.values()) == e.ended - e.ticket.sent  # the phases sum to the flight time
        assert min(e.energy.values()) >= 0
        if timeout is not None:
            assert e.ended - e.ticket.sent <= timeout * NS
    outcomes = Counter(e.outcome for e in ended)
    t = s.books.totals
    # dispatches balance: whoever was sent is used, rejected, lost, cancelled, or still out
    assert dict(outcomes) == {k: v for k, v in vars_of(t).items() if v}
    assert t.sent == len(ended) + len(s.loop.tickets) == s.loop.tasks == sum(s.loop.nth)
    assert all(s.books.invariants(s.loop.tickets, s.loop.versions).values())
    assert t.bytes_down == 40_000 * t.sent
    assert t.bytes_up == 40_000 * sum(e.outcome in ("used", "rejected") or e.reason == "stale" for e in ended)
    for e in ended:
        assert e.ticket.nth < s.loop.nth[e.ticket.client]
    s.books.close(s.loop.now, s.loop.tickets, s.loop.versions, s.loop.made)
    for e in s.entries:
        if e.outcome == "flying":
            assert sum(e.causes.values()) == max(e.ticket.staleness(s.loop.versions).values())
    assert Counter(e.outcome for e in s.entries)["flying"] == len(s.loop.tickets)
    assert len(s.entries) == t.sent

    # and the books of a plan, added up in blocks, say the same to the last bit
    method = Anything(recalls=recalls, tracked=tracked)
    b = stage(
        method, world, Sleepy(), concurrency=4, limits=limits, seed=seed, samples=[5] * 7, begin=False, bulk=True
    )
    b.loop.flops = 4e8
    b.loop.begin()
    b.play(seed % 150)
    b.books.settle()
    b.play(150 - seed % 150)
    b.books.close(b.loop.now, b.loop.tickets, b.loop.versions, b.loop.made)
    assert b.digest.rows == s.digest.rows
    assert (b.books.totals, dict(b.books.members)) == (s.books.totals, dict(s.books.members))
    for name in ("histogram", "by_cause", "by_track", "broken", "last"):
        assert getattr(b.books, name) == getattr(s.books, name), name


def vars_of(t: Any) -> dict[str, int]:
    return {"used": t.used, "rejected": t.rejected, "lost": t.lost, "cancelled": t.cancelled}


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), concurrency=st.integers(1, 6), every=st.integers(1, 4))
def test_delays_of_a_clients_tasks_do_not_depend_on_the_method(seed: int, concurrency: int, every: int) -> None:
    # (client, nth) decides a task's length; who is asked when, and how many fly, changes nothing (constant links)
    spec = FleetSpec(devices={"raspberry-pi-4": 1}, networks={"wifi": 1}, availability=AVAILABILITY[1])
    world = build_world(spec, 6, seed)

    def lengths(method: Plain, flying: int) -> dict[tuple[int, int], int]:
        s = stage(method, world, Sleepy(), concurrency=flying, seed=seed, samples=[5] * 6).play(60)
        found = [*s.entries, *s.books.waiting]
        return {(e.ticket.client, e.ticket.nth): e.ended - e.ticket.sent for e in found}

    one, other = lengths(Plain(), concurrency), lengths(Buffer(every=every), 3)
    common = set(one) & set(other)
    assert len(common) >= 12
    assert all(one[k] == other[k] for k in common)
