"""PORT: buffered, weighted by staleness and by agreement, and laggards are asked to report early."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Recall, Setup, Step, Update
from aflctl.rules import OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PortState:
    """w [P]; `past` the models before it, oldest first; acc [P] sum of q D' and `total` sum of q in the buffer."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    past: tuple[Tensor, ...] = ()
    total: float = 0.0
    got: int = 0


class Port(Algorithm[PortState]):
    """Bounded-staleness buffering: who is too late is asked for what it has at its next epoch boundary.

        D'_i = y_i - x                                        re-based on the current model
        st_i = w_st Omega / (tau_i + Omega)                   staleness factor
        sim_i = w_sim (cos(x - x_prev, D'_i) + 1) / 2         interference; cos = 1 where tau_i <= 1 or no x_prev yet
        p_i = n_i (sim_i + st_i), normalised over the buffer; x <- x + opt( sum p_i D'_i )

    Omega is `bound`. A flying client whose staleness exceeds it is recalled: it uploads the model of its current
    epoch's end. x_prev is the model of `lookback` versions ago. x cannot change between an arrival and the flush that
    uses it, so p_i is fixed at arrival and one accumulator is enough. A version is a flush.

    Source: Su, Li, How Asynchronous can Federated Learning Be?, IWQoS 2022; authors' code in Plato. Deviations: Plato
    starts new clients at a flush only; here every arrival is replaced at once. The paper's x_prev is unverified; the
    code's is two rounds back.

    Presets: Authors' CIFAR-10 configuration: 100 clients, concurrency 30, buffer_size 15, bound 10, w_sim 1, w_st 3,
    local {epochs: 5, batch_size: 128, lr: 0.1, momentum: 0.9, weight_decay: 1e-4}, Dirichlet 5, target 75 %.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "official code read; of the paper nothing"
    conformance: ClassVar = {"variants": ({"buffer_size": 2, "bound": 2},)}

    buffer_size: int = Field(15, ge=1, description="updates per version (authors' configuration: 15 of 30 in flight)")
    bound: int = Field(10, ge=1, description="Omega, staleness from which a client is asked to report (authors: 10)")
    w_st: float = Field(3.0, gt=0, description="weight of the staleness factor (authors: 3)")
    w_sim: float = Field(1.0, ge=0, description="weight of the interference factor (authors: 1)")
    lookback: int = Field(2, ge=1, description="versions between x_prev and x (authors' code: 2)")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the buffer's mean moves x")

    def init(self, setup: Setup, fleet: Fleet) -> PortState:
        return PortState(setup.init, setup.init.new_zeros(setup.size), self.server_optimizer.init(setup.init))

    def receive(self, state: PortState, update: Update, fleet: Fleet) -> Step[PortState]:
        move = update.model - state.w
        st = self.w_st * self.bound / (update.staleness + self.bound)
        q = update.samples * (st + self.w_sim * (self._cos(state, update.staleness, move) + 1) / 2)
        state.acc.add_(move, alpha=q)
        state = replace(state, total=state.total + q, got=state.got + 1)
        if state.got < self.buffer_size:
            return Step(state, weight=q)
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.total), state.opt)
        past = (*state.past, state.w)[-self.lookback :]
        return Step(PortState(w, state.acc.zero_(), opt, past), advanced=True, weight=q)

    def recall(self, state: PortState, fleet: Fleet) -> dict[int, Recall]:
        return {c: "epoch" for c, f in fleet.flying.items() if f.staleness > self.bound}

    def _cos(self, state: PortState, staleness: int, move: Tensor) -> float:
        if staleness <= 1 or len(state.past) < self.lookback or not self.w_sim:
            return 1.0
        trend = state.w - state.past[0]
        return float(trend.dot(move) / (trend.norm() * move.norm()).clamp(min=1e-12))
