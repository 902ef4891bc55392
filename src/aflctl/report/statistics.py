"""Numbers about runs: staleness counts, participation, means over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import fsum, sqrt
from typing import Any

from aflctl.report.wording import number
from aflctl.runs.records import CAUSES, ClientRow, Columns, StalenessRow

Counts = Mapping[int, int]


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return fsum(values) / len(values) if values else None


def better(mine: Mapping[int, float], other: Mapping[int, float]) -> tuple[int, float] | None:
    """(clients in both, share of them that are better in the first; equals count half); None without a common client.

    Keys are clients, values their accuracies.
    """
    points = [1.0 if a > other[c] else 0.5 if a == other[c] else 0.0 for c, a in mine.items() if c in other]
    return (len(points), fsum(points) / len(points)) if points else None


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None below two values."""
    if len(values) < 2:
        return None
    centre = fsum(values) / len(values)
    return sqrt(fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def quantile(counts: Counts, share: float) -> int:
    """The smallest value that at least this share of the cases does not exceed; 0 of nothing."""
    wanted, seen = share * sum(counts.values()), 0
    for value, count in sorted(counts.items()):
        seen += count
        if seen >= wanted - 1e-9:
            return value
    return 0


def staleness_counts(updates: Columns) -> dict[tuple[str, str], Counter[int]]:
    """(group, cause) -> staleness -> how many used updates; groups are `all` and `device:<name>`."""
    counts: dict[tuple[str, str], Counter[int]] = {("all", cause): Counter() for cause in ("all", *CAUSES)}
    parts = [updates["staleness"], *(updates[f"staleness_{cause}"] for cause in CAUSES)]
    tally: Counter[tuple[Any, ...]] = Counter()
    for outcome, device, *values in zip(updates["outcome"], updates["device"], *parts):
        if outcome == "used":
            tally[(device, *values)] += 1
    for (device, *values), count in tally.items():
        for cause, value in zip(("all", *CAUSES), values):
            counts["all", cause][value or 0] += count
            counts.setdefault((f"device:{device}", cause), Counter())[value or 0] += count
    return counts


def staleness_rows(updates: Columns) -> list[StalenessRow]:
    """The rows of staleness.csv: `all`, then device classes by name; causes in a task's order."""
    return staleness_table(staleness_counts(updates))


def staleness_table(counts: Mapping[tuple[str, str], Counter[int]]) -> list[StalenessRow]:
    """The rows of counts by (group, cause)."""
    groups = sorted({group for group, _ in counts}, key=lambda group: (group != "all", group))
    return [
        StalenessRow(group, cause, value, count)
        for group in groups
        for cause in ("all", *CAUSES)
        for value, count in sorted(counts[group, cause].items())
    ]


def counts_of(table: Columns) -> dict[tuple[str, str], Counter[int]]:
    """The same counts from the rows of staleness.csv."""
    counts: dict[tuple[str, str], Counter[int]] = {}
    for group, cause, value, count in zip(*(table[name] for name in ("group", "cause", "staleness", "count"))):
        counts.setdefault((group, cause), Counter())[value] += count
    return counts


def client_rows(updates: Columns) -> list[ClientRow]:
    """One row per client that was dispatched, as far as updates.csv tells it (no samples, no accuracy)."""
    names = ("client", "device", "link", "outcome", "staleness")
    found: dict[int, tuple[ClientRow, list[int]]] = {}
    for client, device, link, outcome, staleness in zip(*(updates[name] for name in names)):
        row, used = found.setdefault(client, (ClientRow(client, device, link, None, 0, 0, 0, None, None), []))
        row.dispatched += 1
        row.used += outcome == "used"
        row.lost += outcome == "lost"
        if outcome == "used":
            used.append(staleness)
    for row, used in found.values():
        if used:
            row.staleness_mean, row.staleness_max = sum(used) / len(used), max(used)
    return [found[client][0] for client in sorted(found)]


def by_device(clients: Columns) -> dict[str, dict[str, int]]:
    """device -> clients that took part, tasks dispatched, used and lost."""
    found: dict[str, dict[str, int]] = {}
    names = ("device", "dispatched", "used", "lost")
    for device, dispatched, used, lost in zip(*(clients[name] for name in names)):
        row = found.setdefault(device, {"clients": 0, "dispatched": 0, "used": 0, "lost": 0})
        row["clients"] += 1
        row["dispatched"] += dispatched
        row["used"] += used
        row["lost"] += lost
    return dict(sorted(found.items()))


def reached(metrics: Columns, target: float, metric: str = "accuracy") -> dict[str, Any] | None:
    """The first evaluation at which the metric is at least `target`; None where it never is."""
    for row in metrics.records():
        value = row.get(metric)
        if value is not None and value >= target:
            return row
    return None


def noted_targets(summary: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """The targets that a summary says were reached, ascending; what does not look like one is left out."""
    section, found = summary.get("time_to_target"), {}
    for text, hit in section.items() if isinstance(section, Mapping) else ():
        if isinstance(hit, Mapping) and all(number(hit.get(key)) is not None for key in ("virtual_s", "update")):
            with suppress(ValueError):
                found[float(text)] = hit
    return dict(sorted(found.items()))
