"""Why a run was stale, and what would help most: from its records alone.

What-if numbers come from a replay: the run's own tasks, in the order in which they were sent, pass through as many
places as there were tasks in flight on average; a task that ends frees its place for the next, and every K used updates
make a version, K as in the run. A change (links twice as fast, say) shortens the tasks; who is drawn, and when a method
wants to wait, stay as they were. A replay is shown only if, with nothing changed, it gives back the run's own mean.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aflctl.report.statistics import quantile
from aflctl.report.wording import percent, short
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from aflctl.runs.load import Run
    from aflctl.runs.records import Columns

LEAST, LONGEST = 20, 200_000
NAMES = {
    "held": "an old base version", "download": "download", "compute": "compute", "offline": "time offline",
    "upload": "upload",
}  # fmt: skip
PHASES = ("offline", "compute", "upload", "download")
CHANGES = {  # what one can do -> what becomes of the seconds in each of PHASES
    "clients that stay online": (0.0, 1.0, 1.0, 1.0),
    "devices twice as fast": (1.0, 0.5, 1.0, 1.0),
    "links twice as fast": (1.0, 1.0, 0.5, 0.5),
}
FEWER = "half as many tasks in flight"
LARGER = "twice as many updates a version"


class Sent(NamedTuple):
    """A task of the record; seconds by phase in the order of PHASES, of one that was still out those so far."""

    device: str
    seconds: tuple[float, ...]
    used: bool
    held: int


class Outcome(NamedTuple):
    """What a replay gave."""

    mean: float
    p95: int
    span_s: float


@dataclass
class Why:
    """`sentences` for people; `facts` the numbers behind them."""

    sentences: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


def why(run: Run) -> Why:
    """The explanation of a finished run."""
    summary = run.summary
    staleness = summary.get("staleness") or {}
    if not staleness.get("count"):
        return Why(["No update was used, so none was stale."])
    causes = {c: int((staleness.get("by_cause") or {}).get(c, 0)) for c in CAUSES}
    whole = sum(causes.values())
    if not whole:
        return Why([f"Nothing was stale: all {staleness['count']:,} updates met the version that they started from."])
    shares = sorted(((n / whole, c) for c, n in causes.items()), reverse=True)
    facts: dict[str, Any] = {
        "mean": staleness["mean"], "p95": staleness["p95"], "max": staleness["max"],
        "by_cause": {c: n / whole for c, n in causes.items()},
    }  # fmt: skip
    sentences = [_causes(shares, staleness), *_devices(staleness)]
    updates = run.columns("updates")
    totals = summary["totals"]
    replays = _replays(updates, totals["updates"], totals["versions"])
    if replays is not None:
        sentences += _advice(replays, staleness, facts)
    return Why(sentences, facts)


def _causes(shares: Sequence[tuple[float, str]], staleness: Mapping[str, Any]) -> str:
    first = f"{NAMES[shares[0][1]].capitalize()} made {percent(shares[0][0], 0)} of all staleness"
    rest = [f"{NAMES[c]} {percent(s, 0)}" for s, c in shares[1:3] if s >= 0.01]
    return (
        f"{first}{''.join(f', {text}' for text in rest)}: mean {short(staleness['mean'])} versions, "
        f"95 % of the updates up to {staleness['p95']}, at most {staleness['max']}."
    )


def _devices(staleness: Mapping[str, Any]) -> list[str]:
    """The stalest class, where one stands out."""
    classes = {d: s for d, s in (staleness.get("by_device") or {}).items() if s["count"]}
    if len(classes) < 2:
        return []
    worst = max(classes, key=lambda d: classes[d]["mean"])
    best = min(classes, key=lambda d: classes[d]["mean"])
    if classes[worst]["mean"] < 1.15 * staleness["mean"]:
        return []
    share = classes[worst]["count"] / staleness["count"]
    return [
        f"{worst} is the stalest class: mean {short(classes[worst]['mean'])} on {percent(share, 0)} of the updates "
        f"({best}: {short(classes[best]['mean'])})."
    ]


# ---- the replay ----


@dataclass
class Replays:
    """Outcomes by name: `as it was`, and one per change."""

    slots: int
    per_version: float
    outcomes: dict[str, Outcome]


def _replays(updates: Columns, used: int, versions: int) -> Replays | None:
    columns = ("task", "device", "sent_s", "ended_s", "outcome", "staleness_held", *(f"{p}_s" for p in PHASES))
    rows = sorted(zip(*(updates[name] for name in columns)))[:LONGEST]
    last = max((row[3] for row in rows if row[3] is not None), default=0.0)
    tasks, first, flown = [], min((row[2] for row in rows), default=0.0), 0.0
    for _, device, sent, ended, outcome, held, *seconds in rows:
        tasks.append(Sent(device, tuple(s or 0.0 for s in seconds), outcome == "used", held or 0))
        flown += (last if ended is None else ended) - sent
    if not versions or last <= first or len(tasks) < LEAST:
        return None
    slots, per_version = max(1, round(flown / (last - first))), used / versions
    outcomes = {"as it was": _replay(tasks, slots, per_version)}
    for name, factors in CHANGES.items():
        if any(f < 1.0 and t.seconds[i] for t in tasks for i, f in enumerate(factors)):
            changed = [t._replace(seconds=tuple(s * f for s, f in zip(t.seconds, factors))) for t in tasks]
            outcomes[name] = _replay(changed, slots, per_version)
    outcomes.update(_alike(tasks, slots, per_version))
    if slots > 1:
        outcomes[FEWER] = _replay(tasks, max(1, slots // 2), per_version)
    outcomes[LARGER] = _replay(tasks, slots, 2 * per_version)
    return Replays(slots, per_version, outcomes)


def _replay(tasks: Sequence[Sent], slots: int, per_version: float) -> Outcome:
    """The tasks in their order through the places."""
    heap: list[tuple[float, int, int]] = []
    used, now, counts = 0, 0.0, Counter[int]()
    for number, task in enumerate(tasks):
        if len(heap) >= slots:
            now, ended, base = heapq.heappop(heap)
            if tasks[ended].used:
                counts[int(used / per_version + 1e-9) - base + tasks[ended].held] += 1
                used += 1
        heapq.heappush(heap, (now + sum(task.seconds), number, int(used / per_version + 1e-9)))
    n = counts.total()
    mean = sum(tau * k for tau, k in counts.items()) / n if n else 0.0
    return Outcome(mean, quantile(counts, 0.95), now)


def _alike(tasks: Sequence[Sent], slots: int, per_version: float) -> dict[str, Outcome]:
    """The slowest class computes as fast as the fastest."""
    compute = PHASES.index("compute")
    sums: dict[str, list[float]] = {}
    for task in tasks:
        row = sums.setdefault(task.device, [0.0, 0.0])
        row[0] += task.seconds[compute]
        row[1] += 1
    means = {device: total / n for device, (total, n) in sums.items()}
    slow, fast = max(means, key=lambda d: means[d]), min(means, key=lambda d: means[d])
    if means[slow] < 1.2 * means[fast]:
        return {}
    factor = means[fast] / means[slow]
    changed = [
        t._replace(seconds=tuple(s * factor if i == compute else s for i, s in enumerate(t.seconds)))
        if t.device == slow else t
        for t in tasks
    ]  # fmt: skip
    return {f"{slow} as fast as {fast}": _replay(changed, slots, per_version)}


def _advice(replays: Replays, staleness: Mapping[str, Any], facts: dict[str, Any]) -> list[str]:
    before = replays.outcomes["as it was"]
    facts["replay"] = {
        "slots": replays.slots, "updates_per_version": replays.per_version,
        "outcomes": {name: o._asdict() for name, o in replays.outcomes.items()},
    }  # fmt: skip
    if abs(before.mean - staleness["mean"]) > max(0.2, 0.2 * staleness["mean"]):
        return ["No estimate of what would help: the method does not simply refill its places when a task ends."]
    changes = {n: o for n, o in replays.outcomes.items() if n not in ("as it was", FEWER, LARGER)}
    best = min(changes, key=lambda n: (changes[n].p95, changes[n].mean), default=None)
    if best is not None and (changes[best].p95 < before.p95 or changes[best].mean < 0.9 * before.mean):
        fleet = f"In the fleet, {best} would help most: {_told(changes[best], before)}."
    else:
        law = (replays.slots - 1) / replays.per_version
        fits = abs(law - staleness["mean"]) <= 0.25 * staleness["mean"]
        places, k = replays.slots, short(replays.per_version)
        reason = (
            f", since with {places} tasks in flight and {k} updates a version the mean is about "
            f"({places} - 1) / {k} = {short(law)} whatever a task takes"
        )
        nothing = "no faster device or link and no client that stays would help much"
        fleet = f"In the fleet, {nothing}{reason if fits else ''}."
    named = [name for name in (FEWER, LARGER) if name in replays.outcomes]
    settings = [f"{name}: {_told(replays.outcomes[name], before)}" for name in named]
    return [
        fleet,
        f"In the settings, {'; '.join(settings)}.",
        f"These are estimates by a replay of the run's own tasks; unchanged, it gives mean {short(before.mean)} and "
        f"95 % up to {before.p95}.",
    ]


def _told(after: Outcome, before: Outcome) -> str:
    times = after.span_s / before.span_s if before.span_s else 1.0
    if abs(times - 1.0) < 0.005:
        span = "in the same time"
    else:
        span = f"in {percent(times, 0) if times >= 0.01 else 'less than 1 %'} of the time"
    mean = f"mean {short(after.mean)} instead of {short(before.mean)}"
    return f"{mean}, 95 % up to {after.p95} instead of {before.p95}, {span}"
