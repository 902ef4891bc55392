"""ACE and ACED: every arrival moves the model by the mean of all clients' last updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Setup, Step, Update
from aflctl.rules import ClientTable, OptimizerState, ServerOptimizer, unheard_first

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AceState:
    """w [P]; `table` client -> U_i; acc [P] sum of U_i over `fresh`, client -> version its U_i started from."""

    w: Tensor
    table: ClientTable
    acc: Tensor
    opt: OptimizerState
    fresh: dict[int, int] = field(default_factory=dict)


class Ace(Algorithm[AceState]):
    """All-client engagement: fully asynchronous, yet each client has the same say, however fast it is.

        start:   every client trains from x_0 once, which fills the table; x stays
        then, at each arrival:  U_i <- D_i;   x <- x + opt( mean over j in A of U_j )
        A = all clients (ACE), or those whose U_j started at most `max_age` versions ago (ACED)

    With `steps` 1 an update is one stochastic gradient, as in the paper. Steps must be small against the age of the
    rows: whole local displacements (`steps: null`) want a server_optimizer.lr of about 1 / clients. Where A is empty
    the step is left out; expired rows wait until their clients report again. Server memory: one vector per client. A
    version is an arrival after the table is full.

    Source: Chang et al., arXiv 2511.19066. Deviations: the incremental sum of the table drifts by rounding (relative
    1e-7 an arrival) instead of being summed anew.
    """

    evidence: ClassVar[str] = "abstract, and secondary code"

    max_age: int | None = Field(
        None, ge=0, description="tau_algo, versions after which a row expires; none = never (ACE)"
    )
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the mean moves x")

    def init(self, setup: Setup, fleet: Fleet) -> AceState:
        zero, acc = setup.init.new_zeros(setup.size), setup.init.new_zeros(setup.size)
        return AceState(setup.init, ClientTable(zero), acc, self.server_optimizer.init(setup.init))

    def select(self, state: AceState, fleet: Fleet) -> Sequence[int]:
        if len(state.table) == fleet.clients or not fleet.free:
            return fleet.draw(fleet.free)
        return unheard_first(state.table, fleet.free, fleet)

    def assign(self, state: AceState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=self.steps)

    def receive(self, state: AceState, update: Update, fleet: Fleet) -> Step[AceState]:
        c, fresh = update.client, dict(state.fresh)
        state.acc.add_(update.delta)
        if fresh.pop(c, None) is not None:
            state.acc.sub_(state.table[c])
        state.table[c] = update.delta
        fresh[c] = update.version
        if self.max_age is not None:
            for old in [k for k, v in fresh.items() if fleet.version - v > self.max_age]:
                state.acc.sub_(state.table[old])
                del fresh[old]
        state = replace(state, fresh=fresh)
        if len(state.table) < fleet.clients or not fresh:
            return Step(state, weight=0.0)
        w, opt = self.server_optimizer.step(state.w, state.acc / len(fresh), state.opt)
        return Step(replace(state, w=w, opt=opt), advanced=True, weight=1 / len(fresh))
