"""How tasks end: timeout, too stale, not finite, lost on the way; and early stopping, whose end is known late."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Count, FakeTrainer, FakeWorld, Leg, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.errors import Diverged
from aflctl.seam import Load
from aflctl.sim.flights import NS
from aflctl.sim.loop import Limits


def test_a_timeout_ends_the_task_there() -> None:
    # limit 3 s: client 0 (3 s) just arrives, client 1 (4 s) is lost at 3, before the arrival of the same moment
    method = Plain()
    limits = Limits(timeout=3 * NS)
    s = stage(method, FakeWorld({0: 3, 1: 4}, 2), concurrency=2, limits=limits).play(2)
    assert method.of("lost", "receive") == [("lost", 3.0, 1, "timeout"), ("receive", 3.0, 0, 0)]
    assert s.trainer.of("discard") == [("discard", 1), ("discard", 2)]  # known at dispatch: never trained
    assert s.books.totals.bytes_up == 20


def test_the_earlier_of_loss_and_timeout_counts() -> None:
    legs = {0: Leg(9, lost=2, reason="offline"), 1: Leg(9, lost=5)}
    method = Plain()
    stage(method, FakeWorld(legs, 2), concurrency=2, limits=Limits(timeout=3 * NS)).play(2)
    assert method.of("lost") == [("lost", 2.0, 0, "offline"), ("lost", 3.0, 1, "timeout")]


def test_an_update_that_is_too_stale_is_lost_and_still_travelled() -> None:
    # client 0 makes versions at 1, 2, 3; client 1 arrives at 3.5 with staleness 3, allowed are 2
    method = Plain()
    s = stage(method, FakeWorld({0: 1, 1: 3.5}, 2), concurrency=2, limits=Limits(max_staleness=2)).play(4)
    assert method.of("lost") == [("lost", 3.5, 1, "stale")]
    assert s.trainer.of("collect", "discard")[-1] == ("discard", 1)
    assert ("collect", 1) not in s.trainer.said
    assert s.books.totals.bytes_up == 4 * 20
    assert (s.entries[-1].outcome, s.entries[-1].reason, sum(s.entries[-1].causes.values())) == ("lost", "stale", 3)
    # at exactly the limit it counts
    at_limit = Plain()
    stage(at_limit, FakeWorld({0: 1, 1: 2.5}, 2), concurrency=2, limits=Limits(max_staleness=2)).play(3)
    assert at_limit.of("receive")[-1] == ("receive", 2.5, 1, 2)


def test_not_finite_stops_is_rejected_or_is_kept() -> None:
    def run(policy: str) -> tuple[Plain, Any]:
        method = Plain()
        trainer = FakeTrainer(broken=[1])
        world = FakeWorld({0: 1, 1: 1.5}, 2)
        return method, stage(method, world, trainer, concurrency=2, limits=Limits(on_nonfinite=policy))

    method, s = run("stop")
    with pytest.raises(Diverged, match=r"client 1 \(task 1, step 1 of 1, 1\.500 s\) is not finite") as error:
        s.play(3)
    assert "on_nonfinite" in (error.value.hint or "")

    method, s = run("reject")
    s.play(2)
    assert method.of("lost") == [("lost", 1.5, 1, "not-finite")]
    assert s.trainer.of("collect", "discard", "commit") == [
        ("collect", 0), ("commit", 0, None), ("collect", 1), ("discard", 1),
    ]  # fmt: skip
    assert s.books.totals.lost == 1

    method, s = run("keep")
    s.play(2)
    assert method.of("receive")[-1] == ("receive", 1.5, 1, 1)
    assert s.trainer.of("commit")[-1] == ("commit", 1, None)


def test_rejecting_for_ever_is_no_run() -> None:
    # two in flight, nothing finite: the 109th rejection in a row (100 + 4 * 2 + 1) ends what would never stop
    world = FakeWorld({0: 1, 1: 1}, 2)
    trainer = FakeTrainer(broken=range(10_000))
    s = stage(Plain(), world, trainer, concurrency=2, limits=Limits(on_nonfinite="reject"))
    with pytest.raises(Diverged, match="the last 109 uploads, to 55\\.000 s, were all not finite") as error:
        s.play(500)
    assert "clip_norm" in (error.value.hint or "")
    # one used update between starts the count anew
    trainer = FakeTrainer(broken=[i for i in range(10_000) if i % 100])
    stage(Plain(), world, trainer, concurrency=2, limits=Limits(on_nonfinite="reject")).play(500)


def test_a_rejected_update_is_no_version_and_no_memory() -> None:
    class Picky(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=update.client == 0, used=update.client == 0, weight=0.5)

    s = stage(Picky(), FakeWorld({0: 1, 1: 1.5}, 2), concurrency=2).play(2)
    assert s.trainer.of("commit", "discard") == [("commit", 0, 0.5), ("discard", 1)]
    assert (s.loop.used, s.loop.advances, s.books.totals.rejected) == (1, 1, 1)
    assert [e.outcome for e in s.entries] == ["rejected", "used"] or [e.outcome for e in s.entries] == [
        "used",
        "rejected",
    ]


def test_a_loss_may_make_a_version() -> None:
    class Counts(Plain):
        def lost(self, state: Count, lost: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=True)

    s = stage(Counts(), FakeWorld({0: Leg(9, lost=1), 1: 1.5}, 2), concurrency=2).play(2)
    assert s.loop.versions == {"": 2}
    assert s.entries[-1].causes["compute"] == 1


# ---- early stopping ----
def early(client: int, nth: int) -> Load:
    """Client 1 trains at least 4 of its steps; nobody knows how many before training."""
    return Load(4, 2, 4, 2, 10, 20, provisional=True) if client else Load(1, 1, 1, 1, 10, 20)


def test_early_stopping_blocks_only_when_its_lower_bound_surfaces() -> None:
    # lower bound 4 s, truth 8 steps = 8 s. Client 0 arrives at 3, 6, 9: settled between 3 and 6
    method = Plain()
    trainer = FakeTrainer(early, settled={1: 8})
    s = stage(method, FakeWorld({0: 3, 1: 1}, 2), trainer, concurrency=2)
    assert s.loop.tickets[1].at == 4 * NS
    s.play(1)
    assert trainer.of("settle") == []
    s.play(2)
    assert trainer.of("settle") == [("settle", 1)]
    assert method.of("receive") == [("receive", 3.0, 0, 0), ("receive", 6.0, 0, 0), ("receive", 8.0, 1, 2)]
    entry = s.entries[-1]
    assert (entry.ticket.steps, entry.ticket.planned, entry.ticket.interrupted) == (8, 8, False)
    assert entry.phases["compute"] == 8 * NS


def test_early_stopping_at_the_lower_bound_itself() -> None:
    method = Plain()
    trainer = FakeTrainer(early, settled={0: 4, 1: 4, 2: 4})
    s = stage(method, FakeWorld({0: 9, 1: 1}, 2), trainer, concurrency=2).play(2)
    assert method.of("receive") == [("receive", 4.0, 1, 0), ("receive", 8.0, 1, 0)]
    assert s.books.totals.sent == 4


def test_early_stopping_that_is_lost_in_the_end_is_not_heard() -> None:
    # truth: 8 s, lost at 6: known when the bound surfaces
    method = Plain()
    trainer = FakeTrainer(early, settled={1: 8})
    stage(method, FakeWorld({0: 9, 1: Leg(1, lost=6)}, 2), trainer, concurrency=2).play(1)
    assert method.of("lost") == [("lost", 6.0, 1, "dropout")]
    assert trainer.of("discard") == [("discard", 1)]
    assert trainer.of("collect") == []


def test_early_stopping_and_a_timeout_after_the_bound() -> None:
    method = Plain()
    trainer = FakeTrainer(early, settled={1: 8})
    world, limits = FakeWorld({0: [9, 99], 1: 1}, 2), Limits(timeout=7 * NS)
    stage(method, world, trainer, concurrency=2, limits=limits).play(2)
    assert method.of("lost") == [("lost", 7.0, 0, "timeout"), ("lost", 7.0, 1, "timeout")]


def test_the_digest_of_a_dispatch_does_not_hold_the_bound() -> None:
    s = stage(Plain(), FakeWorld({0: 9, 1: 1}, 2), FakeTrainer(early, settled={1: 8}), concurrency=2)
    assert [row[5] for row in s.digest.rows] == [1, -1]
