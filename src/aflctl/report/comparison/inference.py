"""What a handful of seeds can tell: intervals, paired differences, corrections, times that were not reached.

The unit is the seed: n is the number of seeds, never of updates or clients.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, isinf, lgamma, nan, sqrt
from typing import Literal

from aflctl.report.statistics import deviation, mean

LEVEL = 0.95
BOOTSTRAP_FROM = 20
RESAMPLES = 9999
_BLOCK = 4_000_000  # resampled values held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval of a mean, and how it was made."""

    low: float
    high: float
    how: Literal["t", "bootstrap"]

    @property
    def half(self) -> float | None:
        """Half its width where it is symmetric."""
        return (self.high - self.low) / 2 if self.how == "t" else None


def interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Of the mean: Student's t below 20 values, BCa bootstrap from there on; None below two values."""
    if len(values) < 2:
        return None
    return t_interval(values, level) if len(values) < BOOTSTRAP_FROM else bootstrap_interval(values, level)


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """mean +- t(n - 1, (1 + level) / 2) * s / sqrt(n); at least two values."""
    from scipy.special import stdtrit

    n, centre, spread = len(values), mean(values), deviation(values)
    if centre is None or spread is None:
        raise ValueError("an interval needs two values")
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread / sqrt(n)
    return Interval(centre - half, centre + half, "t")


def bootstrap_interval(values: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES) -> Interval:
    """Bias-corrected and accelerated (Efron 1987), from a generator that always starts the same."""
    import numpy as np
    from numpy.random import Generator, Philox
    from scipy.special import ndtr, ndtri

    sample = np.asarray(values, dtype=np.float64)
    centre, n = float(sample.mean()), len(sample)
    gaps = sample - centre
    if not gaps.any():
        return Interval(centre, centre, "bootstrap")
    rng, rows = Generator(Philox(key=0)), max(1, _BLOCK // n)
    parts = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    means = np.concatenate([sample[rng.integers(0, n, (k, n))].mean(1) for k in parts])
    below = (np.count_nonzero(means < centre) + np.count_nonzero(means <= centre)) / (2 * resamples)
    bias = float(ndtri(min(max(below, 1 / resamples), 1 - 1 / resamples)))
    pull = float((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5))
    ends = [bias + float(ndtri(tail)) for tail in ((1 - level) / 2, (1 + level) / 2)]
    low, high = np.quantile(means, [float(ndtr(bias + e / (1 - pull * e))) for e in ends])
    return Interval(float(low), float(high), "bootstrap")


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences a - b over common seeds.

    t       the paired t statistic; infinite where all differences are equal and not 0
    p       two-sided, not corrected for the number of comparisons
    effect  Hedges' g of pairs: mean difference / standard deviation of the differences, times J(n - 1);
            None below three seeds, or where the differences have no spread
    """

    n: int
    mean: float
    interval: Interval
    t: float
    p: float
    effect: float | None


def paired(a: Sequence[float], b: Sequence[float]) -> Paired | None:
    """The paired t test of a - b; None below two pairs.

    Where the differences have no spread at all there is no t: p is that of the exact sign test, 2^(1 - n), so that two
    or three seeds that agree to the last digit prove nothing.
    """
    from scipy.special import stdtr

    gaps = [x - y for x, y in zip(a, b, strict=True)]
    centre, spread, n = mean(gaps), deviation(gaps), len(gaps)
    if centre is None or spread is None:
        return None
    found = interval(gaps) or Interval(nan, nan, "t")
    if spread <= 1e-12 * max(abs(centre), 1e-300):
        return Paired(n, centre, found, inf if centre > 0 else -inf if centre < 0 else 0.0, sign_p(gaps), None)
    t = centre * sqrt(n) / spread
    return Paired(n, centre, found, t, 2 * float(stdtr(n - 1, -abs(t))), hedges(centre / spread, n))


def sign_p(gaps: Sequence[float]) -> float:
    """The two-sided p value of n differences that all have one sign; 1 where one is 0 or the signs differ."""
    same = all(g > 0 for g in gaps) or all(g < 0 for g in gaps)
    return 2.0 ** (1 - len(gaps)) if same else 1.0


def hedges(d: float, n: int) -> float | None:
    """Cohen's d of pairs without its bias: d * J(n - 1), J(m) = G(m/2) / (sqrt(m/2) G((m - 1)/2))."""
    m = n - 1
    if m < 2 or isinf(d):
        return None
    return d * exp(lgamma(m / 2) - lgamma((m - 1) / 2)) / sqrt(m / 2)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values, in the order given: the chance of any false alarm stays below the level."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found


# ---- times that may not have come ----


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a run took to a target: `at`, or None where it ended at `end` without it (censored)."""

    at: float | None
    end: float


def common_limit(waits: Sequence[Wait]) -> float | None:
    """The budget that every run was followed to: the shortest of those that never came there; None where all did."""
    ends = [wait.end for wait in waits if wait.at is None]
    return min(ends) if ends else None


def restricted(waits: Sequence[Wait], limit: float | None) -> list[float]:
    """min(T, limit) of each run; their mean is the restricted mean survival time, since nothing is censored before."""
    bound = inf if limit is None else limit
    return [min(wait.end if wait.at is None else wait.at, bound) for wait in waits]


# ---- curves ----


def area(xs: Sequence[float], ys: Sequence[float], limit: float) -> float | None:
    """Mean height of a step function over [0, limit]: each value holds until the next, the first also before it.

    None without values, or for a limit that is not above 0.
    """
    if not xs or limit <= 0:
        return None
    edges = [0.0, *(min(max(x, 0.0), limit) for x in xs[1:]), limit]
    return fsum(y * (b - a) for y, a, b in zip(ys, edges, edges[1:])) / limit


def step(xs: Sequence[float], ys: Sequence[float], at: float) -> float | None:
    """The value of the step function at a place; None before its first step."""
    i = bisect_right(xs, at) - 1
    return ys[i] if i >= 0 else None
