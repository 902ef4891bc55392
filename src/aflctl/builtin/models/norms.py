"""Normalisation after a convolution."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Norm = Literal["group", "batch", "none"]
SAID = "normalisation after each convolution; batch has running statistics, which travel and are averaged"


def normalise(norm: Norm, channels: int, groups: int, *, dims: int = 2) -> nn.Module:
    """GroupNorm (groups: the greatest divisor of both), BatchNorm for `dims` dimensions, or nothing."""
    from torch import nn

    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm1d(channels)
    return nn.GroupNorm(gcd(groups, channels), channels)
