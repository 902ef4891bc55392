"""CFL: clustered federated learning by the cosine of the clients' updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Lost, Recall, Setup, Step, Update
from aflctl.rules import Barrier, ClientTable

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors


@dataclass(frozen=True)
class CflState:
    """w [P] mean model over clients; `models` cluster -> [P]; `cluster` client -> cluster, absent = 0; `last` the
    clients' last updates; `came` the clients of this round, in order of arrival."""

    w: Tensor
    models: tuple[Tensor, ...]
    last: ClientTable
    cluster: dict[int, int] = field(default_factory=dict)
    came: tuple[int, ...] = ()


class Cfl(Algorithm[CflState]):
    """Clustered federated learning: clients whose updates disagree are split into clusters with a model each.

        each round, for each cluster k with members i:
            if ||mean D_i|| < eps1 and max ||D_i|| > eps2 and more than 2 members and round > warmup:
                split in two by complete linkage with distance 1 - cos(D_i, D_j)
        then, with the new clusters:  x_k <- x_k + mean of D_i over this round's members

    A client trains from its cluster's model, and `personal` evaluates it there; the global model is the mean of the
    clusters' models, weighted by members. eps1 = 0 never splits and is uniform FedAvg. A version is a round.

    Wants full participation (clients.concurrency = clients.count). Otherwise a client that is not in the round is
    judged by its last update, and one that was never heard stays in cluster 0 and out of the similarity. A zero update
    has cosine 0 with all. Server memory: one vector per client.

    Source: Sattler, Mueller, Samek, Clustered Federated Learning, IEEE TNNLS 2021; authors' code. Deviations: as in the
    code, splits are not checked against the paper's bound on cross-cluster similarity.

    Presets: Authors' notebook: EMNIST, 10 clients, Dirichlet 1.0, half of them rotated by 180 degrees; eps1 0.4, eps2
    1.6, warmup 20, 80 rounds, local {lr: 0.1, lr_decay: 0.99, momentum: 0.9, batch_size: 128}.
    """

    evidence: ClassVar[str] = "official code read"
    conformance: ClassVar = {"variants": ({"warmup": 1, "eps1": 10.0, "eps2": 0.01},)}

    eps1: float = Field(0.4, ge=0, description="split where the mean update is shorter than this (notebook: 0.4)")
    eps2: float = Field(1.6, ge=0, description="and the longest is longer than this (notebook: 1.6)")
    warmup: int = Field(20, ge=0, description="rounds before the first split (notebook: 20)")
    round: Barrier = Field(Barrier(), description="cohort, over-selection and deadline of a round")

    def init(self, setup: Setup, fleet: Fleet) -> CflState:
        return CflState(setup.init, (setup.init,), ClientTable(setup.init.new_zeros(setup.size)))

    def select(self, state: CflState, fleet: Fleet) -> Sequence[int]:
        return self.round.select(fleet)

    def assign(self, state: CflState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.models[state.cluster.get(client, 0)]})

    def receive(self, state: CflState, update: Update, fleet: Fleet) -> Step[CflState]:
        state.last[update.client] = update.delta
        return replace(self.tick(replace(state, came=(*state.came, update.client)), fleet), weight=1.0)

    def lost(self, state: CflState, lost: Lost, fleet: Fleet) -> Step[CflState]:
        return self.tick(state, fleet)

    def alarm(self, state: CflState, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet)

    def tick(self, state: CflState, fleet: Fleet) -> Step[CflState]:
        if not self.round.closed(len(state.came), fleet):
            return Step(state)
        models, cluster = list(state.models), dict(state.cluster)
        for k in range(len(models)) if fleet.version >= self.warmup else ():
            members = [c for c in state.last if cluster.get(c, 0) == k]
            apart = self._split([state.last[c] for c in members])
            if apart is not None:
                cluster.update((c, len(models)) for c, other in zip(members, apart) if other)
                models.append(models[k])
        for k, x in enumerate(models):
            moves = [state.last[c] for c in state.came if cluster.get(c, 0) == k]
            models[k] = x + sum(moves[1:], moves[0]) / len(moves) if moves else x
        sizes = [fleet.clients - len(cluster), *([0] * (len(models) - 1))]
        for k in cluster.values():
            sizes[k] += 1
        w = models[0]
        if len(models) > 1:
            w = sum((x * (n / fleet.clients) for x, n in zip(models, sizes)), w.new_zeros(w.shape))
        return Step(CflState(w, tuple(models), state.last, cluster), advanced=True, log={"clusters": len(models)})

    def recall(self, state: CflState, fleet: Fleet) -> dict[int, Recall]:
        return self.round.recall(fleet)

    def personal(self, state: CflState, client: int, memory: Tensors) -> Tensor:
        return state.models[state.cluster.get(client, 0)]

    def _split(self, deltas: list[Tensor]) -> list[bool] | None:
        """For each member whether it leaves; None = the cluster stays whole. The first member stays."""
        import torch

        if len(deltas) <= 2:
            return None
        d = torch.stack(deltas)
        norms = d.norm(dim=1)
        if not (d.mean(0).norm() < self.eps1 and norms.max() > self.eps2):
            return None
        from scipy.cluster.hierarchy import cut_tree, linkage
        from scipy.spatial.distance import squareform

        unit = d / norms.clamp(min=1e-30).unsqueeze(1)
        apart = (1 - unit @ unit.T).clamp(min=0).double().fill_diagonal_(0)
        part = cut_tree(linkage(squareform(apart.numpy(), checks=False), "complete"), 2)[:, 0]
        return [bool(p != part[0]) for p in part]
