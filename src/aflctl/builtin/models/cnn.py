"""A small convolutional network for images of any size."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels
from aflctl.builtin.models.norms import SAID, Norm, normalise
from aflctl.builtin.models.projection import WIDTH, project

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class Cnn(Model):
    """Stages of 3 x 3 convolution, GroupNorm, ReLU and 2 x 2 max pooling, then one hidden layer.

    Fits any image of at least 2 x 2 pixels: a stage whose input is narrower than 4 pixels does not pool.
    """

    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 32), min_length=1, description="channels per stage")
    hidden: int = Field(64, ge=1, description="size of the fully connected layer before the logits")
    norm: Norm = Field("group", description=SAID)
    groups: int = Field(
        4, ge=1, description="groups of GroupNorm; the largest common divisor with the channels is used"
    )
    projection: int | None = Field(None, ge=1, description=WIDTH)

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with BatchNorm."""
        return self.norm != "batch"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, norm1, relu1, pool1, conv2, ..., flatten, fc1, relu, head."""
        from torch import nn

        depth, height, width = pixels(spec, "cnn", 2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, out in enumerate(self.channels, 1):
            layers[f"conv{i}"] = nn.Conv2d(depth, out, 3, padding=1)
            if self.norm != "none":
                layers[f"norm{i}"] = normalise(self.norm, out, self.groups)
            layers[f"relu{i}"] = nn.ReLU()
            if min(height, width) >= 4:
                layers[f"pool{i}"] = nn.MaxPool2d(2)
                height, width = height // 2, width // 2
            depth = out
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = nn.Linear(depth * height * width, self.hidden)
        layers["relu"] = nn.ReLU()
        layers["head"] = nn.Linear(project(layers, self.hidden, self.projection), spec.classes)
        return nn.Sequential(layers)
