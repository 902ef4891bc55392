"""FedVARP: rounds, with every absent client stood in for by its last update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Lost, Recall, Setup, Step, Update
from aflctl.rules import Barrier, ClientTable, OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TableState:
    """w [P]; `table` client -> h_i, its last update (zeros at first); mean [P] sum of a_i h_i before this round;
    acc [P] sum of a_i (D_i - h_i) in it."""

    w: Tensor
    table: ClientTable
    mean: Tensor
    acc: Tensor
    opt: OptimizerState
    got: int = 0


class FedVarp(Algorithm[TableState]):
    """Variance reduction for partial participation: the round's updates, calibrated by what everybody sent last.

        V = sum_j a_j h_j + N/|S| sum_{i in S} a_i (D_i - h_i),   a_i = 1/N or n_i / n
        x <- x + opt(V);   h_i <- D_i for i in S

    With a_i = 1/N this is hbar + mean_S (D_i - h_i). Server memory: one vector per client heard. A version is a round.

    Source: Jhunjhunwala, Sharma, Nagarkatti, Joshi, FedVARP, UAI 2022. Deviations: none known.

    Presets: Paper: server_optimizer {lr: 1.0}, local plain SGD; 5 of 250 clients a round on CIFAR-10.
    """

    evidence: ClassVar[str] = "paper read"

    round: Barrier = Field(Barrier(), description="cohort, over-selection and deadline of a round")
    weighting: Literal["uniform", "samples"] = Field("uniform", description="a_i = 1/N (paper) or n_i / n")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how V moves x")

    def init(self, setup: Setup, fleet: Fleet) -> TableState:
        zero, mean, acc = (setup.init.new_zeros(setup.size) for _ in range(3))
        return TableState(setup.init, ClientTable(zero), mean, acc, self.server_optimizer.init(setup.init))

    def select(self, state: TableState, fleet: Fleet) -> Sequence[int]:
        return self.round.select(fleet)

    def receive(self, state: TableState, update: Update, fleet: Fleet) -> Step[TableState]:
        c = update.client
        a = 1 / fleet.clients if self.weighting == "uniform" else fleet.samples[c] / fleet.total_samples
        state.acc.add_(update.delta - state.table[c], alpha=a)
        state.table[c] = update.delta
        return replace(self.tick(replace(state, got=state.got + 1), fleet), weight=a)

    def lost(self, state: TableState, lost: Lost, fleet: Fleet) -> Step[TableState]:
        return self.tick(state, fleet)

    def alarm(self, state: TableState, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet)

    def tick(self, state: TableState, fleet: Fleet) -> Step[TableState]:
        return self._close(state, fleet) if self.round.closed(state.got, fleet) else Step(state)

    def _close(self, state: TableState, fleet: Fleet) -> Step[TableState]:
        move = state.mean.add(state.acc, alpha=fleet.clients / state.got)
        w, opt = self.server_optimizer.step(state.w, move, state.opt)
        state.mean.add_(state.acc)
        state.acc.zero_()
        return Step(replace(state, w=w, opt=opt, got=0), advanced=True)

    def recall(self, state: TableState, fleet: Fleet) -> dict[int, Recall]:
        return self.round.recall(fleet)
