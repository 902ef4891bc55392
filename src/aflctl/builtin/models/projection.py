"""The projection head that MOON puts between a network's features and its logits."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

WIDTH = "width of a projection head before the logits, as in MOON (paper: 256); null = none"


def project(layers: OrderedDict[str, nn.Module], width: int, out: int | None) -> int:
    """Appends linear, ReLU, linear (width -> width -> out) and returns how wide the features are now.

    The last layer has no ReLU, so cosines between its outputs may be negative. Source: Li, He, Song, MOON, CVPR 2021.
    """
    from torch import nn

    if out is None:
        return width
    layers["project1"], layers["project_relu"] = nn.Linear(width, width), nn.ReLU()
    layers["project2"] = nn.Linear(width, out)
    return out
