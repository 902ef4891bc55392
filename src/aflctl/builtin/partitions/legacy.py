"""The partitions of AFL-Lib and PFLlib, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.dirichlet import by_class
from aflctl.builtin.partitions.sizes import check, require_enough
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = list[NDArray[np.int64]]


class Legacy(Partition):
    """The splits that AFL-Lib and PFLlib make from a seed, reproduced exactly.

    Both draw from numpy's legacy generator, seeded with `seed` (1 in their scripts) whatever the run's seed is. Both
    divide the official training samples followed by the official test samples; on the training samples alone the same
    recipe gives another split. A client must have int(min(batch_size / (1 - train_ratio), N / (2 M))) samples; whole
    draws are repeated until all have.

    dir   class-wise Dirichlet with a cap at the fair share N / M
    pat   classes in order; the first ceil(M k / C) clients with a free class slot share a class, in file order: equally
          (AFL-Lib, and PFLlib with `balance`) or in random parts (PFLlib)
    iid   pat with k = C

    `local_split` makes their per-client training and test parts with the same generator, right after the partition. N
    samples, M clients, C classes. Sources: boyi-liu/AFL-Lib, TsingZ0/PFLlib.
    """

    library: Literal["afl-lib", "pfllib"] = Field("afl-lib", description="whose conventions")
    scheme: Literal["dir", "pat", "iid"] = Field("dir", description="their name of the scheme")
    alpha: float = Field(0.1, gt=0, description="dir: concentration")
    k: int = Field(2, ge=1, description="pat: classes per client")
    balance: bool = Field(False, description="pat of pfllib: equal parts")
    batch_size: int = Field(10, ge=1, description="their batch size, which decides the minimum")
    train_ratio: float = Field(0.75, gt=0, lt=1, description="their share of training samples per client")
    seed: int = Field(1, ge=0, lt=2**32, description="seed of the legacy generator")
    max_retries: int = Field(1000, ge=0, le=100_000, description="draws after the first one")

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """Positions per client, in their order inside a client."""
        import numpy as np

        return self._split(labels, clients, np.random.RandomState(self.seed))

    def local_split(self, labels: NDArray[np.int64], clients: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(training, test) positions per client.

        As scikit-learn's `train_test_split(train_size=r, shuffle=True)` on the legacy generator: a permutation of the
        client's positions, first n - floor(r n) for testing, the rest for training.
        """
        import numpy as np

        dice = np.random.RandomState(self.seed)
        pairs = []
        for part in self._split(labels, clients, dice):
            order = dice.permutation(len(part))
            tests = len(part) - int(np.floor(self.train_ratio * len(part)))
            pairs.append((part[order[tests:]], part[order[:tests]]))
        return pairs

    def _split(self, labels: NDArray[np.int64], clients: int, dice: np.random.RandomState) -> Parts:
        import numpy as np

        require_enough(len(labels), clients)
        least = int(min(self.batch_size / (1 - self.train_ratio), len(labels) / clients / 2))
        if self.scheme == "dir":
            parts = self._dirichlet(labels, clients, least, dice)
        else:
            classes = len(np.unique(labels))
            parts = self._classes(labels, clients, classes if self.scheme == "iid" else self.k, least, dice)
        check(parts, len(labels))
        return parts

    def _dirichlet(self, labels: NDArray[np.int64], clients: int, least: int, dice: np.random.RandomState) -> Parts:
        most = 0
        for _ in range(self.max_retries + 1):
            parts = by_class(labels, clients, self.alpha, dice, cap=True)
            smallest = min(len(part) for part in parts)
            if smallest >= least:
                return parts
            most = max(most, smallest)
        raise UserError(
            f"dataset.partition: legacy dir with alpha {self.alpha:g}: none of {self.max_retries + 1} draws gave all "
            f"{clients} clients {least} samples; the best left one with {most}",
            hint="raise alpha or max_retries, lower clients.count, or use dirichlet with shortfall: repair",
        )

    def _classes(
        self, labels: NDArray[np.int64], clients: int, k: int, least: int, dice: np.random.RandomState
    ) -> Parts:
        import numpy as np

        classes = np.unique(labels)
        slots = [k] * clients
        held: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
        for label in classes:
            free = [client for client, left in enumerate(slots) if left > 0]
            owners = free[: ceil(clients / len(classes) * k)]
            if not owners:
                raise UserError(
                    f"dataset.partition.k: with {clients} clients, {k} classes each and {len(classes)} classes the "
                    f"slots run out before class {label}; the original code fails or loses that class here",
                    hint="choose clients.count so that clients.count * k / classes is whole, or use pathological",
                )
            rows = np.flatnonzero(labels == label)
            per = len(rows) / len(owners)
            if self.library == "afl-lib" or self.balance:
                sizes = [int(per)] * (len(owners) - 1)
            else:
                low, high = int(max(per / 10, least / len(classes))), int(per)
                sizes = dice.randint(low, high, len(owners) - 1).tolist()
            ends = np.cumsum(sizes).astype(np.int64)
            for client, piece in zip(owners, np.split(rows, ends)):
                held[client].append(piece)
                slots[client] -= 1
        return [np.concatenate(pieces) if pieces else np.empty(0, np.int64) for pieces in held]
