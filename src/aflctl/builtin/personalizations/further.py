"""What personalizations share that train a model of the client's own beside the one that travels."""

from __future__ import annotations

from typing import Any, ClassVar

from aflctl.api import Algorithm, Setup, Wrapper
from aflctl.builtin.personalizations.subspace import refuse_direction
from aflctl.errors import UserError


class FurtherModel(Wrapper[Any]):
    """A method whose clients are evaluated with a second model that never travels."""

    who: ClassVar[str]


def fit(inner: Algorithm[Any], setup: Setup, who: str) -> None:
    """Refuses what a second model cannot stand beside; UserError with the reason."""
    layer = inner
    while isinstance(layer, Wrapper):
        if isinstance(layer, FurtherModel):
            raise UserError(
                f"{layer.who} and {who} both say which model a client is evaluated with", where="personalization",
                hint="keep one of them",
            )  # fmt: skip
        layer = layer.inner
    refuse_direction(inner, who)
    if setup.buffers:
        raise UserError(
            f"{who} trains two models at once, and both would write the running statistics of the model's BatchNorm",
            where="model",
            hint="use a model that normalises by groups (norm: group)",
        )
