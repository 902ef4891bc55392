"""The convolutional network of the FedAvg paper."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class FedavgCnn(Model):
    """Two 5 x 5 convolutions (32, 64) with 2 x 2 pooling, a hidden layer of 512: 1,663,370 parameters on MNIST.

    Source: McMahan et al., Communication-efficient learning of deep networks from decentralized data, 2017.
    """

    hidden: int = Field(512, ge=1, description="size of the fully connected layer")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, pool1, conv2, pool2, fc1, head; the convolutions keep the size."""
        from torch import nn

        depth, height, width = pixels(spec, "fedavg-cnn", 4)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(depth, 32, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(64 * (height // 4) * (width // 4), self.hidden),
                relu3=nn.ReLU(),
                head=nn.Linear(self.hidden, spec.classes),
            )
        )
