"""LG-FedAvg: private encoders below a shared head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Personalization
from aflctl.builtin.personalizations import subspace
from aflctl.builtin.personalizations.selectors import choose

if TYPE_CHECKING:
    from aflctl.api import Setup


class LgFedAvg(Personalization):
    """Local representations, global head: each client keeps its encoder, and only the named last layers are shared.

    The mirror image of FedPer; with another method than FedAvg inside it is that method on the head. The authors start
    from a model that plain FedAvg has trained; here it starts from the initial one.

    Source: Liang et al., Think Locally, Act Globally, 2019 (arXiv 2001.01523). Deviations: no warm start.
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"

    shared: tuple[str, ...] = Field(("@Linear:last",), description="selectors of what is shared")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        shared = choose(self.shared, setup, "personalization.shared")
        private = frozenset({*setup.layout, *setup.buffers} - shared)
        return subspace.wrap(inner, setup, private, "lg-fedavg")
