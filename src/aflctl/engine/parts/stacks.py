"""Which jobs would share a stack: an executor that counts stacks instead of training them."""

from __future__ import annotations

ENOUGH = 20_000


class Stacks:
    """Told of jobs as the stacked executor would be; the same membership, from the schedule alone.

    rows             most jobs in a stack; 1 = no stacks
    stacks, jobs     how many stacks of several jobs, and how many jobs in them
    longest, steps   sums over these stacks of their longest job's steps, and of all their jobs' steps
    alone            steps of the jobs that had no company
    heard            results counted; it stops at ENOUGH, and the rest of the run is taken to be like that
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.clear()

    def clear(self) -> None:
        """As if nothing had happened."""
        self.pending: dict[int, int] = {}
        self.done: set[int] = set()
        self.forget()

    def forget(self) -> None:
        """Counts anew from here; who is out stays out."""
        self.stacks = self.jobs = self.longest = self.steps = self.alone = self.heard = 0

    @property
    def height(self) -> float:
        """Mean jobs in a stack of several."""
        return self.steps / max(1, self.longest)

    @property
    def mean(self) -> float:
        """Mean jobs trained at once, those without company included."""
        return (self.steps + self.alone) / max(1, self.longest + self.alone)

    def start(self, task: int, steps: int) -> None:
        if self.rows > 1:
            self.pending[task] = steps

    def shorten(self, task: int, steps: int) -> None:
        if task in self.pending:
            self.pending[task] = steps

    def cancel(self, task: int) -> None:
        self.pending.pop(task, None)
        self.done.discard(task)

    def result(self, task: int) -> bool:
        if self.rows <= 1:
            return False
        self.heard += 1
        if task in self.done:
            self.done.discard(task)
            return self.heard < ENOUGH
        group = [self.pending.pop(task)]
        for other in list(zip(self.pending, range(self.rows - 1))):
            self.done.add(other[0])
            group.append(self.pending.pop(other[0]))
        if len(group) == 1:
            self.alone += group[0]
        else:
            self.stacks += 1
            self.jobs += len(group)
            self.longest += max(group)
            self.steps += sum(group)
        return self.heard < ENOUGH
