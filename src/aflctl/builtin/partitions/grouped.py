"""Groups of clients with groups of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import check, require_enough
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Grouped(Partition):
    """Clients and classes in G consecutive groups; a share `iid` of each class is spread over all clients.

    The rest of a class goes to the clients of its group only: `iid: 0` gives disjoint label groups, `iid: 1` IID.
    Left-over samples are dealt in turn, starting behind the client that got the last one. Where C or M is not divisible
    by G, the last group takes the remainder. This is what AFL-Lib's `group` means to do; its code hands samples out
    several times.
    """

    groups: int = Field(2, ge=1, description="G")
    iid: float = Field(0.0, ge=0, le=1, description="share of each class that is spread over all clients")

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
        classes, of = np.unique(labels, return_inverse=True)
        if self.groups > min(clients, len(classes)):
            raise UserError(
                f"dataset.partition.groups: {self.groups} groups need at least as many clients (there are {clients}) "
                f"and classes (there are {len(classes)})",
                hint=f"lower groups to {min(clients, len(classes))}",
            )
        everyone = list(range(clients))
        held: list[list[int]] = [[] for _ in everyone]
        turn: dict[int, int] = {}
        for label in range(len(classes)):
            rows = rng.permutation(np.flatnonzero(of == label)).tolist()
            shared = round(self.iid * len(rows))
            group = min(label // (len(classes) // self.groups), self.groups - 1)
            each = clients // self.groups
            members = everyone[group * each : None if group == self.groups - 1 else (group + 1) * each]
            for key, mine, among in ((-1, rows[:shared], everyone), (group, rows[shared:], members)):
                first = turn.get(key, 0)
                for i, row in enumerate(mine, first):
                    held[among[i % len(among)]].append(row)
                turn[key] = (first + len(mine)) % len(among)
        return check([np.array(rows, np.int64) for rows in held], len(labels))
