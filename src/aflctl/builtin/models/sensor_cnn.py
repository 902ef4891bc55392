"""A one-dimensional convolutional network for sensor windows."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import only
from aflctl.builtin.models.norms import SAID, Norm, normalise

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class SensorCnn(Model):
    """Stages of convolution over time, GroupNorm, ReLU and pooling by 2; mean over time; linear.

    For windows of shape channels x time, such as UCI HAR, IMU and HARBox.
    """

    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((32, 64), min_length=1, description="channels per stage")
    kernel: int = Field(5, ge=1, description="steps that a filter spans; odd")
    norm: Norm = Field("group", description=SAID)
    groups: int = Field(
        4, ge=1, description="groups of GroupNorm; the largest common divisor with the channels is used"
    )

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with BatchNorm."""
        return self.norm != "batch"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, norm1, relu1, pool1, ..., mean, flatten, head."""
        from torch import nn

        depth, length = only(spec, "sensor-cnn", ("sensor",)).shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, out in enumerate(self.channels, 1):
            layers[f"conv{i}"] = nn.Conv1d(depth, out, self.kernel, padding=self.kernel // 2)
            if self.norm != "none":
                layers[f"norm{i}"] = normalise(self.norm, out, self.groups, dims=1)
            layers[f"relu{i}"] = nn.ReLU()
            if length >= 4:
                layers[f"pool{i}"] = nn.MaxPool1d(2)
                length //= 2
            depth = out
        layers["mean"] = nn.AdaptiveAvgPool1d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(depth, spec.classes)
        return nn.Sequential(layers)
