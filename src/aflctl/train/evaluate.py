"""Evaluation in large batches; touches neither state nor clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
