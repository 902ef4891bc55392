"""Independent and identically distributed clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import check, require_enough

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Iid(Partition):
    """Every client draws from the same distribution; sizes differ by at most one.

    uniform: one permutation, cut into equal parts. stratified: the samples are shuffled, sorted by class and dealt in
    turn, so that every client's class counts differ by at most one from any other's.
    """

    stratified: bool = Field(False, description="equal class counts for every client")

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """Positions per client."""
        import numpy as np

        require_enough(len(labels), clients)
        order = rng.permutation(len(labels))
        if self.stratified:
            order = order[np.argsort(labels[order], kind="stable")]
            return check([order[client::clients] for client in range(clients)], len(labels))
        return check(np.array_split(order, clients), len(labels))
