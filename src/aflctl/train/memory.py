"""What clients remember between their tasks, and what a server remembers of them: in RAM or on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import DiskProblem
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the operating system says about `path`, as an error for the user."""
    try:
        yield
    except OSError as error:
        raise DiskProblem(f"cannot be written ({error.strerror or error})", where=str(path)) from error


class Shelf(MutableMapping[int, dict[str, "Tensor"]]):
    """client -> named tensors, each in a file of its own; only the files' numbers are held in RAM.

    A row that is written again gets a new file. The old one stays until no checkpoint of the last two can name it.
    """

    def __init__(self, folder: Path, index: Mapping[int, int] | None = None) -> None:
        self.folder, self.index = folder, dict(index or {})
        self._next = max(self.index.values(), default=-1) + 1
        self._dropped: tuple[list[int], list[int]] = ([], [])
        self._fresh: list[int] = []  # written since the last checkpoint, perhaps not on the disk yet
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, client: int) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self._path(self.index[client]))

    def __setitem__(self, client: int, row: dict[str, Tensor]) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        number, self._next = self._next, self._next + 1
        path = self._path(number)
        try:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in row.items()}, path)
        except SafetensorError as error:  # its own name for what the operating system said
            raise DiskProblem(f"cannot be written ({error})", where=str(path)) from error
        self._fresh.append(number)
        self._drop(client)
        self.index[client] = number

    def __delitem__(self, client: int) -> None:
        self._drop(client)
        del self.index[client]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.index))

    def __len__(self) -> int:
        return len(self.index)

    def save(self) -> dict[int, int]:
        """What a checkpoint stores; files that no kept checkpoint names any more are removed."""
        with _disk(self.folder):
            for number in self._fresh:
                descriptor = os.open(self._path(number), os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            for number in self._dropped[0]:
                self._path(number).unlink(missing_ok=True)
        self._fresh.clear()
        self._dropped = (self._dropped[1], [])
        return dict(self.index)

    def _drop(self, client: int) -> None:
        if client in self.index:
            self._dropped[1].append(self.index[client])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.safetensors"


class Column(MutableMapping[int, "Tensor"]):
    """client -> tensor on a shelf: the rows of a ClientTable."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def __getitem__(self, client: int) -> Tensor:
        return self.shelf[client]["row"]

    def __setitem__(self, client: int, value: Tensor) -> None:
        self.shelf[client] = {"row": value}

    def __delitem__(self, client: int) -> None:
        del self.shelf[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self.shelf)

    def __len__(self) -> int:
        return len(self.shelf)


class ClientMemory:
    """client -> named tensors; absent = what the method's `memory` hook gives. With a folder, on disk."""

    def __init__(self, default: dict[str, Tensor], folder: Path | None = None) -> None:
        self.default = default
        self._rows: MutableMapping[int, dict[str, Tensor]] = {} if folder is None else Shelf(folder)

    def __getitem__(self, client: int) -> dict[str, Tensor]:
        return dict(self._rows.get(client, self.default))

    def __setitem__(self, client: int, memory: dict[str, Tensor]) -> None:
        if memory:
            self._rows[client] = memory

    def __contains__(self, client: int) -> bool:
        return client in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._rows))

    def save(self) -> dict[int, Any]:
        """Everybody's memory, or the numbers of their files."""
        return self._rows.save() if isinstance(self._rows, Shelf) else dict(self._rows)

    def load(self, saved: Mapping[int, Any]) -> None:
        """As `save` said."""
        if isinstance(self._rows, Shelf):
            self._rows = Shelf(self._rows.folder, saved)
        else:
            self._rows = dict(saved)


def tables(state: Any) -> list[ClientTable]:
    """Every ClientTable inside a state, in a fixed order."""
    found: list[ClientTable] = []

    def look(value: Any) -> None:
        if isinstance(value, ClientTable):
            if not any(value is table for table in found):
                found.append(value)
        elif is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                look(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            for part in value:
                look(part)
        elif isinstance(value, dict):
            for part in value.values():
                look(part)

    look(state)
    return found


def shelve(state: Any, folder: Path) -> None:
    """Puts the rows of every ClientTable of a state on disk; rows that are file numbers are those of a checkpoint."""
    for i, table in enumerate(tables(state)):
        rows: dict[int, Any] = dict(table.rows)
        numbered = all(isinstance(row, int) for row in rows.values())
        column = Column(Shelf(folder / str(i), rows if numbered else None))
        table.rows = column  # type: ignore[assignment]
        if not numbered:
            column.update(rows)


def numbered(state: Any) -> Callable[[], None]:
    """Replaces the rows of shelved tables by their file numbers, for a checkpoint; what it returns undoes that."""
    kept = [(table, table.rows) for table in tables(state) if isinstance(table.rows, Column)]
    for table, rows in kept:
        table.rows = rows.shelf.save()  # type: ignore[assignment]

    def undo() -> None:
        for table, rows in kept:
            table.rows = rows

    return undo
