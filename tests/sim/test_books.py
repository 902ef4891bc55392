"""The books: what tasks cost, why they were stale, how long they waited, and sums that must balance."""

from __future__ import annotations

from typing import Any

from fakes import Count, FakeTrainer, FakeWorld, Leg, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.seam import Load
from aflctl.sim.flights import NS, Ticket


def ticket(*segments: tuple[str, int], seen: int = 0, base: int = 0, sent: int = 0) -> Ticket:
    trip: Any = type("Trip", (), {"segments": segments})()
    parts: dict[str, Any] = dict.fromkeys(Ticket.__dataclass_fields__)
    parts |= {"base": {"": base}, "first": base, "seen": {"": seen}, "sent": sent, "trip": trip}
    return Ticket(**parts)


def test_each_version_falls_into_the_phase_in_which_it_was_made() -> None:
    # download (0, 10], compute (10, 30], offline (30, 40], compute (40, 50], upload (50, 60]; versions made at:
    # 5 d, 10 d (the end belongs to the phase), 11 c, 30 c, 31 o, 50 c, 60 u. Known at dispatch: 2, base 1: one held
    made = [-9, -8, 5, 10, 11, 30, 31, 50, 60]
    t = ticket(("download", 10), ("compute", 30), ("offline", 40), ("compute", 50), ("upload", 60), seen=2, base=1)
    assert t.causes(made, "", 9, 60) == {"held": 1, "download": 2, "compute": 3, "offline": 1, "upload": 1}
    # asked at 31, when version 7 is the newest
    assert t.causes(made, "", 7, 31) == {"held": 1, "download": 2, "compute": 2, "offline": 1, "upload": 0}


def test_versions_made_at_the_very_moment_of_dispatch_are_known_then() -> None:
    # the task was sent at 5 after the version of 5 was made (seen 1): none of its phases
    t = ticket(("compute", 9), seen=1, base=1, sent=5)
    assert sum(t.causes([5, 7], "", 2, 9).values()) == 1


def test_phases_up_to_a_moment() -> None:
    t = ticket(("download", 10), ("compute", 30), ("upload", 60), sent=4)
    assert t.phase_ns(25) == {"download": 6, "compute": 15, "offline": 0, "upload": 0}
    assert t.phase_ns(60) == {"download": 6, "compute": 20, "offline": 0, "upload": 30}
    # a task that ends after its last phase (lost at a later moment) waited in that phase
    assert t.phase_ns(70)["upload"] == 40


def test_the_record_of_a_task() -> None:
    # client 1: 1 s down, 2 s compute, 1 s up: sent at 0, back at 4. Versions at 1.5 and 3 (client 0): compute 2 ... no,
    # (1, 3] is compute, so both are compute; the version of 4.5 consumes nothing of it: its own arrival is one
    method = Plain()
    s = stage(method, FakeWorld({0: 1.5, 1: Leg(2, 1, 1)}, 2), concurrency=2).play(3)
    entry = s.entries[-1]
    assert (entry.ticket.client, entry.outcome, entry.version, entry.buffer) == (1, "used", 2, 0)
    assert entry.causes == {"held": 0, "download": 0, "compute": 2, "offline": 0, "upload": 0}
    assert {k: v / NS for k, v in entry.phases.items()} == {"download": 1, "compute": 2, "offline": 0, "upload": 1}
    assert entry.stats == {"loss": 1.0}
    assert entry.energy == {"compute": 4.0, "radio": 0.0, "idle": 0.0}


def test_the_wait_in_the_buffer_ends_with_the_version() -> None:
    # K = 3, arrivals at 1, 2 (task 1 and 2 by dispatch), ...: client 0 at 1, 2, 3 fills; waits 2, 1 and 0 s
    s = stage(Plain(every=3), FakeWorld({0: 1}, 1)).play(3)
    assert [e.buffer for e in s.entries] == [2 * NS, 1 * NS, 0]
    assert s.books.waiting == []


