"""FedBuff: asynchronous arrivals, aggregated a buffer at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Setup, Step, Update
from aflctl.rules import OptimizerState, ServerOptimizer, StalenessWeight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BufferState:
    """w [P] global model, acc [P] sum of s p D in the buffer, total sum of p, got updates in the buffer."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    total: float = 0.0
    got: int = 0


class FedBuff(Algorithm[BufferState]):
    """Buffered asynchronous aggregation: K updates, each discounted by its staleness, make one step.

        acc <- acc + s(tau_i) p_i D_i;  once K have arrived:  x <- x + opt( acc / sum p_i ),  acc <- 0

    K is `buffer_size`, s `staleness`, p_i = 1 or n_i (`weighting`), opt `server_optimizer` (plain step with lr = eta_g;
    {b1: 0.9} is the paper's server momentum m <- b1 m + acc / K). The discounts are not renormalised: a stale buffer
    takes a shorter step. A version is a flush; what is left in the buffer at the end of a run is not applied. One
    client may fill several places of a buffer.

    Source: Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, AISTATS 2022; official simulator
    FLSim. Deviations: FLSim also sums instead of averaging and flushes leftovers at the end of an epoch; not offered.
    Its `max_staleness` is this project's server.max_staleness.

    Presets: Paper (unverified): buffer_size 10, concurrency up to 1000. FLSim, Sent140: buffer_size 10,
    server_optimizer {lr: 0.7, b1: 0.9}, local {lr: 0.1}.
    """

    evidence: ClassVar[str] = "official code read (FLSim); of the paper the abstract"

    buffer_size: int = Field(10, ge=1, description="K, updates per version (paper: 10)")
    staleness: StalenessWeight = Field(StalenessWeight(), description="s(tau); paper: 1 / sqrt(1 + tau)")
    weighting: Literal["uniform", "samples"] = Field("uniform", description="p_i = 1 (paper) or n_i")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the buffer's mean moves x")

    def init(self, setup: Setup, fleet: Fleet) -> BufferState:
        return BufferState(setup.init, setup.init.new_zeros(setup.size), self.server_optimizer.init(setup.init))

    def receive(self, state: BufferState, update: Update, fleet: Fleet) -> Step[BufferState]:
        return self._add(state, update, self._base(update) * self.staleness(update.staleness), fleet)

    def _base(self, update: Update) -> float:
        return float(update.samples) if self.weighting == "samples" else 1.0

    def _add(self, state: BufferState, update: Update, weight: float, fleet: Fleet) -> Step[BufferState]:
        state.acc.add_(update.delta, alpha=weight)
        state = BufferState(state.w, state.acc, state.opt, state.total + self._base(update), state.got + 1)
        if self._full(state, fleet):
            return replace(self._flush(state), weight=weight)
        return Step(state, weight=weight)

    def _full(self, state: BufferState, fleet: Fleet) -> bool:
        return state.got >= self.buffer_size

    def _flush(self, state: BufferState) -> Step[BufferState]:
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.total), state.opt)
        return Step(BufferState(w, state.acc.zero_(), opt), advanced=True)
