"""Test doubles: a fleet, a setup and updates made by hand, a quadratic task, a small event loop with given times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Flight, Job, Local, Lost, Setup, Step, Update


def vec(*values: float) -> Tensor:
    """A float32 vector."""
    return torch.tensor(values, dtype=torch.float32)


def same(actual: Tensor, *expected: Any, tol: float = 1e-6) -> None:
    """Asserts that a vector has these entries."""
    want = expected[0] if len(expected) == 1 and not isinstance(expected[0], (int, float)) else expected
    np.testing.assert_allclose(actual.detach().numpy(), np.asarray(want, dtype=np.float32), rtol=tol, atol=tol)


class Streams:
    """Draws the lowest numbers; its generator is seeded per object."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.Generator(np.random.Philox(seed))

    def draw(self, fleet: Fleet, k: int, among: Sequence[int] | None) -> list[int]:
        return sorted(c for c in (fleet.idle if among is None else among) if c in fleet.idle)[: max(0, k)]


def fleet(
    *,
    version: int = 0,
    capacity: int = 2,
    samples: Sequence[int] = (1, 1),
    idle: Sequence[int] = (),
    flying: Mapping[int, int] | None = None,
    sent_at: float = 0.0,
    now: float = 0.0,
    seed: int = 0,
    seconds: Callable[[int], float] = float,
) -> Fleet:
    """The world at one instant; `flying` is client -> staleness."""
    flights = {c: Flight(version - tau, sent_at, {"": tau}) for c, tau in (flying or {}).items()}
    return Fleet(
        now, {"": version}, capacity, samples, sum(samples), list(idle), flights, lambda c, a: seconds(c), Streams(seed)
    )


def setup(
    init: Tensor,
    samples: Sequence[int] = (1, 1),
    *,
    concurrency: int = 2,
    layout: Mapping[str, tuple[slice, tuple[int, ...]]] | None = None,
    **local: Any,
) -> Setup:
    """What is known before time 0."""
    return Setup(layout or {"w": (slice(0, len(init)), (len(init),))}, init, samples, concurrency, Local(**local))


def update(
    client: int,
    *,
    sent: Tensor | Mapping[str, Tensor],
    delta: Tensor | None = None,
    w: Tensor | None = None,
    up: Mapping[str, Tensor] | None = None,
    version: int = 0,
    staleness: int = 0,
    samples: int = 1,
    steps: int = 1,
    sent_at: float = 0.0,
    at: float = 1.0,
    loss: float = 1.0,
) -> Update:
    """An upload; give `delta`, `w` or `up`."""
    tensors = dict(sent) if isinstance(sent, Mapping) else {"w": sent}
    travelled = dict(up or {})
    if delta is not None:
        travelled["delta"] = delta
    if w is not None:
        travelled["w"] = w
    names = ("loss", "first_loss", "last_loss")
    stats = {**dict.fromkeys(names, loss), **{f"{n}_sq": loss * loss for n in names}}
    return Update(client, version, {"": staleness}, samples, steps, tensors, travelled, stats, sent_at, at)


def feed(algorithm: Algorithm[Any], state: Any, *events: tuple[Update, Fleet]) -> tuple[Any, list[Step[Any]]]:
    """Hands updates to `receive` one after another."""
    steps = []
    for event, world in events:
        steps.append(algorithm.receive(state, event, world))
        state = steps[-1].state
    return state, steps


# ---- client half ----
class Quadratic:
    """f(w) = a/2 ||w - b||^2 with b the rows of the batch's x; `embed` is w * x, so features follow the model."""

    layout: Mapping[str, tuple[slice, tuple[int, ...]]] = {}

    def __init__(self, curvature: float = 1.0) -> None:
        self.a = curvature

    def logits(self, w: Tensor, x: Tensor, present: Tensor | None = None) -> Tensor:
        return w * x

    def embed(self, w: Tensor, x: Tensor, present: Tensor | None = None) -> Tensor:
        return w * x

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        each = 0.5 * self.a * (w - batch.x).square().sum(-1)
        return (each * batch.mask).sum() / batch.mask.sum().clamp(min=1)


