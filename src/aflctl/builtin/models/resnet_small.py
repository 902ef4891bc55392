"""Residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import pixels
from aflctl.builtin.models.norms import SAID, Norm, normalise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion


class ResnetSmall(Model):
    """ResNet [3, 3, 3] with 16, 32 and 64 channels, the ResNet-20 for CIFAR, which Forootani's experiments use.

    Blocks of two 3 x 3 convolutions; a stage after the first begins with stride 2 and a 1 x 1 shortcut. `norm: batch`
    (the original) has running statistics, which travel with the updates; such a model is not trained in stacks.
    Source: He et al. 2016, section 4.2; deviation: projection shortcuts.
    """

    blocks: tuple[Annotated[int, Field(ge=1)], ...] = Field((3, 3, 3), min_length=1, description="blocks per stage")
    width: int = Field(16, ge=1, description="channels of the first stage; each further stage doubles them")
    norm: Norm = Field("group", description=SAID)
    groups: int = Field(
        8, ge=1, description="groups of GroupNorm; the largest common divisor with the channels is used"
    )

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with BatchNorm."""
        return self.norm != "batch"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """conv1, norm1, stage1.block1 ..., mean, flatten, head."""
        from torch import nn

        depth, _, _ = pixels(spec, "resnet-small", 8)

        def norm(channels: int) -> nn.Module:
            return normalise(self.norm, channels, self.groups)

        class Block(nn.Module):
            def __init__(self, inputs: int, out: int, stride: int) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(inputs, out, 3, stride, 1, bias=False)
                self.norm1 = norm(out)
                self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
                self.norm2 = norm(out)
                self.shortcut: nn.Module = nn.Identity()
                if stride > 1:
                    self.shortcut = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), norm(out))

            def forward(self, x: Tensor) -> Tensor:
                hidden = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
                return (hidden + self.shortcut(x)).relu()  # type: ignore[no-any-return]

        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(depth, self.width, 3, padding=1, bias=False), norm1=norm(self.width), relu1=nn.ReLU()
        )
        inputs = self.width
        for i, count in enumerate(self.blocks):
            out = self.width << i
            steps = [Block(inputs, out, 2 if i else 1), *(Block(out, out, 1) for _ in range(count - 1))]
            layers[f"stage{i + 1}"] = nn.Sequential(
                OrderedDict((f"block{n}", block) for n, block in enumerate(steps, 1))
            )
            inputs = out
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(inputs, spec.classes)
        return nn.Sequential(layers)
