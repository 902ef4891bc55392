"""Few classes per client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import Shortfall, check, require_enough, until_enough
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = list[NDArray[np.int64]]


class Pathological(Partition):
    """Every client holds few classes: k chosen classes, or k shards of the sorted data.

    classes  client i owns class i mod C and k - 1 other classes drawn at random; each class is shuffled and cut equally
             among its owners (NIID-Bench's rule). Where that leaves classes without owner (M < C), they are dealt to
             random clients first, which NIID-Bench does not do: it loses them.
    shards   the samples sorted by class, cut into k M equal shards, k random shards for each client (McMahan et al.
             2017 with k = 2). A shard may straddle two classes.

    M clients, C classes.
    """

    conformance: ClassVar = {"variants": ({"k": 1, "min_size": 30, "max_retries": 1, "shortfall": "accept"},)}

    k: int = Field(2, ge=1, description="classes or shards per client")
    form: Literal["classes", "shards"] = Field("classes", description="what k counts")
    min_size: int = Field(1, ge=0, description="samples every client must have")
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
        require_enough(len(labels), clients, self.min_size)
        if self.form == "shards" and self.k * clients > len(labels):
            raise UserError(
                f"dataset.partition.k: {clients} clients with {self.k} shards each need {self.k * clients} shards, "
                f"there are {len(labels)} training samples",
                hint=f"lower k to {len(labels) // clients} or clients.count to {len(labels) // self.k}",
            )

        def draw() -> Parts:
            if self.form == "shards":
                return by_shards(labels, clients, self.k, rng)
            return by_classes(labels, clients, self.k, rng)

        parts = until_enough(
            draw,
            labels,
            clients,
            min_size=self.min_size,
            max_retries=self.max_retries,
            shortfall=self.shortfall,
            scheme=f"pathological with {self.k} {self.form} per client",
            remedy="raise k",
        )
        return check(parts, len(labels))


def by_shards(labels: NDArray[np.int64], clients: int, k: int, rng: np.random.Generator) -> Parts:
    """k random ones of k M equal shards of the sorted samples for each client."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    shards = np.array_split(order, k * clients)
    chosen = rng.permutation(k * clients).reshape(clients, k)
    return [np.concatenate([shards[i] for i in mine]) for mine in chosen]


def by_classes(labels: NDArray[np.int64], clients: int, k: int, rng: np.random.Generator) -> Parts:
    """Each class shuffled and cut equally among its owners."""
    import numpy as np

    classes, of = np.unique(labels, return_inverse=True)
    owners = _owners(len(classes), clients, k, rng)
    held: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label, mine in enumerate(owners):
        rows = rng.permutation(np.flatnonzero(of == label))
        for client, piece in zip(mine, np.array_split(rows, len(mine))):
            held[client].append(piece)
    return [np.concatenate(pieces) for pieces in held]


def _owners(classes: int, clients: int, k: int, rng: np.random.Generator) -> list[list[int]]:
    """class -> clients that own it; every class has an owner, every client k different classes."""
    if k > classes:
        raise UserError(
            f"dataset.partition.k: {k} classes per client, but the data have {classes}", hint=f"lower k to {classes}"
        )
    if k * clients < classes:
        raise UserError(
            f"dataset.partition.k: {clients} clients with {k} classes each cover at most {k * clients} of {classes} "
            f"classes; at least {classes - k * clients} would be lost",
            hint=f"raise k to {-(-classes // clients)} or clients.count to {-(-classes // k)}",
        )
    owned = [[client % classes] for client in range(clients)]
    orphans = list(range(clients, classes))
    if orphans:
        slots = rng.permutation([client for client in range(clients) for _ in range(k - 1)])
        for label, client in zip(orphans, slots):
            owned[client].append(label)
    for mine in owned:
        free = [label for label in range(classes) if label not in mine]
        mine += rng.permutation(free)[: k - len(mine)].tolist()
    return [[client for client, mine in enumerate(owned) if label in mine] for label in range(classes)]
