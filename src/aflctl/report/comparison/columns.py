"""The small language of columns, and what a column says of a group of runs.

acc.final acc.best loss.final f1.final personal.mean   of the last or the best evaluation
personal.above_local                                   share of clients better than in local-only runs beside them
auc:time auc:updates auc:bytes auc:joules              mean accuracy over a common budget (area under the curve)
time_to:0.8 updates_to:0.8 bytes_to:0.8 joules_to:0.8  what it takes to a target, censored where it is not reached
reached:0.8                                            share of the runs that come there
converge:0.95 personal.converge:0.95                   virtual seconds to this share of the run's own best accuracy
staleness.mean totals.lost ...                         any number in summary.json, by its dotted path
traffic energy                                         bytes of both directions; joules of the clients
=local.lr  =*                                          a value of the configuration; all that differ
.host_s .runs .seeds .executor .stop                   about the runs themselves
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aflctl.errors import UserError, suggest
from aflctl.report.comparison.grouping import Group, value_text
from aflctl.report.comparison.inference import Interval, Wait, area, common_limit, interval, restricted
from aflctl.report.comparison.reading import AXES, Facts
from aflctl.report.statistics import mean
from aflctl.report.wording import percent

ABOVE_LOCAL = "personal.above_local"
ONE_SEED = "one seed has no spread"
Unit = Literal["share", "s", "B", "J", "number", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `better` is None where neither direction is; `target` of a time to one; `text` as it was written."""

    text: str
    title: str
    unit: Unit
    better: Literal["higher", "lower"] | None = None
    axis: str = ""
    target: float | None = None
    path: tuple[str, ...] = ()

    @property
    def censored(self) -> bool:
        """Whether runs may end before the value is known."""
        return self.target is not None and bool(self.axis)


_FIXED: dict[str, tuple[str, Unit, Literal["higher", "lower"] | None, tuple[str, ...]]] = {
    "acc.final": ("final %", "share", "higher", ("final", "accuracy")),
    "acc.best": ("best %", "share", "higher", ("best", "accuracy")),
    "loss.final": ("final loss", "number", "lower", ("final", "loss")),
    "loss.best": ("loss at best", "number", "lower", ("best", "loss")),
    "f1.final": ("final F1 %", "share", "higher", ("final", "macro_f1")),
    "f1.best": ("best F1 %", "share", "higher", ("best", "macro_f1")),
    "personal.mean": ("personal %", "share", "higher", ("final", "personal_accuracy")),
    "personal.weighted": ("personal % by samples", "share", "higher", ("personal", "weighted")),
    "personal.worst": ("worst tenth %", "share", "higher", ("personal", "worst")),
    "personal.std": ("personal spread %", "share", None, ("personal", "std")),
    "personal.above_local": ("above local-only %", "share", "higher", ("personal", "above_local")),
    "staleness.mean": ("mean staleness", "number", None, ("staleness", "mean")),
    "staleness.max": ("max staleness", "number", None, ("staleness", "max")),
    "updates": ("updates", "number", None, ("totals", "updates")),
    "versions": ("versions", "number", None, ("totals", "versions")),
    "time": ("virtual time", "s", None, ("totals", "virtual_s")),
    "energy": ("energy", "J", "lower", ("totals", "energy_j")),
    "traffic": ("traffic", "B", "lower", ("traffic",)),
    ".host_s": ("host time", "s", None, ("host", "run_s")),
}
_ABOUT = {".runs": "runs", ".seeds": "seeds", ".executor": "executor", ".stop": "stopped by"}
_SPENT: dict[str, tuple[str, Unit]] = {
    "time": ("time", "s"), "updates": ("updates", "number"), "bytes": ("traffic", "B"), "joules": ("energy", "J"),
}  # fmt: skip
_TO = {f"{axis}_to": axis for axis in AXES}


