"""SAFA: semi-asynchronous rounds over a cache of all clients' models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Lost, Recall, Setup, Step, Task, Update
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SafaState:
    """w [P]; live [P] sum of n_k / n cache_k, the bypass included; `cache` client -> model that counts, x_0 at first;
    `base` client -> version its local model began from; `synced` reported their last task; `before` were picked last
    round; `picks` and `extra` (of `before`) arrived in this round, in order."""

    w: Tensor
    live: Tensor
    cache: ClientTable
    base: dict[int, int] = field(default_factory=dict)
    synced: frozenset[int] = frozenset()
    before: frozenset[int] = frozenset()
    picks: tuple[tuple[int, Tensor], ...] = ()
    extra: tuple[tuple[int, Tensor], ...] = ()


class Safa(Algorithm[SafaState]):
    """Semi-asynchronous FL: slow clients go on with their own model while they are within the lag.

        send      x to clients that reported their last task, or did not and are more than `lag` versions behind; the
                  others go on with their own model, and nothing travels down
        pick      until `quota` N are picked, in order of arrival: first those not picked last round, then the rest
        cache_k <- y_k for the picked;  cache_k <- x for those that were too far behind
        x <- sum over all clients of (n_k / n) cache_k
        then cache_k <- y_k for those that arrived and were not picked: they count one round later

    A round ends when the quota is filled or nobody is in flight; who is then more than `lag` versions behind is
    stopped. A client never heard counts with x_0 and holds x back. Meant for clients.concurrency = clients.count.
    Server memory: one model per client. A version is a round.

    Source: Wu, He, Lin, Mao, Maple, Jarvis, SAFA, IEEE Trans. Computers 70(5), 2021; authors' code. Deviations: the
    authors simulate rounds with crash probabilities; here who is late follows from the clock.

    Presets: Paper (from memory): lag 5; quota 0.1 to 1.0.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "official code read"

    quota: float = Field(0.5, gt=0, le=1, description="share of all clients that a round picks (paper: 0.1 to 1)")
    lag: int = Field(5, ge=0, description="versions a client may be behind (paper: 5)")

    def init(self, setup: Setup, fleet: Fleet) -> SafaState:
        return SafaState(setup.init, setup.init.clone(), ClientTable(setup.init))

    def select(self, state: SafaState, fleet: Fleet) -> Sequence[int]:
        return [] if state.picks or state.extra else fleet.draw(fleet.free)

    def assign(self, state: SafaState, client: int, fleet: Fleet) -> Assignment:
        if client not in state.base or client in state.synced or self._behind(state, client, fleet):
            return Assignment({"w": state.w})
        return Assignment({}, version=state.base[client])

    def launched(self, state: SafaState, clients: Sequence[int], fleet: Fleet) -> SafaState:
        self._cache(state, [(c, state.w) for c in clients if self._behind(state, c, fleet)], fleet)
        return replace(state, synced=state.synced - set(clients))

    def receive(self, state: SafaState, update: Update, fleet: Fleet) -> Step[SafaState]:
        c, item = update.client, ((update.client, update.model),)
        state.base[c] = update.version
        state = replace(state, synced=state.synced | {c})
        if c in state.before:
            state = replace(state, extra=state.extra + item)
        else:
            state = replace(state, picks=state.picks + item)
        return self._close(state, fleet)

    def lost(self, state: SafaState, lost: Lost, fleet: Fleet) -> Step[SafaState]:
        return self._close(state, fleet)

    def recall(self, state: SafaState, fleet: Fleet) -> dict[int, Recall]:
        return {c: "cancel" for c, f in fleet.flying.items() if f.staleness > self.lag}

    def _behind(self, state: SafaState, client: int, fleet: Fleet) -> bool:
        return client not in state.synced and state.base.get(client, 0) < fleet.version - self.lag

    def _cache(self, state: SafaState, items: Sequence[tuple[int, Tensor]], fleet: Fleet) -> None:
        for c, y in items:
            state.live.add_(y - state.cache[c], alpha=fleet.samples[c] / fleet.total_samples)
            state.cache[c] = y

    def _close(self, state: SafaState, fleet: Fleet) -> Step[SafaState]:
        quota = max(1, round(self.quota * fleet.clients))
        if not (state.picks or state.extra) or (len(state.picks) < quota and fleet.flying):
            return Step(state)
        room = max(0, quota - len(state.picks))
        picks, bypass = state.picks + state.extra[:room], state.extra[room:]
        self._cache(state, picks, fleet)
        w = state.live.clone()
        self._cache(state, bypass, fleet)
        picked = frozenset(c for c, _ in picks)
        return Step(SafaState(w, state.live, state.cache, state.base, state.synced, picked), advanced=True)

    # ---- client: the local model lives on ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"w": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return job.sent["w"] if "w" in job.sent else job.memory["w"], job.memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"w": w}, {**job.memory, "w": w}
