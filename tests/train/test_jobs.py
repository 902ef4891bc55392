"""One job: epochs and steps, the order of batches, rates, early stopping, snapshots for recalls, dropout."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from quadratic import Points, Quadratic, hooked
from torch import Tensor, nn

from aflctl.api import Algorithm, Assignment, Batch, DataSpec, Job, Local, Modality, Samples, Setup, Task
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.train.batches import Feed, epoch_order
from aflctl.train.executors.serial import Serial
from aflctl.train.jobs import Kit, train
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool
from aflctl.train.task import FlatTask


def points(n: int) -> list[list[float]]:
    return np.random.default_rng(7).normal(size=(n, 3)).tolist()


def pool(algorithm: Algorithm[Any] | None = None, *, n: int = 10, local: Local | None = None, task: Any = None) -> Pool:
    local, task, data = local or Local(lr=0.1, batch_size=4), task or Quadratic(3), Points([points(n)])
    setup = Setup(task.layout, task.init, data.samples, 1, local)
    algorithm = algorithm or FedAsync()
    kit = Kit(hooked(algorithm) if isinstance(task, Quadratic) else algorithm, task, Feed(task.spec), local)
    return Pool(
        kit, data, setup, Serial(kit), ClientMemory(kit.algorithm.memory(setup)),
        lambda client, nth: np.random.default_rng([client, nth]), lambda client, nth: 77 + nth,
    )  # fmt: skip


def sent(p: Pool, **fields: Any) -> Assignment:
    return Assignment({"w": p.kit.task.init}, **fields)


# ---- how many steps ----


@pytest.mark.parametrize(
    ("local", "fields", "steps"),
    [
        (Local(batch_size=4), {}, 3),  # 10 samples: 4 + 4 + 2
        (Local(batch_size=4, epochs=2), {}, 6),
        (Local(batch_size=4, steps=4), {}, 4),  # the fourth step begins a second epoch
        (Local(batch_size=4, steps=4), {"epochs": 2}, 6),
        (Local(batch_size=4, epochs=2), {"steps": 5}, 5),
        (Local(batch_size=4, epochs=2), {"steps": 1, "epochs": 3}, 1),
        (Local(batch_size=10), {}, 1),
        (Local(batch_size=100), {}, 1),
    ],
)
def test_steps_of_a_task(local: Local, fields: dict[str, Any], steps: int) -> None:
    p = pool(local=local)
    load = p.submit(0, 0, 0, sent(p, **fields), 0)
    assert (load.steps, load.samples, load.provisional) == (steps, 10, False)
    result = p.collect(0)
    assert result.steps == steps
    assert p.trained_steps == steps


def test_batches_pass_over_all_data_once_an_epoch_and_the_last_may_be_smaller() -> None:
    p = pool(local=Local(batch_size=4, epochs=3))
    p.submit(0, 0, 0, sent(p), 0)
    spec = p.open[0]
    seen = [spec.at(t).tolist() for t in range(9)]
    assert [len(b) for b in seen] == [4, 4, 2] * 3
    for epoch in range(3):
        assert sorted(i for b in seen[3 * epoch : 3 * epoch + 3] for i in b) == list(range(10))
    assert seen[0:3] != seen[3:6]


def test_the_order_belongs_to_the_task_alone() -> None:
    # (client, nth) decide; so a task is the same whenever and wherever it is trained
    p = pool()
    for task, nth in ((0, 0), (1, 1), (2, 0)):
        p.submit(task, 0, nth, sent(p), 0)
    a, b, c = (p.open[t].order.tolist() for t in (0, 1, 2))
    assert a == c
    assert a != b
    assert p.collect(2).up["w"].tolist() == p.collect(0).up["w"].tolist()


def test_orders_are_permutations() -> None:
    order = epoch_order(np.random.default_rng(0), 6, 4)
    assert order.shape == (4, 6)
    assert order.dtype == torch.int64
    assert all(sorted(row) == list(range(6)) for row in order.tolist())


def test_training_by_hand() -> None:
    # the reference loop against five lines of its own: 2 epochs of batches of 4, 4, 2
    p = pool(local=Local(lr=0.1, batch_size=4, epochs=2, momentum=0.5))
    p.submit(0, 0, 0, sent(p), 0)
    spec, x = p.open[0], torch.tensor(points(10))
    w, m, losses = torch.zeros(3), torch.zeros(3), []
    for t in range(6):
        batch = x[spec.at(t)]
        losses.append(float(0.5 * (w - batch).square().sum(-1).mean()))
        m = 0.5 * m + (w - batch.mean(0))
        w = w - 0.1 * m
    result = p.collect(0)
    assert torch.allclose(result.up["w"], w, rtol=1e-5, atol=1e-6)
    stats = result.stats
    assert stats["loss"] == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert stats["loss_sq"] == pytest.approx(sum(v * v for v in losses) / 6, rel=1e-5)
    assert stats["first_loss"] == pytest.approx(sum(losses[:3]) / 3, rel=1e-5)
    assert stats["first_loss_sq"] == pytest.approx(sum(v * v for v in losses[:3]) / 3, rel=1e-5)
    assert stats["last_loss"] == pytest.approx(sum(losses[3:]) / 3, rel=1e-5)


def test_statistics_of_a_last_epoch_that_was_cut() -> None:
    # 4 steps of epochs of 3: the last epoch has one batch
    p = pool(local=Local(lr=0.1, batch_size=4, steps=4))
    p.submit(0, 0, 0, sent(p), 0)
    losses = train(p.kit, p.open[0]).losses
    assert p.collect(0).stats["last_loss"] == pytest.approx(losses[3])


# ---- rates ----


def test_the_rate_decays_by_the_base_version() -> None:
    p = pool(local=Local(lr=0.1, lr_decay=0.5, batch_size=4))
    p.submit(0, 0, 0, sent(p), 3)
    assert p.open[0].lr == [0.1 * 0.5**3]


def test_rates_per_epoch() -> None:
    # one full-batch step an epoch, rates 0.1 and 0.05: w = 0.1 m, then 0.1 m + 0.05 (m - 0.1 m) = 0.145 m
    p = pool(local=Local(lr=0.1, batch_size=10, epochs=2))
    p.submit(0, 0, 0, sent(p, lr_scale=(1.0, 0.5)), 0)
    want = 0.145 * torch.tensor(points(10)).mean(0)
    assert torch.allclose(p.collect(0).up["w"], want, rtol=1e-5, atol=1e-7)


def test_hooks_see_the_rate_the_step_and_the_epoch() -> None:
    class Look(FedAsync):
        def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
            SEEN.append(tuple(float(v) for v in (job.lr, job.step, job.epoch, job.steps, job.samples)))
            return task.loss(w, batch)

        def finish(self, w: Tensor, job: Job) -> Any:
            SEEN.append(("finish", float(job.lr), float(job.steps)))
            return super().finish(w, job)

    SEEN: list[Any] = []
    p = pool(Look(), local=Local(lr=0.5, batch_size=5, epochs=2))
    p.submit(0, 0, 0, sent(p, lr_scale=(1.0, 0.5)), 0)
    SEEN.clear()  # of the dry run
    p.collect(0)
    assert SEEN == [
        (0.5, 0, 0, 4, 10),
        (0.5, 1, 0, 4, 10),
        (0.25, 2, 1, 4, 10),
        (0.25, 3, 1, 4, 10),
        ("finish", 0.25, 4),
    ]


def test_clipping_limits_a_step() -> None:
    p = pool(local=Local(lr=1.0, batch_size=10, clip_norm=0.01))
    p.submit(0, 0, 0, sent(p), 0)
    assert p.collect(0).up["w"].norm().item() == pytest.approx(0.01, rel=1e-5)


# ---- prefixes ----


class Recalling(FedAsync):
    """So that jobs keep snapshots."""

    def recall(self, state: Any, fleet: Any) -> dict[int, Any]:
        return {}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_recall_gives_a_prefix_of_the_very_same_training(epochs: int, early: bool) -> None:
    # cut before it is trained, or after: the same bits as the whole training had after that epoch
    p = pool(Recalling(), local=Local(lr=0.1, batch_size=4, epochs=4, momentum=0.9))
    p.submit(0, 0, 0, sent(p), 0)
    whole = train(p.kit, p.open[0])
    assert sorted(whole.marks) == [3, 6, 9, 12]
    if not early:
        p.ready[0] = whole
    p.truncate(0, 3 * epochs)
    result = p.collect(0)
    assert result.steps == 3 * epochs
    assert torch.equal(result.up["w"], whole.marks[3 * epochs][0])
    assert result.stats["loss"] == sum(whole.losses[: 3 * epochs]) / (3 * epochs)
    # an independent task that was planned so short ends there too (plain methods look at no plan)
    p.submit(1, 0, 0, sent(p, epochs=epochs), 0)
    assert torch.equal(p.collect(1).up["w"], result.up["w"])


def test_without_recalls_only_the_end_is_kept() -> None:
    p = pool(local=Local(lr=0.1, batch_size=4, epochs=4))
    p.submit(0, 0, 0, sent(p), 0)
    assert list(train(p.kit, p.open[0]).marks) == [12]


def test_step_hooks_see_the_plan_and_finish_what_was_executed() -> None:
    class Look(Recalling):
        def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
            SEEN.add(("grad", float(job.steps)))
            return g

        def finish(self, w: Tensor, job: Job) -> Any:
            SEEN.add(("finish", float(job.steps)))
            return super().finish(w, job)

    SEEN: set[Any] = set()
    p = pool(Look(), local=Local(lr=0.1, batch_size=4, epochs=4))
    p.submit(0, 0, 0, sent(p), 0)
    SEEN.clear()
    p.truncate(0, 6)
    p.collect(0)
    assert {("grad", 12.0), ("finish", 6.0)} == SEEN


# ---- early stopping ----


class Scripted(Quadratic):
    """A loss that follows a script, one number an epoch of one full batch."""

    def __init__(self, script: list[float]) -> None:
        super().__init__(3)
        self.script, self.at = script, 0

    def training(self, on: bool) -> None:
        self.at = 0

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        value = self.script[min(self.at, len(self.script) - 1)]
        self.at += 1
        return super().loss(w, batch) * 0 + value


@pytest.mark.parametrize(
    ("script", "patience", "steps"),
    [
        ([5, 4, 3, 2, 1, 0, 0], 1, 7),  # always lower but for the last: that is the seventh of seven anyway
        ([5, 4, 4, 3, 2, 1, 0], 1, 3),  # the third is not lower
        ([5, 4, 4, 3, 3.5, 3.2, 0], 2, 6),  # one bad epoch is forgiven; then two in a row
        ([5, 6, 7, 1, 1, 1, 1], 2, 3),
        ([float("nan")] * 7, 1, 2),  # never less than the bound of patience + 1
        ([float("nan")] * 7, 3, 4),
    ],
)
def test_patience(script: list[float], patience: int, steps: int) -> None:
    p = pool(task=Scripted(script), local=Local(lr=0.1, batch_size=10, epochs=7))
    load = p.submit(0, 0, 0, sent(p, patience=patience), 0)
    assert (load.steps, load.provisional) == (patience + 1, True)
    assert p.settle(0) == steps
    assert p.collect(0).steps == steps


class Spoiled(FedAsync):
    """Whose uploads are never finite."""

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"w": w * float("nan")}, job.memory


@pytest.mark.parametrize(("script", "broke"), [([1, 1, float("inf"), 1, float("nan")], 3), ([1, 1, 1, 1, 1], 5)])
def test_where_an_upload_broke(script: list[float], broke: int) -> None:
    # the first step of which the loss is not finite; where all are, it was after the last of five
    p = pool(Spoiled(), task=Scripted(script), local=Local(lr=0.1, batch_size=10, epochs=5))
    p.submit(0, 0, 0, sent(p), 0)
    result = p.collect(0)
    assert (result.finite, result.broke, result.steps) == (False, broke, 5)


def test_patience_that_cannot_bite_is_not_provisional() -> None:
    p = pool(task=Scripted([float("nan")]), local=Local(lr=0.1, batch_size=10, epochs=3))
    load = p.submit(0, 0, 0, sent(p, patience=2), 0)
    assert (load.steps, load.provisional) == (3, False)
    assert p.collect(0).steps == 3


def test_a_settled_task_may_be_recalled_to_an_epoch_it_had() -> None:
    p = pool(Recalling(), task=Scripted([5, 4, 3, 2, 2, 1]), local=Local(lr=0.1, batch_size=10, epochs=6))
    p.submit(0, 0, 0, sent(p, patience=1), 0)
    assert p.settle(0) == 5
    p.truncate(0, 3)
    result = p.collect(0)
    assert (result.steps, result.stats["last_loss"]) == (3, 3.0)


# ---- dropout ----


def test_dropout_masks_come_from_the_tasks_own_key() -> None:
    spec = DataSpec((Modality("x", (3,)),), 2)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        task = FlatTask(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)), spec)
    assert task.random
    data = Samples((torch.tensor(points(6)),), torch.tensor([0, 1] * 3))
    p = pool(task=task)
    p.data = SimpleNamespace(train=lambda client: data)  # type: ignore[assignment]
    before = torch.random.get_rng_state()
    for number, nth in enumerate((0, 0, 1)):
        p.submit(number, 0, nth, sent(p), 0)
        p.open[number].order = p.open[0].order
    first, again, other = (train(p.kit, p.open[i]).losses for i in range(3))
    assert first == again
    assert first != other  # another key
    assert torch.equal(torch.random.get_rng_state(), before)
    moved = replace(p.open[0], key=p.open[2].key)
    assert train(p.kit, moved).losses == other