def parse(text: str, groups: Sequence[Group]) -> list[Column]:
    """The columns that one word means; `=*` is one for each key that differs."""
    if text == "=*":
        keys = dict.fromkeys(key for g in groups for key in g.differs)
        return [Column(f"={key}", key, "text", path=(key,)) for key in keys]
    if text.startswith("="):
        key = text[1:]
        known = list(dict.fromkeys(k for g in groups for k in g.flat))
        if groups and key not in known:
            raise UserError(f"no run has a configuration key {key!r}", hint=suggest(key, known), where=text)
        return [Column(text, key, "text", path=(key,))]
    if text in _ABOUT:
        return [Column(text, _ABOUT[text], "text")]
    if text in _FIXED:
        title, unit, better, path = _FIXED[text]
        return [Column(text, title, unit, better, path=path)]
    name, _, argument = text.partition(":")
    if name in _TO:
        target, (title, unit) = _share(argument, text), _SPENT[_TO[name]]
        return [Column(text, f"{title} to {_percent(target)}", unit, "lower", _TO[name], target)]
    if name == "reached":
        target = _share(argument, text)
        return [Column(text, f"reached {_percent(target)}", "share", "higher", target=target)]
    if name in ("converge", "personal.converge"):
        target, metric = _share(argument or "0.95", text), "accuracy" if name == "converge" else "personal_accuracy"
        title = f"time to {_percent(target)} of best" + (" personal" if name != "converge" else "")
        return [Column(text, title, "s", "lower", path=("converge", str(target), metric))]
    if name == "auc" and (argument or "time") in AXES:
        axis = argument or "time"
        return [Column(text, f"mean % over {_SPENT[axis][0]}", "share", "higher", axis)]
    path = tuple(text.split("."))
    if not groups or any(f.number(*path) is not None for g in groups for f in g.members):
        return [Column(text, text.replace("_", " "), "number", path=path)]
    forms = [*_FIXED, *_ABOUT, "auc:time", "reached:0.8", "converge:0.95", *(f"{to}:0.8" for to in _TO)]
    hint = suggest(text, forms) + "; =KEY is a value of the configuration"
    raise UserError(f"no column {text!r}: no run has such a number", hint=hint)


def _share(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"column {whole!r} needs a number after the colon", hint="as in time_to:0.8") from None
    if not 0 < value <= 1:
        raise UserError(f"a target is a share between 0 and 1, not {text}", hint="90 % is written 0.9", where=whole)
    return value


def _percent(share: float) -> str:
    return percent(share, 0 if round(1000 * share) % 10 == 0 else 1)


# ---- what a column says ----


@dataclass(frozen=True, slots=True)
class Measured:
    """A number over the seeds of one group.

    values      seed -> value; two runs of one seed count as their mean
    interval    of the mean; None with the reason in `why`
    missing     how many runs have no such value
    reached     of how many runs that came to the target at all; None where there is no target
    limit       the budget to which times are restricted; None where nothing is censored
    """

    values: Mapping[str, float]
    mean: float | None
    interval: Interval | None
    why: str = ""
    missing: int = 0
    reached: int | None = None
    runs: int = 0
    limit: float | None = None

    @property
    def at_limit(self) -> bool:
        """Whether no run was at the target within the common budget."""
        return self.limit is not None and bool(self.values) and all(v >= self.limit for v in self.values.values())


def read(column: Column) -> Callable[[Facts], float | None]:
    """How a run gives a column's value, for columns that need no other runs."""
    if column.text == "personal.mean":
        return lambda fact: _first(fact.number("personal", "accuracy"), fact.number(*column.path))
    if column.text == ABOVE_LOCAL:
        return lambda fact: fact.above_local
    if column.path[0] == "traffic":
        return lambda fact: fact.spent("bytes")
    if column.path[0] == "converge":
        share, metric = float(column.path[1]), column.path[2]
        return lambda fact: fact.convergence(share, metric)
    return lambda fact: fact.number(*column.path)


