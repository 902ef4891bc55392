"""Datasets that stay open from run to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aflctl.engine.parts.accept import opened

if TYPE_CHECKING:
    from aflctl.api import Dataset, Source


class Opened:
    """The last few datasets of this process: the runs of a suite share one copy of their data."""

    KEPT = 4

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], Source] = {}

    def source(self, dataset: Dataset, cache: Path) -> Source:
        """The dataset's source, opened once."""
        kind = type(dataset)
        name = (f"{kind.__module__}.{kind.__qualname__} {dataset.model_dump_json()}", str(cache))
        source = self._sources.pop(name, None)
        if source is None:
            source = opened(dataset, cache)
        self._sources[name] = source
        for old in list(self._sources)[: -self.KEPT]:
            del self._sources[old]
        return source
