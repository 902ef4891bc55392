"""A partition read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from aflctl.api import Partition
from aflctl.builtin.partitions.sizes import check
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FromFile(Partition):
    """Index lists from a file: JSON (a list of positions per client) or what `aflctl data show --save` wrote."""

    path: Path = Field(description="the file; looked up beside the configuration, then in the working folder")
    repeats: bool = Field(False, description="whether a sample may belong to several clients")

    def made_for(self) -> str:
        """Fingerprint of the data that the file was written for; empty where it does not say."""
        from aflctl.data.index import DATA, read_index

        return read_index(self.path).notes.get(DATA, "")

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """Positions per client."""
        from aflctl.data.index import read_index

        parts = read_index(self.path).parts
        if len(parts) != clients:
            raise UserError(
                f"clients.count: {clients} clients but {self.path} divides the data among {len(parts)}",
                hint=f"set clients.count to {len(parts)}",
            )
        try:
            return check(parts, len(labels), repeats=self.repeats)
        except ValueError as error:
            raise UserError(
                f"{self.path}: {error}; the data have {len(labels)} training samples",
                hint="was the file written for another dataset?",
            ) from error
