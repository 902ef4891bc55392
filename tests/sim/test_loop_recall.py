"""Recalls: upload at the next epoch boundary, or stop without upload. DESIGN section 3 rules 8 and 10."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Count, FakeTrainer, FakeWorld, Leg, Plain, stage

from aflctl.api import Fleet, Step
from aflctl.errors import HookFailed
from aflctl.seam import Load

TEN = Load(10, 2, 4, 2, 10, 20)  # 5 epochs of 2 steps


class Calling(Plain):
    """Recalls everybody who is stale, in the given way; starts nobody after time 0."""

    how: str = "epoch"

    def recall(self, state: Count, fleet: Fleet) -> dict[int, Any]:
        found = {c: self.how for c, f in fleet.flying.items() if f.staleness >= 1}
        self.diary.append(("recall", fleet.now, tuple(sorted(found))))
        return found

    def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
        self.diary.append(("steps", fleet.now, update.client, update.steps, update.interrupted))
        return super().receive(state, update, fleet)

    def select(self, state: Count, fleet: Fleet) -> list[int]:
        return super().select(state, fleet) if fleet.now == 0 else []


def ten(client: int, nth: int) -> Load:
    return TEN if client else Load(1, 1, 1, 1, 10, 20)


def test_epoch_sends_the_task_up_at_the_next_boundary() -> None:
    # client 1: 1 s down, 10 steps of 1 s in epochs of 2, 1 s up, so 12 s. Recalled at 4.5 s, when 3.5 steps are done:
    # the next boundary is step 4, at 5 s; upload until 6 s
    method = Calling()
    trainer = FakeTrainer(ten)
    s = stage(method, FakeWorld({0: 4.5, 1: Leg(1, 1, 1)}, 2), trainer, concurrency=2).play(2)
    assert s.now == 6.0
    assert trainer.of("truncate") == [("truncate", 1, 4)]
    assert method.of("steps") == [("steps", 4.5, 0, 1, False), ("steps", 6.0, 1, 4, True)]
    entry = s.entries[-1]
    assert (entry.ticket.planned, entry.ticket.steps, entry.ticket.interrupted) == (4, 10, True)
    assert {k: v / 1e9 for k, v in entry.phases.items()} == {"download": 1, "compute": 4, "offline": 0, "upload": 1}
    assert s.books.totals.interrupted == 1


@pytest.mark.parametrize(
    ("at", "steps", "ends"),
    [
        (0.5, 2, 4.0),  # still downloading: one whole epoch is the least, 1 + 2 + 1
        (3.0, 2, 4.0),  # exactly on the boundary: that one
        (3.001, 4, 6.0),
        (9.5, 10, 12.0),  # in the last epoch: nothing changes
        (11.5, 10, 12.0),  # uploading already
    ],
)
def test_which_boundary(at: float, steps: int, ends: float) -> None:
    method = Calling()
    trainer = FakeTrainer(ten)
    s = stage(method, FakeWorld({0: at, 1: Leg(1, 1, 1)}, 2), trainer, concurrency=2).play(2)
    assert (s.now, method.of("steps")[-1][3:]) == (ends, (steps, steps < 10))
    assert bool(trainer.of("truncate")) == (steps < 10)


def test_a_task_is_recalled_once() -> None:
    # versions at 4.5 and 5: the second recall finds it interrupted and leaves it alone
    class Again(Calling):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [0, 1] if fleet.now == 0 else [0] if fleet.now == 4.5 else []

    method = Again()
    trainer = FakeTrainer(ten)
    s = stage(method, FakeWorld({0: [4.5, 0.5], 1: Leg(1, 1, 1)}, 2), trainer, concurrency=2).play(3)
    assert [who for *_, who in method.of("recall")] == [(1,), (1,), ()]
    assert trainer.of("truncate") == [("truncate", 1, 4)]
    assert s.now == 6.0


def test_cancel_stops_without_upload_and_calls_nothing() -> None:
    # at 4.5 the task of client 1 ends: no receive, no lost; nothing goes up; 3.5 s of compute are charged
    method = Calling(how="cancel")
    trainer = FakeTrainer(ten)
    s = stage(method, FakeWorld({0: 4.5, 1: Leg(1, 1, 1)}, 2), trainer, concurrency=2).play()
    assert (method.of("lost"), [line[2] for line in method.of("receive")]) == ([], [0])
    assert trainer.of("discard", "collect") == [("collect", 0), ("discard", 1)]
    entry = s.entries[1]
    assert (entry.outcome, entry.ticket.client, entry.phases["compute"]) == ("cancelled", 1, 3_500_000_000)
    assert (s.books.totals.bytes_down, s.books.totals.bytes_up) == (20, 20)
    assert entry.causes == {"held": 0, "download": 0, "compute": 1, "offline": 0, "upload": 0}
    assert s.loop.tickets == {}


def test_a_cancelled_client_is_idle_in_the_same_tail() -> None:
    class Swap(Calling):
        how: str = "cancel"

        def select(self, state: Count, fleet: Fleet) -> list[int]:
            self.diary.append(("idle", fleet.now, sorted(fleet.idle), fleet.free))
            return [1] if 1 in fleet.idle else [] if fleet.now else [0]

    class Both(Swap):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            chosen = super().select(state, fleet)
            return [0, 1] if fleet.now == 0 else chosen

    method = Both()
    stage(method, FakeWorld({0: 4.5, 1: Leg(1, 1, 1)}, 2), FakeTrainer(ten), concurrency=2).play(1)
    assert method.of("idle")[1] == ("idle", 4.5, [0, 1], 2)
    assert method.of("assign")[-1] == ("assign", 4.5, 1, 1)


def test_a_recall_never_revives_a_task_that_is_to_be_lost() -> None:
    # client 1 would be lost at 11; recalled at 4.5 it stays lost at 11
    method = Calling()
    trainer = FakeTrainer(ten)
    s = stage(method, FakeWorld({0: 4.5, 1: Leg(1, 1, 1, lost=11)}, 2), trainer, concurrency=2).play()
    assert trainer.of("truncate", "launch") == [("launch", 0, 4.5)]
    assert method.of("lost") == [("lost", 11.0, 1, "dropout")]
    assert s.entries[-1].outcome == "lost"


def test_what_will_be_lost_is_not_trained() -> None:
    trainer = FakeTrainer(ten)
    stage(Plain(), FakeWorld({0: Leg(1, lost=0.5), 1: 1}, 2), trainer, concurrency=2)
    assert trainer.of("launch", "discard") == [("discard", 0), ("launch", 1, 10.0)]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({1: "pause"}, "recall: 'pause' is neither 'epoch' nor 'cancel'"),
        ({0: "epoch"}, "recall named client 0, which is not flying"),
        ({7: "cancel"}, "recall named client 7, which is not flying"),
    ],
)
def test_answers_that_make_no_sense(answer: dict[int, str], message: str) -> None:
    class Wrong(Calling):
        def recall(self, state: Count, fleet: Fleet) -> Any:
            return answer

    s = stage(Wrong(), FakeWorld({0: 1, 1: 9}, 2), concurrency=2)
    with pytest.raises(HookFailed, match=message) as error:
        s.play(1)
    assert "Wrong" in error.value.message
