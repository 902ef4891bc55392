"""The conclusion in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aflctl.report.comparison.cells import difference_scale, p_text, scale, signed, unit_of
from aflctl.report.comparison.columns import Column
from aflctl.report.comparison.inference import RESAMPLES
from aflctl.report.comparison.verdicts import NONE_SHOWN, NOT_COMPARED, Difference, Front
from aflctl.report.wording import percent, plural, seconds, short

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison

_NAMES = {
    "acc.final": "final accuracy", "acc.best": "best accuracy", "loss.final": "final loss", "f1.final": "final F1",
    "personal.mean": "mean personal accuracy",
    "personal.above_local": "share of clients above local-only", "staleness.mean": "mean staleness",
}  # fmt: skip


def name_of(column: Column) -> str:
    """A column in a sentence."""
    return _NAMES.get(column.text, column.title.removesuffix(" %") if column.unit == "share" else column.title)


def by_column(found: Sequence[Difference]) -> dict[str, list[Difference]]:
    """The differences of each column, in order."""
    parts: dict[str, list[Difference]] = {}
    for d in found:
        parts.setdefault(d.column.text, []).append(d)
    return parts


def sentence(d: Difference, with_numbers: bool = True) -> str:
    """`fedbuff is better than fedavg in final accuracy: +1.9 points (...)`."""
    name = name_of(d.column)
    if d.verdict == NOT_COMPARED:
        return f"{d.label} and {d.baseline} are not compared in {name}: {d.why}."
    if d.verdict == NONE_SHOWN:
        head = f"{d.label} against {d.baseline}: no difference shown in {name}"
    elif d.verdict in ("better", "worse"):
        head = f"{d.label} is {d.verdict} than {d.baseline} in {name}"
    else:
        head = f"{d.label} has a {d.verdict} {name} than {d.baseline}"
    if not with_numbers or d.mean is None or d.interval is None:
        return head + "."
    by = difference_scale([d])
    unit, share = unit_of(d.column, by), d.column.unit == "share"
    much = f"{signed(d.mean, d.column, by)} {unit}".rstrip()
    if d.relative is not None and not share:
        much += f" ({100 * d.relative:+.0f} %)"
    ends = " to ".join(signed(v, d.column, by) for v in (d.interval.low, d.interval.high))
    if d.limit is not None:
        bound = scale(d.column, d.limit)
        told = f"{short(d.limit / bound.divisor)} {bound.unit}".rstrip()
        ends += f" (restricted to the {told} that both were followed)"
    effect = "" if d.effect is None else f", g = {d.effect:.2f}"
    p = p_text(d.p_holm)
    p = f"p {p[0]} {p[1:]}" if p.startswith("<") else f"p = {p}"
    return f"{head}: {much}, 95 % interval {ends}, {p}{effect}, {plural(len(d.seeds), 'seed')}."


def method(comparison: Comparison) -> str:
    """How the verdicts were made, in one paragraph."""
    found = comparison.differences
    tests = sum(d.p is not None for d in found)
    if not tests:
        return "Nothing could be tested: paired differences need two seeds or more that both sides have."
    intervals = {d.interval.how for d in found if d.interval is not None}
    how = " and ".join(
        text
        for kind, text in (("t", "Student's t"), ("bootstrap", f"a BCa bootstrap of {RESAMPLES:,} resamples"))
        if kind in intervals
    )
    return (
        f"Differences are paired over common seeds; intervals by {how}; p from the paired "
        f"t test, corrected by Holm over {plural(tests, 'comparison')}; g is Hedges' g of pairs (mean difference over "
        "the standard deviation of the differences, small-sample correction). A verdict needs corrected p < 0.05; "
        "'no difference shown' is not 'equal'."
    )


def front_lines(front: Front) -> list[str]:
    """Who is beaten by nobody in both accuracy and time, and who is by whom."""
    points: Mapping[str, tuple[float, float]] = {label: (h, t) for label, h, t in front.points}

    def told(label: str) -> str:
        high, late = points[label]
        return f"{label} ({percent(high)}, {seconds(late)})"

    lines = []
    if front.best:
        lines.append("on the front: " + "; ".join(map(told, front.best)))
    if front.beaten:
        lines.append("behind it: " + "; ".join(f"{told(label)} after {over}" for label, over in front.beaten))
    if front.absent:
        lines.append("not at the target within the common budget: " + "; ".join(front.absent))
    return lines


def front_title(front: Front) -> str:
    """What the front is of."""
    return f"Pareto view, final accuracy against {front.time.title} (means)"


def summaries(comparison: Comparison) -> list[str]:
    """One sentence over all verdicts of each column that was judged."""
    lines = []
    for found in by_column(comparison.differences).values():
        baselines = list(dict.fromkeys(d.baseline for d in found))
        against = baselines[0] if len(baselines) == 1 else "their baselines"
        parts = []
        for word in ("better", "worse", "higher", "lower", NONE_SHOWN, NOT_COMPARED):
            names = [d.label for d in found if d.verdict == word]
            if names:
                parts.append(f"{word}: {', '.join(names)}")
        lines.append(f"Against {against} in {name_of(found[0].column)}, {'; '.join(parts)}.")
    return lines
