"""Better, worse, or no difference shown: paired differences against a baseline, and the front of accuracy and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aflctl.report.comparison.columns import Column, measure, parse
from aflctl.report.comparison.grouping import Group, Rival
from aflctl.report.comparison.inference import LEVEL, Interval, holm, paired
from aflctl.report.statistics import mean

NONE_SHOWN = "no difference shown"
NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class Difference:
    """A group minus its baseline in one column, over the seeds that both have.

    mean, interval   of the differences; the interval is not widened for the number of comparisons
    relative         mean difference / mean of the baseline
    p, p_holm        paired t test, two-sided; after Holm's correction over all comparisons made
    effect           Hedges' g of pairs (see `inference.Paired`)
    verdict          better, worse, higher, lower, no difference shown, not compared
    why              the reason of the last one
    """

    label: str
    baseline: str
    column: Column
    seeds: tuple[str, ...] = ()
    mean: float | None = None
    interval: Interval | None = None
    relative: float | None = None
    p: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    verdict: str = NOT_COMPARED
    why: str = ""
    limit: float | None = None


def judge(against: Sequence[Rival], columns: Sequence[Column], level: float = LEVEL) -> list[Difference]:
    """Every group against its baseline in every column. Holm's correction is over all of them together."""
    found = [_difference(rival, column) for column in columns for rival in against]
    tested = [i for i, d in enumerate(found) if d.p is not None]
    corrected = holm([p for d in found if (p := d.p) is not None])
    for i, p in zip(tested, corrected):
        found[i] = replace(found[i], p_holm=p, verdict=_word(found[i], p, 1 - level))
    return found


def _difference(rival: Rival, column: Column) -> Difference:
    ours, theirs = measure(column, [rival.group, rival.baseline], apart=False)
    seeds = tuple(s for s in rival.group.seeds if s in ours.values and s in theirs.values)
    found = Difference(rival.group.label, rival.baseline.label, column, seeds, limit=ours.limit)
    if not ours.values or not theirs.values:
        who = rival.group if not ours.values else rival.baseline
        return replace(found, why=f"{who.label} has no {column.text}")
    a, b = [ours.values[s] for s in seeds], [theirs.values[s] for s in seeds]
    if ours.at_limit and theirs.at_limit:
        why = "neither was at the target within the common budget"
        return replace(found, why=why)
    test = paired(a, b)
    if test is None:
        why = "no seed in common" if not seeds else "one seed in common gives no interval"
        return replace(found, mean=a[0] - b[0] if seeds else None, why=why)
    base = mean(b)
    return replace(
        found,
        mean=test.mean,
        interval=test.interval,
        relative=test.mean / abs(base) if base else None,
        p=test.p,
        effect=test.effect,
    )


def _word(d: Difference, p: float, alpha: float) -> str:
    if p >= alpha or not d.mean:
        return NONE_SHOWN
    higher = d.mean > 0
    if d.column.better is None:
        return "higher" if higher else "lower"
    return "better" if higher == (d.column.better == "higher") else "worse"


# ---- accuracy against time ----


@dataclass(frozen=True, slots=True)
class Front:
    """Groups by mean final accuracy and mean time: `best` are beaten in both by nobody; `beaten` says by whom.

    A group that never was at the target within the common budget has no time, and is in `absent`.
    """

    accuracy: Column
    time: Column
    best: tuple[str, ...]
    beaten: tuple[tuple[str, str], ...]
    absent: tuple[str, ...]
    points: tuple[tuple[str, float, float], ...]


def front(groups: Sequence[Group], targets: Sequence[float]) -> Front | None:
    """Over the time to the highest target that a run reached, else over the whole virtual time; on means alone."""
    if len(groups) < 2:
        return None
    reached = [t for t in sorted(targets) if any(f.hit(t) is not None for g in groups for f in g.members)]
    accuracy, time = parse("acc.final", groups)[0], parse(f"time_to:{reached[-1]:g}" if reached else "time", groups)[0]
    scores, times = measure(accuracy, groups), measure(time, groups)
    points, absent = [], []
    for g, score, spent in zip(groups, scores, times):
        if score.mean is None or spent.mean is None or spent.at_limit:
            absent.append(g.label)
        else:
            points.append((g.label, score.mean, spent.mean))
    if not points:
        return None
    points.sort(key=lambda p: (p[2], -p[1]))
    best, beaten = [], []
    for label, high, late in points:
        over = [o for o, h, t in points if h >= high and t <= late and (h, -t) != (high, -late)]
        if over:
            beaten.append((label, over[0]))
        else:
            best.append(label)
    return Front(accuracy, time, tuple(best), tuple(beaten), tuple(absent), tuple(points))
