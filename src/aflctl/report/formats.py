"""A comparison as text: a table for 80 columns, Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING

from aflctl.errors import UserError, suggest
from aflctl.report import render as tables
from aflctl.report.wording import DASH, percent, scaled, short
from aflctl.runs.atomic import finite

if TYPE_CHECKING:
    from aflctl.report.compare import Comparison, Reach, Spread

VERSION = 1


def render(comparison: Comparison, format: str) -> str:
    """The comparison in one of the formats."""
    makers: dict[str, Callable[[Comparison], str]] = {
        "table": as_table,
        "markdown": as_markdown,
        "csv": as_csv,
        "json": as_json,
        "latex": as_latex,
    }
    if format not in makers:
        raise UserError(f"unknown format {format!r}", hint=suggest(format, makers))
    return makers[format](comparison)


def spread(value: Spread, scale: float = 1.0, digits: int | None = None, sign: str = "±") -> str:
    """`95.1 ± 0.3`, or the value alone where there is one run; three significant digits of the mean by default."""
    if value.mean is None:
        return DASH
    centre = value.mean * scale
    if digits is None:
        digits = 0 if abs(centre) >= 99.95 or centre == int(centre) else 1 if abs(centre) >= 9.995 else 2
    return f"{centre:.{digits}f}" + (f" {sign} {value.std * scale:.{digits}f}" if value.std is not None else "")


def _time_unit(comparison: Comparison) -> tuple[float, str]:
    longest = max((v for g in comparison.groups for r in g.targets.values() for v in r.virtual_s.values), default=0.0)
    for limit, divisor, name in ((7200.0, 1.0, "seconds"), (172800.0, 60.0, "minutes")):
        if longest <= limit:
            return divisor, name
    return 3600.0, "hours"


def headings(comparison: Comparison) -> list[str]:
    """Column titles, with units."""
    unit = _time_unit(comparison)[1]
    told = []
    for target in comparison.targets:
        told += [f"{unit} to {_target(target)}", f"updates to {_target(target)}"]
    return ["", "n", "final %", "best %", *told, "mean staleness", "max", "traffic"]


def _target(target: float) -> str:
    return percent(target, 0 if round(1000 * target) % 10 == 0 else 1)


def rows(comparison: Comparison, sign: str = "±") -> list[list[str]]:
    """One line per group, in the order of `headings`."""
    divisor = _time_unit(comparison)[0]

    def times(reach: Reach) -> list[str]:
        censored = "" if reach.reached == reach.runs else f" ({reach.reached}/{reach.runs})"
        if not reach.reached:
            return [censored.strip(), DASH]
        return [spread(reach.virtual_s, 1 / divisor, sign=sign) + censored, spread(reach.updates, sign=sign) + censored]

    lines = []
    for group in comparison.groups:
        hits = [cell for target in comparison.targets for cell in times(group.targets[target])]
        traffic = [s.mean for s in (group.bytes_down, group.bytes_up) if s.mean is not None]
        accuracy = [spread(s, 100, 1, sign) for s in (group.final, group.best)]
        stale = [short(group.staleness_mean.mean), short(group.staleness_max)]
        lines.append(
            [group.label, str(group.n), *accuracy, *hits, *stale, scaled(sum(traffic), "B") if traffic else DASH]
        )
    return lines


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know."""
    notes = []
    if any(group.n > 1 for group in comparison.groups):
        notes.append("mean ± standard deviation over seeds")
    if any(r.reached < r.runs for g in comparison.groups for r in g.targets.values()):
        notes.append("(k/n): k of n runs reached the target; times are over those k and so too short for the group")
    if any(group.n == 1 for group in comparison.groups):
        notes.append("n = 1: no spread can be told; run more seeds")
    return notes


def as_table(comparison: Comparison, width: int = 80, ascii_only: bool = False) -> str:
    """For a terminal: titles on two lines, labels wrapped so that all fits into `width` where it can."""
    sign, dash = ("+-", "-") if ascii_only else ("±", "─")
    lines = [[*row[:-3], f"{row[-3]:>4} {row[-2]:>4}", row[-1]] for row in rows(comparison, sign)]
    titles = [heading.replace(" to ", "\nto ").split("\n") for heading in headings(comparison)]
    titles[-3:-1] = [["staleness", "mean  max"]]
    widths = [max(len(t) for t in (*title, *(row[i] for row in lines))) for i, title in enumerate(titles)]
    widths[0] = min(widths[0], max(14, width - sum(widths[1:]) - 2 * (len(widths) - 1)))
    top = [[t[0] if len(t) > 1 else "" for t in titles], [t[-1] for t in titles]]
    shown = [*(_line(cells, widths) for cells in top), dash * (sum(widths) + 2 * len(widths) - 2)]
    for label, *cells in lines:
        first, *more = wrap(label, widths[0]) or [""]
        shown += [_line([first, *cells], widths), *(f"  {text}" for text in more)]
    notes = [note.replace("±", sign) for note in footnotes(comparison)]
    return "\n".join([*shown, "", *notes]).rstrip("\n")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths)))
    return "  ".join([first, *others]).rstrip()


def as_markdown(comparison: Comparison) -> str:
    """A table for a page."""
    lines = tables.table(headings(comparison), rows(comparison))
    notes = footnotes(comparison)
    return "\n".join([*lines, *([""] if notes else []), *(f"{note}.  " for note in notes)]).rstrip()


def as_csv(comparison: Comparison) -> str:
    """Numbers in SI units and shares, one line per group; empty where there is none."""
    keys = list(dict.fromkeys(key for group in comparison.groups for key in group.differs))
    spreads = ("final", "best", "staleness_mean", "bytes_down", "bytes_up")
    names = [
        "label",
        *keys,
        "n",
        "seeds",
        *(f"{name}_{part}" for name in spreads for part in ("mean", "std")),
        "staleness_max",
    ]
    for target in comparison.targets:
        names += [
            f"{name}_{target:g}" for name in ("reached", "time_s_mean", "time_s_std", "updates_mean", "updates_std")
        ]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for group in comparison.groups:
        values: list[object] = [group.label, *(group.differs.get(key) for key in keys), group.n]
        values.append(" ".join(map(str, group.seeds)))
        for name in spreads:
            values += [getattr(group, name).mean, getattr(group, name).std]
        values.append(group.staleness_max)
        for target in comparison.targets:
            reach = group.targets[target]
            values += [reach.reached, reach.virtual_s.mean, reach.virtual_s.std, reach.updates.mean, reach.updates.std]
        writer.writerow(values)
    return text.getvalue().rstrip("\n")


def as_json(comparison: Comparison) -> str:
    """The document of `aflctl compare --json`."""
    document = {"schema": "aflctl.compare", "version": VERSION, **comparison.document()}
    return json.dumps(finite(document), indent=2, allow_nan=False)


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text).replace("±", r"$\pm$")


def as_latex(comparison: Comparison) -> str:
    """A tabular with the rules of booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex, cells)) + r" \\"

    titles = headings(comparison)
    body = [line(row) for row in rows(comparison)]
    columns = "l" + "r" * (len(titles) - 1)
    head = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        line(titles),
        r"\midrule",
    ]
    notes = [f"% {note.replace('±', '+-')}" for note in footnotes(comparison)]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", *notes])
