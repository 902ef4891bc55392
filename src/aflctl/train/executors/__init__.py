"""Interchangeable ways to run jobs behind one small protocol; the schedule never knows which one ran."""

from __future__ import annotations

from typing import Protocol

from aflctl.train.jobs import Spec, Trained


class Executor(Protocol):
    """Runs specs. `start` may begin at once or wait; `result` blocks until the job is trained, and forgets it.

    `rows` is the most jobs in one call. It decides who shares a stack, so a checkpoint stores it. `notes` tell people
    what had to be done otherwise than planned.
    """

    name: str
    rows: int
    notes: list[str]

    def start(self, spec: Spec, due: int) -> None: ...
    def shorten(self, spec: Spec) -> None: ...
    def cancel(self, task: int) -> None: ...
    def result(self, spec: Spec) -> Trained: ...
    def close(self) -> None: ...

    def ahead(self) -> dict[int, Trained]:
        """Results made ahead that would not come out the same again; often none."""
        ...
