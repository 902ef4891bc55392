"""Tasks that are out, and the two views of the fleet that hooks see: who flies and who is idle."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aflctl.api import Flight, LossReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aflctl.sim.world import Trip, Work

NS = 1_000_000_000
LOST, ARRIVE, TICK, ONLINE = range(4)
WORD = (1 << 32) - 1
PHASES = ("download", "compute", "offline", "upload")
CAUSES = ("held", *PHASES)
_ONE = {""}


def packed(at: int, kind: int, task: int, client: int) -> int:
    """An event as one integer that sorts by (at, kind, task); a heap of them is three times as fast as of tuples."""
    return (((at << 2 | kind) << 32 | task) << 32) | client


def unpacked(event: int) -> tuple[int, int, int, int]:
    """(at, kind, task, client)."""
    return event >> 66, (event >> 64) & 3, (event >> 32) & WORD, event & WORD


@dataclass(slots=True)
class Ticket:
    """One task from dispatch to its end. Times are virtual nanoseconds.

    base     version per track of what the client starts from; `first` is the highest of them
    seen     version per track at dispatch; seen - base is staleness that was `held` before the task began
    lead     at its end: the track whose staleness counts, the highest of the tracks that count
    at, kind the event this task is waiting for; decided at dispatch, moved only by a recall or by early stopping
    event    the same, packed
    """

    id: int
    client: int
    nth: int
    base: dict[str, int]
    first: int
    seen: dict[str, int]
    sent: int
    samples: int
    per_epoch: int
    steps: int
    planned: int
    work: Work
    trip: Trip
    at: int
    kind: int
    reason: LossReason | None
    provisional: bool = False
    lead: str | None = None
    event: int = -1

    @property
    def interrupted(self) -> bool:
        """Whether a recall made it shorter."""
        return self.planned < self.steps

    def staleness(self, versions: Mapping[str, int]) -> dict[str, int]:
        """Versions made since the base version, per track."""
        base = self.base
        return {"": versions[""] - self.first} if base.keys() == _ONE else {k: versions[k] - b for k, b in base.items()}

    def phase_ns(self, until: int) -> dict[str, int]:
        """Nanoseconds spent in each phase up to `until`; they sum to `until - sent`."""
        return dict(zip(PHASES, self.spent(until), strict=True))

    def spent(self, until: int) -> tuple[int, int, int, int]:
        """The same in the order of PHASES."""
        at, download, compute, offline, upload = self.sent, 0, 0, 0, 0
        phase = ""
        for phase, end in self.trip.segments:
            if end > until:
                end = until
            if end > at:
                if phase == "compute":
                    compute += end - at
                elif phase == "download":
                    download += end - at
                elif phase == "upload":
                    upload += end - at
                else:
                    offline += end - at
                at = end
        if until > at:
            rest = [until - at if phase == p else 0 for p in PHASES]
            return download + rest[0], compute + rest[1], offline + rest[2], upload + rest[3]
        return download, compute, offline, upload

    def causes(self, made: Sequence[int], track: str, version: int, until: int) -> dict[str, int]:
        """Staleness on one track by cause: each version made while the task was out fell into one phase, (start, end].

        `made[v]` is when version v + 1 was made. The parts sum to `version - base`, always.
        """
        lo = self.seen[track]
        parts = {"held": lo - self.base[track], "download": 0, "compute": 0, "offline": 0, "upload": 0}
        for phase, end in self.trip.segments:
            if lo == version:
                return parts
            hi = bisect_right(made, end if end < until else until, lo, version)
            parts[phase] += hi - lo
            lo = hi
        parts[self.trip.segments[-1][0]] += version - lo
        return parts

    def causes_at(self, now: int, made: Mapping[str, Sequence[int]], versions: Mapping[str, int]) -> dict[str, int]:
        """The same at its end, on the track that leads."""
        lead = self.lead
        assert lead is not None
        return self.causes(made[lead], lead, versions[lead], now)


class Flying(Mapping[int, Flight]):
    """client -> Flight, read from the live tickets."""

    def __init__(self, tickets: dict[int, Ticket], versions: Mapping[str, int]) -> None:
        self._tickets, self._versions = tickets, versions

    def __getitem__(self, client: int) -> Flight:
        t = self._tickets[client]
        return Flight(t.first, t.sent / NS, t.staleness(self._versions))

    def __contains__(self, client: object) -> bool:
        return client in self._tickets

    def __iter__(self) -> Iterator[int]:
        return iter(self._tickets)

    def __len__(self) -> int:
        return len(self._tickets)


class Moment(Protocol):
    """What decides who is idle: the loop."""

    now: int
    busy: int
    tickets: dict[int, Ticket]

    def online_at(self, client: int, t: int, /) -> bool: ...


class Idle(Collection[int]):
    """Clients that are online, not flying and not just being heard. Membership is O(1), iteration O(N)."""

    __slots__ = ("_at", "_clients")

    def __init__(self, clients: int, at: Moment) -> None:
        self._clients, self._at = clients, at

    def __contains__(self, client: Any) -> bool:
        at = self._at
        return (
            client not in at.tickets
            and client != at.busy
            and 0 <= client < self._clients
            and at.online_at(client, at.now)
        )

    def __iter__(self) -> Iterator[int]:
        return (c for c in range(self._clients) if c in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
