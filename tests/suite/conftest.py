"""A suite of small runs, and what its table says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = """\
model: {name: mlp, hidden: [8]}
clients: {count: 6, concurrency: 3}
local: {batch_size: 16, lr: 0.05}
stop: {updates: 24}
evaluate: {every: {updates: 8}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(matrix)`: a file of tiny runs with this text below it."""

    def make(matrix: str, head: str = TINY, name: str = "tiny.yaml") -> Path:
        path = tmp_path / name
        path.write_text(head + matrix)
        return path

    return make


@pytest.fixture
def told() -> Callable[[Path], list[dict[str, Any]]]:
    """`told(folder)`: what suite.json says of the runs, without where they are."""

    def read(folder: Path) -> list[dict[str, Any]]:
        document = json.loads((folder / "suite.json").read_text())
        assert (document["schema"], document["version"]) == ("aflctl.suite-record", 1)
        return document["runs"]

    return read
