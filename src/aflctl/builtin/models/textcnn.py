"""TextCNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import only

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion


class Textcnn(Model):
    """Word embedding, convolutions of several widths, maximum over time, linear: 6,375,904 parameters on AG News.

    The maximum is taken over the whole text, whatever its length. AFL-Lib drops 80 % of the features (`dropout: 0.8`);
    with dropout the model is not trained in stacks. Source: Kim, EMNLP 2014.
    """

    width: int = Field(192, ge=1, description="length of a word vector")
    windows: tuple[Annotated[int, Field(ge=1)], ...] = Field((3, 4, 5), min_length=1, description="words per filter")
    filters: int = Field(100, ge=1, description="filters per window size")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features dropped before the logits")

    @property
    def stacks(self) -> bool:  # type: ignore[override]
        """Not with dropout."""
        return self.dropout == 0

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """embedding, conv3, conv4, conv5, head."""
        import torch
        from torch import nn

        text = only(spec, "textcnn", ("sequence",))
        form = self

        class TextCnn(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(text.vocabulary, form.width, padding_idx=0)
                self.convs = nn.ModuleDict(
                    {f"conv{w}": nn.Conv1d(form.width, form.filters, w, padding=w - 1) for w in form.windows}
                )
                self.dropout = nn.Dropout(form.dropout)
                self.head = nn.Linear(form.filters * len(form.windows), spec.classes)

            def embed(self, x: Tensor) -> Tensor:
                words = self.embedding(x).transpose(1, 2)
                return torch.cat([conv(words).relu().amax(2) for conv in self.convs.values()], 1)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.dropout(self.embed(x)))  # type: ignore[no-any-return]

        return TextCnn()

    def flops(self, spec: DataSpec) -> float | None:
        """The convolutions and the linear layer; looking words up is free."""
        length = only(spec, "textcnn", ("sequence",)).shape[0]
        convolutions = sum(2 * (length + w - 1) * w * self.width * self.filters for w in self.windows)
        return float(convolutions + 2 * self.filters * len(self.windows) * spec.classes)
