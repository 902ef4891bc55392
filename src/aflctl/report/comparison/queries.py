"""Filters and the order of rows: `local.lr=0.1`, `acc.final>=0.8`, `-staleness.mean`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from aflctl.errors import UserError
from aflctl.report.comparison.columns import Measured, about, measure, parse
from aflctl.report.comparison.grouping import Group, value_text
from aflctl.report.comparison.reading import Facts

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {">=": ge, "<=": le, "!=": ne, "==": eq, "=": eq, ">": gt, "<": lt}
_QUERY = re.compile(r"^(?P<key>=?[^=<>!]+?)\s*(?P<operator>>=|<=|!=|==|=|>|<)\s*(?P<value>[^=<>!].*)$")
_RESULTS = ("acc.", "loss.", "f1.", "staleness.", "time_to:", "updates_to:", "bytes_to:", "joules_to:", "reached:",
            "converge", "auc", "totals.", "participation.", "personal.", ".")  # fmt: skip
_NAMES = ("traffic", "energy", "time", "updates", "versions")


@dataclass(frozen=True, slots=True)
class Query:
    """One condition; `on_config` where it asks for the configuration and not for a result."""

    text: str
    key: str
    operator: str
    value: str
    on_config: bool


def query(text: str) -> Query:
    """Reads one condition."""
    match = _QUERY.match(text.strip())
    if match is None:
        hint = "write KEY=VALUE, as in algorithm.name=fedbuff or acc.final>=0.8; operators: = != < <= > >="
        raise UserError(f"not a filter: {text!r}", hint=hint, where="--filter")
    key, told = match["key"].strip(), match["value"].strip()
    on_config = key.startswith("=") or not (key.startswith(_RESULTS) or key in _NAMES)
    if match["operator"] in ("<", "<=", ">", ">=") and not _is_number(told):
        raise UserError(f"not a filter: {text!r}: {told!r} is no number", hint="text is compared by = and !=",
                        where="--filter")  # fmt: skip
    return Query(text, key.removeprefix("="), match["operator"], told, on_config)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def row_of(fact: Facts) -> dict[str, Any]:
    """What a filter on the configuration can ask a run for."""
    row = dict(fact.flat) | {"seed": fact.seed}
    for key, value in fact.flat.items():
        if key.endswith(".name"):
            row.setdefault(key.removesuffix(".name"), value)
    return row


def holds_config(q: Query, row: Mapping[str, Any]) -> bool:
    """Whether a run's configuration meets the condition; a key that it does not have is `none`."""
    return _holds(q, row.get(q.key))


def holds_value(q: Query, g: Group, groups: Sequence[Group]) -> bool:
    """Whether a group's mean meets the condition."""
    column = parse(q.key, groups)[0]
    if column.unit == "text":
        return _holds(q, about(column, g))
    return _holds(q, measure(column, groups)[list(groups).index(g)].mean)


def _holds(q: Query, found: Any) -> bool:
    compare = _OPERATORS[q.operator]
    try:
        if isinstance(found, int | float) and not isinstance(found, bool):
            return compare(float(found), float(q.value))
    except ValueError:
        pass
    if q.operator in ("=", "==", "!="):
        return compare(value_text(found), q.value)
    return False


def ordered(shown: Sequence[Group], groups: Sequence[Group], sort: str | None) -> list[Group]:
    """Best first by a column (by default final accuracy); rows without a value come last."""
    text = (sort or "acc.final").strip()
    turned, word = text.startswith("-"), text.removeprefix("-")
    if word == "label":
        return sorted(shown, key=lambda g: g.label, reverse=turned)
    column = parse(word, groups)[0]
    if column.unit == "text":
        return sorted(shown, key=lambda g: _natural(about(column, g)), reverse=turned)
    found: dict[str, Measured] = {g.label: m for g, m in zip(groups, measure(column, groups))}
    sign = (-1 if column.better == "higher" else 1) * (-1 if turned else 1)

    def place(g: Group) -> tuple[float, str]:
        value = found[g.label].mean
        return (inf if value is None else sign * value, g.label)

    return sorted(shown, key=place)


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
