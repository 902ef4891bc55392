"""The trainer between loop and jobs: bytes, memories, running statistics, and hooks that break its rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import FakeWorld
from quadratic import Points, Quadratic, federation
from test_jobs import pool, sent
from torch import Tensor, nn

from aflctl.api import Assignment, DataSpec, Fleet, Job, Local, Modality, Setup, Step, Update
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.errors import Diverged, HookFailed
from aflctl.train.memory import ClientMemory
from aflctl.train.task import FlatTask


class Counting(FedAsync):
    """Remembers how often a client was trained (and counted), and sends that up beside the model."""

    uploads = ("w", "n")

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"n": torch.zeros(1)}

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        n = job.memory["n"] + 1
        return {"w": w, "n": n}, {"n": n}


# ---- bytes ----


def test_bytes_follow_from_the_tensors_both_ways() -> None:
    p = pool(Counting())
    load = p.submit(0, 0, 0, Assignment({"w": p.kit.task.init, "mask": torch.ones(5, dtype=torch.uint8)}), 0)
    assert (load.down_bytes, load.up_bytes) == (4 * 3 + 5, 4 * 3 + 4)


def test_bytes_may_be_said_by_the_assignment() -> None:
    p = pool()
    load = p.submit(0, 0, 0, sent(p, down_bytes=7, up_bytes=0), 0)
    assert (load.down_bytes, load.up_bytes) == (7, 0)


def test_one_dry_run_per_shape_of_job() -> None:
    class Dry(Counting):
        def finish(self, w: Tensor, job: Job) -> Any:
            CALLS.append(tuple(sorted(job.sent)))
            return super().finish(w, job)

    CALLS: list[Any] = []
    p = pool(Dry())
    for task in range(3):
        p.submit(task, 0, task, sent(p), 0)
    p.submit(3, 0, 3, Assignment({"w": p.kit.task.init, "extra": torch.ones(2)}), 0)
    p.submit(4, 0, 4, Assignment({"w": p.kit.task.init, "extra": torch.ones(9)}), 0)
    assert CALLS == [("w",), ("extra", "w"), ("extra", "w")]


# ---- memory ----


def test_memory_is_kept_when_the_update_was_used() -> None:
    # rule 5: arrived, finite, used
    p = pool(Counting())
    for task, used in ((0, True), (1, False), (2, True)):
        p.submit(task, 0, task, sent(p), 0)
        up = p.collect(task).up
        if used:
            p.commit(task, None)
        else:
            p.discard(task)
        assert up["n"].item() == {0: 1, 1: 2, 2: 2}[task]
    assert p.memory[0]["n"].item() == 2
    assert p.kept == {}


def test_lost_and_cancelled_tasks_leave_no_trace() -> None:
    p = pool(Counting())
    p.submit(0, 0, 0, sent(p), 0)
    p.discard(0)
    p.submit(1, 0, 1, sent(p), 0)
    p.launch(1, 5)
    p.discard(1)
    p.discard(1)
    assert (p.open, p.ready, p.kept, p.trained_steps) == ({}, {}, {}, 0)
    assert 0 not in p.memory


def test_a_task_in_flight_trains_with_the_memory_of_its_dispatch() -> None:
    p = pool(Counting())
    p.submit(0, 0, 0, sent(p), 0)
    p.submit(1, 0, 1, sent(p), 0)
    p.collect(0)
    p.commit(0, None)
    assert p.collect(1).up["n"].item() == 1


@pytest.mark.parametrize("disk", [False, True])
def test_client_memory_in_ram_and_on_disk(disk: bool, tmp_path: Any) -> None:
    memory = ClientMemory({"h": torch.zeros(2)}, tmp_path / "m" if disk else None)
    assert memory[3]["h"].tolist() == [0, 0]
    assert 3 not in memory
    memory[3] = {"h": torch.ones(2), "k": torch.arange(6.0).view(2, 3).t()}
    memory[1] = {"h": torch.full((2,), 5.0)}
    assert memory[3]["h"].tolist() == [1, 1]
    assert memory[3]["k"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert list(memory) == [1, 3]
    got = memory[3]
    got["h"] = torch.zeros(2)  # a caller's dictionary is its own
    assert memory[3]["h"].tolist() == [1, 1]
    memory[7] = {}
    assert 7 not in memory


# ---- running statistics ----


class Shifting(Quadratic):
    """A quadratic with one running statistic: every training step adds 1 to it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.buffers, self.running = torch.tensor([10.0]), torch.tensor([0.0])

    def loss(self, w: Tensor, batch: Any) -> Tensor:
        self.running += 1
        return super().loss(w, batch)


