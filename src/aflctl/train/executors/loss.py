"""The loss of a stack in few passes: cross-entropy per row with its gradient written out.

    value = sum_b s_b (log sum_c exp z_bc - z_by),   s_b = mask_b / max(1, sum mask)
    d value / d z_bc = s_b (softmax(z_b)_c - [c = y_b])

Classes are put before the batch, so that the softmax runs over vectors of samples instead of ten classes at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aflctl.api import Batch


class CrossEntropy(torch.autograd.Function):
    """z [K, B, C], y [K, B] int64, share [K, B] -> [K]; can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, y: Tensor, share: Tensor) -> Tensor:
        at = y.unsqueeze(1)
        logs = torch.log_softmax(z.transpose(1, 2).contiguous(), 1)
        ctx.save_for_backward(logs, at, share)
        return logs.gather(1, at).squeeze(1).mul_(share).sum(-1).neg_()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        logs, at, share = ctx.saved_tensors
        p = logs.exp()
        p.scatter_add_(1, at, p.new_full((), -1.0).expand(at.shape))
        return p.mul_((share * g.unsqueeze(1)).unsqueeze(1)).transpose(1, 2), None, None


def stacked_loss(logits: Tensor, batch: Batch) -> Tensor:
    """[K] mean over each row's samples with mask 1: what `mean_loss` says, up to rounding."""
    share = batch.mask / batch.mask.sum(-1, keepdim=True).clamp(min=1.0)
    return CrossEntropy.apply(logits, batch.y, share)  # type: ignore[no-any-return, no-untyped-call]
