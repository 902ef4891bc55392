"""Availability from files: windows in which a user is online, repeated after a period.

csv        columns client, start, end (also start_s, end_s): seconds from time 0; a whole number in `client` is the
           client's number, other names count in the order of their first row. Without `period_s` nothing repeats.
fedscale   JSON object user -> {active: [s], inactive: [s], finish_time: s, ...}: online while active[k] <= t mod
           finish_time < inactive[k] (the pickle of FedScale, written as JSON)
flash      JSON object user -> {messages: "2020-01-31 10:00:00<tab>screen_lock<newline>..."}: online while the screen is
           locked, the battery charges and WiFi is there, FLASH's own rule; repeats after the user's last event. Time 0
           is midnight of the file's first day.

Windows must be in order and must not overlap; whatever breaks that is an error with file, line and user.
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import ConfigError, Problem, UserError
from aflctl.sim.streams import fold, folds, integers, integers_of
from aflctl.sim.world.availability import NEVER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NS = 1_000_000_000
MOST_DIGITS = 7  # ten million clients
_SHOWN = 20
_CSV_COLUMNS = {"client": "client", "start": "start", "end": "end", "start_s": "start", "end_s": "end"}
_FLASH_TIME = "%Y-%m-%d %H:%M:%S"
_FLASH_OTHER = {"battery_low", "battery_okay", "phone_off", "phone_on", "screen_on", "screen_off"}
_FLASH_SWITCHES = {
    "battery_charged_on": ("charging", True), "battery_charged_off": ("charging", False),
    "screen_lock": ("locked", True), "screen_unlock": ("locked", False),
    "wifi": ("wifi", True), "unknown": ("wifi", False), "2g": ("wifi", False), "3g": ("wifi", False),
    "4g": ("wifi", False), "5g": ("wifi", False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Windows:
    """One user: edges[0], edges[2], ... begin a window, edges[1], edges[3], ... end it; ns after `origin`."""

    edges: tuple[int, ...]
    period: int | None = None
    origin: int = 0


class Trace:
    """The on/off process that windows from a file describe."""

    pace = 3600 * NS

    def __init__(self, k: int, users: Sequence[Windows], in_order: bool = True) -> None:
        self._k, self.users, self.in_order = k, users, in_order

    def user(self, client: int) -> int:
        """Whose windows the client follows."""
        return client % len(self.users) if self.in_order else integers(fold(self._k, client), len(self.users))

    def state(self, client: int, t: int) -> tuple[bool, int]:
        """(online at t, a moment > t up to which that holds)."""
        of = self.users[self.user(client)]
        if not of.edges:
            return False, NEVER
        at = (t - of.origin) % of.period if of.period else t - of.origin
        i = bisect_right(of.edges, at)
        start = t - at
        if i < len(of.edges):
            return i % 2 == 1, start + of.edges[i]
        return False, NEVER if of.period is None else start + of.period

    def rises(self, clients: NDArray[np.int64], lo: int, hi: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every start of a window within [lo, hi)."""
        import numpy as np

        size = len(self.users)
        users = clients % size if self.in_order else integers_of(folds(self._k, clients), size)
        moments: list[int] = []
        whose: list[int] = []
        followers: dict[int, list[int]] = {}
        for client, user in zip(clients.tolist(), users.tolist(), strict=True):
            followers.setdefault(user, []).append(client)
        for user, mine in followers.items():
            of = self.users[user]
            lap = (lo - of.origin) // of.period if of.period else 0
            shift = of.origin + lap * (of.period or 0)
            while True:
                at = bisect_left(of.edges, lo - shift)
                for edge in of.edges[at + at % 2 :: 2]:
                    if shift + edge >= hi:
                        break
                    moments += [shift + edge] * len(mine)
                    whose += mine
                if not of.period or shift + of.period >= hi:
                    break
                shift += of.period
        return np.array(moments, np.int64), np.array(whose, np.int64)


