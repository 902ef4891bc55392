"""Sampling with and without replacement: the variance of a round's mean is s2/m, or s2/m (N - m)/(N - 1)."""

from __future__ import annotations

import numpy as np
import pytest
from double import fleet, setup, vec

from aflctl.builtin.algorithms.fedavg import FedAvg


@pytest.mark.parametrize(("n", "m"), [(6, 3), (4, 4), (3, 7)])
def test_variance_with_replacement(n: int, m: int) -> None:
    values, means = np.arange(n) ** 2.0, []
    algorithm = FedAvg(replacement=True, weighting="uniform", round={"cohort": m})
    for seed in range(4000):
        times = algorithm.init(setup(vec(0.0), (1,) * n), fleet(samples=(1,) * n, capacity=m, seed=seed)).times
        assert sum(times) == m
        clients = np.random.Generator(np.random.Philox(seed + 10**6)).permutation(n)[: len(times)]
        clients = np.sort(clients)  # `draw` answers in the order of numbers, so the order of `times` must not matter
        means.append(float(np.dot(times, values[clients]) / m))
    assert np.mean(means) == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(m * 4000))
    assert np.var(means) == pytest.approx(values.var() / m, rel=0.12)


def test_without_replacement_everybody_comes_once() -> None:
    algorithm = FedAvg()
    world = fleet(samples=(1,) * 5, capacity=3, idle=range(5))
    state = algorithm.init(setup(vec(0.0), (1,) * 5, concurrency=3), world)
    assert state.times == ()
    assert len(set(algorithm.select(state, world))) == 3
