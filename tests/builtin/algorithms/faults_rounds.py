"""Faults in methods with rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from faults import fault
from torch import Tensor

from aflctl.api import Assignment
from aflctl.builtin.algorithms.cfl import Cfl
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedprox import FedProx
from aflctl.builtin.algorithms.moon import Moon
from aflctl.builtin.algorithms.rfedavg import RFedAvg
from aflctl.builtin.algorithms.scaffold import Scaffold
from aflctl.rules import ServerOptimizer


@fault(FedProx, "norm not squared")
class NotSquared(FedProx):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        gap = w - job.sent["w"]
        return g + self.mu * gap / gap.norm().clamp(min=1e-12)


@fault(FedProx, "detached proximal term")
class Detached(FedProx):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        return g


@fault(FedProx, "without the half")
class WithoutHalf(FedProx):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        return g + 2 * self.mu * (w - job.sent["w"])


@fault(FedAvg, "weights of samples ignored")
class Unweighted(FedAvg):
    weighting: str = "uniform"


@fault(FedAvg, "late clients are waited for")
class NoDeadline(FedAvg):
    def alarm(self, state: Any, fleet: Any) -> None:
        return None


@fault(Scaffold, "correction after training")
class CorrectedAfter(Scaffold):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        return g

    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w - job.lr * (job.sent["c"] - job.memory["c"]), job)


@fault(Scaffold, "divided by epochs instead of steps")
class DividedByOne(Scaffold):
    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w, job._replace(steps=torch.ones(())))


@fault(Scaffold, "control variate moves by |S| / N times the sum")
class FastControl(Scaffold):
    def tick(self, state: Any, fleet: Any) -> Any:
        state.dc.mul_(2)
        step = super().tick(state, fleet)
        if not step.advanced:
            state.dc.div_(2)
        return step


@fault(Scaffold, "nearly frozen server")
class Frozen(Scaffold):
    server_optimizer: ServerOptimizer = ServerOptimizer(lr=0.001)


@fault(Moon, "positive and negative exchanged")
class Exchanged(Moon):
    def loss(self, task: Any, w: Tensor, batch: Any, job: Any) -> Tensor:
        swapped = job._replace(sent={"w": job.memory["prev0"]}, memory={"prev0": job.sent["w"]})
        return super().loss(task, w, batch, swapped)


@fault(Moon, "previous model never stored")
class Forgetful(Moon):
    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w, job)[0], job.memory


@fault(RFedAvg, "maps never computed")
class NoMaps(RFedAvg):
    def _mean(self, task: Any, w: Tensor, batch: Any) -> Tensor:
        return super()._mean(task, w, batch) * 0


@fault(RFedAvg, "weighted by samples of one map for all")
class OwnMap(RFedAvg):
    def assign(self, state: Any, client: int, fleet: Any) -> Assignment:
        order = super().assign(state, client, fleet)
        return replace(order, tensors={**order.tensors, "near": state.maps[client]}) if state.training else order


@fault(Cfl, "positions in the cluster taken for client numbers")
class Positions(Cfl):
    def tick(self, state: Any, fleet: Any) -> Any:
        step = super().tick(state, fleet)
        moved = sorted(
            c for c in step.state.cluster if c not in state.cluster or step.state.cluster[c] != state.cluster[c]
        )
        if not moved:
            return step
        old = state.cluster.get(moved[0], 0)
        members = sorted(c for c in range(fleet.clients) if state.cluster.get(c, 0) == old)
        wrong = {**state.cluster, **{members.index(c): step.state.cluster[c] for c in moved}}
        return replace(step, state=replace(step.state, cluster=wrong))


@fault(Cfl, "models of before the split are averaged")
class SplitLate(Cfl):
    def _split(self, deltas: Any) -> None:
        return None


@fault(Cfl, "clients never heard are judged by the model's weights")
class Poisoned(Cfl):
    def init(self, setup: Any, fleet: Any) -> Any:
        state = super().init(setup, fleet)
        for c in range(fleet.clients):
            state.last[c] = setup.init
        return state


@fault(Scaffold, "control variate by the rate of before the decay")
class UndecayedRate(Scaffold):
    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w, job._replace(lr=torch.tensor(0.5)))


@fault(FedAvg, "drawn twice, weighs once")
class DrawnOnce(FedAvg):
    def launched(self, state: Any, clients: Any, fleet: Any) -> Any:
        return replace(state, drawn={})
