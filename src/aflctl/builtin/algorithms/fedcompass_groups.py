"""FedCompass's scheduler: who is expected when, and how many steps make a client arrive together with others."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aflctl.api import Fleet

LATE = -1
"""In place of a group: whoever missed its own, or never had one."""


@dataclass(frozen=True)
class Groups:
    """`speed` client -> seconds per step; `open` number -> (expected arrival, latest, seconds per step of its fastest
    member); `out` client -> group of its task; `waiting` client -> group that it waits for. Updated in place."""

    speed: dict[int, float] = field(default_factory=dict)
    open: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    out: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)

    def arrived(self, client: int, seconds_per_step: float, momentum: float) -> int:
        """The group in which the client waits from now on, or `LATE`; its speed is measured once more."""
        v = max(seconds_per_step, 1e-9)
        self.speed[client] = momentum * v + (1 - momentum) * self.speed.get(client, v)
        group = self.out.pop(client, LATE)
        if group != LATE:
            self.waiting[client] = group
        return group

    def plan(self, client: int, now: float, least: int, most: int, factor: float) -> int:
        """Steps of the next task, `least` to `most`; the client joins an open group, or opens one.

        Q = floor((T_expected - now) / v), the largest that fits; else floor((T_latest + v_fastest most - now) / v).
        """
        v = self.speed[client]
        joins = [(q, g) for g, (end, _, _) in self.open.items() if least <= (q := whole(end - now, v)) <= most]
        if joins:
            q, group = max(joins)
            expected, latest, fastest = self.open[group]
            self.open[group] = (expected, latest, min(v, fastest))
        else:
            ends = (latest + fastest * most for _, latest, fastest in self.open.values() if latest > now)
            guesses = [q for end in ends if (q := whole(end - now, v)) <= most]
            q, group = max(least, *guesses) if guesses else most, max(self.open, default=LATE) + 1
            self.open[group] = (now + q * v, now + q * v * factor, v)
        self.out[client] = group
        self.waiting.pop(client, None)
        return q

    def end(self, fleet: Fleet) -> set[int]:
        """Closes the groups of which nobody flies any more, or whose latest moment has come; returns them."""
        flying = {self.out.get(c) for c in fleet.flying}
        ended = {g for g, (_, latest, _) in self.open.items() if g not in flying or fleet.due(latest)}
        for g in ended:
            del self.open[g]
        self.out.update({c: LATE for c, g in self.out.items() if g in ended})
        for c in [c for c, g in self.waiting.items() if g in ended]:
            del self.waiting[c]
        return ended


def whole(seconds: float, each: float) -> int:
    """Whole steps that fit into so much time; a rounding error below one is not a missing step."""
    return floor(seconds / each + 1e-6)
