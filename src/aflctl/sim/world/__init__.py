"""The fleet under the clock: what a task of a client takes, and who is online.

Pure lookups: no answer depends on which questions were asked before. Moments and lengths are integers, virtual
nanoseconds. All randomness of a task is keyed by (fleet seed, purpose, client, nth), `nth` being that client's own
dispatch number; that of a link or of availability by (fleet seed, purpose, client).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Literal, NamedTuple

from aflctl.sim.streams import fold, folds, key, normal, normal_of
from aflctl.sim.world.availability import NEVER, Availability
from aflctl.sim.world.compute import Device, Work
from aflctl.sim.world.link import Fading, Link
from aflctl.sim.world.risings import Risings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NEVER", "Clients", "Trip", "Work", "World"]

NS = 1_000_000_000
_KEPT = 1 << 15
Phase = Literal["download", "compute", "offline", "upload"]
Policy = Literal["abort", "pause", "offline-compute"]
LossReason = Literal["dropout", "offline"]
Segments = tuple[tuple[Phase, int], ...]


class Trip(NamedTuple):
    """A task as planned at dispatch.

    segments      (phase, end) in time order; a phase may occur several times; the last end is the arrival
    lost_at       when the task is lost instead, with the reason ("dropout" or "offline"); None = it arrives
    per_step_ns   of compute
    cold_ns, compute_ns   cold start; compute in all, cold start included
    """

    sent: int
    segments: Segments
    lost_at: int | None
    lost_reason: LossReason | None
    per_step_ns: float
    cold_ns: int
    compute_ns: int
    nth: int
    steps: int
    work: Work


@dataclass(frozen=True, slots=True)
class Clients:
    """The fleet as arrays, one element a client: class indices, ns per byte, and the latency of a transfer in ns."""

    device: NDArray[np.uint8]
    link: NDArray[np.uint8]
    ns_per_byte_down: NDArray[np.float64]
    ns_per_byte_up: NDArray[np.float64]
    latency_ns: NDArray[np.float64]
    availability: NDArray[np.uint8] | None = None
    samples: NDArray[np.int64] | None = None


class World:
    """`clients` clients of the given classes; see the module's docstring.

    samples       how many samples each client has, where the fleet says so (a file of clients), else None
    fingerprint   digest of every profile value that entered
    """

    def __init__(
        self,
        seed: int,
        devices: Sequence[Device],
        links: Sequence[Link],
        availabilities: Sequence[Availability],
        clients: Clients,
        *,
        offline: Policy = "pause",
        varying: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.seed, self.clients = seed, len(clients.device)
        self.devices, self.links, self.availabilities = tuple(devices), tuple(links), tuple(availabilities)
        self.arrays, self.offline, self.fingerprint = clients, offline, fingerprint
        self.samples: Sequence[int] | None = None if clients.samples is None else clients.samples.tolist()
        self._device, self._link = clients.device.data, clients.link.data
        self._down, self._up = clients.ns_per_byte_down.data, clients.ns_per_byte_up.data
        self._latency = clients.latency_ns.data
        self._which = None if clients.availability is None else clients.availability.data
        self._one = availabilities[0]
        self._fading = Fading(seed) if varying else None
        self._risings = Risings(self.availabilities, clients.availability, self.clients)
        self._k_jitter = key(seed, "jitter")
        self._means: dict[int, tuple[Work, list[float | None]]] = {}
        self._sigmas = [(device.sigma, device.half_variance) for device in self.devices]
        self._foreseen: dict[int, tuple[int, float]] = {}

    # ---- who ----
    def device_of(self, client: int) -> str:
        """Name of the client's device class."""
        return self.devices[self._device[client]].name

    def link_of(self, client: int) -> str:
        """Name of the client's network class."""
        return self.links[self._link[client]].name

    def availability_of(self, client: int) -> Availability:
        """The processes that decide when the client is online."""
        return self._one if self._which is None else self.availabilities[self._which[client]]

    # ---- when ----
    def online(self, client: int, t: int) -> bool:
        """Whether the client is online at t."""
        of = self._one if self._which is None else self.availabilities[self._which[client]]
        if of.steady:
            return True
        known = of.memo.get(client)
        return known[2] if known is not None and known[0] <= t < known[1] else of.state(client, t)[0]

    def remember(self, client: int, t: int, until: int) -> None:
        """The client is online on [t, until): a task that is sent asks for it again."""
        of = self._one if self._which is None else self.availabilities[self._which[client]]
        if not of.steady:
            of.remember(client, t, until, True)

    @property
    def steady(self) -> bool:
        """Whether everybody is always online."""
        return all(of.steady for of in self.availabilities)

    @property
    def foresees(self) -> bool:
        """Whether `states` can be asked."""
        return all(of.foresees for of in self.availabilities)

    def states(self, clients: NDArray[np.int64], t: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(online at t, a moment > t up to which that holds) of each client."""
        import numpy as np

        if self.arrays.availability is None:
            return self._one.states(clients, t)
        online, until = np.ones(len(clients), bool), np.zeros(len(clients), np.int64)
        which = self.arrays.availability[clients]
        for i, of in enumerate(self.availabilities):
            mine = np.flatnonzero(which == i)
            online[mine], until[mine] = of.states(clients[mine], t)
        return online, until

    def next_online(self, client: int, t: int) -> int | None:
        """First moment >= t at which the client is online; None = never again."""
        return self.availability_of(client).next_on(client, t)

    def next_any_online(self, t: int, excluded: Callable[[int], bool]) -> int | None:
        """First moment > t at which some client that is not excluded comes online; None = never."""
        return self._risings.after(t, excluded)

    # ---- how long ----
    def expected_s(self, client: int, work: Work) -> float:
        """Seconds from dispatch to arrival without jitter, cold start, changing rates, delays and times offline."""
        transfers = work.down_bytes * self._down[client] + work.up_bytes * self._up[client] + 2 * self._latency[client]
        return transfers / NS + self.devices[self._device[client]].seconds(work, work.steps)

    def check(self, work: Work) -> None:
        """Raises UserError if a device class that some client has cannot hold the model."""
        import numpy as np

        for which in np.unique(self.arrays.device).tolist():
            self.devices[which].micro(work)

    def trip(self, client: int, nth: int, t: int, work: Work) -> Trip:
        """The client's task number `nth`, sent at t."""
        which = self._device[client]
        device = self.devices[which]
        means = self._means.get(id(work))
        if means is None or means[0] is not work:
            means = self._remember(work)
        mean_s = means[1][which]
        if mean_s is None:
            mean_s = means[1][which] = device.seconds(work, work.steps)
        foreseen = self._foreseen.get(client)
        if foreseen is not None and foreseen[0] == nth:
            factor = foreseen[1]
        elif device.sigma:
            factor = NS * exp(device.sigma * normal(fold(fold(self._k_jitter, client), nth)) - device.half_variance)
        else:
            factor = NS
        cold = 0 if nth else int(device.cold_s * factor + 0.5)
        busy = int(mean_s * factor + 0.5)
        return self._plan(client, nth, t, work, work.steps, busy / max(1, work.steps), cold, cold + busy)

    def foresee(self, clients: NDArray[np.int64], nths: NDArray[np.int64]) -> None:
        """These tasks may soon be sent: their jitter is drawn at once; the same bits, a tenth of the time."""
        import numpy as np

        table = np.array(self._sigmas)[self.arrays.device[clients]]
        z = normal_of(folds(folds(self._k_jitter, clients), nths))
        powers = map(exp, (table[:, 0] * z - table[:, 1]).tolist())  # `math.exp`, as the scalar form takes it
        self._foreseen = dict(zip(clients.tolist(), zip(nths.tolist(), [NS * power for power in powers])))

    def _remember(self, work: Work) -> tuple[Work, list[float | None]]:
        """A place for the mean seconds of this very object on each class of device."""
        if len(self._means) >= _KEPT:
            self._means.clear()
        means = self._means[id(work)] = work, [None] * len(self.devices)
        return means

    def shorten(self, trip: Trip, client: int, now: int, steps: int) -> Trip:
        """The same task cut to `steps` steps, not below what is done by `now`; one that will be lost stays as it is."""
        if trip.lost_at is not None:
            return trip
        planned = trip.cold_ns + int(trip.per_step_ns * steps + 0.5)
        compute = min(trip.compute_ns, max(planned, _computed(trip, now)))
        return self._plan(client, trip.nth, trip.sent, trip.work, steps, trip.per_step_ns, trip.cold_ns, compute)

    def epoch_end(self, trip: Trip, now: int, per_epoch: int) -> int:
        """Steps done at the first end of an epoch at or after now (at least one epoch, at most all steps)."""
        done, epoch_ns = _computed(trip, now) - trip.cold_ns, trip.per_step_ns * per_epoch
        epochs = max(1, int(done / epoch_ns)) if epoch_ns else 1
        while epochs * per_epoch < trip.steps and int(epochs * epoch_ns + 0.5) < done:
            epochs += 1
        return min(trip.steps, epochs * per_epoch)

    def _plan(
        self, client: int, nth: int, t: int, work: Work, steps: int, per_step_ns: float, cold: int, compute: int
    ) -> Trip:
        """Lays the phases of a task end to end, then lets availability and failures have their say."""
        of = self._one if self._which is None else self.availabilities[self._which[client]]
        delay = 0
        for dropout in of.delays:
            delay += dropout.delay(client, nth)
        lost_at: int | None = None
        if self._fading is not None:
            segments, lost_at = self._walk(of, client, t, work, compute, delay)
        else:
            latency = self._latency[client]
            down = t + int(latency + work.down_bytes * self._down[client] + 0.5)
            computed = down + compute
            waited = computed + delay
            arrival = waited + int(latency + work.up_bytes * self._up[client] + 0.5)
            if delay:
                segments = (("download", down), ("compute", computed), ("offline", waited), ("upload", arrival))
            else:
                segments = (("download", down), ("compute", computed), ("upload", arrival))
        if not of.steady:
            end = segments[-1][1]
            if self.offline == "abort":
                lost_at = of.off_before(client, t, end)
            elif self._fading is None:
                online, until = of.state(client, t)
                if not online or (until < end and of.off_before(client, until, end) is not None):
                    segments, lost_at = self._walk(of, client, t, work, compute, delay)
        reason: LossReason | None = None if lost_at is None else "offline"
        for failure in of.failures:
            at = failure.moment(client, nth, _busy(t, segments))
            if at is not None:
                at = _after_busy(t, segments, at)
                if lost_at is None or at < lost_at:
                    lost_at, reason = at, "dropout"
        return Trip(t, segments, lost_at, reason, per_step_ns, cold, compute, nth, steps, work)

    def _walk(
        self, of: Availability, client: int, t: int, work: Work, compute: int, delay: int
    ) -> tuple[Segments, int | None]:
        """(segments, when lost for good) of a task that waits while its client is offline, or whose rate varies."""
        latency, link = self._latency[client], self.links[self._link[client]]
        down, up = work.down_bytes * self._down[client], work.up_bytes * self._up[client]
        parts: tuple[tuple[Phase, float, float], ...]
        if self._fading is None:
            parts = (
                ("download", int(latency + down + 0.5), 0),
                ("compute", compute, 0),
                ("offline", delay, 0),
                ("upload", int(latency + up + 0.5), 0),
            )
        else:
            still = int(latency + 0.5)
            parts = ("download", still, down), ("compute", compute, 0), ("offline", delay, 0), ("upload", still, up)
        segments: list[tuple[Phase, int]] = []
        heed = not of.steady and self.offline != "abort"

        def reach(phase: Phase, end: int) -> None:
            if segments and segments[-1][0] == phase:
                segments[-1] = (phase, end)
            elif phase != "offline" or end > at:
                segments.append((phase, end))

        at = t
        for phase, fixed, fading in parts:
            waits = heed and phase != "offline" and not (phase == "compute" and self.offline == "offline-compute")
            if phase == "upload" and not (fixed or fading) and self.offline == "pause":
                waits = False
            for amount, fades in ((fixed, False), (fading, True)):
                left: float = amount
                while not fades or left > 0:
                    until = NEVER
                    if waits:
                        online, until = of.state(client, at)
                        if not online:
                            on = of.next_on(client, at)
                            if on is None:
                                return tuple(segments) or (("offline", at),), at
                            reach("offline", on)
                            at = on
                            continue
                    if fades and self._fading is not None:
                        end, left = self._fading.advance(link, client, phase, at, left, until)
                    else:
                        end = min(at + int(left), until)
                        left -= end - at
                    reach(phase, end)
                    at = end
                    if left <= 0:
                        break
        return tuple(segments), None

    def energy_j(self, trip: Trip, client: int, end: int) -> dict[str, float]:
        """Joules of a task up to `end`, by cause: see `energy_of`."""
        at, spent = trip.sent, {"download": 0, "compute": 0, "offline": 0, "upload": 0}
        for phase, stop in trip.segments:
            stop = min(stop, end)
            if stop > at:
                spent[phase] += stop - at
                at = stop
        return dict(zip(("compute", "radio", "idle"), self.energy_of(client, **spent), strict=True))

    def energy_of(
        self, client: int, download: int, compute: int, offline: int, upload: int
    ) -> tuple[float, float, float]:
        """Joules (compute, radio, idle) of so many nanoseconds in each phase.

        compute   training power over the compute phase
        radio     what the radio adds to idle power over download and upload
        idle      idle power over every phase but compute
        """
        device, link = self.devices[self._device[client]], self.links[self._link[client]]
        down_w = up_w = device.radio_w
        if link.radio_down_w is not None and download:
            down_w = link.radio_down_w[0] + link.radio_down_w[1] * _mbps(self._down[client])
        if link.radio_up_w is not None and upload:
            up_w = link.radio_up_w[0] + link.radio_up_w[1] * _mbps(self._up[client])
        return (
            compute * device.train_w / NS,
            (download * down_w + upload * up_w) / NS,
            (download + upload + offline) * device.idle_w / NS,
        )

    def energies(self, clients: NDArray[np.int64], *spent: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """`energy_of` elementwise, to the same bits."""
        import numpy as np

        download, compute, offline, upload = spent
        device, arrays = self.arrays.device[clients], self.arrays
        train, idle, radio = np.array([(d.train_w, d.idle_w, d.radio_w) for d in self.devices])[device].T
        down_w, up_w, link = radio.copy(), radio.copy(), arrays.link[clients]
        for i, of in enumerate(self.links):
            mine = np.flatnonzero(link == i)
            if of.radio_down_w is not None:
                rate = _mbps_of(arrays.ns_per_byte_down[clients[mine]])
                down_w[mine] = of.radio_down_w[0] + of.radio_down_w[1] * rate
            if of.radio_up_w is not None:
                rate = _mbps_of(arrays.ns_per_byte_up[clients[mine]])
                up_w[mine] = of.radio_up_w[0] + of.radio_up_w[1] * rate
        return (
            compute * train / NS,
            (download * down_w + upload * up_w) / NS,
            (download + upload + offline) * idle / NS,
        )


def _mbps_of(ns_per_byte: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.divide(8e3, ns_per_byte, out=np.zeros_like(ns_per_byte), where=ns_per_byte != 0)


def _mbps(ns_per_byte: float) -> float:
    return 8e3 / ns_per_byte if ns_per_byte else 0.0


def _computed(trip: Trip, now: int) -> int:
    """Nanoseconds of compute done by now."""
    done, at = 0, trip.sent
    for phase, end in trip.segments:
        if at >= now:
            break
        if phase == "compute":
            done += min(end, now) - at
        at = end
    return done


def _busy(t: int, segments: Segments) -> int:
    """Nanoseconds in download, compute and upload."""
    busy = 0
    for phase, end in segments:
        if phase != "offline":
            busy += end - t
        t = end
    return busy


def _after_busy(t: int, segments: Segments, busy: int) -> int:
    """The moment at which so much busy time has passed."""
    for phase, end in segments:
        if phase != "offline":
            if busy <= end - t:
                return t + busy
            busy -= end - t
        t = end
    return t
