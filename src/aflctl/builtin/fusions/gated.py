"""A gate that weighs the modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import absent_out

if TYPE_CHECKING:
    from torch import Tensor, nn


class GatedFusion(Fusion):
    """Intermediate fusion: h = sum_m g_m f_m, g = softmax over the present m of u . tanh(V f_m), logits = W relu(h).

    Absent modalities have weight 0, so any subset will do. Each f_m is first mapped to `hidden` values.
    """

    hidden: int = Field(64, ge=1, description="size of the joint layer")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        """map.<position>, gate, score, head."""
        import torch
        from torch import nn

        hidden = self.hidden

        class Gated(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.map = nn.ModuleList(nn.Linear(d, hidden) for d in dims)
                self.gate, self.score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1, bias=False)
                self.head = nn.Linear(hidden, out)

            def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
                f = torch.stack([m(part) for m, part in zip(self.map, parts, strict=True)], 1)
                scores = self.score(torch.tanh(self.gate(f))).squeeze(-1)
                g = absent_out(scores, present).softmax(-1) * present
                return self.head(torch.relu((g.unsqueeze(-1) * f).sum(1)))  # type: ignore[no-any-return]

        return Gated()
