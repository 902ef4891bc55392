"""The files of a new distribution, with `$words` to be filled in."""

from __future__ import annotations

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "$lead for aflctl"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["aflctl>=0.1,<1"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points."aflctl.${kind}s"]
$points

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "README.md": """\
# $name

$lead for [aflctl](https://pypi.org/project/aflctl/).

    pip install -e '.[test]'
    $use
    aflctl plugin check $kind/$entry
    pytest
""",
    "src/$module/py.typed": "",
}

LEAD = {
    "algorithm": "A federated method",
    "dataset": "A dataset",
    "model": "A model",
    "partition": "A partition of data among clients",
    "selection": "A strategy that selects clients",
    "personalization": "A personalization",
    "fusion": "A fusion of modalities",
    "profile": "Profiles of devices and networks",
}

USE = {
    "algorithm": "aflctl run --set algorithm=$entry",
    "dataset": "aflctl run --set dataset=$entry --set model=mlp",
    "model": "aflctl run --set model=$entry",
    "partition": "aflctl run --set dataset.partition=$entry",
    "selection": "aflctl run --set clients.selection=$entry",
    "personalization": "aflctl run --set personalization=$entry",
    "fusion": "aflctl list fusions $entry",
    "profile": "aflctl list profiles",
}

TEST_OF_CLASS = '''\
"""$cls keeps the rules of aflctl: one test per check of its conformance kit."""

from aflctl.testing import parametrize_checks

from $module import $cls

test_conformance = parametrize_checks([$cls])
'''

TEST_OF_PROFILES = '''\
"""The profiles can be read, name their sources, and make up a fleet."""

from pathlib import Path

from aflctl.testing import parametrize_checks

import $module

test_conformance = parametrize_checks([Path($module.__file__).parent])
'''

PROFILES = {
    "src/$module/__init__.py": '"""Profiles for aflctl: YAML files below devices, networks, availability, fleets."""\n',
    "src/$module/devices/$entry-board.yaml": """\
summary: a board of ours
dense_gflops: {value: 5, source: "measured: training a dense layer, batch 32", unverified: true}
step_overhead_ms: {value: 2, source: "measured: an empty step", unverified: true}
memory_mib: {value: 1024, source: "data sheet", unverified: true}
idle_w: {value: 1.5, source: "data sheet", unverified: true}
train_w: {value: 4, source: "measured at the plug", unverified: true}
""",
    "src/$module/networks/$entry-link.yaml": """\
summary: the link of our boards
down_mbps: {value: 20, source: "measured: median of a day", unverified: true}
up_mbps: {value: 5, source: "measured: median of a day", unverified: true}
rtt_ms: {value: 30, source: "measured: ping", unverified: true}
""",
    "src/$module/fleets/$entry.yaml": """\
summary: our boards on their link
devices: {$entry-board: 1}
networks: {$entry-link: 1}
""",
}

