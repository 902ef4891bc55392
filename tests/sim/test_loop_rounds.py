"""Barrier methods, synchrony as a policy: deadline, over-selection, the first arrival after an empty deadline."""

from __future__ import annotations

from typing import Any

from fakes import Count, FakeWorld, Leg, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.rules import Barrier


class Rounds(Plain):
    """Counts updates until its barrier closes; the hooks are those that FedAvg has."""

    round: Barrier = Barrier()

    def select(self, state: Count, fleet: Fleet) -> list[int]:
        return self.round.select(fleet)

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("receive", fleet.now, update.client, update.staleness))
        return self.tick(Count(state.got + 1), fleet)

    def lost(self, state: Count, lost: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("lost", fleet.now, lost.client, lost.reason))
        return self.tick(state, fleet)

    def alarm(self, state: Count, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet)

    def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
        if not self.round.closed(state.got, fleet):
            return Step(state)
        self.diary.append(("close", fleet.now, state.got))
        return Step(Count(), advanced=True)

    def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
        return self.round.recall(fleet)


def test_a_round_ends_with_its_slowest_client() -> None:
    # rounds of 2 clients, 1 s and 3 s: they close at 3, 6 and 9, nobody is ever stale, nobody starts in between
    method = Rounds()
    s = stage(method, FakeWorld({0: 1, 1: 3}, 2), concurrency=2).play(6)
    assert method.of("close") == [("close", 3.0, 2), ("close", 6.0, 2), ("close", 9.0, 2)]
    assert {tau for *_, tau in method.of("receive")} == {0}
    assert [line[1] for line in method.of("assign")] == [0.0, 0.0, 3.0, 3.0, 6.0, 6.0, 9.0, 9.0]
    assert s.loop.versions[""] == 3


def test_over_selection_starts_more_and_cancels_the_rest() -> None:
    # concurrency 4, over_select 2: a round wants 2 of 4; arrivals at 1 and 2 close it, those of 3 and 4 s are cancelled
    # and idle at once: the next round starts at 2 with all four again
    method = Rounds(round=Barrier(over_select=2.0))
    s = stage(method, FakeWorld({0: 1, 1: 2, 2: 3, 3: 4}, 4), concurrency=4).play(4)
    assert method.of("close") == [("close", 2.0, 2), ("close", 4.0, 2)]
    assert [c for w, t, c, _ in method.of("assign") if t == 2.0] == [0, 1, 2, 3]
    assert s.trainer.of("discard") == [("discard", 2), ("discard", 3), ("discard", 6), ("discard", 7)]
    t = s.books.totals
    assert (t.sent, t.used, t.cancelled, len(s.loop.tickets)) == (12, 4, 4, 4)
    # cancelled compute is charged: rounds of 2 s, in each 1 + 2 s used and 2 + 2 s wasted
    assert t.compute_ns == 2 * 7 * 10**9
    assert t.wasted_compute_ns == 2 * 4 * 10**9
    assert [(e.outcome, e.ended / 1e9) for e in s.entries if e.outcome == "cancelled"] == [("cancelled", 2.0)] * 2 + [
        ("cancelled", 4.0)
    ] * 2


def test_the_deadline_closes_with_what_has_arrived() -> None:
    # 1 s, 2 s and 8 s with a deadline of 5 s: closed at 5 with two updates, the third is cancelled
    method = Rounds(round=Barrier(deadline_s=5.0))
    s = stage(method, FakeWorld({0: 1, 1: 2, 2: 8}, 3), concurrency=3).play(3)
    assert method.of("close") == [("close", 5.0, 2)]
    assert s.now == 5.0
    assert s.books.totals.cancelled == 1
    assert sorted(s.loop.tickets) == [0, 1, 2]  # the next round, the cancelled client among them
    assert s.loop.nth[2] == 2


def test_a_deadline_that_found_no_update_closes_at_the_first_arrival() -> None:
    # 6 s and 7 s with a deadline of 5 s: at 5 nothing is there, at 6 the first arrival closes, the other is cancelled
    method = Rounds(round=Barrier(deadline_s=5.0))
    s = stage(method, FakeWorld({0: 6, 1: 7}, 2), concurrency=2).play(2)
    assert method.of("close") == [("close", 6.0, 1)]
    assert s.now == 6.0
    assert s.books.totals.cancelled == 1
    assert s.loop.peek() == 11 * 10**9  # the next round's deadline


def test_an_arrival_at_the_deadline_still_counts() -> None:
    # ARRIVE before TICK: the update of exactly 5 s is in the round that closes at 5
    method = Rounds(round=Barrier(deadline_s=5.0))
    stage(method, FakeWorld({0: 5, 1: 9}, 2), concurrency=2).play(1)
    assert method.of("close") == [("close", 5.0, 1)]


def test_losses_do_not_hold_a_round_up() -> None:
    # client 1 is lost at 4, when client 0 (1 s) has been in: nobody flies any more, the round closes there
    method = Rounds()
    stage(method, FakeWorld({0: 1, 1: Leg(9, lost=4)}, 2), concurrency=2).play(2)
    assert method.of("close") == [("close", 4.0, 1)]


def test_a_round_that_lost_everybody_starts_anew_without_a_version() -> None:
    # both are lost: no update, no version; the next round starts when the second loss is known
    method = Rounds()
    legs = {0: [Leg(9, lost=1), Leg(1)], 1: [Leg(9, lost=3), Leg(2)]}
    s = stage(method, FakeWorld(legs, 2), concurrency=2).play(4)
    assert [line[1] for line in method.of("assign")][:4] == [0.0, 0.0, 3.0, 3.0]
    assert method.of("close") == [("close", 5.0, 2)]
    assert s.loop.versions[""] == 1


def test_a_cohort_smaller_than_the_concurrency() -> None:
    # cohort 2 of 5 clients that all take 1 s: two at a time, whatever the capacity
    method = Rounds(round=Barrier(cohort=2))
    s = stage(method, FakeWorld(dict.fromkeys(range(5), 1), 5), concurrency=5).play(8)
    assert [n for *_, n in method.of("close")] == [2, 2, 2, 2]
    assert s.books.totals.sent == 10
