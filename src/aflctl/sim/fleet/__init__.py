"""From a fleet in few lines to a `World`: every client given a device, a link and factors of its own.

Ratios become counts by largest remainder. Which client gets which class is a seeded shuffle: clients are ranked by a
hash of (seed, purpose, client), and the ranks are cut at the counts. One client more therefore changes the class of a
few clients at the cuts, and of nobody where there is one class or a file of clients; all other draws of a client
(jitter, rates, availability, delays, failures) are keyed by the client alone and never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, floor
from pathlib import Path
from typing import TYPE_CHECKING

from aflctl.errors import UserError
from aflctl.sim.fleet.resolve import Process, Resolved, Spec, resolve
from aflctl.sim.streams import folds, key, normal_of, sequence, uniform_of
from aflctl.sim.world import Clients, World
from aflctl.sim.world.availability import Availability
from aflctl.sim.world.compute import Device
from aflctl.sim.world.link import K_RTT, MIB, RATE_CORRELATION, Link
from aflctl.sim.world.processes import Parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["assign", "build_world", "counts"]


def build_world(fleet: str | Spec | Resolved, clients: int, seed: int, base_folder: Path = Path()) -> World:
    """The world of a configuration's fleet. Raises ConfigError with all problems of the fleet's names and files."""
    import numpy as np

    plan = fleet if isinstance(fleet, Resolved) else resolve(fleet, base_folder)
    if max(len(plan.devices), len(plan.networks), len(plan.others) + 1) > 256:
        raise UserError("a fleet has at most 256 classes of devices, of networks and of availability")
    devices = [Device(profile, name) for name, (profile, _) in plan.devices.items()]
    links = [Link(profile, name) for name, (profile, _) in plan.networks.items()]
    which = samples = None
    if plan.roster is not None:
        plan.roster.check_count(clients)
        device, link = plan.roster.device, plan.roster.network
        which, samples = plan.roster.availability, plan.roster.samples
    else:
        device = assign([r for _, r in plan.devices.values()], clients, key(seed, "device"))
        link = assign([r for _, r in plan.networks.values()], clients, key(seed, "network"))
    down, up, latency = _rates(links, link, clients, seed)
    kinds = [plan.availability, *plan.others.values()]
    availabilities = [_availability(processes, seed) for processes in kinds]
    return World(
        seed, devices, links, availabilities,
        Clients(device, link, down, up, latency, which, None if samples is None else np.asarray(samples, np.int64)),
        offline=plan.offline, varying=plan.link_mode == "varying", fingerprint=plan.fingerprint,
    )  # fmt: skip


def _availability(processes: Sequence[Process], seed: int) -> Availability:
    """Processes of one kind are numbered, so that one more of another kind changes no draw."""
    parts, seen = Parts(), dict[str, int]()
    for p in processes:
        number = seen[p.kind] = seen.get(p.kind, 0) + 1
        p.params.add(parts, key(seed, "availability", p.kind, number), p.base)
    return Availability(parts.processes, parts.delays, parts.failures)


def counts(ratios: Sequence[float], clients: int) -> list[int]:
    """Clients of each class by largest remainder; ties go to the class named first."""
    total = sum(ratios)
    quotas = [clients * r / total for r in ratios]
    whole = [floor(q + 1e-9) for q in quotas]
    order = sorted(range(len(ratios)), key=lambda i: (-round(quotas[i] - whole[i], 9), i))
    for i in order[: clients - sum(whole)]:
        whole[i] += 1
    return whole


def assign(ratios: Sequence[float], clients: int, k: int) -> NDArray[np.uint8]:
    """[clients] class of each client: counts by largest remainder, dealt out in the order of a hash of the client."""
    import numpy as np

    if len(ratios) == 1:
        return np.zeros(clients, np.uint8)
    out = np.empty(clients, np.uint8)
    out[np.argsort(sequence(k, clients), kind="stable")] = np.repeat(
        np.arange(len(ratios), dtype=np.uint8), counts(ratios, clients)
    )
    return out


def _rates(
    links: Sequence[Link], link: NDArray[np.uint8], clients: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[clients] ns per byte down and up, and latency of a transfer in ns; one set of normal draws per client."""
    import numpy as np

    down, up, latency = np.empty(clients), np.empty(clients), np.empty(clients)
    for i, of in enumerate(links):
        mine = np.flatnonzero(link == i)
        if of.uniform_mbps is not None:
            low, high = of.uniform_mbps
            mbps = low + (high - low) * uniform_of(folds(key(seed, "rate"), mine))
            down[mine] = up[mine] = 8e9 / (MIB * mbps)
            latency[mine] = 0.0
            continue
        first = normal_of(folds(key(seed, "rate", "down"), mine))
        second = normal_of(folds(key(seed, "rate", "up"), mine))
        both = RATE_CORRELATION * first + (1.0 - RATE_CORRELATION**2) ** 0.5 * second
        down[mine] = _times_exp(of.ns_per_byte_down, -of.down_sigma * first)
        up[mine] = _times_exp(of.ns_per_byte_up, -of.up_sigma * both)
        latency[mine] = _times_exp(K_RTT * of.rtt_ns, of.rtt_sigma * normal_of(folds(key(seed, "rtt"), mine)))
    return down, up, latency


def _times_exp(scale: float, exponent: NDArray[np.float64]) -> NDArray[np.float64]:
    """scale * exp(exponent) by `math.exp`, whose last bit does not depend on an element's position as numpy's may."""
    import numpy as np

    return scale * np.fromiter(map(exp, exponent.tolist()), np.float64, len(exponent))
