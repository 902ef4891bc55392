"""Who is online when: processes that can be asked about any client at any time in any order, without history.

An on/off process answers `state(client, t) -> (online, until)`: the answer holds on [t, until); `until` may be too
early, never too late. Several processes are joined by AND. Beside them stand two effects on single tasks: a delay
(`delay-dropout`, AFL-Lib's) and a failure (`task-failure`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import cos, exp, log, pi
from typing import TYPE_CHECKING, Protocol

from aflctl.sim.streams import (
    GOLDEN,
    M1,
    M2,
    MASK,
    exponential,
    fold,
    folds,
    integers,
    integers_of,
    key,
    uniform,
    uniform_of,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NS = 1_000_000_000
NEVER = 1 << 62
DAY_NS = 86_400 * NS
_ACCEPT = 1 << 32
_MEMO = 50_000


class Presence(Protocol):
    """An on/off process over clients.

    `pace` is a length of time in which about one change per client happens.
    """

    pace: int

    def state(self, client: int, t: int) -> tuple[bool, int]:
        """(online at t, a moment > t up to which that holds)."""
        ...

    def rises(self, clients: NDArray[np.int64], lo: int, hi: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(moments, clients) that contain every change to online of these clients within [lo, hi)."""
        ...


class Refreshes:
    """An on/off process whose state is redrawn at the moments of a Poisson process.

    With rate r and probability a of drawing "on", times online are exponential with mean 1 / (r (1 - a)), times offline
    with mean 1 / (r a): the two-state Markov process, in its stationary state at every t. Time is cut into windows of
    one mean gap each; the number, the moments and the states of a window's redraws are draws below (key, thing,
    window), so the state at t follows from the last redraw at or before t, found in a few windows (also before time 0).

    Subclasses may thin the redraws (`rate(thing, t)`, relative to the largest) and let `on(thing, t)` depend on time.
    """

    thinned = False
    share: float | None = None  # probability of drawing "on", where it is the same at all times
    highest = 1.0  # the largest probability of drawing "on"

    def __init__(self, k: int, largest_rate_per_s: float) -> None:
        self._k = k
        self.window = self.pace = max(1, round(NS / largest_rate_per_s))
        mean = largest_rate_per_s * self.window / NS
        term = total = exp(-mean)
        counts = [total]
        while total < 1.0 - 1e-15 and len(counts) < 60:
            term *= mean / len(counts)
            total += term
            counts.append(total)
        self._counts = counts

    def on(self, thing: int, t: int) -> float:
        """Probability that a redraw at t gives "on"."""
        raise NotImplementedError

    def rate(self, thing: int, t: int) -> float:
        """Rate of redraws at t over the largest rate."""
        return 1.0

    def state(self, client: int, t: int) -> tuple[bool, int]:
        """(online at t, a moment > t up to which that holds).

        With k = fold(key, client): h = fold(k, window), moments x = integers(fold(h, j), window); written out, because
        every look for an idle client comes through here.
        """
        window, counts, thinned, share = self.window, self._counts, self.thinned, self.share
        z = (self._k + GOLDEN * (client + 1)) & MASK
        z = ((z ^ (z >> 30)) * M1) & MASK
        z = ((z ^ (z >> 27)) * M2) & MASK
        k = z ^ (z >> 31)
        w, at = divmod(t, window)
        until = (w + 1) * window
        while True:
            z = (k + GOLDEN * (w + 1)) & MASK
            z = ((z ^ (z >> 30)) * M1) & MASK
            z = ((z ^ (z >> 27)) * M2) & MASK
            h = y = z ^ (z >> 31)
            last, which = -1, 0
            for j in range(bisect_right(counts, (h >> 11) * 2.0**-53)):
                z = y = (y + GOLDEN) & MASK
                z = ((z ^ (z >> 30)) * M1) & MASK
                z = ((z ^ (z >> 27)) * M2) & MASK
                x = ((z ^ (z >> 31)) * window) >> 64
                if x > at:
                    if w * window + x < until:
                        until = w * window + x
                elif x >= last and (not thinned or uniform(fold(h, _ACCEPT + j)) < self.rate(client, w * window + x)):
                    last, which = x, j
            if last >= 0:
                z = (h - GOLDEN * which) & MASK  # fold(h, ~which)
                z = ((z ^ (z >> 30)) * M1) & MASK
                z = ((z ^ (z >> 27)) * M2) & MASK
                drawn = ((z ^ (z >> 31)) >> 11) * 2.0**-53
                return drawn < (self.on(client, w * window + last) if share is None else share), until
            w, at = w - 1, window

    def states(self, clients: NDArray[np.int64], t: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """`state` elementwise, where a redraw gives "on" with the same probability at all times."""
        import numpy as np

        assert self.share is not None and not self.thinned
        keys, window, counts = folds(self._k, clients), self.window, np.array(self._counts)
        w, at = divmod(t, window)
        online, until = np.zeros(len(clients), bool), np.full(len(clients), (w + 1) * window)
        left = np.arange(len(clients))
        while len(left):
            h = folds(keys[left], w)
            number = np.searchsorted(counts, uniform_of(h), side="right")
            last, which = np.full(len(left), -1), np.zeros(len(left), np.int64)
            for j in range(int(number.max(initial=0))):
                some = np.flatnonzero(number > j)
                x = integers_of(folds(h[some], j), window)
                later = x > at
                ahead = left[some[later]]
                until[ahead] = np.minimum(until[ahead], w * window + x[later])
                newer = ~later & (x >= last[some])
                last[some[newer]], which[some[newer]] = x[newer], j
            done = last >= 0
            online[left[done]] = uniform_of(folds(h[done], ~which[done])) < self.share
            left, w, at = left[~done], w - 1, window
        return online, until

    def state_of(self, thing: int, t: int) -> tuple[bool, int]:
        """The same of whatever carries the state, where that is not the client itself."""
        return Refreshes.state(self, thing, t)

    def rises(self, clients: NDArray[np.int64], lo: int, hi: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every redraw that may give "on"; whether it does, and whether the state was "off" before, is for `state`."""
        moment, which = self._redraws(clients, lo, hi)
        return moment, clients[which]

    def _redraws(self, things: NDArray[np.int64], lo: int, hi: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(moments, positions in `things`) of the redraws within [lo, hi) that may give "on"."""
        import numpy as np

        keys, window = folds(self._k, things), self.window
        moments, whose = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for w in range(lo // window, (hi - 1) // window + 1):
            h = folds(keys, w)
            number = np.searchsorted(np.array(self._counts), uniform_of(h), side="right")
            for j in range(int(number.max(initial=0))):
                some = np.flatnonzero(number > j)
                some = some[uniform_of(folds(h[some], ~j)) < self.highest]
                moments.append(integers_of(folds(h[some], j), window) + w * window)
                whose.append(some)
        moment, which = np.concatenate(moments), np.concatenate(whose)
        inside = (moment >= lo) & (moment < hi)
        return moment[inside], which[inside]


class Markov(Refreshes):
    """Exponential times online and offline, means `mean_on_s` and `mean_off_s`; on with probability on / (on + off)."""

    def __init__(self, k: int, mean_on_s: float, mean_off_s: float) -> None:
        super().__init__(k, 1.0 / mean_on_s + 1.0 / mean_off_s)
        self.share = self.highest = mean_on_s / (mean_on_s + mean_off_s)


class Diurnal(Refreshes):
    """Availability a(t) = mean * (1 + d cos(2 pi (local time - peak) / day)), d = (swing - 1) / (swing + 1).

    Times online keep their mean `mean_on_s`, times offline follow: mean_on_s * (1 - a) / a. Each client lives in one of
    the time zones, drawn from its own stream. Time 0 is midnight UTC. The share online follows a(t) with a lag of the
    time between redraws, below `mean_on_s`.
    """

    thinned = True

    def __init__(
        self, k: int, mean: float, swing: float, peak_hour: float, mean_on_s: float, zones_h: Sequence[float]
    ) -> None:
        self.mean, self.depth = mean, (swing - 1.0) / (swing + 1.0)
        self.highest = mean * (1.0 + self.depth)
        self._spare = 1.0 - self.highest
        super().__init__(k, 1.0 / (mean_on_s * self._spare))
        self._zones, self._k_zone = tuple(zones_h), key(k, "zone")
        self._peak = peak_hour

    def zone_h(self, client: int) -> float:
        """Hours that a client's clock is ahead of UTC."""
        zones = self._zones
        return zones[0] if len(zones) == 1 else zones[integers(fold(self._k_zone, client), len(zones))]

    def on(self, thing: int, t: int) -> float:
        hours = t / (3600.0 * NS) + self.zone_h(thing) - self._peak
        return self.mean * (1.0 + self.depth * cos(2.0 * pi * hours / 24.0))

    def rate(self, thing: int, t: int) -> float:
        return self._spare / (1.0 - self.on(thing, t))


class Outages(Refreshes):
    """All clients of a site go off together: outages of mean length `mean_outage_s`, so many a day and site."""

    def __init__(self, k: int, sites: int, outages_per_day: float, mean_outage_s: float) -> None:
        up_s = 86_400.0 / outages_per_day
        super().__init__(k, 1.0 / up_s + 1.0 / mean_outage_s)
        self.share = self.highest = up_s / (up_s + mean_outage_s)
        self.sites, self._k_site = sites, key(k, "site")

    def site(self, client: int) -> int:
        """The site of a client."""
        return integers(fold(self._k_site, client), self.sites)

    def state(self, client: int, t: int) -> tuple[bool, int]:
        return self.state_of(self.site(client), t)

    def rises(self, clients: NDArray[np.int64], lo: int, hi: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As its sites do: every client of a site at the same moment."""
        import numpy as np

        moment, site = self._redraws(np.arange(self.sites, dtype=np.int64), lo, hi)
        pairs = zip(moment.tolist(), site.tolist(), strict=True)
        real = [self.state_of(s, t)[0] and not self.state_of(s, t - 1)[0] for t, s in pairs]
        moment, site = moment[real], site[real]
        if not len(moment):
            return moment, site
        of = integers_of(folds(self._k_site, clients), self.sites)
        mine = [clients[of == s] for s in site.tolist()]
        return np.repeat(moment, [len(m) for m in mine]), np.concatenate(mine)


class DelayDropout:
    """AFL-Lib's dropout: with probability p a task takes U(0, max) seconds longer; it is never lost."""

    def __init__(self, k: int, probability: float, max_s: float) -> None:
        self._k, self.probability, self.max_ns = k, probability, max_s * NS

    def delay(self, client: int, nth: int) -> int:
        """Nanoseconds that this task is delayed."""
        k = fold(fold(self._k, client), nth)
        return int(uniform(fold(k, 0)) * self.max_ns) if uniform(k) < self.probability else 0


class TaskFailure:
    """A task fails at an exponential moment of its busy time (download, compute, upload).

    With `hazard_per_s` long tasks fail more often: 1 - exp(-hazard * busy). With `probability` every task fails with
    that probability, whatever its length: the hazard is -log(1 - p) over the task's own busy time.
    """

    def __init__(self, k: int, probability: float | None, hazard_per_s: float | None) -> None:
        self._k = k
        self._total = -log(1.0 - probability) if probability is not None else 0.0
        self._per_ns = (hazard_per_s or 0.0) / NS

    def moment(self, client: int, nth: int, busy_ns: int) -> int | None:
        """Busy nanoseconds after which the task fails; None = it does not."""
        e = exponential(fold(fold(self._k, client), nth))
        total = self._per_ns * busy_ns if self._per_ns else self._total
        return int(busy_ns * (e / total)) if e < total else None


class Availability:
    """All processes of one client class together."""

    def __init__(
        self, processes: Sequence[Presence], delays: Sequence[DelayDropout] = (), failures: Sequence[TaskFailure] = ()
    ) -> None:
        self.processes, self.delays, self.failures = tuple(processes), tuple(delays), tuple(failures)
        self.steady = not self.processes
        self._only = processes[0] if len(processes) == 1 else None
        self.memo: dict[int, tuple[int, int, bool]] = {}

    def state(self, client: int, t: int) -> tuple[bool, int]:
        """(online at t, a moment > t up to which that holds); remembered, because a dispatch asks twice."""
        memo = self.memo
        known = memo.get(client)
        if known is not None and known[0] <= t < known[1]:
            return known[2], known[1]
        if self._only is not None:
            online, until = self._only.state(client, t)
        else:
            online, until = True, NEVER
            for process in self.processes:
                online, end = process.state(client, t)
                if not online:
                    until = end
                    break
                if end < until:
                    until = end
        self.remember(client, t, until, online)
        return online, until

    def remember(self, client: int, t: int, until: int, online: bool) -> None:
        """The state that holds on [t, until)."""
        if len(self.memo) >= _MEMO:
            self.memo.clear()
        self.memo[client] = (t, until, online)

    @property
    def foresees(self) -> bool:
        """Whether `states` can be asked."""
        return all(isinstance(p, Markov) for p in self.processes)

    def states(self, clients: NDArray[np.int64], t: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """`state` elementwise; the moments may be earlier than those of `state`."""
        import numpy as np

        online, until = np.ones(len(clients), bool), np.full(len(clients), NEVER)
        for process in self.processes:
            assert isinstance(process, Markov)
            on, end = process.states(clients, t)
            until = np.where(online, np.where(on, np.minimum(until, end), end), until)
            online &= on
        return online, until

    def next_on(self, client: int, t: int) -> int | None:
        """First moment >= t online; None = never (or not within 100,000 changes)."""
        if self.steady:
            return t
        for _ in range(100_000):
            online, until = self.state(client, t)
            if online:
                return t
            if until >= NEVER:
                return None
            t = until
        return None

    def off_before(self, client: int, t: int, end: int) -> int | None:
        """First moment in [t, end) offline; None = online throughout (or for 100,000 answers)."""
        for _ in range(100_000):
            if t >= end:
                return None
            online, until = self.state(client, t)
            if not online:
                return t
            t = until
        return None