def read_trace(path: Path, form: str = "auto", period_s: float | None = None) -> list[Windows]:
    """The users of a file in its order. Raises ConfigError with file, line and user of every problem (the first 20)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as why:
        raise UserError(f"cannot be read: {why}", where=str(path)) from None
    if form == "csv" or (form == "auto" and not text.lstrip().startswith("{")):
        return _read_csv(path, text, period_s)
    try:
        content = json.loads(text)
    except ValueError as why:
        raise UserError(f"not valid JSON: {why}", where=f"{path}:{getattr(why, 'lineno', 1)}") from None
    if not isinstance(content, dict) or not content:
        raise UserError("an object with one entry per user is expected", where=f"{path}:1")
    if form == "auto":
        first = next(iter(content.values()))
        form = "flash" if isinstance(first, dict) and "messages" in first else "fedscale"
    found = _Findings(path, text)
    day = _first_day(content) if form == "flash" else None
    users = []
    for name, of in content.items():
        if not isinstance(of, Mapping):
            found.add(name, "", "an object is expected")
        elif day is not None:
            users.append(_flash(name, of, found, period_s, day))
        else:
            users.append(_fedscale(name, of, found, period_s))
    found.done()
    return users


class _Findings:
    """Problems of a JSON file; the line is that of the user's key."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.problems: list[Problem] = []

    def add(self, user: str, where: str, message: str) -> None:
        if len(self.problems) < _SHOWN:
            line = self.text.count("\n", 0, max(0, self.text.find(json.dumps(user)))) + 1
            field = f"{user}.{where}" if where else user
            self.problems.append(Problem(field, message, f"{self.path}:{line}"))

    def done(self) -> None:
        if self.problems:
            raise ConfigError(self.problems)


def _ns(seconds: float) -> int:
    return round(seconds * NS)


