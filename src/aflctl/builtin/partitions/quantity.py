"""Clients of very different size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import Shortfall, check, cut, require_enough, until_enough

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = list[NDArray[np.int64]]


class Quantity(Partition):
    """Quantity skew: sizes differ, the label mix stays IID.

    One permutation is cut at floor(cumsum(q) N), with q ~ Dir(beta, ..., beta) (NIID-Bench) or q proportional to
    exp(sigma z), z ~ N(0, 1). Source: Li et al., arXiv 2102.02079.
    """

    law: Literal["dirichlet", "lognormal"] = Field("dirichlet", description="distribution of the sizes")
    beta: float = Field(0.5, gt=0, description="dirichlet: concentration; smaller = more unequal")
    sigma: float = Field(1.0, ge=0, description="lognormal: standard deviation of the logarithm")
    min_size: int = Field(2, ge=0, description="samples every client must have")
    max_retries: int = Field(50, ge=0, le=100_000, description="draws after the first one")
    shortfall: Shortfall = Field("error", description="what to do when no draw gives every client min_size samples")

    @property
    def leaves_out(self) -> bool:
        """Whether clients below the minimum are no clients at all."""
        return self.shortfall == "drop"

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """Positions per client."""
        import numpy as np

        require_enough(len(labels), clients, self.min_size)

        def draw() -> Parts:
            order = rng.permutation(len(labels))
            if self.law == "dirichlet":
                weights = np.nan_to_num(rng.dirichlet(np.repeat(self.beta, clients)))
            else:
                weights = np.exp(self.sigma * rng.standard_normal(clients))
            if not weights.sum() > 0:
                weights = np.ones(clients)
            return cut(order, weights / weights.sum())

        parts = until_enough(
            draw,
            labels,
            clients,
            min_size=self.min_size,
            max_retries=self.max_retries,
            shortfall=self.shortfall,
            scheme=f"quantity by {self.law}",
            remedy="raise beta" if self.law == "dirichlet" else "lower sigma",
        )
        return check(parts, len(labels))
