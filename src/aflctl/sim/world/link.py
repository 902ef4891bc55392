"""Links: round trips and rates, constant per client or varying over time.

    t = k_rtt * RTT + transfer(bytes),   k_rtt = 2 both ways (a request on a live connection)
    rate(client) = median * exp(sigma * z),  z ~ N(0, 1) once per client, correlation 0.3 between down and up

Mode `varying` multiplies the rate by exp(x), x an AR(1) process on a grid of one second with the profile's
`within_sigma` and `autocorrelation_1s`; it starts anew from its stationary law every 600 s, so a block of the grid is a
function of (seed, client, direction, block) alone. A transfer integrates that rate.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from math import exp, sqrt
from typing import TYPE_CHECKING

from aflctl.sim.streams import key, normals

if TYPE_CHECKING:
    from aflctl.sim.fleet.profiles import NetworkProfile

K_RTT = 2
RATE_CORRELATION = 0.3
BLOCK_S = 600
NS = 1_000_000_000
BLOCK_NS = BLOCK_S * NS
MIB = 2**20
_MEMO = 2048


class Link:
    """A network profile in the form that the clock needs."""

    __slots__ = (
        "down_sigma", "name", "ns_per_byte_down", "ns_per_byte_up", "radio_down_w", "radio_up_w", "rho", "rtt_ns",
        "rtt_sigma", "uniform_mbps", "up_sigma", "within_sigma",
    )  # fmt: skip

    def __init__(self, profile: NetworkProfile, name: str) -> None:
        self.name = name
        self.uniform_mbps: tuple[float, float] | None = None
        if profile.uniform_low_mbps is not None and profile.uniform_high_mbps is not None:
            self.uniform_mbps = (profile.uniform_low_mbps, profile.uniform_high_mbps)
        self.ns_per_byte_down = 8e3 / (profile.down_mbps or 1.0)
        self.ns_per_byte_up = 8e3 / (profile.up_mbps or 1.0)
        self.down_sigma, self.up_sigma = profile.down_sigma, profile.up_sigma
        self.rtt_ns, self.rtt_sigma = profile.rtt_ms * 1e6, profile.rtt_sigma
        self.within_sigma, self.rho = profile.within_sigma, profile.autocorrelation_1s
        down, up = profile.radio_down_w, profile.radio_up_w
        self.radio_down_w = None if down is None else (down, profile.radio_down_w_per_mbps)
        self.radio_up_w = None if up is None else (up, profile.radio_up_w_per_mbps)


class Fading:
    """Relative rate of each client's link over time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._memo: dict[tuple[int, str, int], array[float]] = {}

    def advance(self, link: Link, client: int, way: str, t: int, left: float, until: int) -> tuple[int, float]:
        """(moment, what is left) when a transfer that needs `left` ns at the constant rate ends, or `until` comes."""
        while True:
            block, at = divmod(t, BLOCK_NS)
            sums = self._sums(link, client, way, block)
            second, rest = divmod(at, NS)
            done = sums[second] + (sums[second + 1] - sums[second]) * (rest / NS)
            target = done + left / NS
            if target <= sums[BLOCK_S]:
                i = bisect_left(sums, target, second + 1)
                part = (target - sums[i - 1]) / (sums[i] - sums[i - 1])
                end = max(t, block * BLOCK_NS + (i - 1) * NS + round(part * NS))
                if end <= until:
                    return end, 0.0
            edge = (block + 1) * BLOCK_NS
            if until <= edge:
                second, rest = divmod(until - block * BLOCK_NS, NS)
                gone = sums[second] + ((sums[second + 1] - sums[second]) * (rest / NS) if rest else 0.0)
                return until, max(0.0, (target - gone) * NS)
            left, t = (target - sums[BLOCK_S]) * NS, edge

    def _sums(self, link: Link, client: int, way: str, block: int) -> array[float]:
        """[601] integral of the relative rate from the block's start, at each second."""
        known = self._memo.get((client, way, block))
        if known is not None:
            return known
        if len(self._memo) >= _MEMO:
            self._memo.clear()
        x, rho, sigma = 0.0, link.rho, link.within_sigma
        kick, total, sums = sigma, 0.0, array("d", [0.0])
        for z in normals(key(self._seed, "fading", client, way, block), BLOCK_S).tolist():
            x = rho * x + kick * z
            kick = sigma * sqrt(1.0 - rho * rho)
            total += exp(x)
            sums.append(total)
        self._memo[client, way, block] = sums
        return sums
