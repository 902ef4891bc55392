"""ResNet-18 from torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels
from aflctl.builtin.models.norms import SAID, Norm, normalise

if TYPE_CHECKING:
    from torch import nn

    from aflctl.api import DataSpec, Fusion


class Resnet18(Model):
    """torchvision's ResNet-18 with a stem for small or large images; about 11.2 million parameters.

    `norm: batch` has running statistics, which travel with the updates and are averaged; such a model is not trained in
    stacks. Sources: He et al. 2016; Hsieh et al. 2020 (GroupNorm for skewed data).
    """

    stem: Literal["auto", "cifar", "imagenet"] = Field(
        "auto", description="3 x 3 without pooling, or 7 x 7 with; auto: cifar up to 64 pixels"
    )
    norm: Norm = Field("group", description=SAID)
    groups: int = Field(
        32, ge=1, description="groups of GroupNorm; the largest common divisor with the channels is used"
    )

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with BatchNorm."""
        return self.norm != "batch"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """torchvision's names: conv1, bn1, layer1 ... layer4, fc."""
        depth, height, width = pixels(spec, "resnet18", 8)
        small = self.stem == "cifar" or (self.stem == "auto" and max(height, width) <= 64)
        return network(depth, spec.classes, self.norm, self.groups, small=small)  # type: ignore[no-any-return]


def network(depth: int, classes: int, norm: Norm, groups: int, *, small: bool = False) -> Any:
    """torchvision's network for images of `depth` channels; `small` = the stem for small images."""
    from torch import nn

    from aflctl.data import torchvision

    def layer(channels: int) -> nn.Module:
        return normalise(norm, channels, groups)

    module: Any = torchvision("models").resnet18(weights=None, num_classes=classes, norm_layer=layer)
    if small:
        module.conv1 = nn.Conv2d(depth, 64, 3, padding=1, bias=False)
        module.maxpool = nn.Identity()
    elif depth != 3:
        module.conv1 = nn.Conv2d(depth, 64, 7, stride=2, padding=3, bias=False)
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return module
