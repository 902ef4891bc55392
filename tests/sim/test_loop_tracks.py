"""Base versions other than the newest, and tracks: independent version lines with staleness of their own."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Count, FakeWorld, Plain, stage

from aflctl.api import Assignment, Fleet, Step
from aflctl.errors import HookFailed


class Held(Plain):
    """Sends the model of two versions ago."""

    def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
        return Assignment({}, version=max(0, fleet.version - 2))


def test_versions_between_base_and_dispatch_are_held() -> None:
    # one client, 1 s a task: version v is made at v seconds; the task sent at 3 (version 3) starts from version 1 and
    # arrives at 4, when the version is still 3: staleness 2, all of it held
    s = stage(Held(), FakeWorld({0: 1}, 1)).play(4)
    assert [line[3] for line in s.loop.alg.of("receive")] == [0, 1, 2, 2]
    entry = s.entries[-1]
    assert entry.causes == {"held": 2, "download": 0, "compute": 0, "offline": 0, "upload": 0}
    assert (entry.ticket.base, entry.ticket.seen, entry.version) == ({"": 1}, {"": 3}, 3)
    assert s.trainer.of("submit")[-1] == ("submit", 4, 0, 4, 2)  # the learning rate decays by the base version


def test_held_and_flown_versions_add_up() -> None:
    # client 1 takes 2.5 s and is sent at 2.5 with version 2 (base 0): at 5.0 versions 3 and 4 were made meanwhile
    # (at 3 and 4); the one of 5.0 comes later (client 0's task is newer)
    method = Held()
    s = stage(method, FakeWorld({0: 1, 1: 2.5}, 2), concurrency=2).play(7)
    entry = next(e for e in s.entries if e.ticket.client == 1 and e.ticket.nth == 1)
    assert entry.ticket.sent == 2_500_000_000
    assert (entry.causes["held"], entry.causes["compute"], sum(entry.causes.values())) == (2, 2, 4)


@pytest.mark.parametrize("version", [-1, 5, {"": 9}])
def test_a_base_version_that_never_was(version: Any) -> None:
    class Wrong(Plain):
        def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
            return Assignment({}, version=version)

    with pytest.raises(HookFailed, match=r"Wrong\.assign: base version .* is not between 0 and"):
        stage(Wrong(), FakeWorld({0: 1}, 1))


class Blocks(Plain):
    """Client c works on track "a" (0, 2), "b" (1) or on both (3); every arrival advances the tracks of its task."""

    mine: Any = {0: ("a",), 1: ("b",), 2: ("a",), 3: ("a", "b")}

    def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
        return Assignment({}, tracks=self.mine[client])

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("receive", fleet.now, update.client, dict(update.staleness_by), update.staleness))
        return Step(state, advanced=True)


def test_staleness_is_kept_per_track_and_is_their_maximum() -> None:
    # 0 at 1, 2, 3, 4 (a); 1 at 1.5, 3 (b); 3 at 3.6 (both): a was advanced at 1, 2, 3, b at 1.5 and 3
    method = Blocks()
    s = stage(method, FakeWorld({0: 1, 1: 1.5, 2: 90, 3: 3.6}, 4), concurrency=4).play(6)
    last = method.of("receive")[-1]
    assert last == ("receive", 3.6, 3, {"a": 3, "b": 2}, 3)
    assert s.loop.versions == {"": 0, "a": 4, "b": 3}
    assert [line[3] for line in method.of("receive")[:-1]] == [{"a": 0}, {"b": 0}, {"a": 0}, {"b": 0}, {"a": 0}]
    # the task ended with the causes of the staler track
    assert sum(s.entries[-1].causes.values()) == 3
    assert s.entries[-1].tracks == ("a", "b")


def test_an_update_that_counts_for_one_track_has_the_staleness_of_that_track() -> None:
    class OnlyB(Blocks):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            tracks = ("b",) if update.client == 3 else None
            return Step(state, advanced=True if tracks is None else tracks, tracks=tracks)

    s = stage(OnlyB(), FakeWorld({0: 1, 1: 1.5, 2: 90, 3: 3.6}, 4), concurrency=4).play(6)
    entry = s.entries[-1]
    assert (entry.ticket.client, entry.tracks, sum(entry.causes.values())) == (3, ("b",), 2)
    assert s.loop.versions == {"": 0, "a": 3, "b": 3}
    assert entry.version - sum(entry.causes.values()) == entry.ticket.base["b"]


def test_the_fleet_as_one_track_sees_it() -> None:
    class Look(Blocks):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            for track in ("a", "b"):
                on = fleet.on(track)
                flights = {c: f.staleness for c, f in on.flying.items()}
                self.diary.append((track, on.version, flights, on.free, len(on.idle), on.now))
            return Step(state, advanced=True)

    method = Look()
    # at 3.6 client 3 comes home; 0 (sent at 3) and 2 (sent at 0) fly on "a", 1 (sent at 3) on "b"; concurrency 5 of 5
    # clients would leave 2 places; client 4 never flies because it is away
    world = FakeWorld({0: 1, 1: 1.5, 2: 90, 3: 3.6, 4: 1}, 5, away={4: [(0, 99)]})
    stage(method, world, concurrency=5).play(6)
    assert method.diary[-2:] == [
        ("a", 3, {2: 3, 0: 0}, 2, 0, 3.6),
        ("b", 2, {1: 0}, 2, 0, 3.6),
    ]


def test_a_step_may_advance_tracks_of_nobody_who_flies() -> None:
    class Others(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=("x", "y"))

    s = stage(Others(), FakeWorld({0: 1}, 1)).play(2)
    assert s.loop.versions == {"": 0, "x": 2, "y": 2}
    assert s.loop.advances == 2  # two moments, whatever the number of tracks


def test_an_update_waits_in_the_buffer_for_a_version_of_its_own_track() -> None:
    # client 1 arrives at 1.5 and fills; track a moves at 1, 2, 3; track b at 4 by a tick: buffered for 2.5 s
    class Buffered(Blocks):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=update.client == 0)

        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [0, 1] if fleet.now == 0 else [0] if 0 in fleet.idle else []

        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            return None if fleet.due(4.0) else 4.0

        def tick(self, state: Count, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=("b",))

    s = stage(Buffered(), FakeWorld({0: 1.1, 1: 1.5}, 2), concurrency=2).play(5)
    waited = next(e for e in s.entries if e.ticket.client == 1)
    assert (s.now, waited.buffer) == (4.0, 2_500_000_000)
    assert [e.buffer for e in s.entries if e.ticket.client == 0] == [0, 0, 0]
