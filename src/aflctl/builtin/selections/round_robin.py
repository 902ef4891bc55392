"""Round-robin selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fleet, Selection

if TYPE_CHECKING:
    import numpy as np


class RoundRobin(Selection):
    """Idle clients in the order of their numbers, starting after the last one taken, around and around.

    Where all tasks take the same time and everybody is online, no client is started twice more often than another.
    """

    def init(self, samples: Sequence[int]) -> int:
        return 0

    def pick(
        self, state: int, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[int, list[int]]:
        pool = None if among is None else set(among)
        picked: list[int] = []
        for step in range(fleet.clients):
            if len(picked) == k:
                break
            c = (state + step) % fleet.clients
            if c in fleet.idle and (pool is None or c in pool):
                picked.append(c)
        return (picked[-1] + 1) % fleet.clients if picked else state, picked
