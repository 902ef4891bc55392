"""The order of events, and of what happens inside one: DESIGN section 3 rules 4 to 8, section 4 first line."""

from __future__ import annotations

from typing import Any

from fakes import Count, FakeTrainer, FakeWorld, Leg, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.sim.flights import ARRIVE, LOST, NS, ONLINE, TICK


def test_arrivals_come_in_the_order_of_time_and_each_is_replaced_at_once() -> None:
    # client 0 needs 2 s, client 1 3 s, everybody flies from time 0 on: 0 at 2, 1 at 3, 0 at 4, and at 6 both arrive;
    # of the two the one dispatched first: 1 (task 3, sent at 3) before 0 (task 4, sent at 4). With two in flight each
    # but the first arrival sees one version made by the other meanwhile
    method = Plain()
    s = stage(method, FakeWorld({0: 2, 1: 3}, 2), concurrency=2).play(5)
    assert method.of("receive") == [
        ("receive", 2.0, 0, 0),
        ("receive", 3.0, 1, 1),
        ("receive", 4.0, 0, 1),
        ("receive", 6.0, 1, 1),
        ("receive", 6.0, 0, 1),
    ]
    assert s.loop.advances == 5
    assert s.trainer.of("submit") == [
        ("submit", 0, 0, 0, 0),
        ("submit", 1, 1, 0, 0),
        ("submit", 2, 0, 1, 1),
        ("submit", 3, 1, 1, 2),
        ("submit", 4, 0, 2, 3),
        ("submit", 5, 1, 2, 4),
        ("submit", 6, 0, 3, 5),
    ]


