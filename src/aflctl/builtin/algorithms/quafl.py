"""QuAFL: quantised polls of clients that train all the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Lost, Setup, Step, Task, Update
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class QuaflState:
    """w [P]; acc [P] sum of this poll's `got` models; `seen_s` client -> when it was last heard; `next_s` next poll."""

    w: Tensor
    acc: Tensor
    seen_s: dict[int, float] = field(default_factory=dict)
    next_s: float = 0.0
    got: int = 0


class Quafl(Algorithm[QuaflState]):
    """Quantised asynchronous FL: the server polls s clients and averages with whatever their models are by then.

        client i has a model X_i of its own (x_0 at first) and made k_i = min(K, steps since its last poll) steps on it
        server:  x <- (x + sum_S Q(X_i)) / (s + 1)
        client:  X_i <- (Q(x_old) + s X_i) / (s + 1)

    s is `polled`, K `steps`; k_i follows from the device's noise-free speed. Q rounds to a grid of width `side` and
    sends `bits` per entry, the number modulo 2^bits; the receiver takes the value nearest to its own model, so Q is
    exact to half a grid width while the two models are less than 2^(bits-1) widths apart. 32 bits send floats as they
    are. x + sum_S X_i is kept by the mixing. A version is a poll.

    Source: Zakerinia, Talaei, Nadiradze, Alistarh, Communication-Efficient Federated Learning With Data and Client
    Heterogeneity, AISTATS 2024; authors' code. Deviations: the k_i steps happen between polls; they are trained at the
    poll with compute share 0, so their energy is missing while a device's fixed time per step is charged at the poll.
    Rounding is to nearest, not random.

    Presets: Authors: 20 clients, polled 5, steps 5, bits 14, side 1e-4; MNIST local {lr: 0.01}, Fashion-MNIST {lr:
    0.001}.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "official code read"
    conformance: ClassVar = {"expected_failures": {"zero-update": "rounding to the grid moves x by up to half a width"}}

    polled: int = Field(5, ge=1, description="s, clients per poll (authors: 5 of 20)")
    steps: int = Field(5, ge=1, description="K, most local steps between two polls (authors: 5)")
    bits: int = Field(14, ge=2, le=32, description="bits per entry; 32 = not quantised (authors: 14)")
    side: float = Field(1e-4, gt=0, description="grid width (authors: 1e-4)")
    pause_s: float = Field(0.0, ge=0, description="virtual seconds between the end of a poll and the next")
    scale_lr: bool = Field(True, description="multiply the learning rate by (s + 1) / s (authors' code: yes)")

    def init(self, setup: Setup, fleet: Fleet) -> QuaflState:
        if self.polled > setup.concurrency:
            raise UserError(
                f"quafl polls {self.polled} clients at a time, but clients.concurrency is {setup.concurrency}",
                hint="lower algorithm.polled or raise clients.concurrency",
            )
        return QuaflState(setup.init, setup.init.new_zeros(setup.size))

    def select(self, state: QuaflState, fleet: Fleet) -> Sequence[int]:
        if fleet.flying or not fleet.due(state.next_s):
            return []
        return fleet.draw(min(self.polled, fleet.free))

    def assign(self, state: QuaflState, client: int, fleet: Fleet) -> Assignment:
        step_s = fleet.expected_s(client, Assignment({}, steps=self.steps, down_bytes=0, up_bytes=0)) / self.steps
        k = min(self.steps, int((fleet.now - state.seen_s.get(client, 0.0)) / max(step_s, 1e-9)))
        scale = (self.polled + 1) / self.polled if self.scale_lr else 1.0
        size = -(-self.bits * state.w.numel() // 8)
        tensors = {"w": state.w}
        return Assignment(
            tensors, steps=max(1, k), lr_scale=scale if k else 0.0, work=0, down_bytes=size, up_bytes=size
        )

    def receive(self, state: QuaflState, update: Update, fleet: Fleet) -> Step[QuaflState]:
        state.acc.add_(self._sent(update.up["w"], state.w))
        state.seen_s[update.client] = fleet.now
        return replace(self._close(replace(state, got=state.got + 1), fleet), weight=1.0)

    def lost(self, state: QuaflState, lost: Lost, fleet: Fleet) -> Step[QuaflState]:
        return self._close(state, fleet)

    def alarm(self, state: QuaflState, fleet: Fleet) -> float | None:
        return None if fleet.due(state.next_s) else state.next_s

    def _close(self, state: QuaflState, fleet: Fleet) -> Step[QuaflState]:
        if fleet.flying or not state.got:
            return Step(state)
        w = (state.w + state.acc) / (state.got + 1)
        next_s = fleet.now + self.pause_s
        return Step(QuaflState(w, state.acc.zero_(), state.seen_s, next_s), advanced=True)

    def _sent(self, value: Tensor, key: Tensor) -> Tensor:
        """`value` as it arrives at someone whose own model is `key`."""
        if self.bits == 32:
            return value
        near, span = (key / self.side).round(), 2.0**self.bits
        apart = ((value / self.side).round() - near + span / 2).remainder(span) - span / 2
        return (near + apart) * self.side

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"w": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return job.memory["w"], job.memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        mixed = (self._sent(job.sent["w"], w) + self.polled * w) / (self.polled + 1)
        return {"w": w}, {**job.memory, "w": mixed}
