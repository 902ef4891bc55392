"""FedStale (Rodio and Neglia, arXiv 2405.04171, 2024) in buffered asynchronous form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Step
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from aflctl.api import Fleet, Setup, Update

__all__ = ["FedStale", "State"]


@dataclass(frozen=True)
class State:
    """Between two versions.

    rows    client -> [P] a_i h_i, its last update times its weight; 0 where it has sent none
    total   [P] sum of the rows
    buffer  client -> [P] sum of its updates since the last version
    counts  client -> number of its updates since the last version
    joined  client -> number of versions that it took part in
    """

    w: Tensor
    rows: ClientTable
    total: Tensor
    buffer: Mapping[int, Tensor] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    joined: Mapping[int, int] = field(default_factory=dict)


class FedStale(Algorithm[State]):
    """FedStale: fresh updates of those who came, stale ones of those who did not, `beta` between the two.

        D = sum_S (a_i / p_i) D_i + beta (sum_{not S} a_i h_i + sum_S (a_i - a_i / p_i) h_i)
          = beta H + sum_S (a_i D_i - beta a_i h_i) / p_i              with H = sum over all clients of a_i h_i
        x <- x + lr D,   h_i <- D_i for i in S

    S = the clients of the last `buffer_size` updates, D_i = their update (trained minus received model), h_i = the
    client's last D_i (0 at first), a_i = its weight, p_i = its probability of taking part. beta = 0 is FedAvg on a
    buffer, made unbiased; beta = 1 with equal a and p is FedVARP. Memory: one vector for each client that was heard.

    Deviations: the paper has rounds; here a full buffer makes a version. A client that comes twice into one buffer
    counts once, with the mean of its updates. Where sample counts change, h_i keeps the weight of its own time.

    Source: Rodio and Neglia, FedStale: leveraging stale client updates in federated learning, arXiv 2405.04171.
    """

    evidence: ClassVar[str] = "formula from the paper's notes and the authors' code; checked against FedVARP"

    buffer_size: int = Field(10, ge=1, description="updates that make a version")
    lr: float = Field(1.0, gt=0, description="server learning rate")
    beta: float = Field(0.5, ge=0, le=1, description="weight of stale updates: 0 = FedAvg, 1 = FedVARP")
    weighting: Literal["uniform", "samples"] = Field("uniform", description="a_i = 1 / N, or n_i / n")
    participation: Literal["equal", "observed"] = Field(
        "equal", description="p_i = |S| / N, or the share of versions so far that client i took part in"
    )

    def init(self, setup: Setup, fleet: Fleet) -> State:
        zero = setup.init.new_zeros(setup.size)
        return State(setup.init, ClientTable(zero), zero)

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        i = update.client
        mine = state.buffer[i] + update.delta if i in state.buffer else update.delta
        state = replace(state, buffer={**state.buffer, i: mine}, counts={**state.counts, i: state.counts.get(i, 0) + 1})
        if sum(state.counts.values()) < self.buffer_size:
            return Step(state)

        delta, total, joined = self.beta * state.total, state.total, dict(state.joined)
        for i in sorted(state.buffer):
            joined[i] = joined.get(i, 0) + 1
            old, new = state.rows[i], self._weight(i, fleet) * (state.buffer[i] / state.counts[i])
            p = len(state.buffer) / fleet.clients if self.participation == "equal" else joined[i] / (fleet.version + 1)
            delta = delta + (new - self.beta * old) / p
            total = total + (new - old)
            state.rows[i] = new
        return Step(State(state.w + self.lr * delta, state.rows, total, joined=joined), advanced=True)

    def _weight(self, client: int, fleet: Fleet) -> float:
        return 1 / fleet.clients if self.weighting == "uniform" else fleet.samples[client] / fleet.total_samples
