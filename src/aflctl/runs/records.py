"""The rows of a run: their columns in one place, append-only writers, readers that tolerate a cut last line, digests.

Seconds are virtual, sizes bytes, energies joules; an empty cell means that there is no such value. Floats are written
with `repr`, so that reading gives the same bits back.
"""

from __future__ import annotations

import csv
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from math import isnan
from operator import attrgetter, index
from pathlib import Path
from typing import Any, Literal

from aflctl.errors import RunDirError
from aflctl.runs.atomic import disk

CAUSES = ("held", "download", "compute", "offline", "upload")
PHASES = ("download", "compute", "offline", "upload", "buffer")
Outcome = Literal["used", "lost", "rejected", "cancelled", "flying"]
Cell = float | int | str | None
YOUNGER = frozenset({"wasted_j"})
"""Columns that format 1 gained after its first runs were made; of those they are empty."""


@dataclass(slots=True)
class MetricRow:
    """One evaluation: `update` used arrivals so far, `samples` trained on so far, totals of bytes and energy.

    wasted_j   of that energy, what tasks took that did not count: lost, rejected or cancelled
    """

    update: int
    version: int
    virtual_s: float
    samples: int
    bytes_down: int
    bytes_up: int
    energy_j: float
    wasted_j: float
    accuracy: float | None
    loss: float | None
    macro_f1: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class UpdateRow:
    """One task, from dispatch to its end.

    nth        the client's own dispatch number
    version    the version at the end, before the bump; staleness = version - base_version and the sum of its parts
    weight     what the update weighed, where the method says so
    reason     why a lost or rejected task was
    tracks     names of the tracks it counted for, joined by `;`, where a method has tracks
    """

    task: int
    client: int
    nth: int
    device: str
    link: str
    sent_s: float
    ended_s: float | None
    base_version: int
    version: int | None
    staleness: int | None
    staleness_held: int
    staleness_download: int
    staleness_compute: int
    staleness_offline: int
    staleness_upload: int
    download_s: float
    compute_s: float
    offline_s: float
    upload_s: float
    buffer_s: float | None
    bytes_down: int
    bytes_up: int
    steps: int
    train_loss: float | None
    weight: float | None
    outcome: Outcome
    reason: str = ""
    interrupted: bool = False
    energy_j: float | None = None
    tracks: str = ""


@dataclass(slots=True)
class ClientRow:
    """One client that took part; staleness over its used updates, accuracy where clients are evaluated."""

    client: int
    device: str
    link: str
    samples: int | None
    dispatched: int
    used: int
    lost: int
    staleness_mean: float | None
    staleness_max: int | None
    accuracy: float | None = None


@dataclass(slots=True)
class StalenessRow:
    """How many used updates of a group (`all`, `device:<name>`) had this staleness, in all or by one cause."""

    group: str
    cause: str
    staleness: int
    count: int


def columns(kind: type) -> tuple[str, ...]:
    """The CSV header of a row type; `extra` values follow under their own names."""
    return tuple(f.name for f in fields(kind) if f.name != "extra")


METRICS, UPDATES, CLIENTS, STALENESS = map(columns, (MetricRow, UpdateRow, ClientRow, StalenessRow))
_ROWS: Mapping[str, type] = {
    "metrics.csv": MetricRow, "updates.csv": UpdateRow, "clients.csv": ClientRow, "staleness.csv": StalenessRow,
}  # fmt: skip


# ---- writing ----


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


_FORMAT: dict[type, Callable[[Any], str]] = {
    int: int.__repr__,
    float: float.__repr__,
    str: _quoted,
    bool: lambda value: "1" if value else "0",
    type(None): lambda value: "",
}


def _cell(value: Any) -> str:
    write = _FORMAT.get(type(value))
    return write(value) if write else _cell(value.item())  # a numpy scalar or a tensor of one element


