"""Attention over the modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import absent_out

if TYPE_CHECKING:
    from torch import Tensor, nn


class AttentionFusion(Fusion):
    """Intermediate fusion: each of H heads scores w_h . tanh(V f_m) and pools with the softmax over the present m.

        logits = W relu(U [pool_1; ...; pool_H])

    Source: the attention pooling of FedMultimodal, KDD 2023, over modalities instead of time steps.
    """

    hidden: int = Field(64, ge=1, description="size of the joint layer")
    heads: int = Field(2, ge=1, description="H, ways to weigh the modalities")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        """map.<position>, inner, score, join, head."""
        import torch
        from torch import nn

        hidden, count = self.hidden, self.heads

        class Attention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.map = nn.ModuleList(nn.Linear(d, hidden) for d in dims)
                self.inner, self.score = nn.Linear(hidden, hidden), nn.Linear(hidden, count)
                self.join, self.head = nn.Linear(count * hidden, hidden), nn.Linear(hidden, out)

            def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
                f = torch.stack([m(part) for m, part in zip(self.map, parts, strict=True)], 1)
                there = present.unsqueeze(-1)
                a = absent_out(self.score(torch.tanh(self.inner(f))), there).softmax(1) * there
                pooled = (a.transpose(1, 2) @ f).flatten(1)
                return self.head(torch.relu(self.join(pooled)))  # type: ignore[no-any-return]

        return Attention()
