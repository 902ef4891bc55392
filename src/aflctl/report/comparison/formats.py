"""A comparison as text: a table for 80 columns, Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from aflctl.errors import UserError, suggest
from aflctl.report import render as tables
from aflctl.report.comparison.cells import difference_row, difference_scale, footnotes, grid, unit_of
from aflctl.report.comparison.columns import Column, Measured
from aflctl.report.comparison.inference import Interval
from aflctl.report.comparison.sentences import by_column, front_lines, front_title, method, name_of
from aflctl.report.comparison.verdicts import Difference
from aflctl.runs.atomic import finite

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison

VERSION = 1
FORMATS = ("table", "markdown", "latex", "csv", "json")


def render(comparison: Comparison, format: str) -> str:
    """The comparison in one of the formats."""
    makers: dict[str, Callable[[Comparison], str]] = {
        "table": as_table, "markdown": as_markdown, "latex": as_latex, "csv": as_csv, "json": as_json,
    }  # fmt: skip
    check(format)
    return makers[format](comparison)


def check(format: str) -> None:
    """Refuses a format that there is not."""
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}", hint=suggest(format, FORMATS), where="--format")


def difference_grids(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]], list[str]]]:
    """(title, headings, rows, notes) for each column that is judged."""
    found: list[tuple[str, list[str], list[list[str]], list[str]]] = []
    for mine in by_column(comparison.differences).values():
        by = difference_scale(mine)
        baselines = list(dict.fromkeys(d.baseline for d in mine))
        unit = unit_of(mine[0].column, by)
        sizes = sorted({len(d.seeds) for d in mine})
        seeds = "/".join(map(str, sizes))
        against = f"against {baselines[0]}" if len(baselines) == 1 else "against their baselines"
        title = f"{name_of(mine[0].column)} {against}, {seeds} common seed{'s' if sizes != [1] else ''}"
        rows = [difference_row(d, by) for d in mine]
        heading = f"difference ({unit})" if unit else "difference"
        notes = [f"{d.label}: {d.why}" for d in mine if d.why]
        if len(baselines) > 1 and not found:
            notes += [f"{d.label}: against {d.baseline}" for d in mine]
        found.append((title, ["", heading, "95 % interval", "p (Holm)", "g", "verdict"], rows, notes))
    return found


# ---- text ----


def as_table(comparison: Comparison, width: int = 80, ascii_only: bool = False) -> str:
    """For a terminal: columns that do not fit go into a second block, labels are wrapped."""
    sign, dash = ("+-", "-") if ascii_only else ("±", "─")
    titles, rows = grid(comparison, sign)
    lines: list[str] = []
    for block in _blocks(titles, rows, width):
        lines += [*([""] if lines else []), *_laid_out([titles[i] for i in block], _pick(rows, block), width, dash)]
    for title, heads, cells, notes in difference_grids(comparison):
        lines += ["", *wrap(title, width), *_laid_out(heads, cells, width, dash, words=True)]
        lines += [text for note in notes for text in wrap(note, width, subsequent_indent="  ")]
    if comparison.pareto is not None:
        lines += ["", *wrap(front_title(comparison.pareto), width)]
        lines += [t for line in front_lines(comparison.pareto) for t in wrap(line, width, initial_indent="  ",
                  subsequent_indent="    ")]  # fmt: skip
    notes = footnotes(comparison) + ([method(comparison)] if comparison.differences else [])
    lines += ["", *(text for note in notes for text in wrap(note, width, subsequent_indent="  "))]
    told = "\n".join(lines).rstrip("\n")
    return told.replace("±", sign) if ascii_only else told


def _pick(rows: Sequence[Sequence[str]], places: Sequence[int]) -> list[list[str]]:
    return [[row[i] for i in places] for row in rows]


def _split(title: str) -> list[str]:
    """A title on up to two lines, as narrow as it gets."""
    words = title.split()
    cuts = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    if len(title) <= 8 or not cuts:
        return ["", title]
    return list(min(cuts, key=lambda cut: max(map(len, cut))))


def _widths(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(*map(len, _split(t)), *(len(row[i]) for row in rows)) for i, t in enumerate(titles)]


def _blocks(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Which columns go together; the label leads each block."""
    widths = _widths(titles, rows)
    room = width - min(widths[0], max(14, width // 4))
    blocks, used = [[0]], 0
    for i in range(1, len(titles)):
        if used + widths[i] + 2 > room and len(blocks[-1]) > 1:
            blocks.append([0])
            used = 0
        blocks[-1].append(i)
        used += widths[i] + 2
    return blocks


def _laid_out(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, dash: str, words: bool = False
) -> list[str]:
    """Headings on two lines, a rule, the rows; `words` = the last column is text."""
    widths = _widths(titles, rows)
    widths[0] = min(widths[0], max(12, width - sum(widths[1:]) - 2 * (len(widths) - 1)))

    def line(cells: Sequence[str]) -> str:
        last = len(cells) - 1
        told = [c.ljust(w) if i == 0 or (words and i == last) else c.rjust(w)
                for i, (c, w) in enumerate(zip(cells, widths))]  # fmt: skip
        return "  ".join(told).rstrip()

    tops = [_split(t) for t in titles]
    shown = [line([t[0] for t in tops]), line([t[1] for t in tops]), dash * (sum(widths) + 2 * len(widths) - 2)]
    for label, *cells in rows:
        first, *more = wrap(label, widths[0], subsequent_indent="  ") or [""]
        shown += [line([first, *cells]), *more]
    return [text for i, text in enumerate(shown) if text or i]


def as_markdown(comparison: Comparison) -> str:
    """Tables for a page."""
    lines = tables.table(*grid(comparison))
    for title, heads, rows, notes in difference_grids(comparison):
        lines += ["", f"**{title}**", "", *tables.table(heads, rows), *([""] if notes else []), *notes]
    notes = footnotes(comparison) + ([method(comparison)] if comparison.differences else [])
    return "\n".join([*lines, "", *(f"{note}.  " for note in notes)]).replace("..  ", ".  ").rstrip()


def as_csv(comparison: Comparison) -> str:
    """Numbers in SI units and shares, one line per group; empty where there is none."""
    keys = list(dict.fromkeys(key for g in comparison.groups for key in g.differs))
    names = ["label", *keys, "n", "seeds"]
    for c in comparison.columns:
        parts = [""] if c.unit == "text" else ["", "_low", "_high"] + (["_reached", "_limit"] if c.censored else [])
        names += [f"{c.text}{part}" for part in parts]
    judged = list(by_column(comparison.differences))
    for text in judged:
        names += [f"{text}_{part}" for part in ("difference", "difference_low", "difference_high", "p_holm", "g",
                                                "verdict")]  # fmt: skip
    sheet = StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(names)
    for g in comparison.groups:
        values: list[object] = [g.label, *(g.differs.get(key) for key in keys), g.n, " ".join(g.seeds)]
        for c in comparison.columns:
            values += _numbers(comparison.table[g.label][c.text], c)
        for column in judged:
            mine = [d for d in comparison.differences if d.column.text == column and d.label == g.label]
            values += _tested(mine[0]) if mine else [None] * 6
        writer.writerow(values)
    return sheet.getvalue().rstrip("\n")


def _numbers(found: Measured | str, column: Column) -> list[object]:
    if isinstance(found, str):
        return [found]
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return [found.mean, low, high, *((found.reached, found.limit) if column.censored else ())]


def _tested(d: Difference) -> list[object]:
    low, high = (d.interval.low, d.interval.high) if d.interval else (None, None)
    return [d.mean, low, high, d.p_holm, d.effect, d.verdict]


# ---- documents ----


def as_json(comparison: Comparison) -> str:
    """The document of `aflctl compare --json`."""
    told = {"schema": "aflctl.compare", "version": VERSION, **document(comparison)}
    return json.dumps(finite(told), indent=2, allow_nan=False)


def document(comparison: Comparison) -> dict[str, Any]:
    """For JSON, without the envelope: shares, seconds, bytes and joules as they are."""
    front = comparison.pareto
    return {
        "targets": list(comparison.targets),
        "columns": [
            {"column": c.text, "title": c.title, "unit": c.unit, "better": c.better} for c in comparison.columns
        ],
        "groups": [
            {
                "label": g.label,
                "differs": dict(g.differs),
                "n": g.n,
                "seeds": list(g.seeds),
                "runs": [f.name for f in g.members],
                "values": {c.text: _value(comparison.table[g.label][c.text], c) for c in comparison.columns},
            }
            for g in comparison.groups
        ],
        "differences": [_difference(d) for d in comparison.differences],
        "pareto": None
        if front is None
        else {
            "accuracy": front.accuracy.text,
            "time": front.time.text,
            "front": list(front.best),
            "behind": [{"label": label, "beaten_by": over} for label, over in front.beaten],
            "not_at_target": list(front.absent),
        },
        "skipped": [{"run": name, "reason": reason} for name, reason in comparison.skipped],
        "doubts": list(comparison.doubts),
        "notes": list(comparison.notes),
    }


def _ends(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else {"low": found.low, "high": found.high, "how": found.how}


def _value(found: Measured | str, column: Column) -> Any:
    if isinstance(found, str):
        return found
    told: dict[str, Any] = {"mean": found.mean, "interval": _ends(found.interval), "by_seed": dict(found.values)}
    if found.why:
        told["why_no_interval"] = found.why
    if found.missing:
        told["missing"] = found.missing
    if column.censored:
        told |= {"reached": found.reached, "runs": found.runs, "limit": found.limit}
    return told


def _difference(d: Difference) -> dict[str, Any]:
    return {
        "label": d.label, "baseline": d.baseline, "column": d.column.text, "seeds": list(d.seeds), "mean": d.mean,
        "interval": _ends(d.interval), "relative": d.relative, "p": d.p, "p_holm": d.p_holm, "hedges_g": d.effect,
        "limit": d.limit, "verdict": d.verdict, "why": d.why or None,
    }  # fmt: skip


# ---- LaTeX ----

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
_SPECIAL |= {c: f"\\{c}" for c in "&%$#_{}"}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text).replace("±", r"$\pm$")


def _tabular(titles: Sequence[str], rows: Sequence[Sequence[str]], words: bool = False) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex, cells)) + r" \\"

    kinds = "l" + "r" * (len(titles) - 1 - words) + "l" * words
    body = [line(row) for row in rows]
    return [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", line(titles), r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}"]  # fmt: skip


def as_latex(comparison: Comparison) -> str:
    """Tabulars with the rules of booktabs; what must be known besides is in comments."""
    lines = [r"% needs \usepackage{booktabs}", *_tabular(*grid(comparison))]
    for title, heads, rows, notes in difference_grids(comparison):
        lines += ["", f"% {title}", *_tabular(heads, rows, words=True), *(f"% {note}" for note in notes)]
    notes = footnotes(comparison) + ([method(comparison)] if comparison.differences else [])
    return "\n".join([*lines, *(f"% {note.replace('±', '+-')}" for note in notes)])
