"""When the next client comes online: an index over one stretch of time after another, made for all clients at once.

The candidates of a stretch come from the processes as arrays, sorted by time; a candidate counts if the scalar `state`
says that the client is online at that moment and was not one nanosecond before. Nothing here affects an answer's value:
it is the minimum over all clients, found without asking them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aflctl.sim.world.availability import NEVER, Availability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STRETCHES = 256  # how many to look through before asking the clients one by one
_KEPT = 1_000_000  # candidates remembered
_CHUNK = 1 << 17  # clients looked at together; bounds the memory
_PART = 64
_EXPECTED = 64  # candidates of a stretch in a small fleet


class Risings:
    """The index of one world; `which` maps each client to one of the availabilities, None = all to the first."""

    def __init__(self, availabilities: Sequence[Availability], which: NDArray[np.uint8] | None, clients: int) -> None:
        self._all, self._which, self._clients = availabilities, which, clients
        paces = [p.pace for a in availabilities for p in a.processes]
        self._length = min(paces, default=0) * max(1, -(-_EXPECTED // max(1, clients)))
        self._size = 0
        self._kept: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def after(self, t: int, excluded: Callable[[int], bool]) -> int | None:
        """First moment > t at which some client that is not excluded comes online; None = never."""
        if not self._length:
            return None
        first = (t + 1) // self._length
        for stretch in range(first, first + _STRETCHES):
            if stretch == first + 2 and all(excluded(c) or self._of(c).steady for c in range(self._clients)):
                return None
            moments, whose = self._stretch(stretch)
            for i in range(int(moments.searchsorted(t, side="right")), len(moments), _PART):
                part = zip(moments[i : i + _PART].tolist(), whose[i : i + _PART].tolist(), strict=True)
                for moment, client in part:
                    if not excluded(client) and self._rises(client, moment):
                        return int(moment)
        return self._one_by_one(t, excluded)

    def _of(self, client: int) -> Availability:
        return self._all[0 if self._which is None else int(self._which[client])]

    def _rises(self, client: int, moment: int) -> bool:
        of = self._of(client)
        return of.state(client, moment)[0] and not of.state(client, moment - 1)[0]

    def _stretch(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(moments, clients) of the candidates in one stretch, in order."""
        import numpy as np

        known = self._kept.get(number)
        if known is not None:
            return known
        lo, hi = number * self._length, (number + 1) * self._length
        moments, whose = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for i, of in enumerate(self._all):
            if of.steady:
                continue
            if self._which is None:
                mine = np.arange(self._clients, dtype=np.int64)
            else:
                mine = np.flatnonzero(self._which == i)
            for process in of.processes:
                for start in range(0, len(mine), _CHUNK):
                    moment, client = process.rises(mine[start : start + _CHUNK], lo, hi)
                    moments.append(moment)
                    whose.append(client)
        moment, client = np.concatenate(moments), np.concatenate(whose)
        order = np.lexsort((client, moment))
        self._kept[number] = found = (moment[order], client[order])
        self._size += len(order) + 100
        while self._size > _KEPT and len(self._kept) > 1:
            self._size -= len(self._kept.pop(next(iter(self._kept)))[0]) + 100
        return found

    def _one_by_one(self, t: int, excluded: Callable[[int], bool]) -> int | None:
        """The same answer in O(N); for fleets where it lies far ahead or does not exist."""
        best = NEVER
        for client in range(self._clients):
            of = self._of(client)
            if of.steady or excluded(client):
                continue
            off = of.off_before(client, t, best)
            on = None if off is None else of.next_on(client, off)
            if on is not None:
                best = min(best, on)
        return None if best == NEVER else best
