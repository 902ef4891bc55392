"""What a suite's runs are doing: one row a run, kept up to date by events, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

State = Literal["waiting", "running", "done", "kept", "failed", "stopped", "busy"]
"""`kept` was finished before; `stopped` was told to stop and can be continued; `busy`: another process makes it."""


@dataclass
class Row:
    """One run of a suite. `share` of it is done, `from_share` was when it began now; `message` says why it failed."""

    label: str
    values: Mapping[str, Any]
    state: State = "waiting"
    path: str | None = None
    share: float = 0.0
    accuracy: float | None = None
    update: int = 0
    note: str = ""
    code: int = 0
    message: str = ""
    seconds: float = 0.0
    from_share: float | None = None
    began: float = field(default=0.0, repr=False)

    def left(self, now: float) -> float | None:
        """Seconds that a running run needs still; None while that cannot be told."""
        gone = self.share - (self.from_share or 0.0)
        if self.state != "running" or gone <= 0 or self.from_share is None:
            return None
        return (now - self.began) * (1 - self.share) / gone


class Ending(NamedTuple):
    """How a run ended, as its process tells it."""

    state: State
    path: str | None = None
    accuracy: float | None = None
    code: int = 0
    message: str = ""


Told = Callable[["Board", int], None]


class Board:
    """All rows; `told` hears the number of each row that changed. `stopping`: the suite was told to end."""

    def __init__(self, rows: Sequence[Row], jobs: int, told: Told | None = None) -> None:
        self.rows, self.jobs, self._told, self.stopping = list(rows), jobs, told, False

    def start(self, i: int) -> None:
        """A run was given to a process."""
        row = self.rows[i]
        row.state, row.began = "running", time.perf_counter()
        self._tell(i)

    def begun(self, i: int, path: str, note: str) -> None:
        """Its directory is made."""
        self.rows[i].path, self.rows[i].note = path, note
        self._tell(i)

    def step(self, i: int, share: float, accuracy: float | None, update: int) -> None:
        """It was evaluated."""
        row = self.rows[i]
        if row.from_share is None:
            row.from_share, row.began = share, time.perf_counter()
        row.share, row.update = share, update
        row.accuracy = row.accuracy if accuracy is None else accuracy
        self._tell(i)

    def end(self, i: int, ending: Ending) -> None:
        """It is over."""
        row = self.rows[i]
        row.seconds = time.perf_counter() - row.began if row.began else 0.0
        row.state, row.code, row.message = ending.state, ending.code, ending.message
        row.path = ending.path or row.path
        row.accuracy = row.accuracy if ending.accuracy is None else ending.accuracy
        row.share = 1.0 if ending.state in ("done", "kept") else row.share
        self._tell(i)

    def count(self, *states: State) -> int:
        """Rows in these states."""
        return sum(row.state in states for row in self.rows)

    def left(self) -> float | None:
        """Seconds until all is done; None while no run tells how long one takes."""
        now = time.perf_counter()
        running = [row for row in self.rows if row.state == "running"]
        known = [(row, left) for row in running if (left := row.left(now)) is not None]
        whole = [row.seconds for row in self.rows if row.state == "done" and not row.from_share]
        whole += [] if whole else [now - row.began + left for row, left in known]
        if not whole:
            return None
        mean = sum(whole) / len(whole)
        told = sum(left for _, left in known) + mean * (len(running) - len(known) + self.count("waiting"))
        return max(told / self.jobs, max((left for _, left in known), default=0.0))

    @property
    def exit_code(self) -> int:
        """0 done; 1 a run failed (the failures' own code where nothing else came of it) or is busy; 130 stopped."""
        if self.count("stopped", "waiting", "running"):
            return 130
        codes = {row.code for row in self.rows if row.state in ("failed", "busy")}
        if not codes:
            return 0
        return codes.pop() if len(codes) == 1 and not self.count("done", "kept") else 1

    def document(self) -> list[dict[str, Any]]:
        """The rows for suite.json, with runs by their directories' names."""
        return [
            {
                "label": row.label,
                "values": dict(row.values),
                "state": row.state,
                "run": row.path.rpartition("/")[2] if row.path else None,
                "accuracy": row.accuracy,
                "share": round(row.share, 6),
                "code": row.code,
                "message": row.message,
            }
            for row in self.rows
        ]

    def _tell(self, i: int) -> None:
        if self._told is not None:
            self._told(self, i)
