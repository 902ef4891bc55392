"""Malenia SGD: a minibatch gathered asynchronously, in which every client has the same say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Recall, Setup, Step, Update
from aflctl.builtin.algorithms.ringleader import Gathered
from aflctl.errors import UserError
from aflctl.rules import OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MaleniaState:
    """w [P]; `now` what was gathered at w."""

    w: Tensor
    now: Gathered
    opt: OptimizerState


class Malenia(Algorithm[MaleniaState]):
    """Synchronous steps under different data: fast clients refine their own part of a batch, not their share of it.

        tau = 0:  to client i's row;  once  N / sum_i (1 / B_i) >= S / N:   x <- x + opt( 1/N sum_i mean of row i )
        tau > 0:  ignored;  with `cancel` jobs at the old model are stopped when the model moves

    B_i counts the updates in client i's row, S is `size`; the left side is their harmonic mean, 0 while a row is empty.
    S = N asks for one of each. A version is a batch. Wants all clients in flight. Server memory: one vector per client.

    Source: Tyurin, Richtarik, Optimal Time Complexities of Parallel Stochastic Optimization Methods Under a Fixed
    Computation Model, NeurIPS 2023. Deviations: none known.

    Presets: Theory (from memory): S = max(ceil(sigma^2 / eps), N).
    """

    evidence: ClassVar[str] = "secondary: simulation code believed to be the authors'; S from memory"
    conformance: ClassVar = {"variants": ({"size": 60},)}

    size: int | None = Field(None, ge=1, description="S, N times the harmonic mean of the rows' updates; none = N")
    cancel: bool = Field(True, description="stop jobs at the old model instead of ignoring their gradients")
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the mean of the rows moves x")

    def init(self, setup: Setup, fleet: Fleet) -> MaleniaState:
        if setup.concurrency != setup.clients:
            raise UserError("malenia needs every client in flight", hint="set clients.concurrency to clients.count")
        return MaleniaState(setup.init, Gathered.empty(setup.init), self.server_optimizer.init(setup.init))

    def assign(self, state: MaleniaState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=self.steps)

    def receive(self, state: MaleniaState, update: Update, fleet: Fleet) -> Step[MaleniaState]:
        if update.staleness:
            return Step(state, used=False, weight=0.0)
        n, count = fleet.clients, state.now.count
        state.now.put(update.client, update.delta, n)
        if len(count) < n or n / sum(1 / b for b in count.values()) < (self.size or n) / n:
            return Step(state, weight=1 / n)
        w, opt = self.server_optimizer.step(state.w, state.now.acc, state.opt)
        return Step(MaleniaState(w, Gathered.empty(w), opt), advanced=True, weight=1 / n)

    def recall(self, state: MaleniaState, fleet: Fleet) -> dict[int, Recall]:
        return {c: "cancel" for c, f in fleet.flying.items() if f.staleness} if self.cancel else {}
