"""Multinomial logistic regression."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from aflctl.api import Model
from aflctl.builtin.models.inputs import only, size

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class Logistic(Model):
    """One linear layer: convex, the reference for checking a method's arithmetic."""

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """flatten, head."""
        from torch import nn

        modality = only(spec, "logistic", ("image", "vector", "sensor", "audio"))
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), head=nn.Linear(size(modality), spec.classes)))
