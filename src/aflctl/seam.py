"""The seam between the event loop, which knows no tensors, and the trainer, which knows no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Assignment


class Load(NamedTuple):
    """What the loop learns of a task before it is trained: numbers only.

    `provisional`: `steps` is a lower bound (early stopping); the true number is known after training.
    """

    steps: int
    per_epoch: int
    samples: int
    batch_size: int
    down_bytes: int
    up_bytes: int
    provisional: bool = False


class Result(NamedTuple):
    """What training a task gave; where the upload is not `finite`, `broke` is the first step (from 1) of which the loss
    was not, or the last."""

    sent: Mapping[str, Tensor]
    up: Mapping[str, Tensor]
    stats: Mapping[str, float]
    steps: int
    finite: bool
    broke: int = 0


class Trainer(Protocol):
    """Whoever does client work; trains when it likes, as long as the results are the same."""

    def submit(self, task: int, client: int, nth: int, order: Assignment, version: int) -> Load:
        """A client is sent `order`."""
        ...

    def launch(self, task: int, due: int) -> None:
        """The task will arrive, not before `due` (ns): training may begin."""
        ...

    def settle(self, task: int) -> int:
        """The executed steps of a provisional task; trains it if need be."""
        ...

    def truncate(self, task: int, steps: int) -> None:
        """A recall: only the first `steps` steps count."""
        ...

    def discard(self, task: int) -> None:
        """The task is lost, cancelled or rejected."""
        ...

    def collect(self, task: int) -> Result:
        """The upload of a task that arrived."""
        ...

    def commit(self, task: int, weight: float | None) -> None:
        """The update was used."""
        ...

    def advance(self) -> None:
        """A version was made."""
        ...
