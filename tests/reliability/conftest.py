"""One forking process for all tests of an area, and the runs that nothing happened to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reliability.lab import Zygote, digests


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("zygote"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same run without a fault, once per configuration."""
    known: dict[str, dict[str, Any]] = {}

    def get(settings: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            known[key] = zygote.run(settings, tmp_path_factory.mktemp("whole"))
            digests(known[key])
        return known[key]

    return get
