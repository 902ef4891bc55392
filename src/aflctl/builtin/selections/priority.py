"""Priority scheduling: who is started next, by a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf, isfinite
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Fleet, Lost, Selection, Update

if TYPE_CHECKING:
    import numpy as np


@dataclass
class PriorityState:
    """Per client: `started_s` when it was last picked, `count` updates heard, `loss` and `lag` of its last task."""

    started_s: dict[int, float] = field(default_factory=dict)
    count: dict[int, int] = field(default_factory=dict)
    loss: dict[int, float] = field(default_factory=dict)
    lag: dict[int, int] = field(default_factory=dict)


class Priority(Selection):
    """The idle clients with the highest priority; ties by client number.

        longest-idle   whose last start is the longest ago; those never started first
        least-heard    the fewest updates so far
        loss           the highest mean loss of the last task; those never heard first
        freshest       the smallest staleness of the last task; those never heard first
        samples        the most training samples

    Source: the dispatch queue of priority scheduling (exercise of Unbitrium tutorial 106; specification ours). A queue
    of arrivals at the server does not exist here: server steps take no virtual time, so arrivals never wait.
    Deviations: none. Looks at all idle clients.
    """

    evidence: ClassVar[str] = "specification ours"

    by: Literal["longest-idle", "least-heard", "loss", "freshest", "samples"] = Field("longest-idle", description="key")

    @property
    def reads_results(self) -> bool:
        """Whether the choice depends on training."""
        return self.by == "loss"

    def init(self, samples: Sequence[int]) -> PriorityState:
        return PriorityState()

    def observe(self, state: PriorityState, event: Update | Lost) -> PriorityState:
        if isinstance(event, Update):
            loss = event.stats["loss"]
            state.count[event.client] = state.count.get(event.client, 0) + 1
            state.loss[event.client] = loss if isfinite(loss) else -inf
            state.lag[event.client] = event.staleness
        return state

    def pick(
        self, state: PriorityState, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[PriorityState, list[int]]:
        idle = (c for c in (fleet.idle if among is None else set(among)) if c in fleet.idle)
        picked = nsmallest(k, idle, key=lambda c: (self._rank(state, fleet, c), c))
        state.started_s.update((c, fleet.now) for c in picked)
        return state, picked

    def _rank(self, state: PriorityState, fleet: Fleet, client: int) -> float:
        """Smaller comes first."""
        if self.by == "longest-idle":
            return state.started_s.get(client, -inf)
        if self.by == "least-heard":
            return state.count.get(client, 0)
        if self.by == "loss":
            return -state.loss.get(client, inf)
        return state.lag.get(client, -1) if self.by == "freshest" else -fleet.samples[client]
