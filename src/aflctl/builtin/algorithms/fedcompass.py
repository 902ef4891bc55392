"""FedCompass: step counts such that clients of different speed arrive together, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Lost, Setup, Step, Update
from aflctl.builtin.algorithms.fedcompass_groups import LATE, Groups
from aflctl.errors import UserError
from aflctl.rules import StalenessWeight

if TYPE_CHECKING:
    from torch import Tensor

Entry = tuple[int, int, "Tensor"]


@dataclass(frozen=True)
class FedCompassState:
    """w [P]; `groups` who is expected when; `held` what has arrived and does not count yet: (group, base version,
    update or model [P]), the group `LATE` being the general buffer."""

    w: Tensor
    groups: Groups = field(default_factory=Groups)
    held: tuple[Entry, ...] = ()


class FedCompass(Algorithm[FedCompassState]):
    """Semi-asynchronous groups: fast clients make more steps, so that they arrive together with slow ones.

        speed_i   seconds per step from dispatch to arrival:  v_i <- momentum v_new + (1 - momentum) v_i
        join      the group with the largest Q = floor((T_expected - t) / v_i) in [Q_min, Q_max];  else a new group:
                  Q = the largest floor((T_latest + v_fastest Q_max - t) / v_i) <= Q_max over the groups that are still
                  awaited, at least Q_min;  Q_max where there is none;
                  T_expected = t + Q v_i,  T_latest = t + factor Q v_i
        arrival   its first: counts alone, at once;  until T_latest: waits for its group;  later: general buffer
        a group complete, or at its T_latest:  all of it and of the general buffer, a_i = alpha s(tau_i) / N
                  delta form:  x <- x + sum a_i (y_i - x_b)          model form:  x <- (1 - sum a_i) x + sum a_i y_i

    tau_i counts versions until the group's end; the recorded staleness ends at the arrival. A waiting client keeps its
    place in flight. First tasks have Q_max steps. Meant for clients.concurrency = clients.count (cross-silo). A version
    is a first arrival or a group.

    Source: Li et al., FedCompass: Efficient Cross-Silo Federated Learning on Heterogeneous Client Devices using a
    Computing Power Aware Scheduler, ICLR 2024; authors' code (APPFL). Deviations: of two late updates of one client
    both count, where the authors' buffer keeps the second.

    Presets: Authors' example: min_steps 20, max_steps 100, alpha 0.9, local {optimizer: adam, lr: 0.001, batch_size:
    64}.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "official code read"

    min_steps: int = Field(20, ge=1, description="Q_min, fewest local steps of a task (authors' example: 20)")
    max_steps: int = Field(100, ge=1, description="Q_max, most local steps of a task (authors' example: 100)")
    momentum: float = Field(0.9, gt=0, le=1, description="weight of the newest measurement of a speed (authors: 0.9)")
    latest_factor: float = Field(1.5, ge=1, description="how much later than expected a group closes (authors: 1.5)")
    alpha: float = Field(0.9, gt=0, le=1, description="weight of a fresh update, before 1 / N (authors: 0.9)")
    staleness: StalenessWeight = Field(StalenessWeight(), description="s(tau) (authors: polynomial, a 0.5)")
    form: Literal["delta", "model"] = Field("delta", description="add updates, or mix in models")

    def init(self, setup: Setup, fleet: Fleet) -> FedCompassState:
        if self.min_steps > self.max_steps:
            raise UserError(
                f"fedcompass: min_steps {self.min_steps} is more than max_steps {self.max_steps}",
                where="algorithm", hint="lower algorithm.min_steps or raise algorithm.max_steps",
            )  # fmt: skip
        return FedCompassState(setup.init)

    def select(self, state: FedCompassState, fleet: Fleet) -> Sequence[int]:
        waiting, speed = state.groups.waiting, state.groups.speed
        free = fleet.free - len(waiting)
        if free <= 0:
            return []
        among = [c for c in fleet.idle if c not in waiting] if waiting else None
        return sorted(fleet.draw(free, among), key=lambda c: (speed.get(c, 0.0), c))

    def assign(self, state: FedCompassState, client: int, fleet: Fleet) -> Assignment:
        steps = self.max_steps
        if client in state.groups.speed:
            steps = state.groups.plan(client, fleet.now, self.min_steps, self.max_steps, self.latest_factor)
        return Assignment({"w": state.w}, steps=steps)

    def receive(self, state: FedCompassState, update: Update, fleet: Fleet) -> Step[FedCompassState]:
        first, seconds = update.client not in state.groups.speed, update.arrived_at - update.sent_at
        group = state.groups.arrived(update.client, seconds / update.steps, self.momentum)
        base = fleet.version - update.staleness
        entry: Entry = (group, base, update.model if self.form == "model" else update.delta)
        kept = state if first else replace(state, held=(*state.held, entry))
        return replace(self._close(kept, fleet, (entry,) if first else ()), weight=self._rate(base, fleet))

    def lost(self, state: FedCompassState, lost: Lost, fleet: Fleet) -> Step[FedCompassState]:
        state.groups.out.pop(lost.client, None)
        return self._close(state, fleet)

    def alarm(self, state: FedCompassState, fleet: Fleet) -> float | None:
        return min((t for _, t, _ in state.groups.open.values() if not fleet.due(t)), default=None)

    def tick(self, state: FedCompassState, fleet: Fleet) -> Step[FedCompassState]:
        return self._close(state, fleet)

    def _rate(self, base: int, fleet: Fleet) -> float:
        return self.alpha * self.staleness(fleet.version - base) / fleet.clients

    def _close(self, state: FedCompassState, fleet: Fleet, alone: tuple[Entry, ...] = ()) -> Step[FedCompassState]:
        """Ends the groups whose time has come; `alone` counts at once."""
        ended = state.groups.end(fleet)
        counts = ended | {LATE} if any(g in ended for g, _, _ in state.held) else set()
        ready = alone + tuple(entry for entry in state.held if entry[0] in counts)
        if not ready:
            return Step(state)
        rates = [self._rate(base, fleet) for _, base, _ in ready]
        w = state.w * (1 - sum(rates)) if self.form == "model" else state.w.clone()
        for a, (_, _, value) in zip(rates, ready):
            w.add_(value, alpha=a)
        held = tuple(entry for entry in state.held if entry[0] not in counts)
        return Step(replace(state, w=w, held=held), advanced=True)
