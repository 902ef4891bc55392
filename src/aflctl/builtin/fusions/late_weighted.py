"""A learned mixture of the modalities' own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fusion
from aflctl.builtin.fusions.parts import late

if TYPE_CHECKING:
    from torch import nn


class LateWeighted(Fusion):
    """Late fusion, weighted: p = sum_m pi_m softmax(W_m f_m), pi = softmax of learned weights over the present ones.

    The logits are log p. For modalities of very unequal quality. A modality's head belongs to its block.
    """

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        return late(dims, out, "weighted")
