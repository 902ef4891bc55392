"""The baseline without communication: every client trains alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Setup, Step, Task, Update

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors


@dataclass(frozen=True)
class LocalOnlyState:
    """w [P] the initial model, for clients that never trained."""

    w: Tensor


class LocalOnly(Algorithm[LocalOnlyState]):
    """Baseline: each client trains its own model on its own data; nothing travels.

        w_i <- local training from w_i,   w_i = x_0 at first

    `personal` gives client i its w_i; the global model stays x_0, so read the per-client accuracy. A version is a
    task that ended, which keeps evaluation and stopping rules in step with the asynchronous methods; the staleness of
    such a run counts what others did meanwhile and harms nobody.

    Source: the definition of training alone. Deviations: none.
    """

    uploads: ClassVar[tuple[str, ...]] = ()
    evidence: ClassVar[str] = "definition"

    def init(self, setup: Setup, fleet: Fleet) -> LocalOnlyState:
        return LocalOnlyState(setup.init)

    def assign(self, state: LocalOnlyState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({})

    def receive(self, state: LocalOnlyState, update: Update, fleet: Fleet) -> Step[LocalOnlyState]:
        return Step(state, advanced=True, weight=0.0)

    def personal(self, state: LocalOnlyState, client: int, memory: Tensors) -> Tensor:
        return memory.get("w", state.w)

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"w": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return job.memory["w"], job.memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {}, {**job.memory, "w": w}
