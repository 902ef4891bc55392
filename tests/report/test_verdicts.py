"""Verdicts as a whole, censored times included: over many studies in which all methods are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aflctl.report.comparison.columns import parse
from aflctl.report.comparison.grouping import Group, Rival
from aflctl.report.comparison.inference import Wait
from aflctl.report.comparison.verdicts import judge


class OfSeed:
    """What `judge` asks a run for: its seed, its final accuracy, and how long it took to the target."""

    def __init__(self, seed: int, accuracy: float, at: float, end: float) -> None:
        self.pair, self._accuracy = str(seed), accuracy
        self._wait = Wait(at if at <= end else None, end)

    def number(self, *path: str) -> float:
        return self._accuracy

    def wait(self, target: float, axis: str) -> Wait:
        return self._wait


def method(label: str, common: Any, budget: float, rng: np.random.Generator) -> Group:
    """One run per seed: accuracies and times that lean on what all methods share in that seed."""
    n = len(common)
    scores, times = 0.9 + 0.02 * common + rng.normal(0, 0.01, n), np.exp(0.3 * common + rng.normal(0, 0.4, n))
    ends = budget * np.exp(rng.normal(0, 0.1, n))
    runs: Any = tuple(OfSeed(i, scores[i], times[i], ends[i]) for i in range(n))
    return Group(label, {}, runs)


@pytest.mark.parametrize(("seeds", "reached"), [(3, 0.2), (5, 0.9), (10, 0.5)])
def test_no_false_verdict_beyond_five_percent_where_times_are_censored(seeds: int, reached: float) -> None:
    """Four equal methods against a fifth, judged by accuracy and by a time that only a share of the runs comes to."""
    rng = np.random.Generator(np.random.Philox(key=seeds))
    budget = float(np.exp(np.quantile(rng.normal(0, 0.5, 4000), reached)))
    columns = [parse("acc.final", [])[0], parse("time_to:0.8", [])[0]]
    alarms, draws = 0, 800
    for _ in range(draws):
        common = rng.normal(0, 1, seeds)
        baseline, *others = (method(f"m{i}", common, budget, rng) for i in range(5))
        found = judge([Rival(g, baseline) for g in others], columns)
        assert any(d.limit is not None for d in found) or reached == 0.9
        alarms += any(d.verdict in ("better", "worse") for d in found)
    assert alarms / draws <= 0.05
