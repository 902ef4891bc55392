"""The loop driven at random (durations, losses, recalls, timers, versions) against a plain model."""

from __future__ import annotations

from typing import Any

from fakes import Count, FakeWorld, Leg, Plain, stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aflctl.api import Fleet, Step
from aflctl.sim.audit import audit

CLIENTS = 6


class Puppet(Plain):
    """Does what the machine wrote down for its next hook."""

    orders: Any = None

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("receive", update.client, update.staleness))
        return Step(state, advanced=self.orders["advance"], used=self.orders["use"])

    def lost(self, state: Count, lost: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("lost", lost.client, lost.staleness))
        return Step(state, advanced=self.orders["advance"])

    def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
        wanted = self.orders["recall"] & set(fleet.flying)
        self.diary.extend(("cancelled", c, fleet.flying[c].staleness) for c in sorted(wanted))
        return dict.fromkeys(wanted, "cancel")

    def alarm(self, state: Count, fleet: Fleet) -> float | None:
        return None if self.orders["timer"] is None else fleet.now + self.orders["timer"]

    def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
        self.diary.append(("tick", -1, 0))
        return Step(state, advanced=self.orders["advance"])


class Machine(RuleBasedStateMachine):
    """The model: who is out, since which version; nothing else."""

    @initialize(concurrency=st.integers(1, CLIENTS - 1), seed=st.integers(0, 99))
    def begin(self, concurrency: int, seed: int) -> None:
        self.orders: dict[str, Any] = {"advance": False, "use": True, "recall": set(), "timer": None}
        self.legs: dict[tuple[int, int], Leg] = {}
        self.next = Leg(1.0)

        def leg(client: int, nth: int) -> Leg:
            return self.legs.setdefault((client, nth), self.next)

        method = Puppet(orders=self.orders)
        self.orders = method.orders
        self.s = stage(method, FakeWorld(leg, CLIENTS), concurrency=concurrency, seed=seed)
        self.concurrency, self.version, self.last = concurrency, 0, 0
        self.out = dict.fromkeys(self.s.loop.tickets, 0)

    @rule(step=st.sampled_from([0.25, 1.0, 3.5]), up=st.sampled_from([0.0, 0.5]), lost=st.sampled_from([None, 0.75]))
    def next_task(self, step: float, up: float, lost: float | None) -> None:
        self.next = Leg(step, 0.1, up, lost)

    @rule(after=st.sampled_from([None, 0.3, 2.0]))
    def timer(self, after: float | None) -> None:
        self.orders["timer"] = after

    @precondition(lambda self: self.s.loop.peek() is not None)
    @rule(advance=st.booleans(), use=st.booleans(), recall=st.sets(st.integers(0, CLIENTS - 1), max_size=2))
    def event(self, advance: bool, use: bool, recall: set[int]) -> None:
        self.orders.update(advance=advance, use=use, recall=recall)
        diary, loop = self.s.loop.alg.diary, self.s.loop
        before, tasks = len(diary), loop.tasks
        loop.peek()
        loop.step()
        heard = [line for line in diary[before:] if line[0] != "assign"]
        assert heard, "every event reaches the method"
        for n, (what, client, staleness) in enumerate(heard):
            if n == 0:
                assert what != "cancelled"
            if what != "tick":
                assert staleness == self.version - self.out.pop(client)
            if n == 0:
                self.version += advance
        for ticket in loop.tickets.values():
            if ticket.id >= tasks:
                assert ticket.client not in self.out
                self.out[ticket.client] = self.version
        self.orders["recall"] = set()

    @invariant()
    def as_the_model_says(self) -> None:
        if not hasattr(self, "s"):
            return
        loop, books = self.s.loop, self.s.books
        assert loop.versions == {"": self.version}
        assert {c: t.base[""] for c, t in loop.tickets.items()} == self.out
        assert len(self.out) <= self.concurrency
        assert loop.now >= self.last
        self.last = loop.now
        t = books.totals
        assert t.sent == t.used + t.rejected + t.lost + t.cancelled + len(self.out)
        laws = {**books.invariants(loop.tickets, loop.versions), **audit(books, loop.tickets, loop.versions)}
        assert all(laws.values()), laws


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
