"""A ResNet-18 per modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.norms import SAID, Norm
from aflctl.builtin.models.resnet18 import network
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion, Modality

WIDTH = 512


class TwoStreamResnet18(Model):
    """A ResNet-18 for each of several images or sounds, its 512 features joined: 22,352,902 parameters on CREMA-D.

    The frames of a video, three channels each, go through one network, and their features are averaged. Without
    `model.fusion` one linear layer reads all features side by side; `late-sum` is AFL-Lib's other head (22,352,908).
    With AFL-Lib's inputs (`audio: spectrogram, video: true, side: 224`) this is its model for CREMA-D but for
    GroupNorm. Sources: boyi-liu/AFL-Lib; Peng et al., CVPR 2022 (OGM-GE).
    """

    norm: Norm = Field("group", description=SAID)
    groups: int = Field(
        32, ge=1, description="groups of GroupNorm; the largest common divisor with the channels is used"
    )

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with BatchNorm."""
        return self.norm != "batch"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """encoders.<modality> with torchvision's names, fusion."""
        import torch
        from torch import nn

        if len(spec.modalities) < 2:
            raise UserError(
                "model: two-stream-resnet18 reads several inputs, the dataset has one", hint="resnet18 reads one image"
            )
        if fusion is not None and fusion.reads != "features":
            raise UserError("this model's fusion reads features", where="model.fusion", hint="use late-sum or concat")
        frames = [_frames(m) for m in spec.modalities]
        form, dims = self, [WIDTH] * len(spec.modalities)

        class Streams(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoders = nn.ModuleDict(
                    {m.name: form._encoder(m.shape[0] // count) for m, count in zip(spec.modalities, frames)}
                )
                joint = nn.Linear(WIDTH * len(dims), spec.classes)
                self.fusion = joint if fusion is None else fusion.build(dims, spec.classes)

            def forward(self, x: Any, present: Tensor | None = None) -> Tensor:
                parts = self._parts(x)
                there = parts[0].new_ones(len(parts[0]), len(parts)) if present is None else present
                if fusion is not None:
                    return self.fusion(parts, there)  # type: ignore[no-any-return]
                return self.fusion(_beside(parts, there))  # type: ignore[no-any-return]

            def embed(self, x: Any, present: Tensor | None = None) -> Tensor:
                parts = self._parts(x)
                return _beside(parts, parts[0].new_ones(len(parts[0]), len(parts)) if present is None else present)

            def _parts(self, x: Any) -> tuple[Tensor, ...]:
                out = []
                for encoder, part, count in zip(self.encoders.values(), x, frames, strict=True):
                    still = part.reshape(len(part) * count, part.shape[1] // count, *part.shape[2:])
                    out.append(encoder(still).view(len(part), count, WIDTH).mean(1))
                return tuple(out)

        def _beside(parts: tuple[Tensor, ...], there: Tensor) -> Tensor:
            return torch.cat([part * there[:, m : m + 1] for m, part in enumerate(parts)], 1)

        return Streams()

    def _encoder(self, depth: int) -> nn.Module:
        """ResNet-18 without its last layer, for images of `depth` channels."""
        from torch import nn

        module = network(depth, 1, self.norm, self.groups)
        module.fc = nn.Identity()
        return module  # type: ignore[no-any-return]


def _frames(modality: Modality) -> int:
    """How many pictures of three channels a sample of an image modality holds; 1 for sound."""
    if modality.kind not in ("image", "audio") or len(modality.shape) != 3:
        raise UserError(
            f"model: two-stream-resnet18 cannot read {modality.kind} input (modality {modality.name!r})",
            hint="use multimodal, which has an encoder for each kind",
        )
    return modality.shape[0] // 3 if modality.kind == "image" and modality.shape[0] % 3 == 0 else 1
