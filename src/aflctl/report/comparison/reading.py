"""What a comparison needs of one run: its summary and configuration; metrics.csv only where a question needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aflctl.report.comparison.inference import Wait
from aflctl.report.statistics import mean, noted_targets, reached
from aflctl.report.wording import number

if TYPE_CHECKING:
    from aflctl.runs.load import Run

NOT_COMPARED = ("seed", "seeds", "name", "tags", "engine", "checkpoint", "track")
AXES = {"time": "virtual_s", "updates": "update", "bytes": "bytes", "joules": "energy_j"}
"""What can be spent on the way to a target -> its name in a row of metrics.csv; bytes are those of both directions."""
_TOTALS = {"virtual_s": "virtual_s", "update": "updates", "energy_j": "energy_j"}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay whole."""
    if not isinstance(value, Mapping):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flatten(inner, f"{path}.{key}" if path else str(key))
    return found


def spent(row: Mapping[str, Any], axis: str) -> float | None:
    """How much of `axis` a row of metrics (or a mark like it) says was spent."""
    if axis != "bytes":
        return number(row.get(AXES[axis]))
    parts = [number(row.get(key)) for key in ("bytes_down", "bytes_up")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


class Facts:
    """One run, as far as it is asked about. `flat`: its configuration by dotted key, without seed and engine."""

    def __init__(self, run: Run, unfinished: bool) -> None:
        self.run, self.unfinished = run, unfinished
        self.above_local: float | None = None  # told by `alone`, which sees all runs
        config = run.config
        self.flat = flatten({k: v for k, v in config.items() if k not in NOT_COMPARED})
        self.key = json.dumps(self.flat, sort_keys=True, default=str)
        seed = config.get("seed", 0)
        self.seed = seed if isinstance(seed, int) else 0
        own = config.get("seeds")
        parts = [f"{k}={v}" for k, v in sorted(own.items()) if v is not None] if isinstance(own, Mapping) else []
        self.pair = " ".join([str(self.seed), *parts])

    @property
    def name(self) -> str:
        return self.run.name

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The results; of a run that is not done, the like of it from its records."""
        return self._so_far() if self.unfinished else self.run.summary

    def _so_far(self) -> Mapping[str, Any]:
        rows = [row for row in self.run.columns("metrics").records() if row["accuracy"] is not None]
        if not rows:
            return {}
        updates = self.run.columns("updates")
        stale = [s for s, outcome in zip(updates["staleness"], updates["outcome"]) if outcome == "used"]
        return {
            "final": rows[-1],
            "best": max(rows, key=lambda row: row["accuracy"]),
            "totals": {**rows[-1], "updates": rows[-1]["update"], "versions": rows[-1]["version"]},
            "staleness": {"mean": mean(stale), "max": max(stale, default=None)},
        }

    def value(self, *path: str) -> Any:
        """What the summary says at a place, or None."""
        value: Any = self.summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def number(self, *path: str) -> float | None:
        """The same where it is a finite number."""
        return number(self.value(*path))

    def print_of(self, part: str) -> str | None:
        """A fingerprint: `code`, `data` or `fleet`."""
        found = self.value("fingerprints", part)
        return found if isinstance(found, str) else None

    @cached_property
    def noted(self) -> dict[float, Mapping[str, Any]]:
        """The targets that the summary says were reached."""
        return noted_targets(self.summary)

    def hit(self, target: float) -> Mapping[str, Any] | None:
        """The evaluation that came to the target first; None where none did."""
        best = self.number("best", "accuracy")
        if target in self.noted or (best is not None and best < target):
            return self.noted.get(target)
        return reached(self.run.columns("metrics"), target)

    def wait(self, target: float, axis: str) -> Wait | None:
        """What it took to come to the target; None where the run does not tell."""
        hit, end = self.hit(target), self.spent(axis)
        at = None if hit is None else spent(hit, axis)
        if end is None or (hit is not None and at is None):
            return None
        return Wait(at, end)

    def spent(self, axis: str) -> float | None:
        """What the whole run spent."""
        totals = self.value("totals")
        if not isinstance(totals, Mapping):
            return None
        return spent(totals, axis) if axis == "bytes" else number(totals.get(_TOTALS[AXES[axis]]))

    def curve(self, axis: str, metric: str = "accuracy") -> tuple[list[float], list[float]]:
        """(spent, metric) of each evaluation that has both."""
        rows = [(spent(row, axis), number(row.get(metric))) for row in self._rows]
        kept = [(x, y) for x, y in rows if x is not None and y is not None]
        return [x for x, _ in kept], [y for _, y in kept]

    @cached_property
    def accuracies(self) -> dict[int, float]:
        """client -> accuracy on its own test samples, of the clients that took part and were tested."""
        table = self.run.columns("clients")
        return {c: a for c, a in zip(table["client"], table["accuracy"]) if a is not None}

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(self.run.columns("metrics").records())

    def convergence(self, share: float, metric: str = "accuracy") -> float | None:
        """Virtual seconds until the metric first was this share of the run's own best."""
        metrics = self.run.columns("metrics")
        if metric == "accuracy":
            best = self.number("best", "accuracy")
        else:
            best = max((v for v in metrics[metric] if v is not None), default=None) if metric in metrics else None
        hit = None if best is None else reached(metrics, share * best, metric)
        return None if hit is None else spent(hit, "time")

    @property
    def is_personal(self) -> bool:
        """Whether clients were tested with models of their own."""
        return self.number("final", "personal_accuracy") is not None