def batch(*rows: Tensor) -> Batch:
    """One batch."""
    x = torch.stack(rows)
    return Batch(x, torch.zeros(len(x), dtype=torch.long), torch.ones(len(x)), torch.ones(len(x), 1))


def job(sent: Mapping[str, Tensor], memory: Mapping[str, Tensor] | None = None, lr: float = 0.1, steps: int = 1) -> Job:
    """What client hooks see."""
    s = torch.tensor
    return Job(dict(sent), dict(memory or {}), s(lr), s(0.0), s(0.0), s(float(steps)), s(1.0))


def train(
    algorithm: Algorithm[Any], task: Any, data: Sequence[Batch], the_job: Job
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Plain SGD through the client hooks, one step per batch: (up, memory). Works under vmap."""
    whole = data[0] if algorithm.probes else None
    w, memory = algorithm.start(task, whole, the_job)
    the_job = the_job._replace(memory=memory)
    for t, b in enumerate(data):
        the_job = the_job._replace(step=torch.tensor(float(t)))
        g, memory, _ = algorithm.direction(task, w, b, the_job)
        the_job = the_job._replace(memory=memory)
        w = algorithm.project(w - the_job.lr * g, w, the_job)
    return algorithm.finish(w, the_job)


# ---- a small federation with given times ----
@dataclass
class Out:
    client: int
    base: dict[str, int]
    sent_at: float
    end: float
    order: Assignment
    planned: int
    epochs: int


@dataclass
class Lab:
    """An event loop in miniature: client c holds one sample `targets[c]` (weighing samples[c]); each epoch is one step.

    seconds(client, nth) is a whole task's time; `pace`, where given, each client's seconds per step instead.
    `lose(client, nth)`: whether a task is lost at its end. `log` has (client, staleness, weight, used) per arrival,
    `models` the global model at each version, `sent` every assignment.
    """

    algorithm: Algorithm[Any]
    targets: Sequence[Tensor]
    seconds: Callable[[int, int], float] = lambda c, nth: 1.0
    samples: Sequence[int] = ()
    concurrency: int = 0
    init: Tensor | None = None
    lose: Callable[[int, int], bool] = lambda c, nth: False
    curvature: Sequence[float] = ()
    local: Local = field(default_factory=lambda: Local(lr=0.5))
    streams: type[Streams] = Streams
    pace: Sequence[float] = ()

    def __post_init__(self) -> None:
        n = len(self.targets)
        self.samples = tuple(self.samples) or (1,) * n
        self.concurrency = self.concurrency or n
        self.curvature = tuple(self.curvature) or (1.0,) * n
        init = torch.zeros_like(self.targets[0]) if self.init is None else self.init
        self.setup = Setup({"w": (slice(0, len(init)), (len(init),))}, init, self.samples, self.concurrency, self.local)
        self.now, self.busy, self.events, self.version = 0.0, -1, 0, 0
        self.versions: dict[str, int] = {"": 0}
        self.flying: dict[int, Out] = {}
        self.nth = [0] * n
        self.memory = [self.algorithm.memory(self.setup) for _ in range(n)]
        self.log: list[tuple[int, int, float | None, bool]] = []
        self.sent: list[tuple[int, Assignment]] = []
        self.cancelled: list[int] = []
        self.alarm: float | None = None
        self.state = self.algorithm.init(self.setup, self.fleet())
        self.models = [self.algorithm.params(self.state)]
        self.tail(Step(self.state), False, ("",))

    def fleet(self) -> Fleet:
        self.events += 1
        flights = {
            c: Flight(max(o.base.values()), o.sent_at, {k: self.versions[k] - b for k, b in o.base.items()})
            for c, o in sorted(self.flying.items())
        }
        idle = [c for c in range(len(self.targets)) if c not in self.flying and c != self.busy]
        return Fleet(
            self.now, dict(self.versions), self.concurrency, self.samples, sum(self.samples), idle, flights,
            lambda c, a: self.seconds(c, 0), self.streams(self.events),
        )  # fmt: skip

    def run(self, events: int) -> Lab:
        """Lets that many events happen."""
        for _ in range(events):
            due = sorted((o.end, c) for c, o in self.flying.items())
            if self.alarm is not None and (not due or self.alarm < due[0][0]):
                self.now, self.alarm = self.alarm, None
                self.tail(self.algorithm.tick(self.state, self.fleet()), True, ("",))
            elif due:
                self.now, client = due[0]
                self.end(client, self.flying.pop(client))
        return self

    def end(self, client: int, out: Out) -> None:
        self.busy = client
        staleness = {k: self.versions[k] - b for k, b in out.base.items()}
        base = max(out.base.values())
        if self.lose(client, self.nth[client] - 1):
            lost = Lost(client, base, staleness, out.sent_at, "dropout")
            step = self.algorithm.lost(self.state, lost, self.fleet())
        else:
            scale = out.order.lr_scale
            lr = self.local.lr * (scale if isinstance(scale, (int, float)) else scale[0])
            the_job = job(out.order.tensors, self.memory[client], lr, out.planned)
            data = [batch(self.targets[client])] * out.planned
            up, memory = train(self.algorithm, Quadratic(self.curvature[client]), data, the_job)
            event = Update(
                client, base, staleness, self.samples[client], out.planned, dict(out.order.tensors), up,
                dict.fromkeys(("loss", "loss_sq", "first_loss", "first_loss_sq", "last_loss"), 1.0),
                out.sent_at, self.now, out.planned < out.epochs,
            )  # fmt: skip
            step = self.algorithm.receive(self.state, event, self.fleet())
            self.log.append((client, max(staleness.values()), step.weight, step.used))
            if step.used:
                self.memory[client] = memory
        self.tail(step, False, tuple(out.base))

    def tail(self, step: Step[Any], tick: bool, tracks: tuple[str, ...]) -> None:
        self.state = step.state
        moved = step.advanced if isinstance(step.advanced, tuple) else tracks if step.advanced else ()
        for k in moved:
            self.versions[k] = self.versions.get(k, 0) + 1
        if moved:
            self.models.append(self.algorithm.params(self.state))
        if moved or tick:
            for c, how in self.algorithm.recall(self.state, self.fleet()).items():
                if how == "cancel":
                    del self.flying[c]
                    self.cancelled.append(c)
                elif self.flying[c].planned == self.flying[c].epochs:
                    out = self.flying[c]
                    each = (out.end - out.sent_at) / out.epochs
                    done = max(1, int(np.ceil((self.now - out.sent_at) / each - 1e-9)))
                    if done < out.epochs:
                        out.planned, out.end = done, out.sent_at + done * each
        self.busy = -1
        chosen = list(self.algorithm.select(self.state, self.fleet()))
        for c in chosen:
            assert c not in self.flying
            order = self.algorithm.assign(self.state, c, self.fleet())
            for k in order.tracks:
                self.versions.setdefault(k, 0)
            given = order.version
            base = {
                k: self.versions[k] if given is None else given[k] if isinstance(given, Mapping) else given
                for k in order.tracks
            }
            epochs = order.steps or order.epochs or self.local.epochs
            seconds = self.pace[c] * epochs if self.pace else self.seconds(c, self.nth[c])
            self.flying[c] = Out(c, base, self.now, self.now + seconds, order, epochs, epochs)
            self.nth[c] += 1
            self.sent.append((c, order))
        if chosen:
            self.state = self.algorithm.launched(self.state, chosen, self.fleet())
        self.alarm = self.algorithm.alarm(self.state, self.fleet())
        assert self.alarm is None or self.alarm > self.now

    @property
    def x(self) -> Tensor:
        """The global model."""
        return self.algorithm.params(self.state)


__all__ = [
    "Lab", "Quadratic", "Streams", "batch", "feed", "fleet", "job", "same", "setup", "train", "update", "vec",
]  # fmt: skip
