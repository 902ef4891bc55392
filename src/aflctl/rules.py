"""Parts that methods share: staleness weights, server optimizers, the barrier, a table of client tensors.

Loads neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Fleet, Local, Recall


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StalenessWeight(_Rule):
    """s(tau), how much an update that is tau versions old counts; s(0) = 1 and s never increases.

        constant      s = 1
        polynomial    s = (tau + 1)^(-a)
        hinge         s = 1 if tau <= b else 1 / (a (tau - b) + 1)
        exponential   s = decay^tau

    May be written as its kind alone. `origin` 1 counts a fresh update as one version old, as FedAsync's text read
    literally does. Sources: Xie et al. 2019 (constant, polynomial, hinge); Unbitrium tutorial 106 (exponential).
    """

    kind: Literal["constant", "polynomial", "hinge", "exponential"] = Field("polynomial", description="family of s")
    a: float | None = Field(None, ge=0, description="exponent (polynomial, default 0.5) or slope (hinge, default 10)")
    b: float = Field(4.0, ge=0, description="hinge: staleness up to which s = 1")
    decay: float = Field(0.5, gt=0, le=1, description="exponential: factor per version")
    origin: Literal[0, 1] = Field(0, description="staleness of a fresh update")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    def __call__(self, staleness: int) -> float:
        tau = staleness + self.origin
        if self.kind == "constant":
            return 1.0
        if self.kind == "polynomial":
            return float((tau + 1) ** -(0.5 if self.a is None else self.a))
        if self.kind == "hinge":
            return 1.0 if tau <= self.b else 1 / ((10.0 if self.a is None else self.a) * (tau - self.b) + 1)
        return float(self.decay**tau)


@dataclass(frozen=True)
class OptimizerState:
    """Moments of a server optimizer, each [P] or None where the rule has none."""

    m: Tensor | None = None
    v: Tensor | None = None
    vhat: Tensor | None = None
    t: int = 0


class ServerOptimizer(_Rule):
    """x <- x + step(D) for an aggregated update D (descent included).

        sgd       x += lr D;  with momentum (FedAvgM)  m <- b1 m + D,  x += lr m
        adagrad   v <- v + D^2
        adam      v <- b2 v + (1 - b2) D^2
        yogi      v <- v - (1 - b2) D^2 sign(v - D^2)
        amsgrad   as adam, vhat <- max(vhat, v)
        the last four: m <- b1 m + (1 - b1) D,  x += lr m / (sqrt(v) + eps)

    No bias correction, as in the paper; `bias_correction` adds Adam's. An entry that never moved stays: 0 / eps = 0.
    Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021. Deviations: v starts at 0 (the authors' code), not
    at eps^2 (the paper).
    """

    kind: Literal["sgd", "adagrad", "adam", "yogi", "amsgrad"] = Field("sgd", description="rule")
    lr: float = Field(1.0, gt=0, description="server learning rate")
    b1: float | None = Field(None, ge=0, lt=1, description="momentum; default 0 (sgd, adagrad) or 0.9")
    b2: float = Field(0.99, ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(1e-3, gt=0, description="added to sqrt(v)")
    bias_correction: bool = Field(False, description="divide the moments by 1 - b^t")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def beta1(self) -> float:
        """b1 with its default."""
        return self.b1 if self.b1 is not None else 0.0 if self.kind in ("sgd", "adagrad") else 0.9

    def init(self, w: Tensor) -> OptimizerState:
        """Moments at time 0."""
        if self.kind == "sgd":
            return OptimizerState(m=w.new_zeros(w.shape) if self.beta1 else None)
        zeros = (w.new_zeros(w.shape), w.new_zeros(w.shape))
        return OptimizerState(*zeros, vhat=w.new_zeros(w.shape) if self.kind == "amsgrad" else None)

    def step(
        self, w: Tensor, delta: Tensor, state: OptimizerState, lr: float | None = None
    ) -> tuple[Tensor, OptimizerState]:
        """(new w, new moments); `w` and `delta` are left as they are, the moments are updated in place."""
        rate = self.lr if lr is None else lr
        if self.kind == "sgd":
            if state.m is None:
                return w.add(delta, alpha=rate), state
            state.m.mul_(self.beta1).add_(delta)
            return w.add(state.m, alpha=rate), state
        assert state.m is not None and state.v is not None
        state.m.mul_(self.beta1).add_(delta, alpha=1 - self.beta1)
        square = delta * delta
        if self.kind == "adagrad":
            state.v.add_(square)
        elif self.kind == "yogi":
            state.v.sub_(square * (state.v - square).sign(), alpha=1 - self.b2)
        else:
            state.v.mul_(self.b2).add_(square, alpha=1 - self.b2)
        second = state.v
        if state.vhat is not None:
            second = state.vhat.copy_(state.vhat.maximum(state.v))
        t, root = state.t + 1, second.sqrt()
        if self.bias_correction:
            root = root / (1 - self.b2**t) ** 0.5
            rate = rate / (1 - self.beta1**t) if self.beta1 else rate
        return w + rate * state.m / (root + self.eps), OptimizerState(state.m, state.v, state.vhat, t)


class Barrier(_Rule):
    """A round: nobody starts while anyone flies; it closes when full, when all are back, or at the deadline.

    At the deadline the round closes with what has arrived; with no update yet, the first arrival closes it. Closing
    cancels the flights that are left. Source: Bonawitz et al., MLSys 2019 (over-selection, deadline).
    """

    cohort: int | None = Field(None, ge=1, description="updates that fill a round; none = concurrency / over_select")
    over_select: float = Field(1.0, ge=1, description="clients started per update wanted")
    deadline_s: float | None = Field(None, gt=0, description="seconds after which a round closes with what it has")

    def size(self, fleet: Fleet) -> int:
        """Updates that fill a round."""
        return self.cohort or max(1, int(fleet.capacity / self.over_select))

    def started(self, fleet: Fleet) -> int:
        """Clients started in a round, the reserve among them."""
        return ceil(self.size(fleet) * self.over_select)

    def select(self, fleet: Fleet, among: Sequence[int] | None = None) -> list[int]:
        """A cohort (with its reserve) once nobody flies."""
        return [] if fleet.flying else fleet.draw(min(fleet.free, self.started(fleet)), among)

    def alarm(self, fleet: Fleet) -> float | None:
        """The round's deadline."""
        if self.deadline_s is None or not fleet.flying:
            return None
        t_s = min(f.sent_at for f in fleet.flying.values()) + self.deadline_s
        return None if fleet.due(t_s) else t_s

    def closed(self, got: int, fleet: Fleet) -> bool:
        """Whether the round ends now, `got` updates having arrived."""
        if got == 0:
            return False
        if got >= self.size(fleet) or not fleet.flying:
            return True
        deadline = self.deadline_s
        return deadline is not None and any(fleet.due(f.sent_at + deadline) for f in fleet.flying.values())

    def recall(self, fleet: Fleet) -> dict[int, Recall]:
        """Cancels what an ended round left flying."""
        return {c: "cancel" for c, f in fleet.flying.items() if f.staleness > 0}


class ClientTable:
    """client -> tensor, absent = `default`. A legal state leaf, owned by its state and updated in place.

    `rows` may be replaced by any mutable mapping (the engine can keep it on disk).
    """

    def __init__(self, default: Tensor, rows: Mapping[int, Tensor] | None = None) -> None:
        self.default = default
        self.rows: dict[int, Tensor] = dict(rows or {})

    def __getitem__(self, client: int) -> Tensor:
        return self.rows.get(client, self.default)

    def __setitem__(self, client: int, value: Tensor) -> None:
        self.rows[client] = value

    def __contains__(self, client: int) -> bool:
        return client in self.rows

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.rows))

    def __len__(self) -> int:
        return len(self.rows)


def unheard_first(table: ClientTable, k: int, fleet: Fleet) -> list[int]:
    """At most k idle clients that have no row yet; where there are none and nobody flies, others go on meanwhile."""
    new = [c for c in range(fleet.clients) if c not in table and c not in fleet.flying]
    # `draw` falls short where they are away: then the loop wakes at the next client that comes online
    return fleet.draw(k, new) if fleet.flying or any(c in fleet.idle for c in new) else fleet.draw(k)


def require_plain_sgd(local: Local, method: str, instead: str) -> None:
    """Refuses local training whose displacement is not lr times the sum of the gradients."""
    wrong = [f"optimizer: {local.optimizer}"] if local.optimizer != "sgd" else []
    wrong += [f"momentum: {local.momentum}"] if local.momentum else []
    wrong += [f"clip_norm: {local.clip_norm}"] if local.clip_norm is not None else []
    if wrong:
        raise UserError(
            f"{method} reads the mean gradient off the displacement, (x - y) / (K eta), true of plain SGD only; "
            f"the configuration has {', '.join(wrong)}",
            hint=f"set local.optimizer: sgd, local.momentum: 0, no local.clip_norm{instead}",
            where="local",
        )
