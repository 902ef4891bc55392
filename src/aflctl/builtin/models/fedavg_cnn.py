"""The convolutional networks of the FedAvg paper."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class FedavgCnn(Model):
    """Two 5 x 5 convolutions (32, 64) with 2 x 2 pooling, a hidden layer of 512: 1,663,370 parameters on MNIST.

    `form: cifar` is the paper's second one, from TensorFlow's tutorial: two 5 x 5 convolutions of 64 channels with
    3 x 3 pooling by 2, hidden layers of 384 and 192; 1,068,298 parameters on the tutorial's crops of 24 x 24 pixels
    (the paper: "about 10^6"), 1,756,426 on whole CIFAR images. Deviation: without the tutorial's local response
    normalisation. Source: McMahan et al., Communication-efficient learning of deep networks from decentralized data,
    2017.
    """

    form: Literal["mnist", "cifar"] = Field("mnist", description="which of the paper's two networks")
    hidden: int = Field(512, ge=1, description="size of the fully connected layer of the first")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, pool1, conv2, pool2, fc1 (and fc2), head; the convolutions keep the size."""
        from torch import nn

        depth, height, width = pixels(spec, "fedavg-cnn", 4)
        first, pool = (32, nn.MaxPool2d(2)) if self.form == "mnist" else (64, nn.MaxPool2d(3, 2, padding=1))
        for _ in range(2):
            height, width = ((s // 2 if self.form == "mnist" else (s + 1) // 2) for s in (height, width))
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(depth, first, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=pool,
            conv2=nn.Conv2d(first, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=pool,
            flatten=nn.Flatten(),
        )
        inputs = 64 * height * width
        for i, out in enumerate((self.hidden,) if self.form == "mnist" else (384, 192), 1):
            layers[f"fc{i}"] = nn.Linear(inputs, out)
            layers[f"relu{i + 2}"] = nn.ReLU()
            inputs = out
        layers["head"] = nn.Linear(inputs, spec.classes)
        return nn.Sequential(layers)
