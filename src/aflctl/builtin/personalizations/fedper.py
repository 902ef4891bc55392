"""FedPer: a private head on a shared body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Personalization
from aflctl.builtin.personalizations import subspace
from aflctl.builtin.personalizations.selectors import choose

if TYPE_CHECKING:
    from aflctl.api import Setup


class FedPer(Personalization):
    """Private layers: each client keeps the named parameters to itself and shares the rest through any method.

        client i:  (s, q_i) <- local training from (received s, own q_i), all coordinates together; uploads s only
        server:    the method's own rule on s

    A private part is never stale; the shared base it was trained with may be. A client that never trained has the
    initial q. The global model, for the global test, is the newest s with the initial q. Nothing private is the plain
    method, everything private is training alone.

    Source: Arivazhagan et al., Federated Learning with Personalization Layers, 2019 (arXiv 1912.00818).
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"

    private: tuple[str, ...] = Field(
        ("@Linear:last",), description="selectors of parameters and buffers that stay with the client"
    )

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        return subspace.wrap(inner, setup, choose(self.private, setup, "personalization.private"), "fedper")