class Weighing(FedAsync):
    """Versions when asked to, updates of the weight asked for."""

    plan: Any = ()

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        weight, used, advanced = self.plan.pop(0)
        return Step(state, advanced=advanced, weight=weight, used=used)


@pytest.mark.parametrize(
    ("plan", "values"),
    [
        # 2 steps a task: each used update moves by +2 from the statistics it was sent
        ([(None, True, True)], [12.0]),
        ([(0.5, True, True)], [11.0]),  # b += w d / max(sum w, 1): a mixing weight below 1 mixes
        ([(1.0, True, False), (3.0, True, True)], [10.0, 12.0]),  # a weighted mean of 2 and 2
        ([(1.0, False, True)], [10.0]),  # rejected
        ([(0.5, True, True), (0.5, True, True)], [11.0, 12.0]),
    ],
)
def test_statistics_move_at_each_advance_by_the_used_updates_weights(plan: list[Any], values: list[float]) -> None:
    method = Weighing(plan=list(plan))
    local = Local(lr=0.1, batch_size=10, epochs=2)
    s = federation(method, FakeWorld({0: 1}, 1), [[[4.0]]], local=local, task=Shifting())
    for value in values:
        s.play(1)
        assert s.trainer.kit.task.buffers.tolist() == [value]


def test_statistics_travel_and_count_as_bytes() -> None:
    p = pool(task=Shifting())
    load = p.submit(0, 0, 0, sent(p), 0)
    assert (load.down_bytes, load.up_bytes) == (8, 8)


def test_batchnorm_of_a_real_module_moves() -> None:
    spec = DataSpec((Modality("x", (3,)),), 2)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        task = FlatTask(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), spec)
    s = federation(FedAsync(), FakeWorld({0: 1, 1: 2}, 2), [[[1.0, 2, 3], [3.0, 4, 5]]] * 2, task=task).play(3)
    # the plain module would after one batch of these say: mean 0.1 * (2, 3, 4)
    assert s.trainer.kit.task.buffers[:3].ne(0).all()
    assert s.trainer.kit.task.buffers[:3].lt(torch.tensor([2.0, 3, 4])).all()


# ---- what breaks the rules ----


def test_an_upload_that_is_not_finite_is_seen() -> None:
    for bad in (float("nan"), float("inf")):
        data = [[[bad]]]
        s = federation(FedAsync(), FakeWorld({0: 1}, 1), data)
        with pytest.raises(Diverged, match=r"client 0 \(task 0, step 1 of 1, "):
            s.play(1)


def test_numbers_so_large_that_their_sum_overflows_are_finite() -> None:
    class Huge(FedAsync):
        def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            return {"w": torch.full_like(w, 3e38)}, job.memory

    p = pool(Huge())
    p.submit(0, 0, 0, sent(p), 0)
    assert p.collect(0).finite


def test_finish_must_return_what_uploads_declares() -> None:
    class Forgets(FedAsync):
        uploads = ("w", "h")

    told = r"Forgets\.finish for client 0 returned \['delta'\], but `uploads` declares \['h', 'w'\]"
    with pytest.raises(HookFailed, match=told):
        federation(Forgets(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(1)


@pytest.mark.parametrize("hook", ["loss", "grad", "project", "finish", "start"])
def test_a_client_hook_that_raises_names_method_task_and_client(hook: str) -> None:
    real = getattr(FedAsync, hook)

    def bomb(self: Any, *args: Any) -> Any:
        COUNT[0] += 1
        if COUNT[0] > (1 if hook in ("finish", "start") else 0):  # the dry run passes
            raise ZeroDivisionError("no luck")
        return real(self, *args)

    COUNT = [0]
    method = type("Bomb", (FedAsync,), {hook: bomb})()
    s = federation(method, FakeWorld({0: 9, 1: 1}, 2), [[[4.0]], [[2.0]]])
    with pytest.raises(HookFailed) as error:
        s.play(2)
    message = error.value.message
    assert "Bomb" in message
    assert "task 1 of client 1" in message
    assert "ZeroDivisionError: no luck" in message
    if hook == "finish":
        assert "Bomb.finish" in message


def test_a_dry_run_that_raises_is_not_blamed_on_assign() -> None:
    class Wants(FedAsync):
        def start(self, task: Any, data: Any, job: Job) -> Any:
            return job.sent["model"], job.memory

    with pytest.raises(HookFailed, match=r"Wants\.start.* task 0 of client 0 .*KeyError: 'model'"):
        federation(Wants(), FakeWorld({0: 1}, 1), [[[4.0]]])


def test_a_client_without_samples() -> None:
    p = pool()
    p.data = Points([[]])  # type: ignore[assignment]
    with pytest.raises(HookFailed, match="client 0 has no training samples"):
        p.submit(0, 0, 0, sent(p), 0)
