"""Intervals, paired differences, Holm, censored times, areas: against scipy and by hand."""

from __future__ import annotations

from math import inf, isclose, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aflctl.report.comparison.inference import (
    Wait,
    area,
    bootstrap_interval,
    common_limit,
    hedges,
    holm,
    interval,
    paired,
    restricted,
    sign_p,
    step,
    t_interval,
)

samples = st.lists(st.floats(-100, 100), min_size=2, max_size=19).filter(lambda v: np.std(v) > 1e-6)


@given(samples)
def test_the_t_interval_is_that_of_scipy(values: list[float]) -> None:
    found = t_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high, found.how) == (pytest.approx(low), pytest.approx(high), "t")


def test_by_hand() -> None:
    # 1, 2, 3: mean 2, s = 1, t(2, 0.975) = 4.30265, half = 4.30265 / sqrt(3) = 2.48414
    found = t_interval([1, 2, 3])
    assert found.half == pytest.approx(2.484138, abs=1e-6)
    assert interval([1.0]) is None
    assert interval([]) is None


@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage_of_the_t_interval(n: int) -> None:
    draws = np.random.Generator(np.random.Philox(key=n)).normal(0.9, 0.02, (2000, n))
    inside = sum(found.low <= 0.9 <= found.high for found in map(t_interval, draws.tolist()))
    assert abs(inside / 2000 - 0.95) <= 0.015


def test_bootstrap_from_twenty_on() -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    values = rng.exponential(1.0, 30)
    assert interval(values[:19].tolist()).how == "t"  # type: ignore[union-attr]
    ours = bootstrap_interval(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=rng).confidence_interval
    assert interval(values[:20].tolist()).how == "bootstrap"  # type: ignore[union-attr]
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)
    assert ours == bootstrap_interval(values.tolist())
    same = bootstrap_interval([0.5] * 25)
    assert (same.low, same.high) == (0.5, 0.5)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=19))
def test_the_paired_test_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    gaps = np.subtract(a, b)
    if np.std(gaps) < 1e-6:
        return
    found, reference = paired(a, b), stats.ttest_rel(a, b)
    assert found is not None
    assert found.t == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue)
    low, high = reference.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_differences_without_spread_prove_little() -> None:
    two, six = paired([0.9, 0.9], [0.8, 0.8]), paired([2.0] * 6, [1.0] * 6)
    assert two is not None
    assert six is not None
    assert (two.t, two.p, two.effect) == (inf, 0.5, None)
    assert six.p == 2**-5
    none = paired([1.0, 1.0], [1.0, 1.0])
    assert none is not None
    assert (none.t, none.p) == (0.0, 1.0)
    assert paired([1.0], [0.0]) is None
    assert [sign_p(g) for g in ([1, 1, 1], [1, -1], [0, 1])] == [0.25, 1.0, 1.0]


def test_hedges_by_hand() -> None:
    # differences 1, 2, 3: d = 2 / 1; J(2) = G(1) / (sqrt(1) G(1/2)) = 1 / sqrt(pi)
    found = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found is not None
    assert found.effect == pytest.approx(2 / sqrt(np.pi))
    assert hedges(1.0, 50) == pytest.approx(1 - 3 / (4 * 49 - 1), abs=1e-4)  # the usual approximation
    assert hedges(1.0, 2) is None


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.2, made monotone
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_none_and_bonferroni(p: list[float]) -> None:
    for raw, found in zip(p, holm(p)):
        assert raw <= found <= min(1.0, len(p) * raw) + 1e-12


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("grain", [0.0, 1 / 360])
def test_no_false_verdict_beyond_five_percent(seeds: int, grain: float) -> None:
    """Four methods that are all the same, a baseline, 2,000 times: any 'better' or 'worse' at all is a false alarm.

    With `grain` accuracies are those of a test set of 360 samples, so that differences often tie.
    """
    rng = np.random.Generator(np.random.Philox(key=seeds))
    alarms, better = 0, 0
    for _ in range(2000):
        common = rng.normal(0.9, 0.02, seeds)  # what all methods share in a seed: data, fleet
        scores = common + rng.normal(0, 0.01, (5, seeds))
        if grain:
            scores = np.round(scores / grain) * grain
        found = [paired(mine, scores[0].tolist()) for mine in scores[1:].tolist()]
        corrected = holm([f.p for f in found if f is not None])
        alarms += any(p < 0.05 for p in corrected)
        better += any(p < 0.05 and f is not None and f.mean > 0 for p, f in zip(corrected, found))
    assert alarms / 2000 <= 0.05 + 0.01  # two standard errors of the count
    assert better / 2000 <= 0.05


# ---- censoring ----


def test_restricted_means_with_known_answers() -> None:
    # reached at 10 and 40, one run ended at 30 without: common budget 30, min(T, 30) = 10, 30, 30
    waits = [Wait(10, 100), Wait(40, 100), Wait(None, 30)]
    assert common_limit(waits) == 30
    assert restricted(waits, 30) == [10, 30, 30]
    assert common_limit(waits[:2]) is None
    assert restricted(waits[:2], None) == [10, 40]


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=30))
def test_the_restricted_mean_is_the_area_under_kaplan_meier(pairs: list[tuple[float, float]]) -> None:
    waits = [Wait(t if t <= end else None, end) for t, end in pairs]
    limit = common_limit(waits)
    if limit is None:
        limit = max(end for _, end in pairs)
    mean = float(np.mean(restricted(waits, limit)))
    times = [w.end if w.at is None else w.at for w in waits]
    censored = stats.CensoredData(
        uncensored=[t for t, w in zip(times, waits) if w.at is not None],
        right=[t for t, w in zip(times, waits) if w.at is None],
    )
    survival = stats.ecdf(censored).sf
    edges = [0.0, *sorted({q for q in survival.quantiles.tolist() if q < limit}), limit]
    km = sum((b - a) * float(survival.evaluate(a)) for a, b in zip(edges, edges[1:]))  # noqa: RUF007
    assert isclose(mean, km, rel_tol=1e-9, abs_tol=1e-9)


def test_areas_by_hand() -> None:
    # 0.1 until 10, 0.5 until 30, 0.9 after: over [0, 40] (1 + 10 + 9) / 40; over [0, 20] (1 + 5) / 20
    xs, ys = [0, 10, 30], [0.1, 0.5, 0.9]
    assert area(xs, ys, 40) == pytest.approx(0.5)
    assert area(xs, ys, 20) == pytest.approx(0.3)
    assert area([5, 10], [0.2, 0.4], 10) == pytest.approx(0.2)  # the first value holds before its moment too
    assert area([], [], 10) is None
    assert area(xs, ys, 0) is None


def test_steps() -> None:
    xs, ys = [0, 10, 10, 30], [1, 2, 3, 4]
    assert [step(xs, ys, at) for at in (-1, 0, 9.9, 10, 29, 99)] == [None, 1, 1, 3, 3, 4]
