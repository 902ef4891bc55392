"""A job: everything one task's training depends on, as a value; and the reference way to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from aflctl.api import Algorithm, Batch, Job, Local, Samples
from aflctl.errors import AflctlError
from aflctl.train.modal import thinned
from aflctl.train.steps import Steps, steps_of
from aflctl.train.task import aligned

if TYPE_CHECKING:
    from aflctl.train.batches import Feed
    from aflctl.train.task import FlatTask


@dataclass(slots=True)
class Spec:
    """What was decided at dispatch. The same spec gives the same result early, late, twice or elsewhere.

    order   [epochs, n] the batch order, from the task's own stream
    lr      learning rate of each epoch
    planned optimizer steps decided at dispatch, which step hooks see
    steps   those that count; a recall or early stopping lowers it, even while the job runs
    key     seed of this task's dropout masks, for models that have dropout
    marks   keep a snapshot at each epoch's end, for recalls
    seen    [epochs, n, M] which modalities of a sample are seen in an epoch; None = all that are there
    """

    task: int
    client: int
    nth: int
    sent: dict[str, Tensor]
    memory: dict[str, Tensor]
    data: Samples
    order: Tensor
    lr: Sequence[float]
    per_epoch: int
    batch_size: int
    planned: int
    steps: int
    key: int
    buffers: Tensor
    patience: int | None = None
    marks: bool = False
    seen: Tensor | None = None

    @property
    def samples(self) -> int:
        """n_k."""
        return int(self.order.shape[1])

    def at(self, t: int) -> Tensor:
        """[<= B] positions of step t's batch."""
        epoch, k = divmod(t, self.per_epoch)
        return self.order[epoch, k * self.batch_size : (k + 1) * self.batch_size]

    def seen_at(self, t: int) -> Tensor | None:
        """[<= B, M] what step t's batch shows."""
        return None if self.seen is None else self.seen[t // self.per_epoch].index_select(0, self.at(t))


@dataclass(slots=True)
class Trained:
    """A trained job: per number of steps (epoch ends and the last) the vector, memory and buffers; and all losses."""

    marks: dict[int, tuple[Tensor, dict[str, Tensor], Tensor]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


class JobFailed(Exception):
    """A client hook raised while a job ran; the cause is what it raised."""

    def __init__(self, spec: Spec, hook: str, step: int, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.spec, self.hook, self.step, self.cause = spec, hook, step, cause


class Kit(NamedTuple):
    """What every job of a run shares."""

    algorithm: Algorithm[Any]
    task: FlatTask
    feed: Feed
    local: Local


def scalar(value: float) -> Tensor:
    """A [] float32 tensor."""
    return torch.tensor(value, dtype=torch.float32)


def job_of(spec: Spec, memory: dict[str, Tensor], lr: float, step: float, epoch: float, steps: int) -> Job:
    """What hooks see of a spec at one step."""
    return Job(spec.sent, memory, scalar(lr), scalar(step), scalar(epoch), scalar(steps), scalar(spec.samples))


def whole(feed: Feed, spec: Spec) -> Batch:
    """All local data as one batch, for methods that probe."""
    return feed.batch(spec.data, torch.arange(spec.samples, device=feed.device))


def train(kit: Kit, spec: Spec) -> Trained:
    """Runs one job, step by step: the reference. Patience = epochs without a lower mean loss before it stops.

    Raises `JobFailed` with the hook and the step (from 0) at which something went wrong.
    """
    if not kit.task.random:
        return _train(kit, spec)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(spec.key & (2**63 - 1))
        return _train(kit, spec)


def _train(kit: Kit, spec: Spec) -> Trained:
    losses: list[Tensor] = []
    steps: Steps | None = None
    try:
        steps, job = _begin(kit, spec)
        return _steps(kit, spec, steps, job, losses)
    except (AflctlError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in may even call sys.exit
        raise JobFailed(spec, steps.hook if steps else "start", len(losses), error) from error


def _begin(kit: Kit, spec: Spec) -> tuple[Steps, Job]:
    algorithm, task, feed, _ = kit
    task.training(True)
    task.running = spec.buffers.clone()
    job = job_of(spec, spec.memory, spec.lr[0], 0, 0, spec.planned)
    w, memory = algorithm.start(task, whole(feed, spec) if algorithm.probes else None, job)
    return steps_of(kit, aligned(w)), job._replace(memory=memory)


def _steps(kit: Kit, spec: Spec, steps: Steps, job: Job, losses: list[Tensor]) -> Trained:
    task, feed, out = kit.task, kit.feed, Trained()
    counter = torch.arange(spec.planned, dtype=torch.float32).unbind(0)
    best, bad, epoch, lr = float("inf"), 0, -1, 0.0
    for t in range(spec.planned):
        if t % spec.per_epoch == 0:
            epoch, lr = epoch + 1, spec.lr[min(epoch + 1, len(spec.lr) - 1)]
            job = job._replace(lr=scalar(lr), epoch=scalar(epoch))
        job = job._replace(step=counter[t])
        batch = thinned(feed.batch(spec.data, spec.at(t)), spec.seen_at(t))
        value, job = steps.step(batch, job, lr)
        losses.append(value)
        last = t + 1 == spec.planned
        if last or (t + 1) % spec.per_epoch == 0:
            if spec.patience is not None:
                mean = float(torch.stack(losses[-(t % spec.per_epoch + 1) :]).mean())
                best, bad = (mean, 0) if mean < best or epoch == 0 else (best, bad + 1)
                last = last or bad >= spec.patience
            last = last or t + 1 >= spec.steps
            if spec.marks or last:
                out.marks[t + 1] = (
                    steps.w if last else steps.w.clone(),
                    job.memory,
                    task.running if last else task.running.clone(),
                )
            if last:
                break
    out.losses = torch.stack(losses).tolist()
    return out
