"""Uniform selection: the default, and the one that papers assume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fleet, Selection

if TYPE_CHECKING:
    import numpy as np


class Uniform(Selection):
    """Every idle client is equally likely, without replacement.

    Draws client numbers and keeps the idle ones, so the cost does not grow with the number of clients; looks through
    all of them only where hardly anybody is idle.
    """

    def pick(
        self, state: None, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[None, list[int]]:
        if among is None:
            chosen: set[int] = set()
            for _ in range(8):
                for c in rng.integers(fleet.clients, size=4 * k + 8).tolist():
                    if len(chosen) >= k:
                        return None, sorted(chosen)
                    if c in fleet.idle:
                        chosen.add(c)
        idle = sorted(fleet.idle) if among is None else sorted(c for c in set(among) if c in fleet.idle)
        return None, idle if len(idle) <= k else sorted(rng.choice(idle, k, replace=False).tolist())