def test_equal_times_go_by_dispatch_counter_not_by_client() -> None:
    # `select` names 3, 1, 2; all take 1 s: the order of assignment decides
    class Reversed(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [] if fleet.flying else [3, 1, 2]

    method = Reversed()
    stage(method, FakeWorld(dict.fromkeys(range(4), 1), 4), concurrency=3).play(3)
    assert [c for _, _, c, _ in method.of("receive")] == [3, 1, 2]
    assert [c for _, _, c, _ in method.of("assign")][:3] == [3, 1, 2]


class Ringing(Plain):
    """An alarm at `at`, and a diary of everything."""

    at: float = 5.0

    def alarm(self, state: Count, fleet: Fleet) -> float | None:
        return None if fleet.due(self.at) else self.at

    def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
        self.diary.append(("tick", fleet.now))
        return Step(state, advanced=True)

    def select(self, state: Count, fleet: Fleet) -> list[int]:
        self.diary.append(("select", fleet.now))
        return super().select(state, fleet)


def test_at_one_moment_lost_before_arrival_before_tick() -> None:
    # all at 5 s: client 1 (dispatched after 0) is lost, then client 0 arrives. Both tails ask `alarm` anew, which may
    # only name moments after now: an alarm that rings together with another event is that event's to heed (`due`).
    # Client 2 comes back at 5 too, which the first tail of that moment sees already: no event of its own is needed
    method = Ringing()
    world = FakeWorld({0: [5, 9], 1: [Leg(9, lost=5), Leg(9)], 2: 9}, 3, away={2: [(0, 5)]})
    s = stage(method, world, concurrency=3)
    assert (s.loop.online, s.loop.alarm) == (5 * NS, 5 * NS)  # draw(3) found two
    s.play(2)
    assert [line[0] for line in method.diary if line[1] == 5.0] == [
        "lost", "select", "assign", "assign", "receive", "select", "assign",
    ]  # fmt: skip
    assert [line[2] for line in method.of("assign")] == [0, 1, 1, 2, 0]
    assert s.loop.alarm is None
    assert LOST < ARRIVE < TICK < ONLINE


def test_a_tick_comes_before_a_client_that_comes_online() -> None:
    # both at 5 s, client 0 is out until 9: the tick's tail starts client 1, and the moment is over
    method = Ringing()
    s = stage(method, FakeWorld({0: 9, 1: 9}, 2, away={1: [(0, 5)]}), concurrency=2).play(1)
    assert method.diary[-3:] == [("tick", 5.0), ("select", 5.0), ("assign", 5.0, 1, 1)]
    assert s.loop.online is None


def test_a_version_counts_after_the_update_that_made_it() -> None:
    # rule 4: staleness is taken before the bump, and the replacement starts from the new version
    class Watch(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            self.diary.append(("version", fleet.version, update.version, update.staleness))
            return Step(state, advanced=True)

    method = Watch()
    stage(method, FakeWorld({0: 1}, 1)).play(3)
    assert method.of("version") == [("version", 0, 0, 0), ("version", 1, 1, 0), ("version", 2, 2, 0)]
    assert [v for *_, v in method.of("assign")] == [0, 1, 2, 3]


def test_inside_receive_and_lost_the_client_is_neither_flying_nor_idle() -> None:
    class Look(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            c = update.client
            self.diary.append((c in fleet.flying, c in fleet.idle, sorted(fleet.idle), fleet.free))
            return Step(state)

        def lost(self, state: Count, lost: Any, fleet: Fleet) -> Step[Count]:
            return self.receive(state, lost, fleet)

        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return super().select(state, fleet) if fleet.now == 0 else []

    method = Look()
    # of 4 clients 0 and 1 are sent; 2 and 3 are drawn by nobody after time 0
    s = stage(method, FakeWorld({0: 1, 1: Leg(9, lost=2), 2: 1, 3: 1}, 4), concurrency=2)
    sent = sorted(s.loop.tickets)
    s.play(2)
    others = [c for c in range(4) if c not in sent]
    seen = [line for line in method.diary if isinstance(line[0], bool)]
    assert [line[:2] for line in seen] == [(False, False)] * 2
    assert set(seen[0][2]) == set(others)
    assert [line[3] for line in seen] == [1, 2]


def test_one_tail_for_every_event_in_the_stated_order() -> None:
    # rule 7: hook, bump, recall (after an advance or tick only), select, assign in select's order, launched, alarm
    class Tail(Ringing):
        at: float = 2.5

        def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
            self.diary.append(("recall", fleet.now, fleet.version))
            return {}

        def launched(self, state: Count, clients: Any, fleet: Fleet) -> Count:
            self.diary.append(("launched", fleet.now, tuple(clients)))
            return state

        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            self.diary.append(("alarm", fleet.now))
            return super().alarm(state, fleet)

    method = Tail(every=2)
    stage(method, FakeWorld({0: 1, 1: 2}, 2), concurrency=2).play(3)
    words = [(line[0], line[1]) for line in method.diary]
    assert words == [
        ("select", 0.0), ("assign", 0.0), ("assign", 0.0), ("launched", 0.0), ("alarm", 0.0),
        ("receive", 1.0), ("select", 1.0), ("assign", 1.0), ("launched", 1.0), ("alarm", 1.0),
        # at 2 s both arrive: client 1 (task 1) makes the version, client 0 (task 2) only fills
        ("receive", 2.0), ("recall", 2.0), ("select", 2.0), ("assign", 2.0), ("launched", 2.0), ("alarm", 2.0),
        ("receive", 2.0), ("select", 2.0), ("assign", 2.0), ("launched", 2.0), ("alarm", 2.0),
    ]  # fmt: skip
    assert method.of("recall") == [("recall", 2.0, 1)]


def test_recall_is_asked_after_a_tick_even_without_a_version() -> None:
    class Quiet(Ringing):
        at: float = 1.0

        def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
            return Step(state)

        def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
            self.diary.append(("recall", fleet.now))
            return {}

    method = Quiet()
    s = stage(method, FakeWorld({0: 4}, 1)).play(1)
    assert method.of("recall") == [("recall", 1.0)]
    assert s.loop.versions == {"": 0}


def test_the_answer_of_alarm_replaces_the_old_one() -> None:
    class Moving(Plain):
        """Wants to be called 1.5 s after the newest dispatch."""

        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            at = max(f.sent_at for f in fleet.flying.values()) + 1.5
            return None if fleet.due(at) else at

        def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
            self.diary.append(("tick", fleet.now))
            return Step(state)

        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [] if fleet.flying and fleet.now > 2 else super().select(state, fleet)

    method = Moving()
    # arrivals of client 0 at 1 and 2 move the alarm to 2.5, then to 3.5; client 1 is out until 9
    with_alarm = stage(method, FakeWorld({0: [1, 1, 7], 1: 9}, 2), concurrency=2).play(3)
    assert method.of("tick") == [("tick", 3.5)]
    assert with_alarm.now == 3.5


def test_a_tick_advances_the_default_track() -> None:
    method = Ringing()
    s = stage(method, FakeWorld({0: 9}, 1)).play(1)
    assert s.now == 5.0
    assert s.loop.versions == {"": 1}
    assert s.trainer.of("advance") == [("advance",)]


def test_events_of_one_run_are_those_of_the_next() -> None:
    # the loop holds no state outside itself: the same parts give the same schedule, integer by integer
    def rows() -> list[Any]:
        legs = {c: [1.25 * (c + 1), 0.5, 3.0 + c] for c in range(6)}
        return stage(Plain(every=3), FakeWorld(legs, 6), FakeTrainer(), concurrency=4, seed=5).play(60).digest.rows

    assert rows() == rows()