def _joined(windows: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Edges of ordered windows; windows that touch become one."""
    edges: list[int] = []
    for start, end in windows:
        if edges and start == edges[-1]:
            edges[-1] = end
        else:
            edges += (start, end)
    return tuple(edges)


def _wrong(start: float, end: float, before: tuple[float, float] | None) -> str | None:
    """What is wrong with a window that follows another."""
    if not 0 <= start < end < float("inf"):
        return f"a window must end after it starts, at or after 0: {start:g} to {end:g}"
    if before is not None and start < before[0]:
        return f"windows are not in order: {start:g} comes after {before[0]:g}"
    if before is not None and start < before[1]:
        return f"windows overlap: {start:g} to {end:g} and {before[0]:g} to {before[1]:g}"
    return None


def _read_csv(path: Path, text: str, period_s: float | None) -> list[Windows]:
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    header = [c.strip() for c in next(rows, [])]
    columns = [_CSV_COLUMNS.get(c, "") for c in header]
    if sorted(columns) != ["client", "end", "start"]:
        shown = ", ".join(header) or "an empty file"
        raise ConfigError([Problem("", f"the columns client, start, end are expected, not {shown}", f"{path}:1")])
    at = [columns.index(c) for c in ("client", "start", "end")]
    problems: list[Problem] = []
    windows: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if not row:
            continue
        where = f"{path}:{rows.line_num}"
        try:
            client = row[at[0]].strip()
            start, end = float(row[at[1]]), float(row[at[2]])
        except (ValueError, IndexError):
            problems.append(Problem("start, end", f"two numbers of seconds are expected, not {','.join(row)!r}", where))
            continue
        mine = windows.setdefault(client, [])
        wrong = _wrong(start, end, mine[-1] if mine else None)
        if wrong is None and period_s is not None and end > period_s:
            wrong = f"the window ends at {end:g}, after the period of {period_s:g} s"
        if wrong is not None:
            problems.append(Problem(f"client {client}", wrong, where))
        mine.append((start, end))
    if not windows and not problems:
        problems.append(Problem("", "no window in the file", f"{path}:1"))
    if problems:
        raise ConfigError(problems[:_SHOWN])
    period = None if period_s is None else _ns(period_s)
    found = {name: Windows(_joined((_ns(a), _ns(b)) for a, b in mine), period) for name, mine in windows.items()}
    if not all(name.isdecimal() for name in found):
        return list(found.values())
    far = [name for name in found if len(name.lstrip("0")) > MOST_DIGITS]
    if far:
        raise ConfigError(
            [Problem("client", f"numbers of clients have at most {MOST_DIGITS} digits, not {far[0][:40]}", str(path))]
        )
    numbered = {int(name): mine for name, mine in found.items()}
    never = Windows((), period)
    return [numbered.get(client, never) for client in range(max(numbered) + 1)]


def _fedscale(name: str, of: Mapping[str, Any], found: _Findings, period_s: float | None) -> Windows:
    try:
        active, inactive = [float(x) for x in of["active"]], [float(x) for x in of["inactive"]]
        period = float(of["finish_time"]) if period_s is None else period_s
    except (KeyError, TypeError, ValueError):
        found.add(name, "", "active and inactive (lists of seconds) and finish_time (seconds) are expected")
        return Windows(())
    if len(active) != len(inactive):
        found.add(name, "inactive", f"{len(inactive)} ends for {len(active)} starts")
    if not 0 < period < float("inf"):
        found.add(name, "finish_time", f"must be above 0, not {period:g}")
        return Windows(())
    windows: list[tuple[float, float]] = []
    for i, (start, end) in enumerate(zip(active, inactive, strict=False)):
        wrong = _wrong(start, end, windows[-1] if windows else None)
        if wrong is None and end > period:
            wrong = f"the window ends at {end:g}, after finish_time {period:g}"
        if wrong is not None:
            found.add(name, f"active[{i}]", wrong)
        windows.append((start, end))
    return Windows(_joined((_ns(a), _ns(b)) for a, b in windows), _ns(period))


def _events(of: Mapping[str, Any]) -> list[tuple[int, datetime, str]]:
    """(number, moment, event) of a user's log. Raises ValueError with what is wrong."""
    events = []
    for number, line in enumerate(str(of.get("messages", "")).split("\n"), 1):
        if line.strip():
            moment, tab, event = line.strip().partition("\t")
            if not tab:
                raise ValueError(f"line {number} of the log is not a time, a tab and an event: {line!r}")
            events.append((number, datetime.strptime(moment.strip(), _FLASH_TIME), event.strip().lower()))
    return events


def _first_day(content: Mapping[str, Any]) -> datetime:
    """Midnight of the first day on which anything happened."""
    starts = []
    for of in content.values():
        try:
            starts += [moment for _, moment, _ in _events(of)[:1]]
        except (ValueError, AttributeError):
            continue
    first = min(starts, default=datetime(2020, 1, 1))
    return first.replace(hour=0, minute=0, second=0)


def _flash(name: str, of: Mapping[str, Any], found: _Findings, period_s: float | None, day: datetime) -> Windows:
    try:
        events = _events(of)
    except ValueError as why:
        found.add(name, "messages", str(why))
        return Windows(())
    if len(events) < 2:
        return Windows(())
    start = last = events[0][1]
    on = {"locked": False, "charging": False, "wifi": False}
    since: datetime | None = None
    windows: list[tuple[int, int]] = []
    for number, moment, event in events:
        if moment < last:
            found.add(name, "messages", f"line {number} of the log goes back in time: {moment} after {last}")
            return Windows(())
        last = moment
        if event in _FLASH_SWITCHES:
            switch, value = _FLASH_SWITCHES[event]
            on[switch] = value
        elif event not in _FLASH_OTHER and not event.endswith("%"):
            found.add(name, "messages", f"line {number} of the log has an unknown event {event!r}")
            return Windows(())
        if all(on.values()):
            since = moment if since is None else since
        elif since is not None:
            if moment > since:
                windows.append((_span(since - start), _span(moment - start)))
            since = None
    if since is not None and last > since:
        windows.append((_span(since - start), _span(last - start)))
    period = _span(last - start) if period_s is None else _ns(period_s)
    if windows and windows[-1][1] > period:
        found.add(name, "messages", f"the log is longer than the period of {period / NS:g} s")
    return Windows(_joined(windows), period or None, _span(start - day))


def _span(length: timedelta) -> int:
    return round(length.total_seconds()) * NS
