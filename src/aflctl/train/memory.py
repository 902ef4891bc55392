"""What clients remember between their tasks: in RAM or on disk, and only for those who took part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class ClientMemory:
    """client -> named tensors; absent = what the method's `memory` hook gives.

    With a folder, each client's tensors live in a safetensors file there and only names are held in RAM.
    """

    def __init__(self, default: dict[str, Tensor], folder: Path | None = None) -> None:
        self.default, self.folder = default, folder
        self._rows: dict[int, dict[str, Tensor] | None] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, client: int) -> dict[str, Tensor]:
        if client not in self._rows:
            return dict(self.default)
        row = self._rows[client]
        if row is not None:
            return dict(row)
        from safetensors.torch import load_file

        return load_file(self._path(client))

    def __setitem__(self, client: int, memory: dict[str, Tensor]) -> None:
        if not memory:
            return
        if self.folder is None:
            self._rows[client] = memory
            return
        from safetensors.torch import save_file

        save_file({k: v.contiguous().clone() for k, v in memory.items()}, self._path(client))
        self._rows[client] = None

    def __contains__(self, client: int) -> bool:
        return client in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._rows))

    def save(self) -> dict[int, dict[str, Tensor]]:
        """Everybody's memory."""
        return {client: self[client] for client in self}

    def load(self, saved: dict[int, dict[str, Tensor]]) -> None:
        """As `save` said."""
        self._rows = {}
        for client, memory in saved.items():
            self[client] = memory

    def _path(self, client: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{client}.safetensors"
