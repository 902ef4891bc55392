"""Books that are added up thousands of tasks at a time: those of a plan that keeps no rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aflctl.sim.books import CODES, Books, Digest, Made
from aflctl.sim.flights import CAUSES, PHASES, Ticket

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aflctl.api import Step
    from aflctl.sim.world import World

_WIDTH = 10
_ROWS = 8192


class Ended(NamedTuple):
    """Columns over the tasks of a block that ended; `parts` and `spent` in the order of CAUSES and PHASES."""

    code: NDArray[np.int64]
    client: NDArray[np.int64]
    now: NDArray[np.int64]
    tau: NDArray[np.int64]
    parts: list[NDArray[np.int64]]
    spent: list[NDArray[np.int64]]


class BlockDigest(Digest, Protocol):
    """Takes many integers at once."""

    def packed(self, data: bytes) -> object: ...


class BulkBooks(Books):
    """The very sums of `Books`. Between two calls of `settle` only the counts of tasks and bytes are up to date.

    A task leaves two rows, at its dispatch and at its end, of ten integers each: those of the schedule's digest. What
    is costly, how its time was spent and why it was stale, is found for a block of rows at once, as arrays; only tasks
    that were paused, lost, cut short or belong to named tracks are looked at one by one.
    """

    def __init__(self, world: World, digest: BlockDigest) -> None:
        super().__init__(world, digest)
        self._digest = digest
        self._rows: list[int] = []
        self._times: list[int] = []  # sent, end of the download, end of the computation of each task that ended
        self._odd: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []  # (number, spent, parts) of the others
        self._made: Made = {}

    def sent(self, t: Ticket) -> None:
        totals, work = self.totals, t.work
        down, up = work.down_bytes, work.up_bytes
        totals.sent += 1
        totals.bytes_down += down
        steps = -1 if t.provisional else t.steps
        self._rows += (0, t.id, t.client, t.nth, t.sent, steps, t.first, t.samples, down, up)

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
        totals = self.totals
        totals.bytes_up += t.work.up_bytes
        if t.planned < t.steps:
            totals.interrupted += 1
        if not step.used:
            totals.rejected += 1
            self._ended(t, now, CODES["rejected"], made, versions)
            return
        totals.used += 1
        totals.samples += self.samples_of(t)
        self.count_tracks(step, taus)
        self._ended(t, now, CODES["used"], made, versions)

    def lost(self, t: Ticket, now: int, made: Made, versions: Mapping[str, int], reason: str) -> None:
        self.totals.lost += 1
        if reason in ("stale", "not-finite"):
            self.totals.bytes_up += t.work.up_bytes
        self._ended(t, now, CODES["lost"], made, versions)

    def cancelled(self, t: Ticket, now: int, made: Made, versions: Mapping[str, int]) -> None:
        self.totals.cancelled += 1
        self._ended(t, now, CODES["cancelled"], made, versions)

    def close(self, now: int, flying: Mapping[int, Ticket], versions: Mapping[str, int], made: Made) -> None:
        self.settle()

    def _ended(self, t: Ticket, now: int, code: int, made: Made, versions: Mapping[str, int]) -> None:
        base, lead, segments = t.first, t.lead, t.trip.segments
        plain = len(segments) == 3 and segments[1][0] == "compute" and segments[2][1] == now
        if plain and lead == "" and len(t.base) == 1:
            tau, held = versions[""] - base, t.seen[""] - base
            self._times += (t.sent, segments[0][1], segments[1][1])
        else:
            parts = tuple(t.causes_at(now, made, versions).values())
            tau, held = sum(parts), parts[0]
            self._odd.append((len(self._times) // 3, t.spent(now), parts))
            self._times += (t.sent, now, now)
        self._rows += (code, t.id, t.client, t.nth, now, t.planned, base, tau, held, 0)
        self._made = made
        if len(self._rows) >= _ROWS * _WIDTH:
            self.settle()

    # ---- a block of rows ----
    def settle(self) -> None:
        """Adds up what happened since the last time."""
        import numpy as np

        if not self._rows:
            return
        rows = np.array(self._rows, np.int64).reshape(-1, _WIDTH)
        members = self.members
        np.add.at(np.frombuffer(members.dispatched, np.int32), rows[rows[:, 0] == 0, 2], 1)
        which = np.flatnonzero(rows[:, 0])
        if len(which):
            block = self._block(rows[which])
            rows[which, 9] = block.parts[CAUSES.index("compute")]
            self._add(block)
        self._digest.packed(rows.tobytes())
        self._rows.clear()
        self._times.clear()
        self._odd.clear()

    def _block(self, rows: NDArray[np.int64]) -> Ended:
        """How the tasks that ended spent their time, and why they were stale."""
        import numpy as np

        code, _, client, _, now, _, base, tau, held, _ = rows.T
        sent, down, computed = np.array(self._times, np.int64).reshape(-1, 3).T
        spent = [down - sent, computed - down, np.zeros_like(now), now - computed]
        made = np.array(self._made.get("", ()), np.int64)
        first, last = base + held, base + tau
        met = [np.clip(np.searchsorted(made, end, side="right"), first, last) for end in (down, computed)]
        parts = [held, met[0] - first, met[1] - met[0], np.zeros_like(now), last - met[1]]
        for i, its_spent, its_parts in self._odd:
            for column, value in zip((*spent, *parts), (*its_spent, *its_parts)):
                column[i] = value
        wrong = (
            (now < np.maximum.accumulate(np.concatenate([[self.last], now[:-1]])))
            | (sum(spent) != now - sent) | (sum(parts) != tau) | (np.min(spent + parts, axis=0) < 0)
        )  # fmt: skip
        for i in np.flatnonzero(wrong).tolist():
            phases, causes = ({n: int(c[i]) for n, c in zip(*x)} for x in ((PHASES, spent), (CAUSES, parts)))
            self.broken.append(
                f"task {rows[i, 1]} of client {client[i]}: sent {sent[i]}, ended {now[i]}, "
                f"phases {phases}, causes {causes}"
            )
        self.last = int(now[-1])
        return Ended(code, client, now, tau, parts, spent)

    def _add(self, of: Ended) -> None:
        import numpy as np

        totals, members, world = self.totals, self.members, self.world
        joules = list(map(fsum, zip(*(part.tolist() for part in world.energies(of.client, *of.spent)))))
        used = of.code == CODES["used"]
        for j, counts in zip(joules, used.tolist()):  # in the order of the events, as single tasks are added up
            totals.energy_j += j
            if not counts:
                totals.wasted_j += j
        compute = of.spent[1]
        totals.compute_ns += int(compute.sum())
        totals.wasted_compute_ns += int(compute[~used].sum())
        totals.staleness_ended += int(of.tau.sum())
        totals.held += int(of.parts[0].sum())
        for phase, column in zip(PHASES, of.spent):
            totals.phase_ns[phase] += int(column.sum())
        client, tau = of.client[used], of.tau[used]
        failed = of.client[(of.code == CODES["lost"]) | (of.code == CODES["rejected"])]
        np.add.at(np.frombuffer(members.lost, np.int32), failed, 1)
        np.add.at(np.frombuffer(members.used, np.int32), client, 1)
        np.add.at(np.frombuffer(members.staleness_sum, np.int64), client, tau)
        np.maximum.at(np.frombuffer(members.staleness_max, np.int64), client, tau)
        device = world.arrays.device[client].astype(np.int64)
        for (which, value), n in _alike(device, tau):
            self.histogram[world.devices[which].name, value] += n
        for cause, column in zip(CAUSES, of.parts):
            part = column[used]
            some = np.flatnonzero(part)
            for (which, value), n in _alike(device[some], part[some]):
                self.by_cause.setdefault((world.devices[which].name, cause), Counter())[value] += n


def _alike(device: NDArray[np.int64], value: NDArray[np.int64]) -> list[tuple[tuple[int, int], int]]:
    """((device class, value), how often) in ascending order."""
    import numpy as np

    pairs, counts = np.unique(device << 48 | value, return_counts=True)
    return [((pair >> 48, pair & (1 << 48) - 1), n) for pair, n in zip(pairs.tolist(), counts.tolist())]
