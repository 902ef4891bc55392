"""Clients that the data come with: users, roles, actors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import check
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Natural(Partition):
    """One client per natural owner of samples, or per group of owners.

    Owners with fewer than `min_size` samples are left out; the others are taken in ascending order of their ids, and
    `merge` consecutive ones form a client. When there are more than clients.count, `choose` says which are used; the
    samples of the others stay unused.
    """

    by: str | None = Field(None, description="column of the dataset; none = the only one")
    min_size: int = Field(1, ge=1, description="owners with fewer samples are left out")
    merge: int = Field(1, ge=1, description="owners that form one client")
    choose: Literal["random", "largest", "first"] = Field(
        "random", description="which clients, when there are too many"
    )

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """Positions per client."""
        import numpy as np

        owners = naturals[self._column(naturals)]
        order = np.argsort(owners, kind="stable")
        ids, starts = np.unique(owners[order], return_index=True)
        everyone = np.split(order, starts[1:]) if len(ids) else []
        kept = [rows for rows in everyone if len(rows) >= self.min_size]
        groups = [np.concatenate(kept[i : i + self.merge]) for i in range(0, len(kept) - self.merge + 1, self.merge)]
        if len(groups) < clients:
            details = f"{len(ids)} owners, {len(kept)} with at least {self.min_size} samples, {self.merge} to a client"
            raise UserError(
                f"clients.count: {clients} clients but {len(groups)} natural ones ({details})",
                hint=f"lower clients.count to {len(groups)} or less",
            )
        return check([groups[i] for i in self._chosen(groups, clients, rng)], len(labels))

    def _chosen(self, groups: list[NDArray[np.int64]], clients: int, rng: np.random.Generator) -> list[int]:
        if self.choose == "first" or len(groups) == clients:
            return list(range(clients))
        if self.choose == "largest":
            return sorted(sorted(range(len(groups)), key=lambda i: (-len(groups[i]), i))[:clients])
        return sorted(rng.permutation(len(groups))[:clients].tolist())

    def _column(self, naturals: Mapping[str, NDArray[np.int64]]) -> str:
        if not naturals:
            raise UserError(
                "dataset.partition: this dataset has no natural clients",
                hint="use another partition, such as dirichlet",
            )
        if self.by is None and len(naturals) == 1:
            return next(iter(naturals))
        if self.by is None or self.by not in naturals:
            raise UserError(
                f"dataset.partition.by: {self.by!r} is no column of this dataset",
                hint=f"columns: {', '.join(sorted(naturals))}",
            )
        return self.by
