"""K jobs at once on K cores, each begun as soon as its task is dispatched.

Threads, not processes: torch holds Python's lock only between its operations, so two threads reach the joint speed of
two processes on models whose step takes a millisecond or more (see docs/explanation/performance.md), and they
share every tensor. Each job runs the reference code on one intra-op thread with its thread's own model, so the
bits are those of `serial`.
"""

from __future__ import annotations

import heapq
import threading

import torch

from aflctl.errors import RunFailed
from aflctl.train.jobs import Kit, Spec, Trained, train

LOOK_S = 1.0
"""How often whoever waits for a result looks whether anybody is still there to make it."""


class Workers:
    """A queue ordered by expected arrival, and threads that take from it.

    At most `most_ahead` results are made before they are asked for (None = as many as there are tasks in flight):
    they are what this executor holds in memory.
    """

    name = "workers"

    def __init__(self, kit: Kit, workers: int, most_ahead: int | None = None) -> None:
        self.kit, self.workers, self.rows = kit, workers, 1
        self.most_ahead = most_ahead
        self.notes: list[str] = []
        self._queue: list[tuple[int, int]] = []
        self._specs: dict[int, Spec] = {}
        self._done: dict[int, Trained | BaseException] = {}
        self._gone: set[int] = set()
        self._running: set[int] = set()
        self._changed = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(
                target=self._work, args=(kit._replace(task=kit.task.clone()),), name=f"worker-{i}", daemon=True
            )
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, spec: Spec, due: int) -> None:
        """Puts the job into the queue; earlier arrivals go first."""
        with self._changed:
            self._specs[spec.task] = spec
            heapq.heappush(self._queue, (due, spec.task))
            self._changed.notify()

    def shorten(self, spec: Spec) -> None:
        """The running thread reads the spec's new length at its next epoch's end."""

    def cancel(self, task: int) -> None:
        """Drops the job, or lets a running one end at its next epoch's end, unheard."""
        with self._changed:
            spec = self._specs.pop(task, None)
            if spec is not None and task in self._running:
                spec.steps = 0
                self._gone.add(task)
            self._done.pop(task, None)
            self._changed.notify_all()

    def result(self, spec: Spec) -> Trained:
        """Waits for the job. One that has not been begun is put in front of the queue."""
        with self._changed:
            if spec.task not in self._done and spec.task not in self._running:
                self._specs[spec.task] = spec
                heapq.heappush(self._queue, (-1, spec.task))
                self._changed.notify_all()
            while spec.task not in self._done:
                if not any(thread.is_alive() for thread in self._threads):
                    raise RunFailed(
                        f"every worker thread has ended before task {spec.task} of client {spec.client} was trained",
                        hint="the same command continues this run from its last checkpoint",
                    )
                self._changed.wait(LOOK_S)
            self._specs.pop(spec.task, None)
            found = self._done.pop(spec.task)
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return found

    def ahead(self) -> dict[int, Trained]:
        """None: any job can be trained again to the same bits."""
        return {}

    def close(self) -> None:
        """Ends the threads at their next epoch's end."""
        with self._changed:
            self._open = False
            self._queue.clear()
            for task in self._running:
                if task in self._specs:
                    self._specs[task].steps = 0
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, kit: Kit) -> None:
        torch.set_num_threads(1)
        while (spec := self._take()) is not None:
            found: Trained | BaseException | None = None
            try:
                found = train(kit, spec)
            except Exception as error:
                found = error
            finally:  # whatever ends a thread, its job is not lost: another one takes it
                with self._changed:
                    self._running.discard(spec.task)
                    if spec.task in self._gone:
                        self._gone.discard(spec.task)
                    elif found is None:
                        heapq.heappush(self._queue, (-1, spec.task))
                    else:
                        self._done[spec.task] = found
                    self._changed.notify_all()

    def _take(self) -> Spec | None:
        with self._changed:
            while True:
                while self._queue and self._may_begin():
                    _, task = heapq.heappop(self._queue)
                    spec = self._specs.get(task)
                    if spec is not None and task not in self._running and task not in self._done:
                        self._running.add(task)
                        return spec
                if not self._open:
                    return None
                self._changed.wait()

    def _may_begin(self) -> bool:
        """Whoever is waited for (due -1) always may; others while there is room for their results."""
        room = self.most_ahead is None or len(self._done) + len(self._running) < self.most_ahead
        return room or self._queue[0][0] < 0