def test_what_waits_or_flies_at_the_end_is_handed_out() -> None:
    # K = 2 over clients of 1 s and 2.5 s, stopped after three arrivals (1, 2, 2.5): one waits, two fly. The task of
    # client 0 that left at 2 is in no version's way; that of client 1 left at 2.5
    s = stage(Plain(every=2), FakeWorld({0: 1, 1: 2.5}, 2), concurrency=2).play(3)
    s.books.close(s.loop.now, s.loop.tickets, s.loop.versions, s.loop.made)
    rest = s.entries[2:]
    assert [(e.outcome, e.ticket.client, e.buffer) for e in rest] == [
        ("used", 1, None),
        ("flying", 0, None),
        ("flying", 1, None),
    ]
    assert rest[1].phases["compute"] == NS // 2


def test_staleness_of_what_still_flies_has_causes_too() -> None:
    # client 1 (1 s down, then compute) left at 0; versions at 0.6, 1.2 and 1.8: one in download, two in compute
    s = stage(Plain(), FakeWorld({0: 0.6, 1: Leg(9, 1)}, 2), concurrency=2).play(3)
    s.books.close(s.loop.now, s.loop.tickets, s.loop.versions, s.loop.made)
    (flying,) = [e for e in s.entries if e.outcome == "flying" and e.ticket.client == 1]
    assert flying.causes == {"held": 0, "download": 1, "compute": 2, "offline": 0, "upload": 0}
    assert flying.version == 3


def test_members_totals_and_histogram() -> None:
    class Odd(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=update.client == 0, used=update.client != 1)

    # arrivals: 0 at 1, 2, 3; 1 (rejected) at 2.5; 2 is lost at 0.5, 1, 1.5, ...
    load = FakeTrainer(lambda client, nth: Load(4, 2, 3, 2, 10, 20))
    world = FakeWorld({0: 0.25, 1: 0.625, 2: Leg(9, lost=2)}, 3)
    s = stage(Odd(), world, load, concurrency=3, samples=[3, 3, 3]).play(5)
    t, members = s.books.totals, s.books.members
    assert s.now == 3.0
    assert (t.sent, t.used, t.rejected, t.lost, len(s.loop.tickets)) == (8, 3, 1, 1, 3)
    assert (t.bytes_down, t.bytes_up) == (80, 80)
    assert t.samples == 3 * 6  # 4 steps are two epochs of 3 samples
    assert t.compute_ns == (3 + 2.5 + 2) * NS
    assert t.wasted_compute_ns == 4.5 * NS
    assert (t.energy_j, t.wasted_j) == (7.5, 4.5)
    assert {c: (m.dispatched, m.used, m.lost) for c, m in members.items()} == {0: (4, 3, 0), 1: (2, 0, 1), 2: (2, 0, 1)}
    assert dict(s.books.histogram) == {("even", 0): 3}
    assert all(s.books.invariants(s.loop.tickets, s.loop.versions).values())


def test_staleness_in_numbers() -> None:
    # client 0 at 1, 2, 3, 4 (staleness 0, 0, 0, then 1), client 1 at 3.5 (staleness 3, all of it compute)
    s = stage(Plain(), FakeWorld({0: 1, 1: 3.5}, 2), concurrency=2).play(5)
    found = s.books.staleness()
    assert {k: found[k] for k in ("count", "mean", "max", "p50", "p95")} == {
        "count": 5, "mean": 0.8, "max": 3, "p50": 0, "p95": 3,
    }  # fmt: skip
    assert found["by_device"]["odd"] == {"count": 1, "mean": 3.0, "max": 3, "p50": 3, "p95": 3}
    assert found["by_cause"] == {"held": 0, "download": 0, "compute": 4, "offline": 0, "upload": 0}


def test_staleness_of_a_run_without_updates() -> None:
    found = stage(Plain(), FakeWorld({0: 1}, 1)).books.staleness()
    assert (found["count"], found["mean"], found["max"], found["by_device"]) == (0, 0.0, 0, {})


def test_books_that_do_not_balance_say_so() -> None:
    s = stage(Plain(), FakeWorld({0: 1}, 1)).play(2)
    s.books.totals.sent += 1
    broken = s.books.invariants(s.loop.tickets, s.loop.versions)
    assert [name for name, held in broken.items() if not held] == ["dispatches_balance", "participation_balances"]
