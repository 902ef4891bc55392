"""Asynchronous CFL: clusters split when their clients' updates disagree."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Personalization, Setup, Step, Update
from aflctl.builtin.personalizations.subspace import name_of
from aflctl.builtin.personalizations.tracks import Many, Tracked
from aflctl.errors import UserError
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors


@dataclass(frozen=True)
class ClusterState(Many):
    """`last` the clients' last updates; `base` client -> version of its cluster that its last update started from;
    `born` cluster -> (parent, the parent's version at the split)."""

    last: Any = None
    base: dict[int, int] = field(default_factory=dict)
    born: tuple[tuple[int, int], ...] = ((0, 0),)


class AsyncCfl(Personalization):
    """Clustered federated learning without rounds: a cluster splits where recent updates of its members disagree.

        at a new version v of cluster k, over the members whose last update started from a version >= v - window:
            if ||mean D_i|| < eps1 and max ||D_i|| > eps2 and there are at least `members` of them and v >= warmup:
                split in two by complete linkage with distance 1 - cos(D_i, D_j)

    The window keeps age out of the similarity: updates from far apart versions differ because the model moved. Both
    halves go on from copies of the cluster's state; a member whose last update is too old joins the half whose mean
    update points its way, one that was never heard stays. Each cluster is a track; an update that was out while its
    cluster split counts for the client's new cluster, the versions since its base taken along both. Any method inside;
    eps1 = 0 never splits and is that method. `personal` is the cluster's model, the global model the mean of the
    clusters' models, weighted by members. Server memory: one vector per client heard.

    Source: Sattler, Mueller, Samek, Clustered Federated Learning, IEEE TNNLS 2021 (criterion and linkage; authors'
    notebook: eps1 0.4, eps2 1.6, from round 20 on); the window is this project's.
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "tracks"

    conformance: ClassVar = {"variants": ({"warmup": 0, "eps1": 10.0, "eps2": 0.01},)}

    eps1: float = Field(0.4, ge=0, description="split where the mean update is shorter than this (notebook: 0.4)")
    eps2: float = Field(1.6, ge=0, description="and the longest is longer than this (notebook: 1.6)")
    warmup: int = Field(20, ge=0, description="versions of a cluster before it may split (notebook: 20)")
    window: int = Field(10, ge=0, description="versions back that an update may have started from")
    members: int = Field(3, ge=2, description="updates within the window that a split needs (notebook: 3)")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        if not {"delta", "w"} & set(inner.uploads):
            raise UserError(
                f"cfl compares updates, and {name_of(inner)} uploads {', '.join(inner.uploads) or 'nothing'}",
                where="personalization",
                hint="use a method that uploads its model or its update",
            )
        return Splitting(inner=inner, setup=setup, who="cfl", rule=self)


class Splitting(Tracked):
    """A growing number of states; the client half is the inner method's."""

    rule: AsyncCfl

    @property
    def reads_results(self) -> bool:  # type: ignore[override]
        return self.rule.eps1 > 0 or bool(self.inner.reads_results)  # clusters split by how updates point

    def track(self, k: int) -> str:
        return f"cluster{k}"

    def init(self, setup: Setup, fleet: Fleet) -> ClusterState:
        state = self.inner.init(setup, replace(fleet, track=self.track(0)))
        return ClusterState((state,), last=ClientTable(setup.init.new_zeros(setup.size)))

    def params(self, state: ClusterState) -> Tensor:
        models = [self.inner.params(s) for s in state.states]
        if len(models) == 1:
            return cast("Tensor", models[0])
        sizes, n = [0] * len(models), self.setup.clients
        for k in state.of.values():
            sizes[k] += 1
        sizes[0] = n - sum(sizes[1:])
        return cast("Tensor", sum((x * (m / n) for x, m in zip(models, sizes)), models[0].new_zeros(models[0].shape)))

    def personal(self, state: ClusterState, client: int, memory: Tensors) -> Tensor:
        return cast("Tensor", self.inner.personal(state.states[state.of.get(client, 0)], client, memory))

    def assign(self, state: ClusterState, client: int, fleet: Fleet) -> Assignment:
        k = state.of.get(client, 0)
        track = self.track(k)
        return replace(self.order(state.states[k], client, fleet.on(track)), tracks=(track,))

    def receive(self, state: ClusterState, update: Update, fleet: Fleet) -> Step[ClusterState]:
        c, k = update.client, state.of.get(update.client, 0)
        tau = self._staleness(state, update, k, fleet)
        delta = update.delta.clone() if self.rule.eps1 else None

        def one(j: int, s: Any, f: Fleet) -> Step[Any]:
            if j != k:
                return self.poke(s, f)
            return cast(Step[Any], self.inner.receive(s, replace(update, staleness_by={"": tau}), f))

        step = self.fold(state, fleet, one, of=(k,), tracks=None)
        mine = fleet.on(self.track(k))
        more: dict[str, Any] = {"log": {**step.log, "clusters": len(state.states)}} if len(state.states) > 1 else {}
        state = step.state
        if delta is not None:
            state.last[c] = delta
            state = replace(state, base={**state.base, c: mine.version - tau})
        made = step.advanced if isinstance(step.advanced, tuple) else ()
        if delta is not None and self.track(k) in made and mine.version + 1 >= self.rule.warmup:
            state = self._split(state, k, mine.version + 1)
        return replace(step, state=state, **more)

    def _staleness(self, state: ClusterState, update: Update, k: int, fleet: Fleet) -> int:
        """Versions between the update's base and the client's cluster of today, along the splits in between."""
        ((track, seen),) = update.staleness_by.items()
        tau, at = fleet.versions.get(self.track(k), 0), k
        while self.track(at) != track:
            at, version = state.born[at]
            tau += version
        return tau - (fleet.versions.get(track, 0) - seen)

    def _split(self, state: ClusterState, k: int, version: int) -> ClusterState:
        import torch

        rule = self.rule
        heard = [c for c in state.last if state.of.get(c, 0) == k]
        recent = [c for c in heard if version - state.base[c] <= rule.window]
        if len(recent) < rule.members:
            return state
        d = torch.stack([state.last[c] for c in recent])
        norms = d.norm(dim=1)
        if not (d.mean(0).norm() < rule.eps1 and norms.max() > rule.eps2):
            return state
        apart = halves(d, norms)
        stay, go = (d[[i for i, a in enumerate(apart) if a is side]].mean(0) for side in (False, True))
        leaving = {c for c, a in zip(recent, apart) if a}
        for c in set(heard) - set(recent):
            if torch.dot(state.last[c], go) / go.norm() > torch.dot(state.last[c], stay) / stay.norm():
                leaving.add(c)
        for c in heard:  # what they sent before says nothing about the halves
            del state.last.rows[c]
        new = len(state.states)
        return replace(
            state,
            states=(*state.states, deepcopy(state.states[k])),
            of={**state.of, **dict.fromkeys(sorted(leaving), new)},
            base={c: b for c, b in state.base.items() if c not in heard},
            born=(*state.born, (k, version)),
        )


def halves(d: Tensor, norms: Tensor) -> list[bool]:
    """Which rows of [n, P] leave, by complete linkage with distance 1 - cos; the first one stays."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    unit = (d / norms.clamp(min=1e-30).unsqueeze(1)).double()
    apart = (1 - unit @ unit.T).clamp(min=0).cpu().numpy()
    apart[range(len(apart)), range(len(apart))] = 0.0
    labels = fcluster(linkage(squareform(apart, checks=False), "complete"), 2, "maxclust")
    return [bool(label != labels[0]) for label in labels]
