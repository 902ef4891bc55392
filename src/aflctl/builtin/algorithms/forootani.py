"""AFL of Forootani and Iervolino: delay-aware learning rates, n / (1 + beta tau) weights, early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Assignment, Batch, Fleet, Job, Recall, Setup, Step, Task, Update
from aflctl.builtin.algorithms.fedavg import FedAvg, RoundState
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AflState(RoundState):
    """A round or buffer; epochs of a task; `lags` client -> staleness of its last task (delay_source: staleness)."""

    epochs: int = 1
    lags: dict[int, int] = field(default_factory=dict)


class Forootani(FedAvg):
    """Asynchronous FL for non-convex objectives and heterogeneous data, in three variants.

        client:     epoch e = 0, 1, ... trains with   eta_e = eta / (sqrt(e + 1) (1 + alpha delta_i))
                    and stops after `patience` epochs without a lower mean training loss
        immediate   x <- x + a (y_i - x),   a = min(1, mix n_i / nbar / (1 + beta tau_i)),  nbar = n / N
        buffered    every `buffer_size` arrivals:  w_i = n_i / (1 + beta tau_i),  x <- x + opt( sum w_i D_i / sum w_i )
        barrier     FedAvg's round: x <- sum (n_i / n_S) y_i

    delta_i is the client's own delay (`delay_source`): its expected seconds, the staleness of its last task, or the
    constant `delay`. `no_broadcast` reproduces the released scripts: nothing is ever sent down, every client goes on
    training its private model (and D_i is y_i - x). It is why their results collapse; leave it off otherwise.

    Source: Forootani, Iervolino, Asynchronous Federated Learning with non-convex client objective functions and
    heterogeneous dataset, IEEE TAI 2025; authors' code. Deviations: the scripts use one constant delay for all clients
    and make Adam anew each epoch; patience below the number of epochs, else it can never stop anything (theirs: 10 of
    10). `immediate` is ours: the paper's weight folded into mixing.

    Presets: Scripts: local {epochs: 10, batch_size: 64, optimizer: adam, lr: 0.001}, alpha 0.01, delay 2, 10 clients, 5
    in parallel, variant barrier; buffered: buffer_size 8, beta 0.05, epochs 5, alpha 0. FashionMNIST, Dirichlet 0.5.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "official code read; paper's text without its formulas"
    conformance: ClassVar = {
        "variants": (
            {"variant": "barrier", "replacement": True},
            {"variant": "barrier", "delay_source": "constant"},
            {"variant": "immediate"},
        )
    }

    variant: Literal["immediate", "buffered", "barrier"] = Field("buffered", description="when the server steps")
    buffer_size: int = Field(8, ge=1, description="K of the buffered variant (scripts: 8)")
    alpha: float = Field(0.01, ge=0, description="how much delay lowers the learning rate (scripts: 0.01)")
    beta: float = Field(0.05, ge=0, description="how much staleness lowers a weight (scripts: 0.05)")
    mix: float = Field(0.5, gt=0, le=1, description="immediate: mixing weight of an average fresh update")
    delay_source: Literal["time", "staleness", "constant"] = Field("time", description="what delta_i is")
    delay: float = Field(2.0, ge=0, description="delta of every client with delay_source: constant (scripts: 2)")
    patience: int | None = Field(None, ge=1, description="early stopping (scripts: 10 of 10 epochs, without effect)")
    no_broadcast: bool = Field(False, description="clients never receive the global model, as in the released scripts")

    def init(self, setup: Setup, fleet: Fleet) -> AflState:
        if setup.local.steps is not None:
            raise UserError("forootani counts its learning rate in epochs", hint="use local.epochs, not local.steps")
        if self.replacement and self.variant != "barrier":
            raise UserError(
                "forootani: replacement is about the cohort of a round",
                hint="set algorithm.variant: barrier, or leave it",
            )
        return AflState(**vars(super().init(setup, fleet)), epochs=setup.local.epochs)

    def select(self, state: RoundState, fleet: Fleet) -> Sequence[int]:
        return super().select(state, fleet) if self.variant == "barrier" else fleet.draw(fleet.free)

    def assign(self, state: RoundState, client: int, fleet: Fleet) -> Assignment:
        assert isinstance(state, AflState)
        delta = self.delay
        if self.delay_source != "constant":
            delta = fleet.expected_s(client) if self.delay_source == "time" else state.lags.get(client, 0)
        scales = tuple(1 / ((e + 1) ** 0.5 * (1 + self.alpha * delta)) for e in range(state.epochs))
        return Assignment({} if self.no_broadcast else {"w": state.w}, lr_scale=scales, patience=self.patience)

    def receive(self, state: RoundState, update: Update, fleet: Fleet) -> Step[RoundState]:
        assert isinstance(state, AflState)
        state.lags[update.client] = update.staleness
        n = float(update.samples) if self.weighting == "samples" else fleet.total_samples / fleet.clients
        weight = n / (1 + self.beta * update.staleness)
        if self.variant == "immediate":
            a = min(1.0, self.mix * weight * fleet.clients / fleet.total_samples)
            return Step(replace(state, w=state.w.lerp(update.model, a)), advanced=True, weight=a)
        delta = update.model - state.w if self.no_broadcast else update.delta
        return self._add(state, delta, n if self.variant == "barrier" else weight, update, fleet)

    def alarm(self, state: RoundState, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet) if self.variant == "barrier" else None

    def tick(self, state: RoundState, fleet: Fleet) -> Step[RoundState]:
        full = self.round.closed(state.got, fleet) if self.variant == "barrier" else state.got >= self.buffer_size
        return self._close(state, fleet) if full else Step(state)

    def recall(self, state: RoundState, fleet: Fleet) -> dict[int, Recall]:
        return self.round.recall(fleet) if self.variant == "barrier" else {}

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"w": setup.init} if self.no_broadcast else {}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return job.memory["w"] if self.no_broadcast else job.sent["w"], job.memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"w": w}, {**job.memory, "w": w} if self.no_broadcast else job.memory
