"""Evaluation in large batches; touches neither state nor clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from aflctl.train.batches import moved

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Samples
    from aflctl.train.batches import Feed
    from aflctl.train.task import FlatTask


class Score(NamedTuple):
    """Accuracy, mean cross-entropy (nats) and macro F1 (mean over the classes that occur) on one set."""

    accuracy: float
    loss: float
    macro_f1: float
    samples: int


def evaluate(task: FlatTask, feed: Feed, w: Tensor, samples: Samples, batch_size: int) -> Score:
    """Scores the vector `w` [P]."""
    n, classes = len(samples), task.spec.classes
    device = feed.device
    samples = moved(samples, device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    task.training(False)
    task.running = task.buffers
    with torch.inference_mode():
        for start in range(0, n, batch_size):
            at = torch.arange(start, min(start + batch_size, n), device=device)
            x, y, present = feed.raw(samples, at)
            logits = task.logits(w, x, present)
            total += F.cross_entropy(logits, y, reduction="sum").double()
            confusion += torch.bincount(y * classes + logits.argmax(1), minlength=classes * classes)
    table = confusion.view(classes, classes).double().cpu()
    hit, rows, columns = table.diag(), table.sum(1), table.sum(0)
    occurs = (rows + columns) > 0
    f1 = (2 * hit / (rows + columns).clamp(min=1))[occurs].mean()
    return Score(float(hit.sum()) / n, float(total) / n, float(f1), n)


class Member(NamedTuple):
    """A client to be tested: its vector [P], its own test samples, its running statistics."""

    client: int
    w: Tensor
    samples: Samples
    buffers: Tensor


STACK_BYTES = 128 << 20


def evaluate_clients(
    task: FlatTask, feed: Feed, members: Sequence[Member], batch_size: int, *, stacks: bool
) -> dict[int, tuple[int, int]]:
    """client -> (correct, samples). Clients with one vector share batches; other vectors are stacked where they can be.

    The result does not depend on how clients are grouped, up to ties of logits.
    """
    task.training(False)
    out: dict[int, tuple[int, int]] = {}
    same: dict[tuple[int, int], list[Member]] = {}
    for member in members:
        same.setdefault((id(member.w), id(member.buffers)), []).append(member)
    alone = [group[0] for group in same.values() if len(group) == 1]
    stacked = [m for m in alone if len(m.samples) <= batch_size] if stacks and len(alone) > 1 else []
    done = {m.client for m in stacked}
    with torch.inference_mode():
        for group in same.values():
            if group[0].client not in done:
                _together(task, feed, group, batch_size, out)
        stacked.sort(key=lambda m: (-len(m.samples), m.client))
        rows = max(1, min(128, STACK_BYTES // (4 * max(1, task.size))))
        for start in range(0, len(stacked), rows):
            _stacked(task, feed, stacked[start : start + rows], out)
    return dict(sorted(out.items()))


def _together(
    task: FlatTask, feed: Feed, group: Sequence[Member], batch_size: int, out: dict[int, tuple[int, int]]
) -> None:
    """One vector: everybody's samples one after the other, cut into batches."""
    task.running = group[0].buffers
    waiting: list[tuple[Any, Tensor, Tensor]] = []
    owners: list[tuple[int, int]] = []
    hits: dict[int, int] = {}

    def flush() -> None:
        x, y, present = _joined(waiting)
        right = torch.split(task.logits(group[0].w, x, present).argmax(1) == y, [n for _, n in owners])
        for (client, _), part in zip(owners, right, strict=True):
            hits[client] = hits.get(client, 0) + int(part.sum())
        waiting.clear()
        owners.clear()

    for member in group:
        samples, n = moved(member.samples, feed.device), len(member.samples)
        for start in range(0, n, batch_size):
            at = torch.arange(start, min(start + batch_size, n), device=feed.device)
            if owners and sum(k for _, k in owners) + len(at) > batch_size:
                flush()
            waiting.append(feed.raw(samples, at))
            owners.append((member.client, len(at)))
    flush()
    out.update({m.client: (hits[m.client], len(m.samples)) for m in group})


def _stacked(task: FlatTask, feed: Feed, group: Sequence[Member], out: dict[int, tuple[int, int]]) -> None:
    """Many vectors: one call over [K, widest] samples; padding repeats samples and is not counted."""
    widest = max(len(m.samples) for m in group)
    places = torch.arange(widest, device=feed.device)
    parts = [feed.raw(moved(m.samples, feed.device), places % len(m.samples)) for m in group]
    first = parts[0][0]
    x: Any = (
        tuple(torch.stack([p[0][m] for p in parts]) for m in range(len(first)))
        if isinstance(first, tuple)
        else torch.stack([p[0] for p in parts])
    )
    y, present = torch.stack([p[1] for p in parts]), torch.stack([p[2] for p in parts])
    blocks = task.cut(torch.stack([m.w for m in group]))
    task.running = task.buffers
    right = torch.func.vmap(task.logits_of)(blocks, x, present).argmax(-1) == y
    for row, member in zip(right, group, strict=True):
        n = len(member.samples)
        out[member.client] = (int(row[:n].sum()), n)


def _joined(parts: Sequence[tuple[Any, Tensor, Tensor]]) -> tuple[Any, Tensor, Tensor]:
    first = parts[0][0]
    x: Any = (
        tuple(torch.cat([p[0][m] for p in parts]) for m in range(len(first)))
        if isinstance(first, tuple)
        else torch.cat([p[0] for p in parts])
    )
    return x, torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