class RowWriter:
    """Appends rows to a CSV file in whole lines; gathers up to 256 rows or one second of them before it writes.

    `offset` continues a file that was cut back to that length (as `offset` said at the checkpoint); else it is new.
    """

    def __init__(
        self, path: Path, names: Sequence[str], *, extra: Sequence[str] = (), offset: int | None = None
    ) -> None:
        self.path, self._extra = path, tuple(extra)
        self._get = attrgetter(*names)
        self._lines: list[str] = []
        self._written_at = time.monotonic()
        with disk(path):
            if offset is not None and path.stat().st_size < offset:
                raise RunDirError("shorter than its checkpoint says", where=str(path))
            self._file = open(path, "wb" if offset is None else "r+b", buffering=0)  # noqa: SIM115
            if offset is not None:
                self._file.truncate(offset)
            self.offset = self._file.seek(offset or 0)
        if offset is None:
            self._put((",".join((*names, *extra)) + "\n").encode())

    def write(self, row: Any) -> None:
        """Adds one row; it is on disk after the next `flush` at the latest."""
        cells = [_FORMAT[type(v)](v) if type(v) in _FORMAT else _cell(v) for v in self._get(row)]
        if self._extra:
            cells += [_cell(row.extra.get(name)) for name in self._extra]
        self._lines.append(",".join(cells))
        if len(self._lines) >= 256 or time.monotonic() - self._written_at > 1.0:
            self.flush()

    def flush(self) -> None:
        """Hands all rows to the operating system."""
        self._written_at = time.monotonic()
        if self._lines:
            data = ("\n".join(self._lines) + "\n").encode()
            self._lines.clear()
            self._put(data)

    def sync(self) -> int:
        """Flushes, waits for the disk, and says how long the file is: what a checkpoint stores."""
        self.flush()
        with disk(self.path):
            os.fsync(self._file.fileno())
        return self.offset

    def _put(self, data: bytes) -> None:
        try:
            with disk(self.path):
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
        except BaseException:
            with suppress(OSError):  # a full disk: keep whole lines only
                self._file.truncate(self.offset)
            raise
        self.offset += len(data)

    def close(self) -> None:
        """Writes what is left."""
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()


def metrics_writer(folder: Path, *, extra: Sequence[str] = (), offset: int | None = None) -> RowWriter:
    """The writer of `metrics.csv`; `extra` names the columns that `MetricRow.extra` fills."""
    return RowWriter(folder / "metrics.csv", METRICS, extra=extra, offset=offset)


def updates_writer(folder: Path, *, offset: int | None = None) -> RowWriter:
    """The writer of `updates.csv`."""
    return RowWriter(folder / "updates.csv", UPDATES, offset=offset)


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Any]) -> None:
    """A whole CSV file at once, atomically."""
    from aflctl.runs.atomic import write_text

    get = attrgetter(*names)
    lines = (",".join(map(_cell, get(row))) for row in rows)
    write_text(path, "\n".join((",".join(names), *lines)) + "\n")


# ---- reading ----


class Columns(Mapping[str, list[Any]]):
    """A table as column name -> list of values; an empty cell is None."""

    def __init__(self, data: Mapping[str, list[Any]]) -> None:
        self._data = dict(data)

    def __getitem__(self, name: str) -> list[Any]:
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        """The number of columns; `rows` is the number of rows."""
        return len(self._data)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self._data.values()), []))

    def where(self, name: str, value: Cell) -> Columns:
        """The rows with this value in this column."""
        keep = [i for i, v in enumerate(self[name]) if v == value]
        return Columns({k: [v[i] for i in keep] for k, v in self._data.items()})

    def records(self) -> Iterator[dict[str, Any]]:
        """Row by row, as dictionaries."""
        return (dict(zip(self._data, values)) for values in zip(*self._data.values()))

    def __repr__(self) -> str:
        return f"Columns({self.rows} rows: {', '.join(self._data)})"


def _number(text: str) -> Cell:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _readers(path: Path) -> dict[str, Callable[[str], Any]]:
    """How to read each column that this version knows; others are numbers where they look like numbers."""
    known: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": lambda text: text == "1"}
    kind = _ROWS.get(path.name)
    return {f.name: known.get(str(f.type).split(" ")[0], str) for f in fields(kind)} if kind else {}


