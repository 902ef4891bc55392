"""The three-convolution network of Forootani and Iervolino."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class ForootaniCnn(Model):
    """Three 3 x 3 convolutions of 32 channels, global mean, linear: 19,146 parameters on MNIST.

    Pooling by 2 after the first two convolutions. Source: Forootani and Iervolino, Asynchronous federated learning.
    """

    channels: int = Field(32, ge=1, description="channels of every convolution")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, pool1, conv2, pool2, conv3, mean, flatten, head."""
        from torch import nn

        depth, _, _ = pixels(spec, "forootani-cnn", 4)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(depth, self.channels, 3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(self.channels, self.channels, 3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(self.channels, self.channels, 3, padding=1),
                relu3=nn.ReLU(),
                mean=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                head=nn.Linear(self.channels, spec.classes),
            )
        )
