"""Bounded-staleness SGD: asynchronous steps, and five policies for updates or clients that are too late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from aflctl.api import Assignment, Fleet, Lost, Recall, Step, Update
from aflctl.builtin.algorithms.fedbuff import BufferState, FedBuff
from aflctl.rules import StalenessWeight


class BoundedStalenessSgd(FedBuff):
    """Asynchronous SGD (FedBuff with K = `buffer_size`, here 1) under a staleness bound S and a policy.

        drop         tau > S: rejected
        downweight   tau > S: weight times late(tau)
        wait         stale synchronous parallel: the buffer is applied only when nobody in flight would end up with
                     staleness above S; until then arrivals are collected and nobody new is started
        pull         tau > S in flight: asked to report at the end of its epoch
        abort        tau > S in flight: stopped without upload; the place is filled with the current model

    With `steps` 1 an update is one stochastic gradient. Whole local displacements (`steps: null`) want a larger buffer
    or a smaller server_optimizer.lr: each is added in full, and the stale ones point the same way.

    Under `wait` and `abort` no aggregated update has tau > S; `wait` with S = 0 is lock-step rounds; S without limit
    is the underlying method. `drop` can starve slow clients where S is below the usual staleness: see the rejected
    column. Other methods get `drop` from server.max_staleness.

    Source: Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS 2013;
    policies as found in FLSim (drop), Plato (wait), PORT (pull), Ringmaster (abort). Deviations: SSP bounds each
    worker's own clock; here the bound is on versions of the model. What was held is applied as one mean.
    """

    evidence: ClassVar[str] = "memory (SSP); policies from official codes read"
    conformance: ClassVar = {"variants": ({"policy": "downweight", "bound": 1},)}

    buffer_size: int = Field(1, ge=1, description="K, updates per version")
    staleness: StalenessWeight = Field(StalenessWeight(kind="constant"), description="s(tau) within the bound")
    bound: int = Field(10, ge=0, description="S, versions")
    policy: Literal["drop", "downweight", "wait", "pull", "abort"] = Field("wait", description="what happens beyond S")
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")
    late: StalenessWeight = Field(StalenessWeight(), description="downweight: s(tau) beyond S")

    def select(self, state: BufferState, fleet: Fleet) -> Sequence[int]:
        return [] if self.policy == "wait" and state.got >= self.buffer_size else fleet.draw(fleet.free)

    def assign(self, state: BufferState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=self.steps)

    def receive(self, state: BufferState, update: Update, fleet: Fleet) -> Step[BufferState]:
        over = update.staleness - self.bound
        if over > 0 and self.policy == "drop":
            return Step(state, used=False, weight=0.0)
        if over <= 0 or self.policy != "downweight":
            return super().receive(state, update, fleet)
        weight = self._base(update) * self.staleness(update.staleness) * self.late(update.staleness)
        return self._add(state, update, weight, fleet)

    def lost(self, state: BufferState, lost: Lost, fleet: Fleet) -> Step[BufferState]:
        return self._flush(state) if self._full(state, fleet) else Step(state)

    def recall(self, state: BufferState, fleet: Fleet) -> dict[int, Recall]:
        if self.policy not in ("pull", "abort"):
            return {}
        how: Recall = "epoch" if self.policy == "pull" else "cancel"
        return {c: how for c, f in fleet.flying.items() if f.staleness > self.bound}

    def _full(self, state: BufferState, fleet: Fleet) -> bool:
        full = super()._full(state, fleet)
        return full and (self.policy != "wait" or all(f.staleness < self.bound for f in fleet.flying.values()))
