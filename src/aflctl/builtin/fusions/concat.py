"""Features side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import side_by_side

if TYPE_CHECKING:
    from torch import nn


class ConcatFusion(Fusion):
    """Intermediate fusion: logits = W relu(V [f_1; ...; f_M]), zeros where a modality is absent.

    With `rescale` the features are multiplied by M / (number present), so that their sum keeps its scale.
    """

    hidden: int = Field(64, ge=1, description="size of the joint layer")
    rescale: bool = Field(False, description="make up for absent modalities by a factor")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        return side_by_side(dims, out, self.hidden, flags=False, rescale=self.rescale)
