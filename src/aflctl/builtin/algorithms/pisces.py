"""Pisces: guided asynchronous training: who trains is chosen by loss and staleness, when to aggregate by pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Lost, Setup, Step, Update
from aflctl.rules import OptimizerState, ServerOptimizer, StalenessWeight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PiscesState:
    """w [P]; acc [P] sum of n s D' and `total` sum of n of the buffer; `heard` client -> (n L, seconds of its task,
    last staleness values); `tried` were started once; `explore` the present share of exploration."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    explore: float
    check_s: float
    total: float = 0.0
    last_s: float = 0.0
    heard: dict[int, tuple[float, float, tuple[int, ...]]] = field(default_factory=dict)
    tried: frozenset[int] = frozenset()


class Pisces(Algorithm[PiscesState]):
    """Guided participant selection and adaptive pace control.

        utility   U_i = n_i L_i / (taubar_i + 1)^beta,   taubar_i = mean of the last `window` staleness values,
                  L_i = root mean square of the batch losses of the client's first epoch
        select    Binomial(free places, eps) of them explore clients never started, uniformly; the rest take the
                  highest U, ties at random; eps falls from `explore` by `explore_decay` a selection to `explore_floor`
        pace      every `every_s`: aggregate if now - last >= max latency of those in flight / b
        server    x <- x + opt( sum (n_i / sum n) s(tau_i) (y_i - x) ),  not renormalised

    b is `bound` (concurrency if not given): where latencies equal their profiles, no staleness exceeds it. A client's
    latency is its last task's seconds, `unknown_s` before. A version is an aggregation.

    Source: Jiang, Wang, Li, Li, Pisces: Efficient Federated Learning via Guided Asynchronous Training, SoCC 2022;
    authors' code. Deviations: L_i is over batch losses (the paper: per sample; the code: a moving average); the outlier
    filter (DBSCAN over losses, five credits) is left out; a client whose first task was lost counts as unexplored.
    Selection looks at all clients, and reads losses: the schedule depends on training.

    Presets: Authors, 200 clients, concurrency 20: MNIST LeNet-5 local {epochs: 5, batch_size: 32, lr: 0.01, momentum:
    0.9}, target 97.7 %; CIFAR-10 ResNet-18 {epochs: 1, batch_size: 128, lr: 0.01, weight_decay: 1e-4}.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    reads_results: ClassVar[bool] = True
    evidence: ClassVar[str] = "official code read"

    beta: float = Field(0.5, ge=0, description="how much staleness lowers a client's utility (paper: 0.5)")
    bound: float | None = Field(None, gt=0, description="b, staleness aimed at; none = concurrency (authors)")
    explore: float = Field(0.9, ge=0, le=1, description="first share of exploration (authors: 0.9)")
    explore_decay: float = Field(0.98, gt=0, le=1, description="factor on it per selection (authors: 0.98)")
    explore_floor: float = Field(0.3, ge=0, le=1, description="its lower limit (authors: 0.3)")
    window: int = Field(5, ge=1, description="staleness values remembered per client (authors: 5)")
    every_s: float = Field(1.0, gt=0, description="virtual seconds between pace checks")
    unknown_s: float = Field(180.0, gt=0, description="latency of a client never heard (authors: 180)")
    staleness: StalenessWeight = Field(StalenessWeight(), description="s(tau) (authors: 1 / sqrt(1 + tau))")
    server_optimizer: ServerOptimizer = Field(ServerOptimizer(), description="how the buffer's mean moves x")

    def init(self, setup: Setup, fleet: Fleet) -> PiscesState:
        acc, opt = setup.init.new_zeros(setup.size), self.server_optimizer.init(setup.init)
        return PiscesState(setup.init, acc, opt, self.explore, self.every_s)

    def select(self, state: PiscesState, fleet: Fleet) -> Sequence[int]:
        if not (k := fleet.free):
            return []
        new = [c for c in sorted(fleet.idle) if c not in state.tried]
        known = [int(c) for c in fleet.rng.permutation([c for c in sorted(fleet.idle) if c in state.heard])]
        known.sort(key=lambda c: -self._utility(state, c))
        explored = fleet.draw(min(int(fleet.rng.binomial(k, state.explore)), len(new)), new)
        picked = explored + known[: k - len(explored)]
        return picked + fleet.draw(k - len(picked), [c for c in new if c not in explored])

    def launched(self, state: PiscesState, clients: Sequence[int], fleet: Fleet) -> PiscesState:
        explore = max(self.explore_floor, state.explore * self.explore_decay)
        return replace(state, tried=state.tried | set(clients), explore=explore)

    def receive(self, state: PiscesState, update: Update, fleet: Fleet) -> Step[PiscesState]:
        c, n, loss = update.client, update.samples, update.stats["first_loss_sq"] ** 0.5
        weight, lags = n * self.staleness(update.staleness), state.heard.get(c, (0.0, 0.0, ()))[2]
        state.heard[c] = (
            n * loss if isfinite(loss) else 0.0,
            update.arrived_at - update.sent_at,
            (*lags, update.staleness)[-self.window :],
        )
        state.acc.add_(update.model - state.w, alpha=weight)
        return replace(self.tick(replace(state, total=state.total + n), fleet), weight=weight)

    def lost(self, state: PiscesState, lost: Lost, fleet: Fleet) -> Step[PiscesState]:
        known = state.tried if lost.client in state.heard else state.tried - {lost.client}
        return self.tick(replace(state, tried=known), fleet)

    def alarm(self, state: PiscesState, fleet: Fleet) -> float | None:
        return state.check_s

    def tick(self, state: PiscesState, fleet: Fleet) -> Step[PiscesState]:
        if not fleet.due(state.check_s):
            return Step(state)
        state = replace(state, check_s=fleet.now + self.every_s)
        slowest_s = max((state.heard.get(c, (0.0, self.unknown_s))[1] for c in fleet.flying), default=0.0)
        if not state.total or fleet.now - state.last_s < slowest_s / (self.bound or fleet.capacity):
            return Step(state)
        w, opt = self.server_optimizer.step(state.w, state.acc.div_(state.total), state.opt)
        state.acc.zero_()
        return Step(replace(state, w=w, opt=opt, total=0.0, last_s=fleet.now), advanced=True)

    def _utility(self, state: PiscesState, client: int) -> float:
        worth, _, lags = state.heard[client]
        return float(worth / (sum(lags) / len(lags) + 1) ** self.beta)
