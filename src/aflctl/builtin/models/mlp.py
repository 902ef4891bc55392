"""Fully connected networks."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import only, size
from aflctl.builtin.models.projection import WIDTH, project

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class Mlp(Model):
    """Fully connected layers with ReLU between them; none on the logits.

    `hidden: [512, 256]` on MNIST is AFL-Lib's network without the ReLU it puts on its logits (535,818 parameters);
    `[200, 200]` is the 2NN of McMahan et al. 2017 (199,210 parameters).
    """

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((64,), description="sizes of the hidden layers")
    projection: int | None = Field(None, ge=1, description=WIDTH)

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """flatten, fc1, relu1, fc2, ..., head."""
        from torch import nn

        modality = only(spec, "mlp", ("image", "vector", "sensor", "audio"))
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        width = size(modality)
        for i, wider in enumerate(self.hidden, 1):
            layers[f"fc{i}"] = nn.Linear(width, wider)
            layers[f"relu{i}"] = nn.ReLU()
            width = wider
        width = project(layers, width, self.projection)
        layers["head"] = nn.Linear(width, spec.classes)
        return nn.Sequential(layers)
