"""The sum of the modalities' own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import late

if TYPE_CHECKING:
    from torch import nn


class LateSum(Fusion):
    """Late fusion, sum: logits = sum_m a_m W_m f_m, a_m = 1 where modality m is present.

    Exact for any subset, but the logits grow with the number of modalities. AFL-Lib's form. A modality's head belongs
    to its block.
    """

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        return late(dims, out, "sum")
