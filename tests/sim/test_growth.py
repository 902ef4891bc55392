"""Live data: how many samples a client has at which moment, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeTrainer, FakeWorld, Plain, Sum

from aflctl.api import Fleet, Local, Setup, Step, Update
from aflctl.seam import Load
from aflctl.sim.books import Books
from aflctl.sim.chance import Chance
from aflctl.sim.loop import Loop
from aflctl.sim.world.growth import NS, Growing


def counts(growing: Growing, client: int, *seconds: float) -> list[int]:
    return [growing.at(client, round(t * NS)) for t in seconds]


def test_counts_by_hand() -> None:
    # client 0: 20 samples, 2 at first, then one every half second: all after 9 s; client 1: 5 samples, max(1, 0.5)
    growing = Growing([20, 5], start=0.1, rate_per_s=2)
    assert growing.start.tolist() == [2, 1]
    assert counts(growing, 0, 0, 0.49, 0.5, 1.0, 8.99, 9.0, 100) == [2, 2, 3, 4, 19, 20, 20]
    assert counts(growing, 1, 0, 0.5, 1.99, 2.0, 3.0) == [1, 2, 4, 5, 5]


def test_everybody_has_everything_after_over_s() -> None:
    # 18 further samples in 9 s and 4 in 9 s
    growing = Growing([20, 5], start=0.1, over_s=9)
    assert counts(growing, 0, 0.5, 8.99, 9.0) == [3, 19, 20]
    assert counts(growing, 1, 2.24, 2.25, 8.99, 9.0) == [1, 2, 4, 5]


def test_nothing_at_the_start_is_one_sample_and_everything_is_everything() -> None:
    assert Growing([7, 1], start=0, rate_per_s=1).start.tolist() == [1, 1]
    assert counts(Growing([7], start=1, rate_per_s=1), 0, 0, 5) == [7, 7]
    assert Growing([7, 0], start=0, rate_per_s=1).all_at(10**12).tolist() == [7, 0]


def test_the_clock_is_moved_and_the_total_follows() -> None:
    growing = Growing([20, 5], start=0.1, rate_per_s=2)
    seen = []
    for t in (0.0, 1.0, 4.0, 50.0, 1.0):
        growing.now = round(t * NS)
        seen.append((growing[0], growing[1], growing.total, list(growing), growing[:1]))
    assert seen == [
        (2, 1, 3, [2, 1], [2]),
        (4, 3, 7, [4, 3], [4]),
        (10, 5, 15, [10, 5], [10]),
        (20, 5, 25, [20, 5], [20]),
        (4, 3, 7, [4, 3], [4]),
    ]


def test_never_less_than_before_and_never_more_than_all() -> None:
    whole = np.arange(1, 60)
    growing = Growing(whole, start=0.3, rate_per_s=0.7, spread=1.0, seed=5)
    before = growing.all_at(0)
    for t in range(1, 400):
        now = growing.all_at(t * NS)
        assert (before <= now).all()
        assert (now <= whole).all()
        assert now.tolist() == [growing.at(c, t * NS) for c in range(59)]
        before = now
    assert growing.all_at(10**6 * NS).tolist() == whole.tolist()


def test_rates_differ_by_client_and_by_nothing_else() -> None:
    def gaps(n: int, seed: int) -> list[int]:
        return Growing([50] * n, start=0.1, rate_per_s=2, spread=0.5, seed=seed).gap_ns.tolist()

    assert gaps(6, 1) == gaps(6, 1)
    assert gaps(4, 1) == gaps(6, 1)[:4]  # a further client changes nobody
    assert gaps(6, 1) != gaps(6, 2)
    logs = np.log(np.array(gaps(4000, 3)) / (NS / 2))
    assert abs(logs.mean()) < 0.03
    assert abs(logs.std() - 0.5) < 0.03


class Seeing(Plain):
    """Notes n_k, n and the estimate at every arrival."""

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        now = (fleet.now, update.samples, fleet.samples[0], fleet.total_samples, fleet.expected_s(0))
        self.diary.append(("seen", *now))
        return super().receive(state, update, fleet)


def test_the_loop_moves_the_clock() -> None:
    # a step a second, batches of 2: n = 2 at 0 s, so 1 step; n = 4 at 1 s, so 2 steps; n = 8 at 3 s, so 4 steps
    growing = Growing([8], start=0.25, rate_per_s=2)

    def load(client: int, nth: int) -> Load:
        steps = -(-growing[client] // 2)
        return Load(steps, steps, growing[client], 2, 0, 0)

    world, local, digest = FakeWorld({0: 1.0}, 1), Local(batch_size=2), Sum()
    setup: Any = Setup({}, np.zeros(5), (2,), 1, local)
    object.__setattr__(setup, "init", type("P", (), {"numel": lambda self: 5})())
    method, books = Seeing(), Books(world, digest)
    loop = Loop(method, FakeTrainer(load), world, setup, Chance(0, 0), books, growing=growing)
    loop.begin()
    for _ in range(3):
        loop.peek()
        loop.step()
    assert method.of("seen") == [
        ("seen", 1.0, 2, 4, 4, 2.0),
        ("seen", 3.0, 4, 8, 8, 4.0),
        ("seen", 7.0, 8, 8, 8, 4.0),
    ]
    saved = loop.save()
    again = Growing([8], start=0.25, rate_per_s=2)
    other = Loop(method, FakeTrainer(load), world, setup, Chance(0, 0), books, growing=again)
    other.load(saved)
    assert (again.now, other.samples[0], again.total) == (7 * NS, 8, 8)


@pytest.mark.parametrize("rate", [1e-9, 1e12])
def test_extreme_rates(rate: float) -> None:
    growing = Growing([1000], start=0.5, rate_per_s=rate)
    assert growing.at(0, 0) == 500
    assert 500 <= growing.at(0, 3600 * NS) <= 1000
