"""The inputs themselves side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import side_by_side

if TYPE_CHECKING:
    from torch import nn


class EarlyFusion(Fusion):
    """Early fusion: flattened inputs and presence mask side by side, through one hidden layer.

    There are no encoders, hence no blocks per modality.
    """

    reads: ClassVar[Literal["features", "inputs"]] = "inputs"

    hidden: int = Field(64, ge=1, description="size of the joint layer")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        return side_by_side(dims, out, self.hidden, flags=True, rescale=False)
