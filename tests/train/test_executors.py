"""Executors are interchangeable: every registered method, every number of workers, stacks; and errors."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from fakes import FakeWorld
from quadratic import federation, hooked
from test_jobs import pool, sent
from tiny import PERSONALIZATIONS, Ran, algorithms, personalized, plan_of, results, run
from torch import Tensor
from torch.func import grad, grad_and_value

from aflctl.api import Batch, Fleet, Job, Local, Step, Task
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.plan import Plan
from aflctl.train.executors.stacked import Stacked
from aflctl.train.executors.workers import Workers
from aflctl.train.jobs import train

ALGORITHMS = algorithms()
NOT_CLOSE = {
    "pisces": "its schedule follows measured losses, whose last bits differ in a stack",
}
GRID = {"quafl": 1e-4}
"""Methods that round to a grid of this width: what lies between two points may fall to either side."""


def small(name: str) -> Plan:
    few = {"name": name, "min_steps": 2, "max_steps": 8} if name == "fedcompass" else name
    return plan_of(few, {"stop": {"updates": 6 if name == "central" else 24}})


@cache
def serial(name: str) -> Ran:
    return run(small(name))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_workers_have_the_bits_of_serial_for_every_number(name: str) -> None:
    reference = serial(name)
    for workers in (1, 2, 3, 4):
        other = run(small(name), "workers", workers)
        assert (other.schedule, results(other)) == (reference.schedule, results(reference)), f"{workers} workers"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_stacks_are_close_to_serial_and_equal_to_themselves(name: str) -> None:
    reference, other = serial(name), run(small(name), "stacked")
    assert results(run(small(name), "stacked")) == results(other)
    executor: Any = other.x.pool.executor
    if name != "central":  # one client, one task at a time
        assert max(executor.heights) > 1
    if name not in NOT_CLOSE:
        assert other.schedule == reference.schedule
        worst = (other.weights - reference.weights).abs().max()
        assert worst < 1e-5 * reference.weights.abs().max() + GRID.get(name, 0.0)
        for a, b in zip(reference.entries, other.entries, strict=True):
            assert b.stats == pytest.approx(a.stats, rel=1e-4, abs=1e-5)
            assert (a.weight or 0.0) == pytest.approx(b.weight or 0.0, rel=1e-4)


def test_without_its_grid_quafl_is_as_close_as_the_others() -> None:
    plan = plan_of({"name": "quafl", "bits": 32}, {"stop": {"updates": 24}})
    reference, other = run(plan), run(plan, "stacked")
    assert (other.weights - reference.weights).abs().max() / reference.weights.abs().max() < 1e-5


def test_every_method_of_the_package_is_tried() -> None:
    assert {"fedavg", "fedasync", "fedbuff", "central", "local-only"} <= set(ALGORITHMS)


@pytest.mark.parametrize(
    "local",
    [
        {"epochs": 3, "batch_size": 48, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        {"steps": 5, "batch_size": 32, "optimizer": "adam", "lr": 0.003},
        {"epochs": 2, "batch_size": 200, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1},
        {"epochs": 1, "batch_size": 32, "lr": 0.3, "clip_norm": 0.2, "lr_decay": 0.95},
    ],
)
@pytest.mark.parametrize("name", ["fedbuff", "fedprox"])
def test_local_training_of_every_kind(name: str, local: dict[str, Any]) -> None:
    # full and partial last batches, clients smaller than a batch, every optimizer; plain hooks and own ones
    plan = plan_of(name, {"local": local})
    reference = run(plan)
    assert results(run(plan, "workers", 2)) == results(reference)
    other = run(plan, "stacked")
    assert other.schedule == reference.schedule
    assert (other.weights - reference.weights).abs().max() / reference.weights.abs().max() < 1e-5


@pytest.mark.parametrize(
    "local",
    [
        {"batch_size": 64, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        {"batch_size": 50, "optimizer": "adam", "lr": 0.003, "weight_decay": 0.1},
        {"batch_size": 64, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [16]}, {"name": "cnn"}])
def test_steps_by_parameter_have_the_bits_of_steps_on_the_whole_vector(model: Any, local: dict[str, Any]) -> None:
    # default hooks take the cheaper way; the same method with a loss hook that changes nothing takes the general one
    plan = plan_of("fedasync", {"model": model, "local": local, "stop": {"updates": 8}})
    plan = replace(plan, algorithm=FedBuff(buffer_size=2))
    assert results(run(replace(plan, algorithm=hooked(plan.algorithm)))) == results(run(plan))


@pytest.mark.parametrize("model", [{"name": "logistic"}, {"name": "cnn"}])
def test_models(model: dict[str, Any]) -> None:
    plan = plan_of("fedasync", {"model": model, "stop": {"updates": 12}, "local": {"batch_size": 64, "lr": 0.05}})
    reference = run(plan)
    assert results(run(plan, "workers", 3)) == results(reference)
    other = run(plan, "stacked")
    assert (other.weights - reference.weights).abs().max() / reference.weights.abs().max() < 1e-5


@pytest.mark.parametrize("name", PERSONALIZATIONS)
def test_personalized_methods(name: str) -> None:
    plan = plan_of("fedbuff", {"personalization": personalized(name), "stop": {"updates": 24}})
    reference = run(plan)
    assert results(run(plan, "workers", 2)) == results(reference)
    other = run(plan, "stacked")
    assert other.schedule == reference.schedule
    assert (other.weights - reference.weights).abs().max() / reference.weights.abs().max() < 1e-5


class Inside(FedAsync):
    """Takes gradients itself: in `start` (a probe of the whole data), in `loss` and in `direction`."""

    probes = True

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        assert data is not None
        return job.sent["w"], {"probe": grad(lambda p: task.loss(p, data))(job.sent["w"])}

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        g, value = grad_and_value(lambda p: task.loss(p, batch))(w)
        return g + 0.1 * job.memory["probe"], {"probe": 0.5 * job.memory["probe"] + 0.5 * g}, value

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"w": w}, {}


def test_methods_that_take_gradients_inside_their_hooks() -> None:
    def ran(executor: str) -> Any:
        plan = plan_of("fedasync", {"stop": {"updates": 15}})
        return run(replace(plan, algorithm=Inside()), executor)

    reference, other = ran("serial"), ran("stacked")
    assert other.schedule == reference.schedule
    assert (other.weights - reference.weights).abs().max() / reference.weights.abs().max() < 1e-5
    assert results(ran("workers")) == results(reference)


# ---- recalls ----


class Recaller(FedAsync):
    """Sends for whoever is two versions old, and stops who is six."""

    def recall(self, state: Any, fleet: Fleet) -> dict[int, Any]:
        return {c: "cancel" if f.staleness > 5 else "epoch" for c, f in fleet.flying.items() if f.staleness >= 2}


@pytest.mark.parametrize(("executor", "exact"), [(lambda k: Workers(k, 2), True), (Stacked, False)])
def test_recalled_and_cancelled_tasks_under_every_executor(executor: Any, exact: bool) -> None:
    points = [[[float(c + i), float(c - i)] for i in range(8)] for c in range(6)]
    world = FakeWorld({c: 0.1 * (c + 1) for c in range(6)}, 6)
    local = Local(lr=0.1, batch_size=3, epochs=5)
    one = federation(Recaller(), world, points, local=local).play(60)
    other = federation(Recaller(), world, points, local=local, executor=executor).play(60)
    other.trainer.executor.close()
    assert other.digest.rows == one.digest.rows
    assert {e.ticket.interrupted for e in one.entries} == {True, False}
    if exact:
        assert other.loop.state.w.tolist() == one.loop.state.w.tolist()
        assert [e.stats for e in other.entries] == [e.stats for e in one.entries]
    else:
        assert torch.allclose(other.loop.state.w, one.loop.state.w, rtol=1e-5)


@pytest.mark.parametrize("executor", [lambda k: Workers(k, 2), Stacked])
def test_early_stopping_under_every_executor(executor: Any) -> None:
    class Patient(FedAsync):
        def assign(self, state: Any, client: int, fleet: Fleet) -> Any:
            from aflctl.api import Assignment

            return Assignment({"w": state.w}, patience=1 if client % 2 else None)

    points = [[[float(c + i)] for i in range(5)] for c in range(4)]
    world, local = FakeWorld({c: 1.0 + c for c in range(4)}, 4), Local(lr=0.9, batch_size=2, epochs=12)
    one = federation(Patient(), world, points, local=local).play(20)
    other = federation(Patient(), world, points, local=local, executor=executor).play(20)
    other.trainer.executor.close()
    assert other.digest.rows == one.digest.rows
    assert len({e.ticket.planned for e in one.entries}) > 1
    assert torch.allclose(other.loop.state.w, one.loop.state.w, rtol=1e-5)


# ---- the executors themselves ----


def test_workers_take_the_job_that_is_due_first() -> None:
    p = pool(local=Local(lr=0.1, batch_size=4, epochs=3))
    workers = Workers(p.kit, 1)
    for task in range(3):
        p.submit(task, 0, task, sent(p), 0)
    with workers._changed:  # nobody may begin while all are put in
        for task, due in ((0, 30), (1, 10), (2, 20)):
            workers.start(p.open[task], due)
        assert [task for _, task in sorted(workers._queue)] == [1, 2, 0]
    assert workers.result(p.open[0]).losses == train(p.kit, p.open[0]).losses
    workers.close()


def test_a_stack_is_made_of_what_is_pending_and_of_one_shape() -> None:
    from aflctl.api import Assignment

    p = pool(local=Local(lr=0.1, batch_size=4))
    stacked = Stacked(p.kit)
    for task in range(5):
        tensors = {"w": p.kit.task.init} | ({"mask": torch.ones(2)} if task == 3 else {})
        p.submit(task, 0, task, Assignment(tensors, steps=None if task != 2 else 1), 0)
        stacked.start(p.open[task], 0)
    stacked.cancel(1)
    first = stacked.result(p.open[2])
    assert stacked.heights == [3]  # 0, 2 and 4: 1 is cancelled, 3 has another shape
    assert sorted(stacked.done) == [0, 4]
    assert sorted(stacked.pending) == [3]
    assert first.losses == pytest.approx(train(p.kit, p.open[2]).losses, rel=1e-5)
    assert sorted(stacked.ahead()) == [0, 4]
    stacked.cancel(4)
    assert sorted(stacked.done) == [0]


def test_a_stack_is_no_higher_than_allowed() -> None:
    p = pool(local=Local(lr=0.1, batch_size=4))
    stacked = Stacked(p.kit, rows=2)
    for task in range(5):
        p.submit(task, 0, task, sent(p), 0)
        stacked.start(p.open[task], 0)
    for task in (4, 0, 1, 2, 3):
        stacked.result(p.open[task])
    assert stacked.heights == [2, 2, 1]


def test_rows_of_a_stack_are_those_jobs_alone() -> None:
    # unequal numbers of steps and batch sizes, a row that ends in the middle, momentum that must not leak
    from aflctl.api import Assignment

    class Momentum(FedAsync):
        def receive(self, state: Any, update: Any, fleet: Fleet) -> Step[Any]:
            return Step(state)

    p = pool(Momentum(), n=7, local=Local(lr=0.1, batch_size=3, momentum=0.9, weight_decay=0.05))
    stacked = Stacked(p.kit)
    for task, epochs in enumerate((3, 1, 2, 3)):
        p.submit(task, 0, task, Assignment({"w": p.kit.task.init + task}, epochs=epochs, lr_scale=(1.0, 0.5, 0.2)), 0)
        stacked.start(p.open[task], 0)
    for task in range(4):
        alone, row = train(p.kit, p.open[task]), stacked.result(p.open[task])
        assert row.losses == pytest.approx(alone.losses, rel=1e-5)
        steps = p.open[task].steps
        assert torch.allclose(row.marks[steps][0], alone.marks[steps][0], rtol=1e-5, atol=1e-6)
