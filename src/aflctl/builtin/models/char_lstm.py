"""Character LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Model
from aflctl.builtin.models.inputs import only

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aflctl.api import DataSpec, Fusion


class CharLstm(Model):
    """Character embedding of 8, two LSTM layers of 256, linear on the last position: 819,920 parameters.

    Sources: McMahan et al. 2017; LEAF, arXiv 1812.01097.
    """

    stacks: ClassVar[bool] = False
    family: ClassVar[str] = "rnn"  # type: ignore[assignment]

    width: int = Field(8, ge=1, description="length of a character vector")
    hidden: int = Field(256, ge=1, description="size of a layer")
    layers: int = Field(2, ge=1, description="LSTM layers")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """embedding, lstm, head."""
        from torch import nn

        text = only(spec, "char-lstm", ("sequence",))
        form = self

        class CharacterLstm(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(text.vocabulary, form.width)
                self.lstm = nn.LSTM(form.width, form.hidden, form.layers, batch_first=True)
                self.head = nn.Linear(form.hidden, spec.classes)

            def embed(self, x: Tensor) -> Tensor:
                return self.lstm(self.embedding(x))[0][:, -1]  # type: ignore[no-any-return]

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.embed(x))  # type: ignore[no-any-return]

        return CharacterLstm()

    def flops(self, spec: DataSpec) -> float | None:
        """Per position and layer 8 h (inputs + h) for the four gates, then the linear layer."""
        length = only(spec, "char-lstm", ("sequence",)).shape[0]
        inputs = [self.width, *[self.hidden] * (self.layers - 1)]
        gates = sum(8 * self.hidden * (n + self.hidden) for n in inputs)
        return float(length * gates + 2 * self.hidden * spec.classes)
