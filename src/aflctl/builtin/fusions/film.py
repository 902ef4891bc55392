"""One modality modulated by the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Fusion
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


class FilmFusion(Fusion):
    """Intermediate fusion: h = (1 + gamma(f_b)) f_a + beta(f_b), logits = W relu(h).

    a is the dataset's first modality, b the others. Without b it is h = f_a, without a it is h = beta(f_b).

    Source: Perez et al., FiLM, AAAI 2018.
    """

    hidden: int = Field(64, ge=1, description="size of the joint layer")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        """base, gamma, beta, head."""
        import torch
        from torch import nn

        if len(dims) < 2:
            raise UserError("film needs two modalities", where="model.fusion", hint="use late-mean or concat")
        hidden, rest = self.hidden, sum(dims[1:])

        class Film(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.base, self.head = nn.Linear(dims[0], hidden), nn.Linear(hidden, out)
                self.gamma, self.beta = nn.Linear(rest, hidden), nn.Linear(rest, hidden)

            def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
                others = torch.cat([part * present[:, m : m + 1] for m, part in enumerate(parts[1:], 1)], 1)
                some = present[:, 1:].amax(1, keepdim=True)
                base = self.base(parts[0]) * present[:, :1]
                h = (1 + some * self.gamma(others)) * base + some * self.beta(others)
                return self.head(torch.relu(h))  # type: ignore[no-any-return]

        return Film()
