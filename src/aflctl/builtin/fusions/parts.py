"""What fusions share: heads per modality for the late ones, features side by side for `concat` and `early`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def absent_out(scores: Tensor, present: Tensor) -> Tensor:
    """Scores that a softmax turns into 0 where something is absent."""
    return scores.masked_fill(present <= 0, -1e9)


def late(dims: Sequence[int], out: int, how: str) -> nn.Module:
    """One linear head per modality, joined over the present ones by `sum`, `mean` or learned weights (`weighted`)."""
    import torch
    from torch import nn

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(d, out) for d in dims)
            if how == "weighted":
                self.weight = nn.Parameter(torch.zeros(len(dims)))

        def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
            logits = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], 1)
            there = present.unsqueeze(-1)
            if how == "weighted":
                share = absent_out(self.weight.expand(present.shape), present).softmax(-1).unsqueeze(-1)
                return (share * there * logits.softmax(-1)).sum(1).clamp(min=1e-9).log()
            total = (logits * there).sum(1)
            return total if how == "sum" else total / there.sum(1).clamp(min=1.0)

    return Late()


def side_by_side(dims: Sequence[int], out: int, hidden: int, *, flags: bool, rescale: bool) -> nn.Module:
    """All parts through one hidden layer; `flags` adds the presence mask to the input."""
    import torch
    from torch import nn

    class SideBySide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.join = nn.Linear(sum(dims) + (len(dims) if flags else 0), hidden)
            self.head = nn.Linear(hidden, out)

        def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
            x = torch.cat([part * present[:, m : m + 1] for m, part in enumerate(parts)], 1)
            if rescale:
                x = x * (present.shape[1] / present.sum(1, keepdim=True).clamp(min=1.0))
            if flags:
                x = torch.cat([x, present], 1)
            return self.head(torch.relu(self.join(x)))  # type: ignore[no-any-return]

    return SideBySide()
