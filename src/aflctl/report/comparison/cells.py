"""Numbers of a comparison as cells of a table: units, digits, intervals, and dashes with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aflctl.report.comparison.columns import ONE_SEED, Column, Measured
from aflctl.report.wording import DASH, plural, short

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison
    from aflctl.report.comparison.verdicts import Difference

_TIMES = ((300.0, 1.0, "s"), (4 * 3600.0, 60.0, "min"), (4 * 86400.0, 3600.0, "h"), (float("inf"), 86400.0, "d"))


@dataclass(frozen=True, slots=True)
class Scale:
    """How a column's numbers are shown: divided, and in which unit ('' where the title says it)."""

    divisor: float
    unit: str


def scale(column: Column, largest: float) -> Scale:
    """The unit in which `largest` reads well."""
    if column.unit == "share":
        return Scale(0.01, "")
    if column.unit == "s":
        divisor, unit = next((d, u) for limit, d, u in _TIMES if largest <= limit)
        return Scale(divisor, unit)
    if column.unit in ("B", "J"):
        prefix, divisor = "", 1.0
        for name in ("k", "M", "G", "T"):
            if largest / divisor < 999.5:
                break
            prefix, divisor = name, divisor * 1000
        return Scale(divisor, prefix + column.unit)
    return Scale(1.0, "")


def scale_of(column: Column, cells: Iterable[Measured | str]) -> Scale:
    """The scale for a whole column."""
    values = [v for c in cells if isinstance(c, Measured) for v in c.values.values()]
    return scale(column, max(map(abs, values), default=0.0))


def heading(column: Column, by: Scale) -> str:
    """A column's title with its unit."""
    return f"{column.title} ({by.unit})" if by.unit else column.title


def digits_for(value: float, share: bool, half: float | None = None) -> int:
    """Decimals: one of a percentage (two where the interval is narrower than that), else three significant digits."""
    if share:
        return 1 if half is None or half >= 0.05 or half == 0 else 2
    return 0 if abs(value) >= 99.95 or (half is None and value == int(value)) else 1 if abs(value) >= 9.995 else 2


def cell(found: Measured | str, column: Column, by: Scale, restricted: bool = False, sign: str = "±") -> str:
    """`95.1 ± 0.3`, `95.1 [94.8, 95.6]` of a bootstrap, `95.1 ± -` where there is no interval, `> 300 (2/5)`."""
    if isinstance(found, str):
        return found
    if found.mean is None:
        return DASH
    share, centre = column.unit == "share", found.mean / by.divisor
    if column.target is not None and not column.axis:
        return f"{centre:.0f} ({found.reached}/{found.runs})"
    told = f" ({found.reached}/{found.runs})" if restricted and found.reached is not None else ""
    if found.at_limit:
        return f"> {centre:.{digits_for(centre, share)}f}{told}"
    if found.interval is None:
        return f"{centre:.{digits_for(centre, share)}f} {sign} {DASH}{told}"
    low, high, half = found.interval.low / by.divisor, found.interval.high / by.divisor, found.interval.half
    shown = digits_for(centre, share, (high - low) / 2)
    text = f"{centre:.{shown}f}"
    if half is None:
        return f"{text} [{low:.{shown}f}, {high:.{shown}f}]{told}"
    return f"{text} {sign} {half / by.divisor:.{shown}f}{told}"


def is_restricted(column: Column, table: Mapping[str, Mapping[str, Measured | str]]) -> bool:
    """Whether some run of a column did not come to its target."""
    return any(isinstance(m := row.get(column.text), Measured) and m.limit is not None for row in table.values())


def grid(comparison: Comparison, sign: str = "±") -> tuple[list[str], list[list[str]]]:
    """(headings, rows): the label, n where it is not the same of all, then the columns."""
    groups, table = comparison.groups, comparison.table
    with_n = len({g.n for g in groups}) > 1
    titles, rows = [""], [[g.label] for g in groups]
    if with_n:
        titles.append("n")
        for row, g in zip(rows, groups):
            row.append(str(g.n))
    for column in comparison.columns:
        by = scale_of(column, (row[column.text] for row in table.values()))
        limited = is_restricted(column, table)
        titles.append(heading(column, by))
        for row, g in zip(rows, groups):
            row.append(cell(table[g.label][column.text], column, by, limited, sign))
    return titles, rows


def _column(comparison: Comparison, column: Column) -> list[Measured]:
    return [m for row in comparison.table.values() if isinstance(m := row[column.text], Measured)]


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know."""
    groups, notes = comparison.groups, []
    shown = [comparison.table[g.label][c.text] for g in groups for c in comparison.columns]
    found = [m for m in shown if isinstance(m, Measured)]
    hows = {m.interval.how for m in found if m.interval is not None}
    sizes = {g.n for g in groups}
    if len(sizes) == 1:
        notes.append(f"n = {next(iter(sizes))} seed{'s' if sizes != {1} else ''}")
    if "t" in hows:
        notes.append("±: half of the 95 % t interval of the mean over seeds")
    if "bootstrap" in hows:
        notes.append("[low, high]: 95 % bootstrap interval of the mean over seeds")
    if any(m.why == ONE_SEED for m in found):
        notes.append(f"± {DASH}: one seed has no spread, so there is no interval; run more seeds")
    for column in comparison.columns:
        limits = {m.limit for m in _column(comparison, column) if m.limit is not None and not m.at_limit}
        if column.censored and limits:
            by = scale_of(column, _column(comparison, column))
            told = f"{short(next(iter(limits)) / by.divisor)} {by.unit}".rstrip()
            notes.append(f"{column.title}: restricted mean at the common budget of {told}: a run without the target by "
                         "then counts as that")  # fmt: skip
    if any(m.limit is not None for m in found):
        notes.append("(k/n): k of n runs came to the target at all; > x: none did within a budget of x")
    if groups and groups[0].unsaid:
        notes.append(f"the names leave out {plural(len(groups[0].unsaid), 'value')} that also differ; "
                     "--columns '=*' shows them")  # fmt: skip
    return notes


# ---- differences ----


def signed(value: float, column: Column, by: Scale) -> str:
    """`+1.9`, `-12`."""
    centre = value / by.divisor
    return f"{centre:+.{digits_for(centre, column.unit == 'share', 1.0)}f}"


def unit_of(column: Column, by: Scale) -> str:
    """The unit of a difference."""
    return "points" if column.unit == "share" else by.unit


def p_text(p: float | None) -> str:
    """`0.013`, `<0.001`, or a dash."""
    return DASH if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def difference_scale(found: Sequence[Difference]) -> Scale:
    """One scale for all differences in one column."""
    largest = [abs(v) for d in found if d.mean is not None for v in (d.mean, *_ends(d))]
    return scale(found[0].column, max(largest, default=0.0))


def _ends(d: Difference) -> tuple[float, ...]:
    return () if d.interval is None else (d.interval.low, d.interval.high)


def difference_row(d: Difference, by: Scale) -> list[str]:
    """Label, difference, interval, corrected p, effect, verdict."""
    shown = DASH if d.mean is None else signed(d.mean, d.column, by)
    ends = [signed(v, d.column, by) for v in _ends(d)]
    effect = DASH if d.effect is None else f"{d.effect:+.2f}"
    return [d.label, shown, f"[{', '.join(ends)}]" if ends else DASH, p_text(d.p_holm), effect, d.verdict]