def _first(*values: float | None) -> float | None:
    return next((v for v in values if v is not None), None)


def measure(column: Column, groups: Sequence[Group], apart: bool = True) -> list[Measured]:
    """The column over each group; what is censored is restricted to the budget that these groups have in common.

    `apart`: a group of which no run came to the target does not shorten the budget of the others; its own is told.
    """
    if column.censored:
        return _measure_waits(column, groups, apart)
    if column.axis:
        return _measure_areas(column, groups)
    if column.target is not None:
        return [_counted(g, [(f.pair, f.hit(column.target) is not None) for f in g.members]) for g in groups]
    take = read(column)
    return [_measured(g, [(f, take(f)) for f in g.members]) for g in groups]


def _counted(g: Group, found: Sequence[tuple[str, bool]]) -> Measured:
    values = {pair: float(came) for pair, came in found}
    came = sum(c for _, c in found)
    why = "a share of a few runs has no interval"
    return Measured(values, came / len(found), None, why, reached=came, runs=len(found))


def _measured(
    g: Group, found: Sequence[tuple[Facts, float | None]], reached: int | None = None, limit: float | None = None
) -> Measured:
    by_seed: dict[str, list[float]] = {}
    for fact, value in found:
        if value is not None:
            by_seed.setdefault(fact.pair, []).append(value)
    values = {pair: mean(mine) or 0.0 for pair, mine in by_seed.items()}
    numbers = list(values.values())
    missing = sum(value is None for _, value in found)
    why = "no run has this value" if not numbers else ONE_SEED if len(numbers) == 1 else ""
    ranged, bound = interval(numbers), limit
    if bound is not None and numbers and all(v >= bound for v in numbers):
        ranged, why = None, "no run was at the target within the common budget"
    return Measured(values, mean(numbers), ranged, why, missing, reached, len(g.members), limit)


def _measure_waits(column: Column, groups: Sequence[Group], apart: bool) -> list[Measured]:
    target = column.target or 0.0
    waits = [[(f, f.wait(target, column.axis)) for f in g.members] for g in groups]
    there = [not apart or any(w is not None and w.at is not None for _, w in mine) for mine in waits]
    shared = common_limit([w for mine, counts in zip(waits, there) if counts for _, w in mine if w is not None])
    made = []
    for g, mine, counts in zip(groups, waits, there):
        limit = shared if counts else common_limit([w for _, w in mine if w is not None])
        known: list[tuple[Facts, Wait]] = [(f, w) for f, w in mine if w is not None]
        times: list[tuple[Facts, float | None]] = list(
            zip((f for f, _ in known), restricted([w for _, w in known], limit))
        )
        times += [(f, None) for f, w in mine if w is None]
        made.append(_measured(g, times, sum(w.at is not None for _, w in known), limit))
    return made


def _measure_areas(column: Column, groups: Sequence[Group]) -> list[Measured]:
    curves = [[(f, f.curve(column.axis)) for f in g.members] for g in groups]
    ends = [xs[-1] for mine in curves for _, (xs, _) in mine if xs]
    limit = min(ends, default=0.0)
    return [_measured(g, [(f, area(xs, ys, limit)) for f, (xs, ys) in mine]) for g, mine in zip(groups, curves)]


def about(column: Column, g: Group) -> str:
    """What a column of text says of a group."""
    if column.text == ".runs":
        return str(len(g.members))
    if column.text == ".seeds":
        return " ".join(g.seeds) if all(" " not in s for s in g.seeds) else "; ".join(g.seeds)
    if column.text in (".executor", ".stop"):
        path = ("executor", "name") if column.text == ".executor" else ("stop_reason",)
        told = dict.fromkeys(str(v) for f in g.members if (v := f.value(*path)) is not None)
        return ", ".join(told) or "-"
    return value_text(g.flat[column.path[0]]) if column.path[0] in g.flat else "-"
