"""The mean of the modalities' own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import late

if TYPE_CHECKING:
    from torch import nn


class LateMean(Fusion):
    """Late fusion, mean: logits = sum_m a_m W_m f_m / sum_m a_m, a_m = 1 where modality m is present.

    Exact for any subset, and of one scale whatever is missing. A modality's head belongs to its block.
    """

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        return late(dims, out, "mean")
