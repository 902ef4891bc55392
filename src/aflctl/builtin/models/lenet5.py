"""LeNet-5."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels
from aflctl.builtin.models.projection import WIDTH, project

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class Lenet5(Model):
    """LeNet-5 with ReLU and max pooling: 61,706 parameters on MNIST.

    Images narrower than 32 pixels are padded by 2, as the original pads MNIST to 32 x 32; at least 12 x 12 pixels.
    `projection: 256` on CIFAR-10 is the network of MOON (Li et al., CVPR 2021).
    Source: LeCun et al. 1998; deviations: ReLU for tanh, max for average pooling, no sparse connections.
    """

    projection: int | None = Field(None, ge=1, description=WIDTH)

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, pool1, conv2, pool2, fc1, fc2, head."""
        from torch import nn

        depth, height, width = pixels(spec, "lenet5", 12)
        padding = 0 if min(height, width) >= 32 else 2
        left = [((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width)]
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(depth, 6, 5, padding=padding),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * left[0] * left[1], 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
        )
        layers["head"] = nn.Linear(project(layers, 84, self.projection), spec.classes)
        return nn.Sequential(layers)
