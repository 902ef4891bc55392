"""One encoder per modality, and a fusion."""

from __future__ import annotations

from collections import OrderedDict
from math import gcd, prod
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from aflctl.api import Model
from aflctl.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion, Modality


class Multimodal(Model):
    """Encoders by the kind of each modality, joined by `model.fusion` (late-mean where none is named).

    vector            linear, ReLU
    sensor            stages of convolution over time, GroupNorm, ReLU and pooling, mean over time, linear, ReLU
    image, audio      stages of 3 x 3 convolution, GroupNorm, ReLU and pooling, mean over the plane, linear, ReLU
    sequence          embedding, mean over the tokens, linear, ReLU

    Each encoder gives `features` values and is called `encoders.<modality>`. A modality that a sample lacks contributes
    nothing, and its encoder gets no gradient from it. Works with one modality too.
    """

    features: int = Field(32, ge=1, description="values that each encoder gives")
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 32), min_length=1, description="channels per stage")
    embedding: int = Field(32, ge=1, description="size of a token's vector")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """encoders.<modality>, fusion."""
        import torch
        from torch import nn

        encodes = fusion is None or fusion.reads == "features"
        if any("." in m.name for m in spec.modalities):
            raise UserError("a modality's name becomes part of parameter names and cannot have a dot")
        if not encodes and any(m.kind == "sequence" for m in spec.modalities):
            raise UserError("tokens cannot be put beside numbers", where="model.fusion", hint="use late-mean or concat")
        dims = [self.features if encodes else prod(m.shape) for m in spec.modalities]
        form = self

        class Joined(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                if encodes:
                    self.encoders = nn.ModuleDict({m.name: form._encoder(m) for m in spec.modalities})
                self.fusion = _mean_of_heads(dims, spec.classes) if fusion is None else fusion.build(dims, spec.classes)

            def forward(self, x: Any, present: Tensor | None = None) -> Tensor:
                parts = self._parts(x)
                there = parts[0].new_ones(len(parts[0]), len(parts)) if present is None else present
                return self.fusion(parts, there)  # type: ignore[no-any-return]

            def embed(self, x: Any, present: Tensor | None = None) -> Tensor:
                parts = self._parts(x)
                if present is not None:
                    parts = tuple(part * present[:, m : m + 1] for m, part in enumerate(parts))
                return torch.cat(parts, 1)

            def _parts(self, x: Any) -> tuple[Tensor, ...]:
                inputs = x if isinstance(x, tuple) else (x,)
                if not encodes:
                    return tuple(part.flatten(1) for part in inputs)
                return tuple(encoder(part) for encoder, part in zip(self.encoders.values(), inputs, strict=True))

        return Joined()

    def _encoder(self, modality: Modality) -> nn.Module:
        from torch import nn

        shape = modality.shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if modality.kind == "sequence":
            layers["embedding"] = nn.Embedding(modality.vocabulary, self.embedding)
            layers["turn"], layers["mean"] = _turn(), nn.AdaptiveAvgPool1d(1)
            layers["flatten"] = nn.Flatten()
            width = self.embedding
        elif modality.kind == "vector" or len(shape) == 1:
            layers["flatten"] = nn.Flatten()
            width = prod(shape)
        else:
            flat = len(shape) == 2
            depth, sides = shape[0], list(shape[1:])
            for i, wide in enumerate(self.channels, 1):
                layers[f"conv{i}"] = (
                    nn.Conv1d(depth, wide, 5, padding=2) if flat else nn.Conv2d(depth, wide, 3, padding=1)
                )
                layers[f"norm{i}"] = nn.GroupNorm(gcd(4, wide), wide)
                layers[f"relu{i}"] = nn.ReLU()
                if min(sides) >= 4:
                    layers[f"pool{i}"] = nn.MaxPool1d(2) if flat else nn.MaxPool2d(2)
                    sides = [side // 2 for side in sides]
                depth = wide
            layers["mean"] = nn.AdaptiveAvgPool1d(1) if flat else nn.AdaptiveAvgPool2d(1)
            layers["flatten"] = nn.Flatten()
            width = depth
        layers["fc"] = nn.Linear(width, self.features)
        layers["relu"] = nn.ReLU()
        return nn.Sequential(layers)


def _turn() -> nn.Module:
    from torch import nn

    class Turn(nn.Module):
        """[B, T, D] -> [B, D, T]."""

        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2)

    return Turn()


def _mean_of_heads(dims: Sequence[int], classes: int) -> nn.Module:
    """What the fusion late-mean is; here because models and fusions do not import each other."""
    import torch
    from torch import nn

    class MeanOfHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(d, classes) for d in dims)

        def forward(self, parts: tuple[Tensor, ...], present: Tensor) -> Tensor:
            logits = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], 1)
            there = present.unsqueeze(-1)
            return (logits * there).sum(1) / there.sum(1).clamp(min=1.0)

    return MeanOfHeads()
