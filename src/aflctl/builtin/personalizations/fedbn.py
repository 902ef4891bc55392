"""FedBN: private normalisation layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Personalization
from aflctl.builtin.personalizations import subspace
from aflctl.builtin.personalizations.selectors import choose

if TYPE_CHECKING:
    from aflctl.api import Setup


class FedBn(Personalization):
    """Private batch normalisation: its weights, biases and running statistics stay with the client.

    Layers are found by the class of their module, so those inside shortcuts count too (the authors look for "bn" in a
    name and miss them). Models of this project normalise by groups unless told otherwise: `model: {name: resnet18,
    norm: batch}`, or `private: ["@GroupNorm"]`, whose layers have no statistics.

    Source: Li et al., FedBN, ICLR 2021.
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"
    example: ClassVar[tuple[str, ...]] = ("model=resnet-small", "model.norm=batch")

    private: tuple[str, ...] = Field(("@BatchNorm",), description="selectors of the normalisation layers")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        return subspace.wrap(inner, setup, choose(self.private, setup, "personalization.private"), "fedbn")
