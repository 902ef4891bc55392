"""`Fleet.expected_s`: what a task would take, without noise, by the same rules as the task itself."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Count, FakeWorld, Plain, stage

from aflctl.api import Assignment, Fleet, Local


@pytest.mark.parametrize(
    ("local", "order", "steps"),
    [
        (Local(batch_size=4, epochs=3), None, 9),  # 10 samples are 3 batches
        (Local(batch_size=4, epochs=3), Assignment({}), 9),
        (Local(batch_size=4, steps=7), None, 7),
        (Local(batch_size=4, epochs=3), Assignment({}, epochs=2), 6),
        (Local(batch_size=4, steps=7), Assignment({}, epochs=2), 6),  # what the assignment says goes before `local`
        (Local(batch_size=4, epochs=3), Assignment({}, steps=5), 5),
        (Local(batch_size=4, steps=7), Assignment({}, steps=5, epochs=2), 5),
    ],
)
def test_steps_of_an_estimate(local: Local, order: Assignment | None, steps: int) -> None:
    class Ask(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            self.diary.append(fleet.expected_s(0, order))
            return []

    method = Ask()
    stage(method, FakeWorld({0: 2}, 1), samples=[10], local=local)
    assert method.diary == [2.0 * steps]


def test_an_estimate_knows_the_assignments_bytes_and_share() -> None:
    seen: list[Any] = []

    class World(FakeWorld):
        def expected_s(self, client: int, work: Any) -> float:
            seen.append((work.down_bytes, work.up_bytes, work.share))
            return 0.0

    class Ask(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            fleet.expected_s(0)
            fleet.expected_s(0, Assignment({}, down_bytes=7, up_bytes=0, work=0.5))
            return []

    stage(Ask(), World({0: 2}, 1))
    assert seen == [(20, 20, 1.0), (7, 0, 0.5)]  # 4 bytes for each of 5 parameters
