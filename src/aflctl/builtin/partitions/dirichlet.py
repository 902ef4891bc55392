"""Label skew from a Dirichlet distribution, by class or by client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import Shortfall, check, cut, require_enough, until_enough

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = list[NDArray[np.int64]]


class Dirichlet(Partition):
    """Label skew: smaller `alpha` gives clients with fewer classes.

    by class   each class k is divided by p ~ Dir(alpha, ..., alpha) over the clients; sizes follow from the draw.
               With `cap`, clients that already hold N / M samples get no more of later classes (AFL-Lib, PFLlib,
               NIID-Bench); without it, Flower's default.
    by client  each client has a class mix q ~ Dir(alpha C prior) and fills its share of N / M samples from it, one
               sample at a time in random order; classes that run out are left out of the mix (FedDyn's recipe).

    N samples, M clients, C classes. Sources: Yurochkin et al. 2019 (arXiv 1905.12022), Li et al. 2022 (2102.02079),
    Acar et al. 2021 (2111.04263).
    """

    conformance: ClassVar = {"variants": ({"alpha": 0.1, "min_size": 20, "max_retries": 1, "shortfall": "accept"},)}

    alpha: float = Field(0.5, gt=0, description="concentration; 0.1 = strong skew, 100 = nearly IID")
    by: Literal["class", "client"] = Field("class", description="what is divided by the draw")
    cap: bool = Field(True, description="by class: clients at their fair share receive nothing more")
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
        require_enough(len(labels), clients, self.min_size)

        def draw() -> Parts:
            if self.by == "client":
                return by_client(labels, clients, self.alpha, rng)
            return by_class(labels, clients, self.alpha, rng, cap=self.cap)

        parts = until_enough(
            draw,
            labels,
            clients,
            min_size=self.min_size,
            max_retries=self.max_retries,
            shortfall=self.shortfall,
            scheme=f"dirichlet with alpha {self.alpha:g} by {self.by}",
            remedy="raise alpha or max_retries",
        )
        return check(parts, len(labels))


def by_class(
    labels: NDArray[np.int64],
    clients: int,
    alpha: float,
    rng: np.random.Generator | np.random.RandomState,
    *,
    cap: bool,
) -> Parts:
    """One draw, class-wise: shuffle a class, draw p, cut at floor(cumsum(p) n_k); calls `rng` in AFL-Lib's order."""
    import numpy as np

    fair = len(labels) / clients
    held: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rng.shuffle(rows)
        weights = rng.dirichlet(np.repeat(alpha, clients))
        if cap:
            weights = weights * (sizes < fair)
        total = weights.sum()
        if not total > 0:
            weights, total = (sizes < fair).astype(float), float((sizes < fair).sum())
            if total == 0:
                weights, total = np.ones(clients), float(clients)
        for client, piece in enumerate(cut(rows, weights / total)):
            if len(piece):
                held[client].append(piece)
                sizes[client] += len(piece)
    return [np.concatenate(pieces) if pieces else np.empty(0, np.int64) for pieces in held]


def by_client(labels: NDArray[np.int64], clients: int, alpha: float, rng: np.random.Generator) -> Parts:
    """One draw, client-wise, with equal sizes; every sample is given out."""
    import numpy as np

    classes, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    pools = [list(rng.permutation(np.flatnonzero(of == k))) for k in range(len(classes))]
    mixes = rng.dirichlet(alpha * len(classes) * counts / counts.sum(), size=clients)
    mixes = np.nan_to_num(mixes)
    left = counts.copy()
    turns = rng.permutation(np.arange(len(labels)) % clients)
    dice = rng.random(len(labels))
    ladder = _ladder(mixes, left)
    held: list[list[int]] = [[] for _ in range(clients)]
    for client, u in zip(turns.tolist(), dice.tolist()):
        steps = ladder[client]
        k = min(int(np.searchsorted(steps, u * steps[-1], side="right")), len(classes) - 1)
        while not left[k]:
            k = int(left.argmax())
        held[client].append(int(pools[k].pop()))
        left[k] -= 1
        if not left[k] and left.any():
            ladder = _ladder(mixes, left)
    return [np.array(rows, np.int64) for rows in held]


def _ladder(mixes: NDArray[np.float64], left: NDArray[np.int64]) -> NDArray[np.float64]:
    """[M, C] cumulative mixes over the classes left; a client whose own classes are gone takes what there is."""
    import numpy as np

    open_ = mixes * (left > 0)
    gone = open_.sum(1) <= 0
    open_[gone] = left
    return np.cumsum(open_, axis=1)
