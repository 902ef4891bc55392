"""A job that raises, a thread that ends, memory that is full: what is said, and that the rest goes on."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fakes import FakeWorld
from quadratic import federation
from test_jobs import pool, sent
from torch import Tensor

from aflctl.api import Assignment, Batch, Job, Local, Task
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.errors import EnvironmentProblem, HookFailed, RunFailed
from aflctl.train.executors import stacked as stacks
from aflctl.train.executors.serial import Serial
from aflctl.train.executors.stacked import Stack, Stacked
from aflctl.train.executors.workers import Workers
from aflctl.train.jobs import train


def two(kit: Any) -> Workers:
    return Workers(kit, 2)


EXECUTORS = [Serial, two, Stacked]


class Bomb(FedAsync):
    """Says in which hook of which step it raises, if it sees client 2's data (beyond 90): (hook, step from 0)."""

    at: tuple[str, int] = ("loss", 0)

    def _look(self, hook: str, job: Job) -> None:
        if self.at[0] == hook and int(job.step) == self.at[1]:
            raise ZeroDivisionError("no luck")

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        if self.at[0] == "start" and float(job.samples) == 3:
            raise ZeroDivisionError("no luck")
        return job.sent["w"], {}

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        if float(batch.x.max()) > 90:
            self._look("loss", job)
        return task.loss(w, batch)

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        if float(job.samples) == 3:
            self._look("grad", job)
        return g

    def project(self, w: Tensor, before: Tensor, job: Job) -> Tensor:
        if float(job.samples) == 3:
            self._look("project", job)
        return w


THREE = FakeWorld({0: 1, 1: 1.1, 2: 1.2}, 3)
POINTS = [[[1.0]] * 2, [[2.0]] * 2, [[99.0]] * 3]


@pytest.mark.parametrize("executor", [Serial, two])
@pytest.mark.parametrize(
    ("at", "said"),
    [
        (("loss", 1), "Bomb.loss for task 2 of client 2 at step 2 of 3 raised ZeroDivisionError: no luck"),
        (("grad", 0), "Bomb.grad for task 2 of client 2 at step 1 of 3 raised ZeroDivisionError: no luck"),
        (("project", 2), "Bomb.project for task 2 of client 2 at step 3 of 3 raised ZeroDivisionError: no luck"),
    ],
)
def test_a_job_that_raises_names_hook_task_client_and_step(executor: Any, at: Any, said: str) -> None:
    s = federation(Bomb(at=at), THREE, POINTS, local=Local(batch_size=1), executor=executor)
    with pytest.raises(HookFailed) as failed:
        s.play(5)
    s.trainer.executor.close()
    assert failed.value.message == said
    assert s.loop.used == 2  # whatever came before counts


def test_start_has_no_step() -> None:
    with pytest.raises(HookFailed, match=r"^Bomb.start for task 2 of client 2 raised ZeroDivisionError"):
        # the dry start that finds out how many bytes travel up has one shape for all clients: client 0 is asked first
        federation(Bomb(at=("start", 0)), THREE, POINTS, local=Local(batch_size=1)).play(5)


def test_of_a_stack_the_job_that_raises_is_named() -> None:
    class Narrow(FedAsync):
        """One client's model is out of shape; it comes last, and another one's result is asked for first."""

        def assign(self, state: Any, client: int, fleet: Any) -> Assignment:
            return Assignment({"w": state.w, "wide": torch.zeros(2)})

        def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
            if batch.x.dim() == 2 and float(batch.x.max()) > 90:
                raise ZeroDivisionError("no luck")
            return task.loss(w.view(-1, 1 if batch.x.dim() == 2 else 7), batch)

    s = federation(Narrow(), FakeWorld({0: 1, 1: 1.5, 2: 2}, 3), POINTS, executor=Stacked)
    with pytest.raises(HookFailed, match=r"Narrow.loss for task 2 of client 2 at step 1 of 1 raised ZeroDivisionError"):
        s.play(5)


def test_where_no_job_raises_alone_the_stack_says_what_happened() -> None:
    class Unmapped(FedAsync):
        """Looks at values, which rule 2 forbids: alone that works."""

        def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
            return task.loss(w, batch) * (2.0 if float(w.detach().sum()) > 5 else 1.0)

    s = federation(Unmapped(), FakeWorld({0: 1, 1: 1.5}, 2), [[[1.0]], [[2.0]]], executor=Stacked)
    with pytest.raises(HookFailed, match=r"Unmapped.loss for task 0 of client 0 at step 1 of 1 raised RuntimeError"):
        s.play(5)


