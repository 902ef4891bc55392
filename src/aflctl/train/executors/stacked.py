"""Many jobs as one call: the pending ones of one shape are trained over vectors stacked on a new leading axis.

Membership follows from the schedule alone: whoever has been dispatched, will arrive and is not trained yet when the
first result is asked for, in dispatch order. Rows are sorted by their number of steps, so that finished rows drop off
the end and cost nothing; batches of unequal size are padded and masked. A method whose step hooks are the defaults
trains over one stacked block per parameter, others over [K, P] through `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import vmap

from aflctl.api import Batch, Job, overrides
from aflctl.errors import AflctlError
from aflctl.train import answers
from aflctl.train.executors.loss import stacked_loss
from aflctl.train.executors.rowwise import rowwise
from aflctl.train.full import out_of_memory
from aflctl.train.jobs import JobFailed, Kit, Spec, Trained, train
from aflctl.train.modal import thinned
from aflctl.train.optimizers import clip_, optimizer
from aflctl.train.task import aligned

if TYPE_CHECKING:
    from aflctl.train.batches import Feed


class Stacked:
    """Pending jobs, and those that were trained ahead with them. At most `rows` jobs in one call."""

    name = "stacked"

    def __init__(self, kit: Kit, rows: int = 128) -> None:
        self.kit, self.rows = kit, rows
        self.pending: dict[int, Spec] = {}
        self.done: dict[int, Trained] = {}
        self.heights: list[int] = []
        self.notes: list[str] = []
        algorithm = kit.algorithm
        self._plain = not any(overrides(algorithm, h) for h in ("loss", "grad", "direction", "project"))

    def start(self, spec: Spec, due: int) -> None:
        """The job waits for company."""
        self.pending[spec.task] = spec

    def shorten(self, spec: Spec) -> None:
        """The spec carries its new length; a trained one has its marks."""

    def cancel(self, task: int) -> None:
        """Not trained, or trained and not heard."""
        self.pending.pop(task, None)
        self.done.pop(task, None)

    def result(self, spec: Spec) -> Trained:
        if spec.task not in self.done:
            self.pending.pop(spec.task, None)
            if spec.patience is not None:
                return train(self.kit, spec)
            shape = _shape(spec)
            group = [spec]
            for other in self.pending.values():
                if len(group) == self.rows:
                    break
                if other.patience is None and _shape(other) == shape:
                    group.append(other)
            group.sort(key=lambda s: s.task)
            for member in group:
                self.pending.pop(member.task, None)
            self.heights.append(len(group))
            self._together(group)
        return self.done.pop(spec.task)

    def _together(self, group: list[Spec]) -> None:
        """Trains all of them; halves the group, and those to come, where it does not fit into memory."""
        if len(group) == 1:
            self.done[group[0].task] = train(self.kit, group[0])
            return
        group = sorted(group, key=lambda s: (-s.steps, s.task))
        trained = self._trained(group)
        if trained is not None:
            self.done.update((member.task, row) for member, row in zip(group, trained, strict=True))
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.rows = len(group) // 2
        self.notes.append(f"a stack of {len(group)} jobs did not fit into memory: from now on at most {self.rows}")
        self._together(group[: self.rows])
        self._together(group[self.rows :])

    def _trained(self, group: list[Spec]) -> list[Trained] | None:
        """The rows; None = out of memory. Returning frees what the failed attempt held, which its traceback keeps."""
        stack = None
        try:
            stack = Stack(self.kit, group)
            return stack.train(plain=self._plain)
        except (AflctlError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if out_of_memory(error):
                return None
            for member in group:  # whose job is it? Alone it raises again, and says so
                train(self.kit, member)
            hook, step = (stack.hook, stack.step) if stack else ("start", 0)
            raise JobFailed(group[0], hook, step, error) from error

    def ahead(self) -> dict[int, Trained]:
        """Results of stacks whose other members were heard already: alone they would differ in the last bits."""
        return dict(self.done)

    def close(self) -> None:
        """Nothing to release."""


class Stack:
    """K jobs sorted by their number of steps, longest first."""

    def __init__(self, kit: Kit, specs: Sequence[Spec]) -> None:
        self.kit, self.specs = kit, specs
        self.hook, self.step = "start", 0
        self.steps = [s.steps for s in specs]
        self.out = [Trained() for _ in specs]
        self.values: list[Tensor] = []
        self.batches = Batches(kit.feed, specs)
        rates = torch.zeros(self.steps[0], len(specs))
        for r, s in enumerate(specs):
            epochs = torch.tensor([s.lr[min(e, len(s.lr) - 1)] for e in range(-(-s.steps // s.per_epoch))])
            rates[: s.steps, r] = epochs.repeat_interleave(s.per_epoch)[: s.steps]
        self.rates = rates.to(kit.feed.device)
        self.first_rate = rates[:, 0].tolist()
        self._sent = {n: _stack([s.sent[n] for s in specs]) for n in specs[0].sent}
        self._columns = torch.tensor(
            [[0.0] * len(specs)] + [[float(getattr(s, n)) for s in specs] for n in ("per_epoch", "planned", "samples")]
        ).to(kit.feed.device)
        self.same_rate = [bool((rates[t, : self.active(t)] == rates[t, 0]).all()) for t in range(self.steps[0])]

    def active(self, t: int) -> int:
        """Rows that still have a step t."""
        return sum(1 for s in self.steps if s > t)

    def train(self, *, plain: bool) -> list[Trained]:
        """Every row from its first step to its last."""
        task = self.kit.task
        task.training(True)
        task.running = task.buffers
        (self._blocks if plain else self._vectors)()
        flat, at = torch.cat(self.values).tolist(), 0
        for values in self.values:
            for r in range(len(values)):
                self.out[r].losses.append(flat[at + r])
            at += len(values)
        return self.out

    # ---- default hooks: one block per parameter ----
    def _blocks(self) -> None:
        task, local = self.kit.task, self.kit.local
        w, memory = self._begin()
        blocks = [b.contiguous() for b in task.cut(w)]
        rules = [optimizer(local, b) for b in blocks]
        forward = self._forward()
        k = len(self.specs)
        self.hook = "loss"
        for t in range(self.steps[0]):
            self.step = t
            if (now := self.active(t)) < k:
                k = now
                blocks = [b[:k] for b in blocks]
                for rule in rules:
                    rule.keep(k)
            leaves = [b.detach().requires_grad_() for b in blocks]
            batch = self.batches.at(t, k)
            values = stacked_loss(forward(leaves, batch), batch)
            grads = list(torch.autograd.grad(values.sum(), leaves))
            if local.clip_norm is not None:
                norms = torch.stack([g.reshape(k, -1).square().sum(1) for g in grads]).sum(0).sqrt()
                factor = (local.clip_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
                grads = [g.mul_(factor.view(-1, *[1] * (g.dim() - 1))) for g in grads]
            rate = self._rate(t, k)
            for block, rule, g in zip(blocks, rules, grads, strict=True):
                rule.step(block, g, rate if isinstance(rate, float) else rate.view(-1, *[1] * (block.dim() - 1)))
            self.values.append(values.detach())
            for r in self._marked(t, k):
                self.out[r].marks[t + 1] = (
                    aligned(torch.cat([b[r].reshape(-1) for b in blocks])),
                    {n: m[r].clone() for n, m in memory.items()},
                    self.specs[r].buffers,
                )

    # ---- own hooks: [K, P] ----
    def _vectors(self) -> None:
        algorithm, task, _, local = self.kit
        name = type(algorithm).__name__
        w, memory = self._begin()
        own_direction, corrects = overrides(algorithm, "direction"), overrides(algorithm, "grad")
        projects = overrides(algorithm, "project")
        rule, k = optimizer(local, w), len(self.specs)
        forward = None if overrides(algorithm, "loss") else self._forward()
        lossy = vmap(lambda p, batch, job: algorithm.loss(task, p, batch, job))
        for t in range(self.steps[0]):
            self.step, self.hook = t, "direction" if own_direction else "loss"
            if (now := self.active(t)) < k:
                k = now
                w, memory = w[:k], {n: m[:k] for n, m in memory.items()}
                rule.keep(k)
            batch, job = self.batches.at(t, k), self._job(t, k, memory)
            if own_direction:
                answer = vmap(lambda p, b, j: algorithm.direction(task, p, b, j))(w, batch, job)
                g, memory, values = answers.direction(answer, w, f"{name}.direction")
                g, memory, values = g.detach(), {n: m.detach() for n, m in memory.items()}, values.detach()
            else:
                leaf = w.detach().requires_grad_()
                if forward is None:
                    values = answers.loss(lossy(leaf, batch, job), w, f"{name}.loss")
                else:
                    values = stacked_loss(forward(task.cut(leaf), batch), batch)
                (g,) = torch.autograd.grad(values.sum(), leaf)
                if corrects:
                    self.hook = "grad"
                    g = answers.like(vmap(algorithm.grad)(g, w, job), w, f"{name}.grad")
            g = g.clone() if own_direction or corrects else g
            if local.clip_norm is not None:
                g = clip_(g, local.clip_norm)
            before = w.clone() if projects else w
            rate = self._rate(t, k)
            rule.step(w, g, rate if isinstance(rate, float) else rate.view(-1, 1))
            if projects:
                self.hook = "project"
                w = answers.like(vmap(algorithm.project)(w, before, job), w, f"{name}.project").contiguous()
            self.values.append(values.detach())
            for r in self._marked(t, k):
                self.out[r].marks[t + 1] = (
                    aligned(w[r]),
                    {n: m[r].clone() for n, m in memory.items()},
                    self.specs[r].buffers,
                )

    # ---- parts ----
    def _begin(self) -> tuple[Tensor, dict[str, Tensor]]:
        algorithm, task, feed, _ = self.kit
        stacked = {n: _stack([s.memory[n] for s in self.specs]) for n in self.specs[0].memory}
        job = self._job(0, len(self.specs), stacked)
        if algorithm.probes:
            w, memory = vmap(lambda data, j: algorithm.start(task, data, j))(whole(feed, self.specs), job)
        elif overrides(algorithm, "start"):
            w, memory = vmap(lambda j: algorithm.start(task, None, j))(job)
        else:
            w, memory = job.sent["w"], stacked
        return w.detach().clone(memory_format=torch.contiguous_format), memory

    def _forward(self) -> Callable[[Sequence[Tensor], Batch], Tensor]:
        """(pieces [K, ...], batch) -> logits [K, B, classes]."""
        task = self.kit.task
        direct = rowwise(task.module, list(task.layout)) if not task.modal else None
        if direct is not None:
            return lambda pieces, batch: direct(pieces, batch.x)
        mapped = vmap(task.logits_of)
        return lambda pieces, batch: mapped(list(pieces), batch.x, batch.present)

    def _job(self, t: int, k: int, memory: dict[str, Tensor]) -> Job:
        sent = self._sent = {n: v[:k] for n, v in self._sent.items()}
        column = self._columns[:, :k]
        return Job(sent, memory, self.rates[t, :k], column[0] * 0 + t, (t // column[1]), column[2], column[3])

    def _rate(self, t: int, k: int) -> float | Tensor:
        return self.first_rate[t] if self.same_rate[t] else self.rates[t, :k]

    def _marked(self, t: int, k: int) -> list[int]:
        return [
            r
            for r in range(k)
            if t + 1 == self.steps[r] or (self.specs[r].marks and (t + 1) % self.specs[r].per_epoch == 0)
        ]


class Batches:
    """The batches of a stack: [k, B] positions into one set of arrays, with a mask over the padding.

    All of them are laid out before the first step, on the device: a step only gathers, and waits for nothing.
    """

    def __init__(self, feed: Feed, specs: Sequence[Spec]) -> None:
        self.feed, self.data = feed, specs[0].data
        longest, width = max(s.steps for s in specs), max(min(s.batch_size, s.samples) for s in specs)
        rows = torch.zeros(longest, len(specs), width, dtype=torch.int64, device=feed.device)
        mask = torch.zeros(longest, len(specs), width)
        self.seen: Tensor | None = None
        shift, shared = 0, all(s.data.y is self.data.y for s in specs)
        for r, s in enumerate(specs):
            at, there = padded(s, width)
            rows[: s.steps, r] = (at if s.data.rows is None else s.data.rows[at]) + shift
            mask[: s.steps, r] = there
            shift += 0 if shared else len(s.data.y)
            if s.seen is not None:
                if self.seen is None:
                    self.seen = torch.ones(longest, len(specs), width, s.seen.shape[-1], device=feed.device)
                epochs = torch.arange(s.steps, device=feed.device) // s.per_epoch
                self.seen[: s.steps, r] = s.seen[epochs.unsqueeze(1), at]
        if not shared:
            self.data = joined(specs)
        counts = [sum(1 for s in specs if s.steps > t) for t in range(longest)]
        self.full = [bool(mask[t, :k].all()) for t, k in enumerate(counts)]
        self.rows, self.mask = rows, mask.to(feed.device)

    def at(self, t: int, k: int) -> Batch:
        """[k, B, ...] step t of the first k rows."""
        rows = self.rows[t, :k]
        x, y, present = self.feed.absolute(self.data, rows.reshape(-1))
        shape = rows.shape
        wide = tuple(p.view(*shape, *p.shape[1:]) for p in x) if isinstance(x, tuple) else x.view(*shape, *x.shape[1:])
        mask = self.feed.ones(*shape) if self.full[t] else self.mask[t, :k]
        batch = Batch(wide, y.view(shape), mask, present.view(*shape, -1))
        return thinned(batch, None if self.seen is None else self.seen[t, :k])


def whole(feed: Feed, specs: Sequence[Spec]) -> Batch:
    """[K, widest, ...] all local data of every row, padded with its first sample."""
    widest = max(s.samples for s in specs)
    parts = [feed.raw(s.data, torch.arange(widest, device=feed.device) % s.samples) for s in specs]
    mask = torch.stack([(torch.arange(widest, device=feed.device) < s.samples).float() for s in specs])
    first = parts[0][0]
    x: Any = (
        tuple(torch.stack([p[0][m] for p in parts]) for m in range(len(first)))
        if isinstance(first, tuple)
        else torch.stack([p[0] for p in parts])
    )
    return Batch(x, torch.stack([p[1] for p in parts]), mask, torch.stack([p[2] for p in parts]))


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if all(t is first for t in tensors):
        return first.expand(len(tensors), *first.shape)
    return torch.stack(list(tensors))


def padded(spec: Spec, width: int) -> tuple[Tensor, Tensor]:
    """[steps, width] positions of every step's batch, where the job's order is, and a mask over them, on the CPU.

    The last batch of an epoch may be short.
    """
    epochs, size = -(-spec.steps // spec.per_epoch), spec.batch_size
    at = torch.zeros(epochs, spec.per_epoch * size, dtype=torch.int64, device=spec.order.device)
    there = torch.zeros(epochs, spec.per_epoch * size)
    at[:, : spec.samples] = spec.order[:epochs]
    there[:, : spec.samples] = 1.0
    return at.view(-1, size)[: spec.steps, :width], there.view(-1, size)[: spec.steps, :width]


def joined(specs: Sequence[Spec]) -> Any:
    from aflctl.api import Samples

    parts = [s.data for s in specs]
    present = None if parts[0].present is None else torch.cat([p.present for p in parts if p.present is not None])
    x = tuple(torch.cat([p.x[m] for p in parts]) for m in range(len(parts[0].x)))
    return Samples(x, torch.cat([p.y for p in parts]), present)


def _shape(spec: Spec) -> Any:
    def shapes(tensors: dict[str, Tensor]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((n, tuple(t.shape)) for n, t in sorted(tensors.items()))

    return shapes(spec.sent), shapes(spec.memory), spec.batch_size
