"""Fastest-first selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fleet, Selection

if TYPE_CHECKING:
    import numpy as np


class FastestFirst(Selection):
    """The idle clients with the shortest expected task (noise-free seconds), ties by client number.

    Shows what a greedy server does: slow clients take part only while all faster ones are busy or away.
    """

    def pick(
        self, state: tuple[int, ...] | None, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[tuple[int, ...], list[int]]:
        order = state if state is not None else tuple(sorted(range(fleet.clients), key=fleet.expected_s))
        pool = None if among is None else set(among)
        picked: list[int] = []
        for c in order:
            if len(picked) == k:
                break
            if c in fleet.idle and (pool is None or c in pool):
                picked.append(c)
        return order, picked
