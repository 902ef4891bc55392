"""Rennala SGD: a minibatch gathered asynchronously, all of it at the current model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Recall, Setup, Step, Update
from aflctl.rules import OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RennalaState:
    """w [P]; acc [P] sum of this batch's `got` updates."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    got: int = 0


class Rennala(Algorithm[RennalaState]):
    """Synchronous steps without a barrier: fast workers give several gradients to a batch, stale ones are thrown away.

        tau = 0:  acc <- acc + D_i;  at the B-th:  x <- x + opt( acc / B ),  acc <- 0
        tau > 0:  ignored;  with `cancel` jobs at the old model are stopped when the model moves

    B is `batch`. Every applied gradient is fresh. A version is a batch.

    Source: Tyurin, Richtarik, Optimal Time Complexities of Parallel Stochastic Optimization Methods Under a Fixed
    Computation Model, NeurIPS 2023. Deviations: none known.
    """

    evidence: ClassVar[str] = "secondary: simulation code believed to be the authors'"

    batch: int | None = Field(None, ge=1, description="B, updates per version; none = clients.concurrency")
    cancel: bool = Field(True, description="stop jobs at the old model instead of ignoring their gradients")
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the batch's mean moves x")

    def init(self, setup: Setup, fleet: Fleet) -> RennalaState:
        return RennalaState(setup.init, setup.init.new_zeros(setup.size), self.server_optimizer.init(setup.init))

    def assign(self, state: RennalaState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=self.steps)

    def receive(self, state: RennalaState, update: Update, fleet: Fleet) -> Step[RennalaState]:
        if update.staleness:
            return Step(state, used=False, weight=0.0)
        state.acc.add_(update.delta)
        state = replace(state, got=state.got + 1)
        if state.got < (self.batch or fleet.capacity):
            return Step(state, weight=1.0)
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.got), state.opt)
        return Step(RennalaState(w, state.acc.zero_(), opt), advanced=True, weight=1.0)

    def recall(self, state: RennalaState, fleet: Fleet) -> dict[int, Recall]:
        return {c: "cancel" for c, f in fleet.flying.items() if f.staleness} if self.cancel else {}
