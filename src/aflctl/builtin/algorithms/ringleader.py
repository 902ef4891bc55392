"""Ringleader ASGD: time-optimal asynchronous SGD under different data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Lost, Setup, Step, Task, Update
from aflctl.errors import UserError
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gathered:
    """Per client the mean of its updates and their number; acc [P] the sum of the means over N."""

    mean: ClientTable
    acc: Tensor
    count: dict[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, w: Tensor) -> Gathered:
        """Of nobody."""
        return cls(ClientTable(w.new_zeros(w.shape)), w.new_zeros(w.shape))

    def put(self, c: int, delta: Tensor, n: int) -> None:
        """One more update of client c among n clients."""
        self.count[c] = self.count.get(c, 0) + 1
        move = (delta - self.mean[c]) / self.count[c]
        self.mean[c] = self.mean[c] + move
        self.acc.add_(move, alpha=1 / n)


@dataclass(frozen=True)
class RingleaderState:
    """w [P]; `now` and `after` the two tables; `served` clients given a new model in this second phase (empty in the
    first); `held` client -> version of the model it holds; `give` clients that are to get the present model."""

    w: Tensor
    now: Gathered
    after: Gathered
    served: frozenset[int] = frozenset()
    held: dict[int, int] = field(default_factory=dict)
    give: frozenset[int] = frozenset()


class Ringleader(Algorithm[RingleaderState]):
    """Asynchronous SGD in cycles: every update weighs each client's mean gradient by exactly 1/N.

        phase 1   gradients go to the table G until every client is in it; who reports goes on with the model it holds;
                  the last one opens phase 2
        phase 2   N updates  x <- x + lr/N sum_i mean G_i:  one when it opens, then one for each client that reports and
                  was not yet served in this phase (its gradient goes to G first); it gets the new x.
                  Who was served already puts further gradients into G' and goes on with the model it holds
        end       G <- G', G' <- empty

    Each client gets one new model per cycle; no gradient is older than 2N - 2 versions. Downloads are N a cycle: a
    client that goes on is sent nothing. A version is an update. Wants all clients in flight. Server memory: 2N vectors.

    Source: Maranjyan, Richtarik, Ringleader ASGD, ICLR 2026. Deviations: a client whose task was lost gets the present
    model next, and a round trip separates two of its gradients, where the paper's workers compute without pause.

    Presets: Theory (from memory): local.lr about 1 / (8 N L). 60 clients on digits: local.lr 0.05 needs lr 0.2.
    Authors, MNIST and Fashion-MNIST, Dirichlet 0.1: 100 clients, MLP of 128, batch 4.
    """

    evidence: ClassVar[str] = "secondary: simulation code believed to be the authors'; schedule simulated anew"

    lr: float = Field(1.0, gt=0, description="factor on the mean update")
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")

    def init(self, setup: Setup, fleet: Fleet) -> RingleaderState:
        if setup.concurrency != setup.clients:
            raise UserError("ringleader needs every client in flight", hint="set clients.concurrency to clients.count")
        return RingleaderState(setup.init, Gathered.empty(setup.init), Gathered.empty(setup.init))

    def assign(self, state: RingleaderState, client: int, fleet: Fleet) -> Assignment:
        if client in state.give or client not in state.held:
            return Assignment({"w": state.w}, steps=self.steps)
        return Assignment({}, version=state.held[client], steps=self.steps)

    def receive(self, state: RingleaderState, update: Update, fleet: Fleet) -> Step[RingleaderState]:
        c, n = update.client, fleet.clients
        state.held[c] = update.version
        state = replace(state, give=state.give - {c})
        if c in state.served:
            state.after.put(c, update.up["delta"], n)
            return Step(state, weight=1 / n)
        state.now.put(c, update.up["delta"], n)
        if not state.served and len(state.now.count) < n:
            return Step(state, weight=1 / n)
        w, served = state.w.add(state.now.acc, alpha=self.lr), state.served | {c}
        state = replace(state, w=w, served=served, give=state.give | {c})
        if len(served) == n:
            state = replace(state, now=state.after, after=Gathered.empty(w), served=frozenset())
        return Step(state, advanced=True, weight=1 / n)

    def lost(self, state: RingleaderState, lost: Lost, fleet: Fleet) -> Step[RingleaderState]:
        return Step(replace(state, give=state.give | {lost.client}))

    # ---- client: it remembers the model it holds ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"w": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return self._held(job), job.memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"delta": w - self._held(job)}, {**job.memory, "w": self._held(job)}

    def _held(self, job: Job) -> Tensor:
        return job.sent["w"] if "w" in job.sent else job.memory["w"]