def read_rows(path: Path) -> Columns:
    """All rows of a CSV file of a run; a last line that was cut off by a crash is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunDirError(f"cannot be read ({error.strerror or error})", where=str(path)) from error
    lines = csv.reader(text[: text.rfind("\n") + 1].splitlines(keepends=True))
    try:
        names = next(lines, None) or list(_readers(path))
        rows = list(lines)
    except csv.Error as error:
        raise RunDirError(f"damaged: {error}", where=f"{path}:{lines.line_num}") from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise RunDirError(f"damaged: {len(row)} cells where there should be {len(names)}", where=f"{path}:{number}")
    readers, data = _readers(path), dict[str, list[Any]]()
    absent = [name for name in readers if name not in names and name != "extra"]
    if missed := [name for name in absent if name not in YOUNGER]:
        raise RunDirError(f"damaged: no column {missed[0]}", where=str(path))
    data |= {name: [None] * len(rows) for name in absent}
    for name, values in zip(names, zip(*rows) if rows else [()] * len(names)):
        read = readers.get(name, _number)
        try:
            data[name] = [read(v) if v != "" or read is str else None for v in values]
        except ValueError as error:
            raise RunDirError(f"damaged: column {name}: {error}", where=str(path)) from error
    return Columns(data)


# ---- digests ----

_BLOCK = 4096
_TEN = struct.Struct("<10q")
_NAN = struct.pack("<Q", 0x7FF8000000000000)
_NONE = b"\xff" * 8


class Digest:
    """sha256 over packed integers and float bits, never over formatted text.

    The stream of bytes is cut into blocks of 4096, h <- sha256(h + block), so that `save` can put a digest aside and
    `restore` goes on with it; the last step adds the rest and the total length. Integers are little-endian 64 bits,
    floats IEEE doubles with one NaN, None eight bytes 0xff, text UTF-8 after its length.
    """

    def __init__(self) -> None:
        self._state, self._rest, self._length = b"", bytearray(), 0

    def _add(self, data: bytes) -> Digest:
        self._length += len(data)
        self._rest += data
        if len(self._rest) >= _BLOCK:
            end = len(self._rest) - len(self._rest) % _BLOCK
            for start in range(0, end, _BLOCK):
                self._state = hashlib.sha256(self._state + self._rest[start : start + _BLOCK]).digest()
            del self._rest[:end]
        return self

    def ints(self, *values: int | None) -> Digest:
        """Signed 64-bit integers; the caller adds the length before a list of varying length."""
        try:
            if len(values) == 10:  # a task of the schedule, twice in its life
                self._rest += _TEN.pack(*values)  # nothing is counted where this raises
                self._length += 80
                return self if len(self._rest) < _BLOCK else self._add(b"")
            return self._add(struct.pack(f"<{len(values)}q", *values))
        except (struct.error, TypeError):
            return self._add(b"".join(_NONE if v is None else _packed(index(v)) for v in values))

    def packed(self, data: bytes) -> Digest:
        """Integers that are packed already, as `ints` packs them."""
        return self._add(data)

    def floats(self, *values: float | None) -> Digest:
        """IEEE doubles by their bits."""
        return self._add(b"".join(_NONE if v is None else _NAN if isnan(v) else struct.pack("<d", v) for v in values))

    def text(self, *values: str) -> Digest:
        """Strings, each after its length in bytes."""
        for value in values:
            data = value.encode()
            self._add(struct.pack("<q", len(data)) + data)
        return self

    def tensor(self, value: Any) -> Digest:
        """A torch tensor: dtype, shape and bits."""
        import torch

        flat = value.detach().cpu().contiguous()
        self.text(str(flat.dtype).removeprefix("torch.")).ints(flat.dim(), *flat.shape)
        return self._add(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")

    def hexdigest(self) -> str:
        """The digest so far; more can be added afterwards."""
        return hashlib.sha256(self._state + self._rest + struct.pack("<q", self._length)).hexdigest()

    def save(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"state": self._state.hex(), "rest": self._rest.hex(), "length": self._length}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Digest:
        """The digest as it was when `save` was called."""
        digest = cls()
        digest._state, digest._rest = bytes.fromhex(saved["state"]), bytearray.fromhex(saved["rest"])
        digest._length = int(saved["length"])
        return digest


def _packed(value: int) -> bytes:
    return struct.pack("<q", value) if value < 1 << 63 else struct.pack("<Q", value)
