"""Waiting for clients, and ends without a stop: DESIGN section 3 rule 9."""

from __future__ import annotations

from fakes import Count, FakeWorld, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.sim.flights import NS


def test_a_short_draw_waits_for_the_next_client_to_come_online() -> None:
    # two places, one client online: client 1 is sent at 2.5, when it comes back, not at client 0's next arrival (3)
    method = Plain()
    stage(method, FakeWorld({0: 3, 1: 1}, 2, away={1: [(0, 2.5)]}), concurrency=2).play(2)
    assert method.of("assign")[:2] == [("assign", 0.0, 0, 0), ("assign", 2.5, 1, 0)]


def test_a_draw_that_got_all_it_asked_for_arms_nothing() -> None:
    world = FakeWorld({0: 3, 1: 1}, 2, away={1: [(0, 2.5)]})
    s = stage(Plain(), world, concurrency=1)
    assert s.loop.online is None
    assert world.asked == []


def test_nobody_flying_waits_even_if_the_method_did_not_ask() -> None:
    class Shy(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return sorted(fleet.idle)[: fleet.free]

    method = Shy()
    s = stage(method, FakeWorld({0: 1, 1: 1}, 2, away={0: [(0, 7)], 1: [(0, 8)]}), concurrency=2)
    assert s.loop.peek() == 7 * NS
    s.play(1)
    assert method.of("assign") == [("assign", 7.0, 0, 0)]


def test_a_client_that_is_flying_is_not_waited_for() -> None:
    # client 0 flies until 9 and is away from 1 to 3: the loop waits for client 1, back at 5
    world = FakeWorld({0: 9, 1: 1}, 2, away={0: [(1, 3)], 1: [(0, 5)]})
    s = stage(Plain(), world, concurrency=2)
    assert s.loop.peek() == 5 * NS


def test_nobody_ever_comes_again_is_the_end() -> None:
    # the only client is away for good after its first task
    s = stage(Plain(), FakeWorld({0: 1}, 1, away={0: [(0.5, 10**12)]}))
    world_end = 10**12
    s.world._away[0] = [(NS // 2, world_end * NS)]
    s.world.next_any_online = lambda t, excluded: None
    s.play()
    assert s.loop.peek() is None
    assert s.loop.used == 1


def test_the_end_comes_with_a_pending_alarm_notwithstanding() -> None:
    class Hopeful(Plain):
        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            return fleet.now + 1.0

    s = stage(Hopeful(), FakeWorld({0: 1}, 1, away={0: [(0, 5)]}))
    s.world.next_any_online = lambda t, excluded: None
    assert s.loop.peek() == 1 * NS  # armed before: the client comes online at 5
    s.play(1)
    assert s.loop.peek() is None


def test_a_method_that_starts_nobody_although_somebody_is_idle_goes_on_while_it_has_an_alarm() -> None:
    class Later(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [] if fleet.now < 3 else super().select(state, fleet)

        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            return None if fleet.due(3.0) else 3.0

        def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
            return Step(state)

    method = Later()
    s = stage(method, FakeWorld({0: 1}, 1)).play(1)
    assert (s.now, method.of("assign")) == (3.0, [("assign", 3.0, 0, 0)])


def test_a_method_that_starts_nobody_and_waits_for_nothing_is_the_end() -> None:
    class Never(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return []

    assert stage(Never(), FakeWorld({0: 1}, 1)).loop.peek() is None


def test_every_online_event_gives_select_a_chance_until_it_is_served() -> None:
    # places for 3; clients 1 and 2 come back at 2 and 4
    method = Plain()
    world = FakeWorld({0: 9, 1: 9, 2: 9}, 3, away={1: [(0, 2)], 2: [(0, 4)]})
    s = stage(method, world, concurrency=3).play(2)
    assert [line[1:3] for line in method.of("assign")] == [(0.0, 0), (2.0, 1), (4.0, 2)]
    assert s.loop.online is None
