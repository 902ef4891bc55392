"""rFedAvg and rFedAvg+: FedAvg with a term that draws the clients' feature distributions together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Lost, Recall, Setup, Step, Task, Update
from aflctl.rules import Barrier, OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MapsState:
    """w [P]; acc [P] sum of this round's `got` updates; `maps` client -> [q] mean features; `training` 2nd half."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    batch_size: int
    maps: dict[int, Tensor] = field(default_factory=dict)
    training: bool = False
    got: int = 0


class RFedAvg(Algorithm[MapsState]):
    """Distribution-regularised FedAvg: each client is drawn to the mean features of the others.

        f_i = mean of z(x; model) over client i's data,   z = task.embed
        loss = CE + strength R,    R = || mean_batch z - f ||^2
        rFedAvg   f_i under the client's own last model;  f = mean of f_j, j != i
        rFedAvg+  f_i under the new global model;         f = mean of all f_j          (`plus: true`)
        server:   x <- x + opt( mean_S (y_i - x) )

    A round has two halves, both barriers: clients compute f_i (the clock charges one forward pass over the local data);
    then the same clients train. Each half is a task of its own in the record; a version is a round.

    Source: Wang et al., Distribution-Regularized Federated Learning on Non-IID Data, ICDE 2023; authors' code.
    Deviations: the paper's R of rFedAvg is the mean over j of ||mean z - f_j||^2; it differs from ours by a constant,
    so the gradient is the same. We send the mean but charge the (|S| - 1) maps that the paper sends. A client alone in
    its round has R = 0.

    Presets: Authors' configuration: strength 1e-5, local {epochs: 1, batch_size: 100, lr: 0.1}, 10 clients, 300 rounds.
    """

    uploads: ClassVar[tuple[str, ...]] = ("delta", "map")
    probes: ClassVar[bool] = True
    evidence: ClassVar[str] = "official code read"

    plus: bool = Field(False, description="rFedAvg+: maps under the new global model, and its extra push")
    strength: float = Field(1e-5, ge=0, description="lambda, weight of R (authors' configuration: 1e-5)")
    round: Barrier = Field(Barrier(), description="cohort and over-selection; a deadline ends the second half")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the mean update moves x")

    def init(self, setup: Setup, fleet: Fleet) -> MapsState:
        opt = self.server_optimizer.init(setup.init)
        return MapsState(setup.init, setup.init.new_zeros(setup.size), opt, setup.local.batch_size)

    def select(self, state: MapsState, fleet: Fleet) -> Sequence[int]:
        return self.round.select(fleet, sorted(state.maps) if state.training else None)

    def assign(self, state: MapsState, client: int, fleet: Fleet) -> Assignment:
        if not state.training:
            batches = fleet.samples[client] / min(state.batch_size, fleet.samples[client])
            return Assignment({"w": state.w} if self.plus else {}, steps=1, lr_scale=0.0, work=batches / 3)
        maps = [f for c, f in state.maps.items() if self.plus or c != client]
        near = sum(maps[1:], maps[0]) / len(maps) if maps else state.maps[client]
        down = 4 * (state.w.numel() + (1 if self.plus else len(maps)) * near.numel())
        return Assignment({"w": state.w, "near": near, "share": near.new_full((), float(bool(maps)))}, down_bytes=down)

    def receive(self, state: MapsState, update: Update, fleet: Fleet) -> Step[MapsState]:
        if not state.training:
            return self.tick(replace(state, maps={**state.maps, update.client: update.up["map"]}), fleet)
        state.acc.add_(update.up["delta"])
        return replace(self.tick(replace(state, got=state.got + 1), fleet), weight=1.0)

    def lost(self, state: MapsState, lost: Lost, fleet: Fleet) -> Step[MapsState]:
        return self.tick(state, fleet)

    def alarm(self, state: MapsState, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet) if state.training else None

    def tick(self, state: MapsState, fleet: Fleet) -> Step[MapsState]:
        if not state.training:
            return Step(replace(state, training=bool(state.maps) and not fleet.flying))
        if not self.round.closed(state.got, fleet):
            return Step(state)
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.got), state.opt)
        return Step(MapsState(w, state.acc.zero_(), opt, state.batch_size), advanced=True)

    def recall(self, state: MapsState, fleet: Fleet) -> dict[int, Recall]:
        return self.round.recall(fleet)

    # ---- client; "near" is there in the second half only ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {} if self.plus else {"y": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        w = job.sent["w"] if "w" in job.sent else job.memory["y"]
        if "near" in job.sent or data is None:
            return w, job.memory
        return w, {**job.memory, "map": self._mean(task, w, data).detach()}

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        if "near" not in job.sent or not self.strength:
            return task.loss(w, batch)
        r = (self._mean(task, w, batch) - job.sent["near"]).square().sum()
        return task.loss(w, batch) + self.strength * job.sent["share"] * r

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        memory = dict(job.memory)
        if "near" not in job.sent:
            return {"delta": w[:0], "map": memory.pop("map")}, memory
        delta = w - job.sent["w"]
        return {"delta": delta, "map": w[:0]}, {**memory, "y": w} if "y" in memory else memory

    def _mean(self, task: Task, w: Tensor, batch: Batch) -> Tensor:
        z = task.embed(w, batch.x, batch.present).flatten(1)
        return (z * batch.mask.unsqueeze(-1)).sum(0) / batch.mask.sum().clamp(min=1)
