"""The parts that methods share: server optimizers against numpy, staleness weights, what a round starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from double import fleet, same, vec
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.rules import Barrier, ServerOptimizer, StalenessWeight

DELTAS = ([1.0, -2.0, 0.0], [0.5, 1.0, 0.0], [-3.0, 0.25, 0.0])


def reference(kind: str, lr: float, b1: float, b2: float, eps: float) -> list[Any]:
    """x after each of DELTAS, from 0: Reddi et al., algorithm 2, with v_-1 = 0; AMSGrad's vhat; FedAvgM."""
    x, m, v, hat = (np.zeros(3) for _ in range(4))
    xs = []
    for d in map(np.array, DELTAS):
        if kind == "sgd":
            m = b1 * m + d
            x = x + lr * m
        else:
            m = b1 * m + (1 - b1) * d
            if kind == "adagrad":
                v = v + d**2
            elif kind == "yogi":
                v = v - (1 - b2) * d**2 * np.sign(v - d**2)
            else:
                v = b2 * v + (1 - b2) * d**2
            hat = np.maximum(hat, v)
            x = x + lr * m / (np.sqrt(hat if kind == "amsgrad" else v) + eps)
        xs.append(x)
    return xs


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam", "yogi", "amsgrad"])
@pytest.mark.parametrize("b1", [0.0, 0.5])
def test_server_optimizers_are_the_papers(kind: Any, b1: float) -> None:
    rule = ServerOptimizer(kind=kind, lr=0.3, b1=b1, b2=0.75, eps=0.01)
    w, state = vec(0, 0, 0), rule.init(vec(0, 0, 0))
    for d, x in zip(DELTAS, reference(kind, 0.3, b1, 0.75, 0.01)):
        delta, before = vec(*d), w.clone()
        new, state = rule.step(w, delta, state)
        same(new, x)
        assert torch.equal(w, before)  # what `params` returned stays
        assert torch.equal(delta, vec(*d))
        w = new


def test_defaults_are_the_papers() -> None:
    assert [ServerOptimizer(kind=k).beta1 for k in ("sgd", "adagrad", "adam", "yogi", "amsgrad")] == [
        0,
        0,
        0.9,
        0.9,
        0.9,
    ]
    rule = ServerOptimizer(kind="yogi")
    assert (rule.b2, rule.eps, rule.lr, rule.bias_correction) == (0.99, 1e-3, 1.0, False)


FLOATS = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3)


@settings(max_examples=25)
@given(first=FLOATS, then=FLOATS)
def test_yogi_moves_v_towards_the_square(first: list[float], then: list[float]) -> None:
    """By (1 - b2) D^2, so it can overshoot by at most that."""
    rule, state = ServerOptimizer(kind="yogi", b2=0.9), ServerOptimizer(kind="yogi").init(vec(0, 0, 0))
    _, state = rule.step(vec(0, 0, 0), vec(*first), state)
    assert state.v is not None
    old, square = state.v.clone(), vec(*then).square()
    _, state = rule.step(vec(0, 0, 0), vec(*then), state)
    assert state.v is not None
    same(state.v - old, (0.1 * square * torch.sign(square - old)).tolist(), tol=1e-5)


@settings(max_examples=25)
@given(first=FLOATS)
def test_a_zero_update_leaves_adagrads_v(first: list[float]) -> None:
    rule = ServerOptimizer(kind="adagrad")
    _, state = rule.step(vec(0, 0, 0), vec(*first), rule.init(vec(0, 0, 0)))
    assert state.v is not None
    before = state.v.clone()
    w, state = rule.step(vec(1, 2, 3), vec(0, 0, 0), state)
    assert torch.equal(before, state.v)  # type: ignore[arg-type]
    same(w, 1, 2, 3)


WEIGHTS = st.one_of(
    st.just(StalenessWeight(kind="constant")),
    st.builds(StalenessWeight, kind=st.just("polynomial"), a=st.floats(0, 3)),
    st.builds(StalenessWeight, kind=st.just("hinge"), a=st.floats(0, 20), b=st.floats(0, 9)),
    st.builds(StalenessWeight, kind=st.just("exponential"), decay=st.floats(0.01, 1)),
)


@settings(max_examples=60)
@given(s=WEIGHTS, tau=st.integers(0, 200))
def test_staleness_weights_start_at_one_and_never_rise(s: StalenessWeight, tau: int) -> None:
    assert s(0) == 1.0
    assert 0 < s(tau + 1) <= s(tau) <= 1


def test_a_round_starts_its_reserve() -> None:
    world = fleet(capacity=10)
    assert (Barrier(over_select=1.5).size(world), Barrier(over_select=1.5).started(world)) == (6, 9)
    assert (Barrier(cohort=4, over_select=1.3).size(world), Barrier(cohort=4, over_select=1.3).started(world)) == (4, 6)
