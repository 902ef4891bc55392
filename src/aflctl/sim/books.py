"""The books of a run: what each task cost, why it was stale, and whether the sums balance. Holds no tensors."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from aflctl.sim.flights import CAUSES, NS, PHASES, Ticket

if TYPE_CHECKING:
    from aflctl.api import Step
    from aflctl.sim.world import World

ENERGY = ("compute", "radio", "idle")
CODES = {"sent": 0, "used": 1, "rejected": 2, "lost": 3, "cancelled": 4}


class Digest(Protocol):
    """Where the schedule is summed up, as packed integers."""

    def ints(self, *values: int | None) -> object: ...


Made = Mapping[str, Sequence[int]]
Outcome = Literal["used", "rejected", "lost", "cancelled", "flying"]


class Entry(NamedTuple):
    """One task as the record keeps it; times in nanoseconds. `buffer` is the wait for the version that consumed it."""

    ticket: Ticket
    ended: int
    outcome: Outcome
    reason: str
    causes: Mapping[str, int]
    phases: Mapping[str, int]
    energy: Mapping[str, float]
    version: int
    buffer: int | None
    weight: float | None
    stats: Mapping[str, float]
    tracks: tuple[str, ...]


@dataclass(slots=True)
class Member:
    """What one client did."""

    dispatched: int = 0
    used: int = 0
    lost: int = 0
    staleness_sum: int = 0
    staleness_max: int = 0


@dataclass(slots=True)
class Totals:
    """Sums over the run."""

    sent: int = 0
    used: int = 0
    rejected: int = 0
    lost: int = 0
    cancelled: int = 0
    interrupted: int = 0
    samples: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    energy_j: float = 0.0
    wasted_j: float = 0.0
    compute_ns: int = 0
    wasted_compute_ns: int = 0
    staleness_ended: int = 0
    held: int = 0
    out_at_versions: int = 0
    phase_ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))


class Members(Mapping[int, Member]):
    """client -> what it did, for those that took part; kept as arrays, 28 bytes a client."""

    def __init__(self, clients: int) -> None:
        self.dispatched, self.used, self.lost = (array("i", bytes(4 * clients)) for _ in range(3))
        self.staleness_sum, self.staleness_max = (array("q", bytes(8 * clients)) for _ in range(2))

    def __getitem__(self, client: int) -> Member:
        if not (0 <= client < len(self.dispatched) and self.dispatched[client]):
            raise KeyError(client)
        return Member(
            self.dispatched[client], self.used[client], self.lost[client], self.staleness_sum[client],
            self.staleness_max[client],
        )  # fmt: skip

    def __iter__(self) -> Iterator[int]:
        return (client for client, n in enumerate(self.dispatched) if n)

    def __len__(self) -> int:
        return len(self.dispatched) - self.dispatched.count(0)


class Books:
    """Told by the loop of every dispatch and every end; `made[track][v]` is when version v + 1 was made.

    `digest` sums up the schedule; `emit` gets an Entry per ended task (None = aggregates only).
    """

    def __init__(self, world: World, digest: Digest, emit: Callable[[Entry], None] | None = None) -> None:
        self.world, self.digest, self.emit = world, digest, emit
        self.totals = Totals()
        self.members = Members(world.clients)
        self.histogram: Counter[tuple[str, int]] = Counter()  # (device, staleness) of used updates
        self.by_cause: dict[tuple[str, str], Counter[int]] = {}  # (device, cause) -> part -> count, of used updates
        self.by_track: Counter[tuple[str, int]] = Counter()  # (named track, staleness) of used updates
        self.waiting: list[Entry] = []
        self.broken: list[str] = []
        self.last = 0

    def sent(self, t: Ticket) -> None:
        """A task left."""
        totals, work, client = self.totals, t.work, t.client
        down, up = work.down_bytes, work.up_bytes
        totals.sent += 1
        totals.bytes_down += down
        self.members.dispatched[client] += 1
        steps = -1 if t.provisional else t.steps
        self.digest.ints(0, t.id, client, t.nth, t.sent, steps, t.first, t.samples, down, up)

    def arrived(
        self,
        t: Ticket,
        now: int,
        made: Made,
        versions: Mapping[str, int],
        stats: Mapping[str, float],
        step: Step[Any],
        taus: Mapping[str, int],
    ) -> None:
        """An upload was received, and used or rejected; `taus` is its staleness per track."""
        totals, members, client = self.totals, self.members, t.client
        causes = t.causes_at(now, made, versions)
        tau = sum(causes.values())
        totals.bytes_up += t.work.up_bytes
        if t.planned < t.steps:
            totals.interrupted += 1
        if not step.used:
            totals.rejected += 1
            members.lost[client] += 1
            entry = self._end(t, now, "rejected", "", causes, tau, stats, step.weight, step.tracks)
            if entry is not None and self.emit:
                self.emit(entry)
            return
        totals.used += 1
        totals.samples += self.samples_of(t)
        members.used[client] += 1
        if tau:
            members.staleness_sum[client] += tau
            if tau > members.staleness_max[client]:
                members.staleness_max[client] = tau
        device = self.world.device_of(client)
        self.histogram[device, tau] += 1
        for cause, part in causes.items():
            if part:
                self.by_cause.setdefault((device, cause), Counter())[part] += 1
        self.count_tracks(step, taus)
        entry = self._end(t, now, "used", "", causes, tau, stats, step.weight, step.tracks)
        if entry is not None:
            self.waiting.append(entry)

    @staticmethod
    def samples_of(t: Ticket) -> int:
        """Samples that a task passed over."""
        return t.planned * t.samples // t.per_epoch if t.per_epoch else t.planned * t.work.batch_size

    def count_tracks(self, step: Step[Any], taus: Mapping[str, int]) -> None:
        """Staleness per named track, of a used update."""
        if len(taus) > 1:
            self.by_track.update((track, taus[track]) for track in step.tracks or taus if track)
        elif taus and "" not in taus:
            self.by_track.update(taus.items())

    def lost(self, t: Ticket, now: int, made: Made, versions: Mapping[str, int], reason: str) -> None:
        """A task ended without an upload that counts."""
        causes = t.causes_at(now, made, versions)
        self.totals.lost += 1
        self.members.lost[t.client] += 1
        if reason in ("stale", "not-finite"):
            self.totals.bytes_up += t.work.up_bytes
        entry = self._end(t, now, "lost", reason, causes, sum(causes.values()), {}, None, None)
        if entry is not None and self.emit:
            self.emit(entry)

    def cancelled(self, t: Ticket, now: int, made: Made, versions: Mapping[str, int]) -> None:
        """A task was stopped by the method; its compute is charged."""
        causes = t.causes_at(now, made, versions)
        self.totals.cancelled += 1
        entry = self._end(t, now, "cancelled", "", causes, sum(causes.values()), {}, None, None)
        if entry is not None and self.emit:
            self.emit(entry)

    def advanced(self, now: int, tracks: tuple[str, ...], step: Step[Any]) -> None:
        """A version was made: what waited in the server's buffer for it is complete."""
        t = self.totals
        t.out_at_versions += t.sent - t.used - t.rejected - t.lost - t.cancelled
        if not self.waiting:
            return
        moved, keep = set(tracks), []
        for entry in self.waiting:
            if moved.isdisjoint(entry.tracks):
                keep.append(entry)
            elif self.emit:
                self.emit(entry._replace(buffer=now - entry.ended))
        self.waiting = keep

    def close(self, now: int, flying: Mapping[int, Ticket], versions: Mapping[str, int], made: Made) -> None:
        """The run ends: hand out what still waits in the buffer or flies."""
        if self.emit is None:
            return
        for entry in self.waiting:
            self.emit(entry)
        self.waiting = []
        for t in flying.values():
            lead = max(t.base, key=lambda k: versions[k] - t.base[k])
            self.emit(
                Entry(
                    t,
                    now,
                    "flying",
                    "",
                    t.causes(made[lead], lead, versions[lead], now),
                    t.phase_ns(now),
                    {},
                    versions[lead],
                    None,
                    None,
                    {},
                    tuple(t.base),
                )
            )

    def settle(self) -> None:
        """Everything told so far is in the sums: always so, but where a subclass puts it off."""

    def _end(
        self,
        t: Ticket,
        now: int,
        outcome: Outcome,
        reason: str,
        causes: Mapping[str, int],
        tau: int,
        stats: Mapping[str, float],
        weight: float | None,
        tracks: tuple[str, ...] | None,
    ) -> Entry | None:
        spent, base = t.spent(now), t.first
        download, compute, offline, upload = spent
        self.digest.ints(
            CODES[outcome], t.id, t.client, t.nth, now, t.planned, base, tau, causes["held"], causes["compute"]
        )  # fmt: skip
        energy = self.world.energy_of(t.client, download, compute, offline, upload)
        joules, totals = fsum(energy), self.totals
        sums = totals.phase_ns
        totals.energy_j += joules
        totals.compute_ns += compute
        totals.staleness_ended += tau
        totals.held += causes["held"]
        sums["download"] += download
        sums["compute"] += compute
        sums["offline"] += offline
        sums["upload"] += upload
        if outcome != "used":
            totals.wasted_j += joules
            totals.wasted_compute_ns += compute
        if now < self.last or download + compute + offline + upload != now - t.sent or min(causes.values()) < 0:
            self.broken.append(
                f"task {t.id} of client {t.client}: sent {t.sent}, ended {now}, "
                f"phases {dict(zip(PHASES, spent))}, causes {dict(causes)}"
            )
        self.last = now
        if self.emit is None:
            return None
        phases, parts = dict(zip(PHASES, spent)), dict(zip(ENERGY, energy))
        named = tracks or tuple(t.base)
        return Entry(t, now, outcome, reason, causes, phases, parts, base + tau, None, weight, stats, named)

    # ---- what a checkpoint stores ----
    def save(self) -> dict[str, Any]:
        """The sums so far, and the entries that wait for a version."""
        names = ("dispatched", "used", "lost", "staleness_sum", "staleness_max")
        columns = {name: getattr(self.members, name) for name in names}
        return {
            "totals": self.totals,
            "members": {c: [int(column[c]) for column in columns.values()] for c in self.members},
            "histogram": [(device, tau, n) for (device, tau), n in self.histogram.items()],
            "by_cause": [(device, cause, dict(parts)) for (device, cause), parts in self.by_cause.items()],
            "by_track": [(track, tau, n) for (track, tau), n in self.by_track.items()],
            "waiting": list(self.waiting),
            "broken": list(self.broken),
            "last": self.last,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """As `save` said."""
        self.totals, self.last = saved["totals"], saved["last"]
        members = self.members
        for c, row in saved["members"].items():
            (
                members.dispatched[c], members.used[c], members.lost[c],
                members.staleness_sum[c], members.staleness_max[c],
            ) = row  # fmt: skip
        self.histogram = Counter({(device, tau): n for device, tau, n in saved["histogram"]})
        self.by_cause = {(device, cause): Counter(parts) for device, cause, parts in saved["by_cause"]}
        self.by_track = Counter({(track, tau): n for track, tau, n in saved["by_track"]})
        self.waiting, self.broken = list(saved["waiting"]), list(saved["broken"])

    # ---- the sums ----
    def invariants(self, flying: Mapping[int, Ticket], versions: Mapping[str, int]) -> dict[str, bool]:
        """The laws that hold for every run, whatever the method."""
        t = self.totals
        return {
            "time_monotone_and_parts_sum": not self.broken,
            "dispatches_balance": t.sent == t.used + t.rejected + t.lost + t.cancelled + len(flying),
            "histogram_counts_used": sum(self.histogram.values()) == t.used,
            "bytes_not_negative": min(t.bytes_down, t.bytes_up) >= 0,
            "participation_balances": sum(self.members.dispatched) == t.sent,
        }

    def staleness(self) -> dict[str, Any]:
        """Mean, maximum, percentiles; by device; and how much of it each cause made."""

        def of(histogram: Mapping[int, int]) -> dict[str, float]:
            n = sum(histogram.values())
            if not n:
                return {"count": 0, "mean": 0.0, "max": 0, "p50": 0, "p95": 0}
            ordered, out = sorted(histogram.items()), {}
            for name, share in (("p50", 0.5), ("p95", 0.95)):
                left = share * n
                for value, count in ordered:
                    left -= count
                    if left <= 1e-9:
                        out[name] = value
                        break
            return {"count": n, "mean": sum(v * c for v, c in ordered) / n, "max": ordered[-1][0], **out}

        every: Counter[int] = Counter()
        devices: dict[str, Counter[int]] = {}
        for (device, tau), count in self.histogram.items():
            every[tau] += count
            devices.setdefault(device, Counter())[tau] += count
        tracks: dict[str, Counter[int]] = {}
        for (track, tau), count in self.by_track.items():
            tracks.setdefault(track, Counter())[tau] += count
        causes = dict.fromkeys(CAUSES, 0)
        for (_, cause), parts in self.by_cause.items():
            causes[cause] += sum(v * c for v, c in parts.items())
        return {
            **of(every),
            "by_device": {d: of(h) for d, h in sorted(devices.items())},
            **({"by_track": {k: of(h) for k, h in sorted(tracks.items())}} if tracks else {}),
            "by_cause": causes,
        }

    @property
    def virtual_s(self) -> float:
        """When the last task ended."""
        return self.last / NS
