"""A small transformer encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from aflctl.api import Model
from aflctl.builtin.models.inputs import only

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion


class Transformer(Model):
    """Token and position embedding, pre-norm blocks of attention and a feed-forward layer, mean over the positions.

    LayerNorm throughout and no dropout, so it stacks. Attention sees the whole window; padding is not masked. Source:
    Vaswani et al. 2017 (pre-norm: Xiong et al. 2020).
    """

    family: ClassVar[str] = "attention"  # type: ignore[assignment]

    width: int = Field(64, ge=1, description="length of a token vector")
    heads: int = Field(4, ge=1, description="attention heads; must divide the width")
    layers: int = Field(2, ge=1, description="blocks")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """embedding, position, block1 ..., norm, head."""
        import torch
        from torch import nn
        from torch.nn.functional import scaled_dot_product_attention

        text = only(spec, "transformer", ("sequence",))
        form = self

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm1, self.norm2 = nn.LayerNorm(form.width), nn.LayerNorm(form.width)
                self.qkv, self.out = nn.Linear(form.width, 3 * form.width), nn.Linear(form.width, form.width)
                self.fc1, self.fc2 = nn.Linear(form.width, 4 * form.width), nn.Linear(4 * form.width, form.width)

            def forward(self, x: Tensor) -> Tensor:
                batch, length, width = x.shape
                parts = self.qkv(self.norm1(x)).view(batch, length, 3, form.heads, width // form.heads)
                q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
                mixed = scaled_dot_product_attention(q, k, v)
                x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
                return x + self.fc2(self.fc1(self.norm2(x)).relu())  # type: ignore[no-any-return]

        class Encoder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(text.vocabulary, form.width)
                self.position = nn.Parameter(torch.empty(text.shape[0], form.width).normal_(std=0.02))
                self.blocks = nn.ModuleList(Block() for _ in range(form.layers))
                self.norm = nn.LayerNorm(form.width)
                self.head = nn.Linear(form.width, spec.classes)

            def embed(self, x: Tensor) -> Tensor:
                hidden = self.embedding(x) + self.position
                for block in self.blocks:
                    hidden = block(hidden)
                return self.norm(hidden).mean(1)  # type: ignore[no-any-return]

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.embed(x))  # type: ignore[no-any-return]

        return Encoder()

    def flops(self, spec: DataSpec) -> float | None:
        """Per block 24 L d^2 for the linear layers and 4 L^2 d for attention, then the logits."""
        length, d = only(spec, "transformer", ("sequence",)).shape[0], self.width
        return float(self.layers * (24 * length * d * d + 4 * length * length * d) + 2 * d * spec.classes)
