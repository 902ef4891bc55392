"""What a method keeps at all times, whatever the clients' speeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from double import Lab, feed, fleet, same, setup, update, vec
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.api import Local
from aflctl.builtin.algorithms.ace import Ace
from aflctl.builtin.algorithms.area import Area
from aflctl.builtin.algorithms.asofed import AsoFed
from aflctl.builtin.algorithms.bounded_staleness_sgd import BoundedStalenessSgd
from aflctl.builtin.algorithms.ca2fl import Ca2fl
from aflctl.builtin.algorithms.cfl import Cfl
from aflctl.builtin.algorithms.daafl import Daafl
from aflctl.builtin.algorithms.fadas import Fadas
from aflctl.builtin.algorithms.fedac import FedAc
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.algorithms.fedcompass import FedCompass
from aflctl.builtin.algorithms.fedvarp import FedVarp
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.mifa import Mifa
from aflctl.builtin.algorithms.port import Port
from aflctl.builtin.algorithms.quafl import Quafl
from aflctl.builtin.algorithms.rennala import Rennala
from aflctl.builtin.algorithms.ringleader import Ringleader
from aflctl.builtin.algorithms.ringmaster import Ringmaster
from aflctl.builtin.algorithms.safa import Safa
from aflctl.builtin.algorithms.scaffold import Scaffold

TARGETS = [vec(1.0, -1.0), vec(-3.0, 2.0), vec(0.5, 0.25), vec(2.0, 4.0)]
SPEEDS = st.lists(st.floats(0.1, 20.0), min_size=4, max_size=4)
COUNTS = st.lists(st.integers(1, 9), min_size=4, max_size=4)
LOST = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=5)
few = settings(max_examples=12)


def lab(algorithm: Any, speeds: list[float], **options: Any) -> Lab:
    options = {"local": Local(lr=0.2, epochs=2), "init": vec(0.5, 0.5), **options}
    return Lab(algorithm, options.pop("targets", TARGETS), lambda c, n: speeds[c] * (1 + 0.1 * (n % 3)), **options)


@pytest.mark.parametrize("make", [Scaffold(), Scaffold(option=1), Scaffold(round={"cohort": 2}), FedAc(buffer_size=3)])
@few
@given(speeds=SPEEDS, lost=LOST)
def test_control_variates_add_up(make: Any, speeds: list[float], lost: set[tuple[int, int]]) -> None:
    """sum_i c_i = N c; uploads that wait in the server's sum are part of it."""
    run = lab(make, speeds, lose=lambda c, n: (c, n) in lost)
    for _ in range(15):
        run.run(1)
        total = sum(m["c"] for m in run.memory)
        same(total, (4 * run.state.c + run.state.dc).tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS, lost=LOST, buffer=st.integers(1, 6))
def test_area_is_the_mean_of_reports(speeds: list[float], lost: set[tuple[int, int]], buffer: int) -> None:
    run = lab(Area(buffer_size=buffer), speeds, lose=lambda c, n: (c, n) in lost)
    for _ in range(20):
        run.run(1)
        kept = sum(m["m"] - vec(0.5, 0.5) for m in run.memory)
        same(4 * (run.x - vec(0.5, 0.5)) + run.state.acc, kept.tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS, counts=COUNTS, lost=LOST)
def test_asofed_is_the_weighted_table(speeds: list[float], counts: list[int], lost: set[tuple[int, int]]) -> None:
    run = lab(AsoFed(dynamic_steps=False), speeds, samples=counts, lose=lambda c, n: (c, n) in lost).run(20)
    same(run.x, sum(n / sum(counts) * m["w"] for n, m in zip(counts, run.memory)).tolist(), tol=1e-4)


@pytest.mark.parametrize(
    "make",
    [Ca2fl(buffer_size=3), Ca2fl(buffer_size=3, cache_commit="flush"), FedVarp(round={"cohort": 2}), Mifa(wait=False)],
)
@few
@given(speeds=SPEEDS)
def test_running_mean_is_the_tables(make: Any, speeds: list[float]) -> None:
    run = lab(make, speeds)
    for _ in range(18):
        made = len(run.models)
        run.run(1)
        if len(run.models) > made:
            table = run.state.cache if hasattr(run.state, "cache") else run.state.table
            same(run.state.mean, (sum(table[c] for c in range(4)) / 4).tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS, age=st.none() | st.integers(0, 6))
def test_ace_sums_the_fresh_rows(speeds: list[float], age: int | None) -> None:
    run = lab(Ace(max_age=age, server_optimizer={"lr": 0.1}), speeds)
    for _ in range(20):
        run.run(1)
        same(run.state.acc, sum((run.state.table[c] for c in run.state.fresh), vec(0, 0)).tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS, models=st.lists(st.floats(-9, 9), min_size=4, max_size=4), polled=st.integers(1, 3))
def test_quafl_mixing_keeps_the_sum(speeds: list[float], models: list[float], polled: int) -> None:
    """x + sum over the polled of X_i is what it was before the poll; no gradient, so that nothing else moves."""
    run = lab(Quafl(polled=polled, bits=32), speeds, curvature=(0.0,) * 4, concurrency=3)
    for c, value in enumerate(models):
        run.memory[c] = {"w": vec(value, -value)}
    for _ in range(12):
        x, before, polls = run.x, [m["w"] for m in run.memory], run.versions[""]
        heard = set(run.flying)
        while run.versions[""] == polls:
            run.run(1)
        after = [m["w"] for m in run.memory]
        same(run.x + sum(after[c] for c in heard), (x + sum(before[c] for c in heard)).tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS)