# ---- threads ----


class Killed(KeyboardInterrupt):
    """What no hook raises by itself."""


def kill(thread: threading.Thread) -> None:
    """Raises `Killed` inside of it, the nearest there is to killing a thread."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Killed))


class Slow(FedAsync):
    """Waits in its first step until it is let go."""

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        INSIDE.set()
        assert GO.wait(120)
        return task.loss(w, batch)


INSIDE, GO = threading.Event(), threading.Event()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_is_killed_loses_nothing_or_says_so(threads: int) -> None:
    INSIDE.clear()
    GO.clear()
    p = pool(Slow(), local=Local(lr=0.1, batch_size=4))
    workers = Workers(p.kit, threads)
    p.submit(0, 0, 0, sent(p), 0)
    workers.start(p.open[0], 0)
    assert INSIDE.wait(120)
    victim = _busy(workers)
    kill(victim)
    GO.set()
    victim.join(20)
    assert not victim.is_alive()
    if threads == 1:
        with pytest.raises(RunFailed, match="every worker thread has ended before task 0 of client 0"):
            workers.result(p.open[0])
    else:
        assert workers.result(p.open[0]).losses == train(p.kit, p.open[0]).losses
    workers.close()


def _busy(workers: Workers) -> threading.Thread:
    frames = sys._current_frames()
    return next(t for t in workers._threads if "loss" in _names(frames[t.ident or 0]))


def _names(frame: Any) -> list[str]:
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def test_closing_workers_in_the_middle_of_jobs_ends_their_threads() -> None:
    before = set(threading.enumerate())
    s = federation(
        FedAsync(), FakeWorld({0: 1, 1: 1}, 2), [[[1.0]] * 40] * 2, local=Local(batch_size=1, epochs=100), executor=two
    )
    s.trainer.executor.close()
    assert {t for t in threading.enumerate() if t.is_alive()} <= before


def test_workers_hold_no_more_results_than_they_may() -> None:
    p = pool(local=Local(lr=0.1, batch_size=4))
    workers = Workers(p.kit, 2, most_ahead=2)
    for task in range(6):
        p.submit(task, 0, task, sent(p), 0)
        workers.start(p.open[task], task)
    for task in (5, 0, 1, 2, 3, 4):  # who is asked for goes first, also when two others wait to be heard
        assert workers.result(p.open[task]).losses == train(p.kit, p.open[task]).losses
        with workers._changed:
            assert len(workers._done) + len(workers._running) <= 3
    workers.close()


# ---- memory ----


def full_above(height: int, error: Callable[[], Exception]) -> Any:
    """A Stack that does not fit where it is higher."""

    class Full(Stack):
        def train(self, *, plain: bool) -> Any:
            if len(self.specs) > height:
                raise error()
            return super().train(plain=plain)

    return Full


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
    ],
)
def test_a_stack_that_does_not_fit_is_halved_until_it_does(monkeypatch: Any, error: Any) -> None:
    p = pool(local=Local(lr=0.1, batch_size=4))
    stacked = Stacked(p.kit)
    monkeypatch.setattr(stacks, "Stack", full_above(2, error))
    for task in range(7):
        p.submit(task, 0, task, sent(p), 0)
        stacked.start(p.open[task], 0)
    for task in range(7):
        assert stacked.result(p.open[task]).losses == pytest.approx(train(p.kit, p.open[task]).losses, rel=1e-5)
    assert stacked.rows == 1 or stacked.rows == 2
    assert stacked.notes[0] == "a stack of 7 jobs did not fit into memory: from now on at most 3"
    assert p.save()["rows"] == stacked.rows


def test_a_single_job_that_does_not_fit_ends_the_run() -> None:
    class Greedy(FedAsync):
        def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nadvice")

    s = federation(Greedy(), FakeWorld({0: 1, 1: 1.5}, 2), [[[1.0]], [[2.0]]], executor=Stacked)
    with pytest.raises(EnvironmentProblem) as failed:
        s.play(5)
    assert failed.value.exit_code == 3
    assert failed.value.message == (
        "Greedy.loss for task 0 of client 0 at step 1 of 1: the memory of cpu is full, even for one job "
        "(CUDA out of memory. Tried to allocate 2.00 GiB)"
    )
