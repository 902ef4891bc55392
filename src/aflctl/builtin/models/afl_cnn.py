"""The convolutional network that AFL-Lib uses on CIFAR."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class AflCnn(Model):
    """Two 5 x 5 convolutions of 64 channels without padding, then 120-64-C: 307,842 parameters on CIFAR-10.

    Fits images of at least 16 x 16 pixels. Source: boyi-liu/AFL-Lib, whose version takes 32 x 32 only.
    """

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, pool1, conv2, pool2, fc1, fc2, head."""
        from torch import nn

        depth, height, width = pixels(spec, "afl-cnn", 16)
        left = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(depth, 64, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(64, 64, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(64 * left[0] * left[1], 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 64),
                relu4=nn.ReLU(),
                head=nn.Linear(64, spec.classes),
            )
        )
