"""The randomness of server hooks: `Fleet.draw` and `Fleet.rng`, two separate streams, each keyed anew per call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aflctl.sim.streams import Dice, generator, key

if TYPE_CHECKING:
    import numpy as np

    from aflctl.api import Fleet, Lost, Selection, Update


class Chance:
    """Hands out the streams of one hook call; holds the selection strategy's state and how far draws fell short."""

    def __init__(self, selection_seed: int, algorithm_seed: int, selection: Selection | None = None) -> None:
        self.selection_seed, self.algorithm_seed = selection_seed, algorithm_seed
        self.selection, self.state = selection, None
        self.short = 0

    def begin(self, samples: Sequence[int]) -> None:
        """Time 0."""
        if self.selection is not None:
            self.state = self.selection.init(samples)

    def observe(self, event: Update | Lost) -> None:
        """A task ended."""
        if self.selection is not None:
            self.state = self.selection.observe(self.state, event)

    def of(self, event: int, hook: str, client: int) -> HookStreams:
        """The streams of one call."""
        return HookStreams(self, event, hook, client)


class HookStreams:
    """What `Fleet` asks: one numpy generator and one sequence of draws, made when first used."""

    __slots__ = ("_at", "_chance", "_draws", "_rng")

    def __init__(self, chance: Chance, event: int, hook: str, client: int) -> None:
        self._chance, self._at, self._draws = chance, (event, hook, client), 0
        self._rng: np.random.Generator | None = None

    @property
    def rng(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = generator(key(self._chance.algorithm_seed, "rng", *self._at))
        return self._rng

    def draw(self, fleet: Fleet, k: int, among: Sequence[int] | None) -> list[int]:
        if k <= 0:
            return []
        chance = self._chance
        where = key(chance.selection_seed, "draw", *self._at, self._draws)
        self._draws += 1
        if chance.selection is None:
            got = uniform_draw(fleet, k, among, Dice(where))
        else:
            chance.state, got = chance.selection.pick(chance.state, fleet, k, among, generator(where))
        chance.short += max(0, k - len(got))
        return sorted(got)


def uniform_draw(fleet: Fleet, k: int, among: Sequence[int] | None, dice: Any) -> list[int]:
    """k distinct idle clients, each set equally likely: O(k) by rejection unless idle ones are rare, then one scan."""
    pool: Sequence[int] = range(len(fleet.samples)) if among is None else among
    got: dict[int, None] = {}
    if not pool:
        return []
    idle, size = fleet.idle, len(pool)
    for _ in range(min(200 + 40 * k, 8 * size)):
        client = int(pool[dice.below(size)])
        if client not in got and client in idle:
            got[client] = None
            if len(got) == k:
                return list(got)
    rest = [int(c) for c in pool if c not in got and c in idle]
    while rest and len(got) < k:
        got[rest.pop(dice.below(len(rest)))] = None
    return list(got)
