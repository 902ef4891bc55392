"""Clients that exist only as numbers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from aflctl.api import Dataset, DataSpec, FederatedData, Modality, Samples, Source
from aflctl.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

PROBE_CLIENTS = 200


class Synthetic(Dataset):
    """Synthetic(alpha, beta) for any number of clients; features are made when a client trains.

    Client k has its own softmax model: u_k ~ N(0, alpha), W_k, b_k ~ N(u_k, 1), y = argmax(W_k x + b_k), with inputs
    x ~ N(v_k, diag(j^-1.2)), v_k ~ N(B_k, 1), B_k ~ N(0, beta). `alpha` says how far the models differ, `beta` how
    far the inputs do; `iid` gives all clients one model with u = 0 and inputs with v = 0. Sizes are min_size + exp(mu +
    sigma z), z ~ N(0, 1), cut at max_size. A million clients are one array of sizes: each client's data come from a
    stream of its own, keyed by its number. The test set is `test_samples` samples spread over at most 200 clients. A
    partition is not used. Source: Li et al., Federated optimization in heterogeneous networks, MLSys 2020 (sizes
    there: 50 + exp(4 + 2 z)).
    """

    alpha: float = Field(1.0, ge=0, description="variance of the clients' models")
    beta: float = Field(1.0, ge=0, description="variance of the clients' inputs")
    iid: bool = Field(False, description="one model and one input distribution for all")
    features: int = Field(60, ge=1, le=10_000, description="length of an input")
    classes: int = Field(10, ge=2, le=10_000, description="number of classes")
    mu: float = Field(4.0, ge=-20, le=20, description="mean of the logarithm of the sizes")
    sigma: float = Field(1.0, ge=0, description="standard deviation of the logarithm of the sizes")
    min_size: int = Field(10, ge=1, description="added to every size")
    max_size: int = Field(2000, ge=1, description="largest size")
    test_samples: int = Field(4000, ge=1, description="size of the global test set")

    def open(self, cache: Path) -> Source:
        """There is no undivided form: the clients are what is defined."""
        raise UserError("dataset synthetic has no samples apart from its clients", hint="leave the partition out")

    def federate(self, cache: Path, clients: int, rng: np.random.Generator) -> FederatedData | None:
        """Sizes only; `rng` gives the root key of all clients' streams."""
        return Crowd(self, clients, int(rng.integers(2**62)))


class Crowd:
    """The clients of a `Synthetic`. Pure: the same client always has the same data."""

    def __init__(self, form: Synthetic, clients: int, root: int) -> None:
        import numpy as np

        from aflctl.data import fingerprint

        self.form, self.root = form, root
        logs = form.mu + form.sigma * self._stream(0, 0).standard_normal(clients)
        sizes = form.min_size + np.exp(np.minimum(logs, 40.0))
        bounded: Any = np.minimum(sizes, max(form.max_size, form.min_size)).astype(np.int64)
        self.samples: Sequence[int] = bounded
        names = tuple(str(i) for i in range(form.classes)) if form.classes <= 100 else ()
        self.spec = DataSpec((Modality("vector", (form.features,), "vector"),), form.classes, names)
        self.fingerprint = fingerprint(f"synthetic {form.model_dump_json()} {root}", {"samples": bounded})
        self._kept = lru_cache(maxsize=256)(self._train)

    def train(self, client: int) -> Samples:
        """The client's samples, made from its stream."""
        return self._kept(client)

    @lru_cache(maxsize=1)  # noqa: B019 - one object per run
    def test(self) -> Samples:
        """Further samples of clients spread evenly over all."""
        import torch

        count = min(len(self.samples), PROBE_CLIENTS, self.form.test_samples)
        chosen = [i * len(self.samples) // count for i in range(count)]
        base, more = divmod(self.form.test_samples, count)
        parts = [self._draw(client, 2, base + (i < more)) for i, client in enumerate(chosen)]
        return Samples((torch.cat([p.x[0] for p in parts]),), torch.cat([p.y for p in parts]))

    def local_test(self, client: int) -> Samples | None:
        """A quarter as many further samples of this client."""
        return self._draw(client, 3, max(1, int(self.samples[client]) // 4))

    def _train(self, client: int) -> Samples:
        return self._draw(client, 1, int(self.samples[client]))

    def _stream(self, purpose: int, client: int) -> np.random.Generator:
        import numpy as np

        return np.random.Generator(np.random.Philox(key=[self.root, (client << 3) | purpose]))

    def _model(self, client: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(W [classes, features], b [classes], v [features]) of a client."""
        import numpy as np

        form = self.form
        dice = self._stream(4, 0 if form.iid else client)
        if form.iid:
            weight = dice.standard_normal((form.classes, form.features))
            return weight, dice.standard_normal(form.classes), np.zeros(form.features)
        u, shift = form.alpha**0.5 * dice.standard_normal(), form.beta**0.5 * dice.standard_normal()
        weight = u + dice.standard_normal((form.classes, form.features))
        bias = u + dice.standard_normal(form.classes)
        return weight, bias, shift + dice.standard_normal(form.features)

    def _draw(self, client: int, purpose: int, n: int) -> Samples:
        import numpy as np
        import torch

        weight, bias, centre = self._model(client)
        scale = np.arange(1, self.form.features + 1) ** -0.6
        x = centre + scale * self._stream(purpose, client).standard_normal((n, self.form.features))
        y = (x @ weight.T + bias).argmax(1)
        return Samples((torch.from_numpy(x.astype(np.float32)),), torch.from_numpy(y.astype(np.int64)))
