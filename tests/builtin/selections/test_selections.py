"""The selection strategies: distinct idle clients, and the order or the distribution that each promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.api import Fleet, Lost, Update
from aflctl.builtin.selections.fastest_first import FastestFirst
from aflctl.builtin.selections.priority import Priority
from aflctl.builtin.selections.round_robin import RoundRobin
from aflctl.builtin.selections.sample_weighted import SampleWeighted
from aflctl.builtin.selections.uniform import Uniform
from aflctl.builtin.selections.utility import Utility

ALL = [
    *(e.load()() for e in entry_points(group="aflctl.selections") if e.value.startswith("aflctl.builtin.")),
    *(Priority(by=by) for by in ("least-heard", "loss", "freshest", "samples")),
]


class Counting:
    """An idle set that counts the questions it is asked."""

    def __init__(self, members: Sequence[int], clients: int) -> None:
        self.members, self.asked, self.clients = set(members), 0, clients

    def __contains__(self, client: object) -> bool:
        self.asked += 1
        return client in self.members

    def __iter__(self) -> Any:
        self.asked += self.clients
        return iter(sorted(self.members))

    def __len__(self) -> int:
        return len(self.members)


def world(idle: Any, samples: Sequence[int], *, version: int = 0, now: float = 0.0, seconds: Any = float) -> Fleet:
    return Fleet(now, {"": version}, 4, samples, sum(samples), idle, {}, lambda c, a: seconds(c), None)  # type: ignore[arg-type]


def heard(
    client: int, *, samples: int = 1, loss: float = 1.0, staleness: int = 0, version: int = 0, took: float = 1.0
) -> Update:
    stats = {"loss": loss, "loss_sq": loss * loss}
    return Update(client, version, {"": staleness}, samples, 1, {}, {}, stats, 0.0, took)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize("selection", ALL, ids=lambda s: type(s).__name__ + getattr(s, "by", ""))
@settings(max_examples=25)
@given(
    idle=st.sets(st.integers(0, 29)),
    k=st.integers(0, 12),
    among=st.none() | st.lists(st.integers(0, 29), unique=True),
    events=st.lists(st.tuples(st.integers(0, 29), st.floats(0, 5)), max_size=8),
)
def test_distinct_idle_clients_as_many_as_there_are(
    selection: Any, idle: set[int], k: int, among: list[int] | None, events: list[tuple[int, float]]
) -> None:
    samples = [1 + c % 5 for c in range(30)]
    state = selection.init(samples)
    for client, loss in events:
        state = selection.observe(state, heard(client, loss=loss))
        state = selection.observe(state, Lost(client, 0, {"": 0}, 0.0, "dropout"))
    can = idle if among is None else idle & set(among)
    for seed in range(3):
        state, picked = selection.pick(state, world(sorted(idle), samples), k, among, rng(seed))
        assert len(picked) == len(set(picked)) == min(k, len(can))
        assert set(picked) <= can
        assert all(type(c) is int for c in picked)


@pytest.mark.parametrize("selection", [Uniform(), SampleWeighted(), RoundRobin()], ids=lambda s: type(s).__name__)
def test_cost_does_not_grow_with_the_federation(selection: Any) -> None:
    n = 100_000
    idle = Counting(range(n), n)
    state, fleet = selection.init([1] * n), world(idle, [1] * n)
    for seed in range(5):
        state, picked = selection.pick(state, fleet, 10, None, rng(seed))
        assert len(picked) == 10
    assert idle.asked < 500


def test_uniform_is_uniform() -> None:
    counts = Counter(
        c for s in range(3000) for c in Uniform().pick(None, world(range(2, 8), [1] * 10), 2, None, rng(s))[1]
    )
    assert set(counts) == set(range(2, 8))
    assert all(abs(counts[c] - 1000) < 120 for c in counts)  # four standard deviations are 103


def test_sample_weighted_follows_the_samples() -> None:
    selection, samples = SampleWeighted(), [1, 2, 3, 4]
    state = selection.init(samples)
    counts = Counter(selection.pick(state, world(range(4), samples), 1, None, rng(s))[1][0] for s in range(4000))
    assert all(abs(counts[c] - 400 * samples[c]) < 130 for c in range(4))
    counts = Counter(selection.pick(state, world(range(4), samples), 1, [0, 3], rng(s))[1][0] for s in range(2000))
    assert abs(counts[3] - 1600) < 80


def test_round_robin_goes_around() -> None:
    selection, state, seen = RoundRobin(), 0, []
    for _ in range(5):
        state, picked = selection.pick(state, world([0, 1, 3, 4], [1] * 5), 3, None, rng())
        seen += picked
    assert seen == [0, 1, 3, 4, 0, 1, 3, 4, 0, 1, 3, 4, 0, 1, 3]


def test_fastest_first() -> None:
    state, picked = FastestFirst().pick(
        None, world([1, 2, 3], [1] * 5, seconds=lambda c: (9, 5, 7, 5, 1)[c]), 2, None, rng()
    )
    assert picked == [1, 3]
    assert state == (4, 1, 3, 2, 0)


def test_utility_prefers_loss_and_punishes_slowness() -> None:
    selection = Utility(explore=0.0, explore_floor=0.0, preferred_s=10.0)
    state = selection.init([1] * 4)
    for c, loss, took in ((0, 1.0, 1.0), (1, 3.0, 1.0), (2, 9.0, 30.0)):
        state = selection.observe(state, heard(c, loss=loss, took=took, version=5))
    # U = 1, 3 and 9 (10/30)^2 = 1, each + sqrt(0.1 ln 5 / 5) * 9 = 1.6 (and for client 2: 1.6/9)
    state, picked = selection.pick(state, world(range(4), [1] * 4, version=5), 1, None, rng())
    assert picked == [1]
    # client 3 was never heard: explored first where all places explore
    state.explore = 1.0
    assert 3 in selection.pick(state, world(range(4), [1] * 4, version=5), 1, None, rng())[1]
    assert Utility.reads_results


def test_priorities() -> None:
    def order(by: str) -> list[int]:
        selection = Priority(by=by)
        state = selection.init([3, 1, 2, 5])
        for c, loss, tau, times in ((0, 2.0, 4, 1), (1, 5.0, 0, 3), (2, 3.0, 2, 2)):
            for _ in range(times):
                state = selection.observe(state, heard(c, loss=loss, staleness=tau))
        return selection.pick(state, world(range(4), [3, 1, 2, 5]), 4, None, rng())[1]

    assert order("least-heard") == [3, 0, 2, 1]
    assert order("loss") == [3, 1, 2, 0]
    assert order("freshest") == [3, 1, 2, 0]
    assert order("samples") == [3, 0, 2, 1]
    selection = Priority()
    state, seen = selection.init([1] * 4), []
    for t in range(4):
        state, picked = selection.pick(state, world(range(4), [1] * 4, now=float(t)), 2, None, rng())
        seen += picked
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3]
    assert Priority(by="loss").reads_results
    assert not Priority().reads_results
