"""FedAvg, with server optimizers, over-selection, a deadline, and sampling with or without replacement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Lost, Recall, Setup, Step, Update
from aflctl.rules import Barrier, OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RoundState:
    """w [P] global model, acc [P] weighted sum of this round's updates, `times` how often each of the next round's
    clients is drawn, `drawn` client -> that number in this round."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    total: float = 0.0
    got: int = 0
    times: tuple[int, ...] = ()
    drawn: dict[int, int] = field(default_factory=dict)


class FedAvg(Algorithm[RoundState]):
    """Federated averaging: rounds of local training and a weighted mean.

        x <- x + opt( sum_{i in S} p_i D_i / sum_{i in S} p_i ),   D_i = y_i - x

    S is the round's cohort (`round`), p_i = n_i or 1 (`weighting`), opt the identity unless `server_optimizer` says
    otherwise (FedAvgM, FedAdagrad, FedAdam, FedYogi). A version is a round; staleness is always 0.

    With `replacement` each round draws its cohort with replacement: a client drawn t times trains once, weighs t p_i
    and counts t times towards a full round.

    Deviations: the AISTATS pseudo-code divides by n over all clients, which shrinks x under partial participation;
    here, as in every implementation, the weights are normalised over S.

    Source: McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017;
    server optimizers: Reddi et al., ICLR 2021; deadline and over-selection: Bonawitz et al., MLSys 2019.

    Presets: Paper: 100 clients, 10 a round. MNIST 2NN: local {epochs: 1, batch_size: 10}; CNN: {epochs: 5, batch_size:
    10}; CIFAR-10: {epochs: 5, batch_size: 50, lr_decay: 0.99}; lr from a grid of 10^(1/3). Reddi et al., EMNIST: local
    lr 0.03, server_optimizer {kind: adam or yogi, lr: 0.003, b2: 0.99, eps: 1e-4}, {kind: adagrad, lr: 0.1, eps: 0.01},
    {kind: sgd, b1: 0.9, lr: 0.3}; 10 clients a round, batch 20.
    """

    evidence: ClassVar[str] = "paper read"

    round: Barrier = Field(Barrier(), description="cohort, over-selection and deadline of a round")
    weighting: Literal["samples", "uniform"] = Field("samples", description="p_i = n_i (paper) or 1")
    replacement: bool = Field(False, description="draw the cohort with replacement (paper: without)")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the mean update moves x")

    def init(self, setup: Setup, fleet: Fleet) -> RoundState:
        acc = setup.init.new_zeros(setup.size)
        return RoundState(setup.init, acc, self.server_optimizer.init(setup.init), times=self._draws(fleet))

    def _draws(self, fleet: Fleet) -> tuple[int, ...]:
        """How often each distinct client of the next cohort is drawn; which clients they are is left to `draw`."""
        if not self.replacement:
            return ()
        draws = Counter(fleet.rng.integers(fleet.clients, size=self.round.started(fleet)).tolist())
        # shuffled: whoever is drawn first is more often drawn again, and `draw` answers in the order of client numbers
        return tuple(fleet.rng.permutation(list(draws.values())).tolist())

    def select(self, state: RoundState, fleet: Fleet) -> Sequence[int]:
        if not self.replacement:
            return self.round.select(fleet)
        return [] if fleet.flying else fleet.draw(min(fleet.free, len(state.times)))

    def launched(self, state: RoundState, clients: Sequence[int], fleet: Fleet) -> RoundState:
        return replace(state, drawn=dict(zip(clients, state.times)) if self.replacement else {})

    def receive(self, state: RoundState, update: Update, fleet: Fleet) -> Step[RoundState]:
        p = float(update.samples if self.weighting == "samples" else 1)
        return self._add(state, update.delta, p, update, fleet)

    def _add(self, state: RoundState, delta: Tensor, p: float, update: Update, fleet: Fleet) -> Step[RoundState]:
        times = state.drawn.get(update.client, 1)
        p *= times
        state.acc.add_(delta, alpha=p)
        step = self.tick(replace(state, total=state.total + p, got=state.got + times), fleet)
        return replace(step, weight=p)

    def lost(self, state: RoundState, lost: Lost, fleet: Fleet) -> Step[RoundState]:
        return self.tick(state, fleet)

    def alarm(self, state: RoundState, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet)

    def tick(self, state: RoundState, fleet: Fleet) -> Step[RoundState]:
        if not self.round.closed(state.got, fleet):
            return Step(state)
        return self._close(state, fleet)

    def _close(self, state: RoundState, fleet: Fleet) -> Step[RoundState]:
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.total), state.opt)
        state.acc.zero_()
        return Step(replace(state, w=w, opt=opt, total=0.0, got=0, times=self._draws(fleet), drawn={}), advanced=True)

    def recall(self, state: RoundState, fleet: Fleet) -> dict[int, Recall]:
        return self.round.recall(fleet)
