"""The trainer: turns assignments into jobs, jobs into uploads. Knows no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import fsum, isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aflctl.api import Assignment, FederatedData, Setup, overrides
from aflctl.errors import AflctlError, EnvironmentProblem, HookFailed
from aflctl.seam import Load, Result
from aflctl.train import answers
from aflctl.train.batches import epoch_order, moved
from aflctl.train.full import first_line, out_of_memory
from aflctl.train.jobs import JobFailed, Kit, Spec, Trained, job_of, whole

if TYPE_CHECKING:
    import numpy as np

    from aflctl.api import Job, Layout
    from aflctl.train.executors import Executor
    from aflctl.train.memory import ClientMemory


class Pool:
    """Open jobs, and the memory of clients. `order_rng(client, nth)` is the stream of a task's batch order."""

    def __init__(
        self,
        kit: Kit,
        data: FederatedData,
        setup: Setup,
        executor: Executor,
        memory: ClientMemory,
        order_rng: Callable[[int, int], np.random.Generator],
        task_key: Callable[[int, int], int],
        seen: Callable[[int, int, int, int], Tensor | None] = lambda client, nth, n, epochs: None,
    ) -> None:
        self.kit, self.data, self.setup, self.executor, self.memory = kit, data, setup, executor, memory
        self.order_rng, self.task_key, self.seen = order_rng, task_key, seen
        self.open: dict[int, Spec] = {}
        self.ready: dict[int, Trained] = {}
        self.kept: dict[int, tuple[int, dict[str, Tensor], Tensor, Tensor]] = {}
        self.own: dict[int, Tensor] = {}
        self._places = places(kit.algorithm.own_buffers, setup.buffers).to(kit.feed.device)
        self.dry: dict[Any, answers.Shapes] = {}
        self.sizes: dict[Any, int] = {}
        self.trained_steps = 0
        self._recalls = overrides(kit.algorithm, "recall")
        self._seen: list[tuple[float, Tensor]] = []

    # ---- what the loop asks ----
    def submit(self, task: int, client: int, nth: int, order: Assignment, version: int) -> Load:
        """A client is sent `order`; nothing is trained yet."""
        device = self.kit.feed.device
        local, data = self.setup.local, moved(self.data.train(client), device)
        n, size = len(data), local.batch_size
        if n == 0:
            raise HookFailed(f"client {client} has no training samples and cannot be sent a task")
        per_epoch = -(-n // size)
        steps = order.steps or (None if order.epochs else local.steps) or (order.epochs or local.epochs) * per_epoch
        epochs = -(-steps // per_epoch)
        scale = order.lr_scale
        scales = [float(scale)] * epochs if isinstance(scale, (int, float)) else [float(s) for s in scale]
        rate = local.lr * local.lr_decay**version
        tensors = answers.named(order.tensors, f"{self._name}.assign for client {client}", "the assignment's tensors")
        spec = Spec(
            task,
            client,
            nth,
            dict(tensors),
            self.memory[client],
            data,
            epoch_order(self.order_rng(client, nth), n, epochs).to(device),
            [rate * s for s in scales],
            per_epoch,
            size,
            steps,
            steps,
            self.task_key(client, nth),
            self.buffers_of(client),
            order.patience,
            self._recalls,
        )
        hidden = self.seen(client, nth, n, epochs)
        spec.seen = None if hidden is None else hidden.to(device)
        self.open[task] = spec
        wire = 4 * (self.kit.task.buffers.numel() - self._places.numel())
        down = _bytes(tensors) + wire if order.down_bytes is None else order.down_bytes
        up = self._up_bytes(spec) + wire if order.up_bytes is None else order.up_bytes
        least = steps if order.patience is None else min(steps, (order.patience + 1) * per_epoch)
        return Load(least, per_epoch, n, size, down, up, provisional=least < steps)

    def launch(self, task: int, due: int) -> None:
        """The task will arrive (not before `due`): training may begin."""
        self.executor.start(self.open[task], due)

    def settle(self, task: int) -> int:
        """The executed number of steps of a task with early stopping; trains it now."""
        trained = self.ready[task] = self._result(self.open[task])
        self.open[task].steps = len(trained.losses)
        return len(trained.losses)

    def truncate(self, task: int, steps: int) -> None:
        """A recall: only the first `steps` steps count."""
        self.open[task].steps = steps
        if task not in self.ready:
            self.executor.shorten(self.open[task])

    def discard(self, task: int) -> None:
        """The task is lost, cancelled or rejected."""
        self.kept.pop(task, None)
        if self.open.pop(task, None) is not None and self.ready.pop(task, None) is None:
            self.executor.cancel(task)

    def collect(self, task: int) -> Result:
        """The upload of a task that arrived."""
        spec = self.open.pop(task)
        trained = self.ready.pop(task, None) or self._result(spec)
        w, memory, buffers = trained.marks[spec.steps]
        epoch = (spec.steps - 1) // spec.per_epoch
        job = job_of(spec, memory, spec.lr[min(epoch, len(spec.lr) - 1)], spec.steps - 1, epoch, spec.steps)
        up, memory = self._finish(spec, w, job)
        if (dry := self.dry.get(self._signature(spec))) is not None and answers.shapes(up) != dry:
            raise HookFailed(
                f"{self._name}.finish for client {spec.client} returned {answers.shapes(up)}, but {dry} when it was "
                "tried out at dispatch, from which the bytes were taken",
                hint="shapes may depend on what was sent, never on values",
            )
        self.kept[task] = (spec.client, memory, buffers, buffers[self._places])
        self.trained_steps += spec.steps
        losses = trained.losses[: spec.steps]
        finite = all(bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all()) for t in up.values())
        broke = 0 if finite else next((t for t, v in enumerate(losses, 1) if not isfinite(v)), spec.steps)
        return Result(spec.sent, up, _stats(losses, spec.per_epoch), spec.steps, finite, broke)

    def commit(self, task: int, weight: float | None) -> None:
        """The update was used: what the client remembers is kept, its running statistics count."""
        client, memory, buffers, own = self.kept.pop(task)
        if weight is not None and not isfinite(weight):
            raise HookFailed(f"{self._name}.receive of client {client}: `weight` is {weight}, not a finite number")
        self.memory[client] = memory
        if own.numel():
            self.own[client] = own
        if buffers.numel():
            self._seen.append((1.0 if weight is None else max(weight, 0.0), buffers))

    def advance(self) -> None:
        """A version was made: running statistics move towards those of the used updates, by their weights.

        b <- b + sum_i w_i (b_i - b) / max(sum_i w_i, 1), a mean of b and the b_i. Adding how far each client moved from
        what it was sent would be the same without staleness; with it, several would take the same way twice, and a
        variance can become negative.
        """
        if self._seen:
            common = self.kit.task.buffers
            total = max(fsum(weight for weight, _ in self._seen), 1.0)
            shift = sum((weight * (seen - common) for weight, seen in self._seen), torch.zeros_like(common))
            self.kit.task.buffers = common + (shift / total).index_fill_(0, self._places, 0.0)
            self._seen = []

    def buffers_of(self, client: int) -> Tensor:
        """The running statistics that a client works with: the common ones, and its own where it keeps some."""
        common, own = self.kit.task.buffers, self.own.get(client)
        return common if own is None else common.index_copy(0, self._places, own)

    # ---- what a checkpoint stores ----
    def save(self) -> dict[str, Any]:
        """Open jobs (without what follows from their streams), memories, running statistics, results made ahead."""
        kept = (
            "client", "nth", "sent", "memory", "lr", "per_epoch", "batch_size", "planned", "steps", "key", "buffers",
            "patience", "marks", "samples", "seen",
        )  # fmt: skip
        return {
            "open": {task: {name: getattr(spec, name) for name in kept} for task, spec in self.open.items()},
            "ready": {**self.ready, **self.executor.ahead()},
            "rows": self.executor.rows,
            "memory": self.memory.save(),
            "buffers": self.kit.task.buffers,
            "seen": self._seen,
            "own": self.own,
            "trained_steps": self.trained_steps,
        }

    def load(self, saved: Mapping[str, Any], due: Callable[[int], int]) -> None:
        """As `save` said; `due(task)` is when a task's event is."""
        device = self.kit.feed.device
        for task, row in saved["open"].items():
            row, n = dict(row), row["samples"]
            del row["samples"]
            data = moved(self.data.train(row["client"]), device)
            order = epoch_order(self.order_rng(row["client"], row["nth"]), n, -(-row["planned"] // row["per_epoch"]))
            self.open[task] = Spec(task=task, data=data, order=order.to(device), **row)
        self.ready = dict(saved["ready"])
        self.memory.load(saved["memory"])
        self.kit.task.buffers = saved["buffers"]
        self._seen = list(saved["seen"])
        self.own = dict(saved["own"])
        self.trained_steps = saved["trained_steps"]
        self.executor.rows = saved["rows"]
        for task, spec in sorted(self.open.items()):
            if task not in self.ready:
                self.executor.start(spec, due(task))

    # ---- inside ----
    def _result(self, spec: Spec) -> Trained:
        try:
            return self.executor.result(spec)
        except JobFailed as failed:
            steps = failed.spec.planned
            at = f" at step {failed.step + 1} of {steps}" if failed.step < steps else f" after its {steps} steps"
            at = "" if failed.hook == "start" else at
            raise self._failure(failed.spec, failed.hook, at, failed.cause) from failed.cause

    @property
    def _name(self) -> str:
        return type(self.kit.algorithm).__name__

    @contextmanager
    def _named(self, spec: Spec, hook: str) -> Iterator[None]:
        """Errors of client hooks say whose task it was."""
        try:
            yield
        except (AflctlError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise self._failure(spec, hook, f" after {spec.steps} steps" * (hook == "finish"), error) from error

    def _failure(self, spec: Spec, hook: str, at: str, cause: BaseException) -> AflctlError:
        who = f"{self._name}.{hook} for task {spec.task} of client {spec.client}{at}"
        if out_of_memory(cause):
            return EnvironmentProblem(
                f"{who}: the memory of {self.kit.feed.device} is full, even for one job ({first_line(cause)})",
                hint="lower local.batch_size or evaluate.batch_size, or take a smaller model",
            )
        return HookFailed.of(who, cause)

    def _finish(self, spec: Spec, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        algorithm, who = self.kit.algorithm, f"{self._name}.finish for client {spec.client}"
        with self._named(spec, "finish"):
            answer = algorithm.finish(w, job)
        up, memory = answers.pair(answer, who, "uploads")
        return answers.uploads(up, who, algorithm.uploads, spec.sent), memory

    def _signature(self, spec: Spec) -> tuple[answers.Shapes, answers.Shapes]:
        return answers.shapes(spec.sent), answers.shapes(spec.memory)

    def _up_bytes(self, spec: Spec) -> int:
        """One dry `start` and `finish` per shape of job."""
        signature = self._signature(spec)
        if signature not in self.sizes:
            algorithm, task, feed, _ = self.kit
            job = job_of(spec, spec.memory, spec.lr[0], 0, 0, spec.steps)
            with self._named(spec, "start"):
                answer = algorithm.start(task, whole(feed, spec) if algorithm.probes else None, job)
            who = f"{self._name}.start for client {spec.client}"
            w, memory = answers.pair(answer, who, "the vector to train")
            up, _ = self._finish(spec, answers.vector(w, who), job._replace(memory=memory))
            self.dry[signature], self.sizes[signature] = answers.shapes(up), _bytes(up)
        return self.sizes[signature]


def places(names: Sequence[str], layout: Layout) -> Tensor:
    """[b] int64 positions of these buffers in the vector of running statistics."""
    strange = [name for name in names if name not in layout]
    if strange:
        raise HookFailed(f"`own_buffers` names {strange[0]!r}, which the model does not have")
    parts = [torch.arange(layout[name][0].start, layout[name][0].stop) for name in names]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *parts])


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _stats(losses: list[float], per_epoch: int) -> dict[str, float]:
    def mean(values: list[float]) -> float:
        return fsum(values) / len(values)

    first, last = losses[:per_epoch], losses[-((len(losses) - 1) % per_epoch + 1) :]
    return {
        "loss": mean(losses),
        "loss_sq": mean([v * v for v in losses]),
        "first_loss": mean(first),
        "first_loss_sq": mean([v * v for v in first]),
        "last_loss": mean(last),
    }