CODE = {
    "algorithm": '''\
"""$cls: mixing by arrival, discounted by staleness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aflctl.api import Algorithm, Fleet, Setup, Step, Update
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class State:
    """w [P] the global model."""

    w: Tensor


class $cls(Algorithm[State]):
    """An update moves the global model when it arrives, and less the staler it is.

        x <- x + lr D_i / (1 + tau)

    D_i is the update of client i, tau its staleness. A version is an arrival.

    Source: where the rule was published. Deviations: where this code differs from it, and why.
    """

    lr: float = Field(0.5, gt=0, description="server learning rate")

    def init(self, setup: Setup, fleet: Fleet) -> State:
        return State(setup.init)

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        weight = self.lr / (1 + update.staleness)
        return Step(State(state.w.add(update.delta, alpha=weight)), advanced=True, weight=weight)
''',
    "dataset": '''\
"""$cls: points around one centre per class."""

from __future__ import annotations

from pathlib import Path

from aflctl.api import Dataset, DataSpec, Modality, Samples, Source
from pydantic import Field

FEATURES, CLASSES = 8, 3


class $cls(Dataset):
    """Points around one centre per class, made from a seed; no files.

    Files, where there are any, are fetched in `prepare` and read in `open`: see aflctl.data.FileDataset.
    """

    samples: int = Field(600, ge=10, description="training samples")
    spread: float = Field(1.0, gt=0, description="standard deviation around a centre")

    def open(self, cache: Path) -> Source:
        import numpy as np
        import torch
        from aflctl.data import fingerprint

        rng = np.random.default_rng(0)
        centres, n = rng.normal(size=(CLASSES, FEATURES)), self.samples + self.samples // 5
        y = rng.integers(CLASSES, size=n)
        x = (centres[y] + self.spread * rng.normal(size=(n, FEATURES))).astype(np.float32)
        train, test = slice(0, self.samples), slice(self.samples, n)
        spec = DataSpec((Modality("point", (FEATURES,)),), CLASSES)
        digest = fingerprint(f"$entry {self.model_dump_json()}", {"x": x, "y": y})
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        return Source(spec, Samples((tx[train],), ty[train]), Samples((tx[test],), ty[test]), digest)
''',
    "model": '''\
"""$cls: a network with one hidden layer."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from aflctl.api import DataSpec, Fusion, Model
from aflctl.errors import UserError
from pydantic import Field

if TYPE_CHECKING:
    from torch import nn


class $cls(Model):
    """One hidden layer on the flattened input."""

    hidden: int = Field(64, ge=1, description="size of the hidden layer")

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        from torch import nn

        if len(spec.modalities) != 1 or spec.modalities[0].kind == "sequence":
            raise UserError("model: $entry reads one input of numbers", hint="choose another model or dataset")
        size = prod(spec.modalities[0].shape)
        layers = (nn.Flatten(), nn.Linear(size, self.hidden), nn.ReLU(), nn.Linear(self.hidden, spec.classes))
        return nn.Sequential(*layers)
''',
    "partition": '''\
"""$cls: clients of unequal size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aflctl.api import Partition
from aflctl.errors import UserError
from pydantic import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class $cls(Partition):
    """Client i of 1 ... M gets a share of the shuffled samples in proportion to i^skew, and one at least."""

    skew: float = Field(1.0, ge=0, le=3, description="0 = all clients alike")

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        import numpy as np

        n = len(labels)
        if clients > n:
            raise UserError(f"{clients} clients but {n} samples", where="clients.count")
        share = np.arange(1, clients + 1) ** self.skew
        ends = np.arange(1, clients) + np.floor(np.cumsum(share / share.sum())[:-1] * (n - clients)).astype(np.int64)
        return [np.sort(rows) for rows in np.split(rng.permutation(n), ends)]
''',
    "selection": '''\
"""$cls: large clients first, for a share of the places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aflctl.api import Fleet, Selection
from pydantic import Field

if TYPE_CHECKING:
    import numpy as np


class $cls(Selection):
    """A share of the places goes to the idle clients with the most samples, the rest is drawn at random."""

    share: float = Field(0.5, ge=0, le=1, description="places that go to the largest clients")

    def pick(
        self, state: Any, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[Any, list[int]]:
        idle = sorted(c for c in (fleet.idle if among is None else set(among)) if c in fleet.idle)
        first = sorted(idle, key=lambda c: (-fleet.samples[c], c))[: round(self.share * k)]
        rest = [c for c in idle if c not in first]
        drawn = rng.permutation(len(rest))[: k - len(first)].tolist()
        return state, first + [rest[i] for i in drawn]
''',
    "personalization": '''\
"""$cls: each client is evaluated with a mixture of the global model and its own last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aflctl.api import Algorithm, Job, Personalization, Setup, Wrapper
from pydantic import Field

if TYPE_CHECKING:
    from aflctl.api import Tensors
    from torch import Tensor

OWN = "$entry/w"


class $cls(Personalization):
    """personal_i = (1 - share) x + share y_i, y_i being the model that client i trained last; training is untouched."""

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "extra"

    share: float = Field(0.5, ge=0, le=1, description="weight of the client's own model")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        return Mixed(inner=inner, setup=setup, share=self.share)


class Mixed(Wrapper[Any]):
    """Keeps what a client trained under a name of its own."""

    share: float

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {**self.inner.memory(setup), OWN: setup.init}

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        up, memory = self.inner.finish(w, job)
        return up, {**memory, OWN: w}

    def personal(self, state: Any, client: int, memory: Tensors) -> Tensor:
        shared: Tensor = self.inner.personal(state, client, memory)
        return shared.lerp(memory[OWN], self.share)
''',
    "fusion": '''\
"""$cls: what is there side by side, and one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aflctl.api import Fusion
from pydantic import Field

if TYPE_CHECKING:
    from torch import nn


class $cls(Fusion):
    """Features of the modalities that are present, zeros for the others, and the mask, through a hidden layer."""

    width: int = Field(32, ge=1, description="size of the hidden layer")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        import torch
        from torch import nn

        class Joined(nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.hidden, self.out = nn.Linear(sum(dims) + len(dims), width), nn.Linear(width, out)

            def forward(self, parts: tuple[torch.Tensor, ...], present: torch.Tensor) -> torch.Tensor:
                there = [part * present[:, m : m + 1] for m, part in enumerate(parts)]
                return self.out(torch.relu(self.hidden(torch.cat([*there, present], dim=1))))

        return Joined(self.width)
''',
}