def test_vhat_never_falls(speeds: list[float]) -> None:
    run, before = lab(Fadas(buffer_size=2, lr=0.1), speeds), vec(0, 0)
    for _ in range(20):
        run.run(1)
        assert bool((run.state.opt.vhat >= before).all())
        before = run.state.opt.vhat.clone()


@pytest.mark.parametrize(
    "make",
    [
        FedAvg(), FedAsync(), FedBuff(buffer_size=3), Port(buffer_size=3, bound=2), Safa(lag=2), Safa(lag=0, quota=1.0),
        Forootani(buffer_size=3), Forootani(variant="immediate"), Daafl(), Cfl(), Ca2fl(buffer_size=2), FedVarp(),
        Area(buffer_size=2), Scaffold(), Ringleader(steps=None), AsoFed(dynamic_steps=False),
    ],
    ids=lambda a: f"{type(a).__name__}",
)  # fmt: skip
@settings(max_examples=6)
@given(speeds=SPEEDS, counts=COUNTS)
def test_weights_of_models_sum_to_one(make: Any, speeds: list[float], counts: list[int]) -> None:
    """Moving all targets and the first model by one vector moves every global model by it."""
    shift = vec(3.0, -2.0)
    left = lab(make, speeds, samples=counts).run(16).models
    right = (
        lab(make, speeds, samples=counts, targets=[t + shift for t in TARGETS], init=vec(0.5, 0.5) + shift)
        .run(16)
        .models
    )
    assert len(left) == len(right)
    for a, b in zip(left, right):
        same(b - a, shift.tolist(), tol=1e-4)


@few
@given(speeds=SPEEDS, bound=st.integers(0, 4))
def test_bounds_hold(speeds: list[float], bound: int) -> None:
    for make, most in (
        (BoundedStalenessSgd(bound=bound, policy="wait"), bound),
        (BoundedStalenessSgd(bound=bound, policy="abort"), bound),
        (Ringmaster(delay=bound + 1), bound),
        (Rennala(batch=3), 0),
        (Safa(lag=bound), bound),
        (Ringleader(), 6),
    ):
        run = lab(make, speeds).run(40)
        assert all(tau <= most for _, tau, _, used in run.log if used)


class Heard(FedCompass):
    """FedCompass that notes every update."""

    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        HEARD.append(update.delta)
        return super().receive(state, update, fleet)


HEARD: list[torch.Tensor] = []


@few
@given(speeds=SPEEDS, lost=LOST)
def test_fedcompass_plans_arrivals_together_and_loses_none(speeds: list[float], lost: set[tuple[int, int]]) -> None:
    """Steps within bounds; members of a group end less than a step of theirs before it; x moves by every D / N."""
    HEARD.clear()
    compass = Heard(min_steps=2, max_steps=6, alpha=1.0, staleness="constant")
    start = vec(0.5, 0.5)
    run = Lab(compass, TARGETS, pace=speeds, local=Local(lr=0.2), init=start, lose=lambda c, n: (c, n) in lost)
    for _ in range(40):
        run.run(1)
        for c, out in run.flying.items():
            group = run.state.groups.open.get(run.state.groups.out.get(c, -1))
            if group is not None:
                assert -1e-4 * speeds[c] <= group[0] - out.end < speeds[c] * (1 + 1e-4)
        assert len(run.flying) + len(run.state.groups.waiting) == 4
        held = [value for _, _, value in run.state.held]
        same(run.x - start, ((sum(HEARD, vec(0.0, 0.0)) - sum(held, vec(0.0, 0.0))) / 4).tolist(), tol=1e-4)
    assert all(2 <= (order.steps or 0) <= 6 for _, order in run.sent)
    assert len(run.models) > 4


@few
@given(speeds=SPEEDS, counts=COUNTS)
def test_daafl_gives_no_more_than_there_is(speeds: list[float], counts: list[int]) -> None:
    run = lab(Daafl(mean_mix=0.2), speeds, samples=counts).run(25)
    assert sum(run.state.given.values()) <= 0.2 * 25 + 1e-9
    assert all(0 <= w <= 1 for _, _, w, _ in run.log if w is not None)


def after(make: Any, order: Sequence[int]) -> torch.Tensor:
    """x after the updates of clients 0 to 4 in this order."""
    state, events = make.init(setup(vec(1.0, 2.0), (1, 2, 3, 4, 5)), fleet()), []
    for k, c in enumerate(order):
        delta = vec(c * 0.7, 1.0 - c)
        up = update(c, sent=vec(0, 0), delta=delta, w=delta, samples=c + 1, staleness=c)
        events.append((up, fleet(capacity=5, flying={9: 0} if k < 4 else {})))
    return make.params(feed(make, state, *events)[0])


@few
@given(order=st.permutations(range(5)))
def test_order_inside_a_buffer_or_round_does_not_matter(order: list[int]) -> None:
    for make in (FedBuff(buffer_size=5), FedAvg(), Port(buffer_size=5), Fadas(buffer_size=5)):
        same(after(make, order), after(make, range(5)).tolist(), tol=1e-5)
