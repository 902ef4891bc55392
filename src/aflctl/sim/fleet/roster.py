"""A fleet as a file of clients: CSV with the columns client, device, network and, if wanted, availability, samples."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from aflctl.errors import ConfigError, Problem, UserError, suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEEDED = ("client", "device", "network")
KNOWN = (*NEEDED, "availability", "samples")
_SHOWN = 20


@dataclass(frozen=True)
class Roster:
    """Classes by name with the line where each was first named, and one element per client.

    availability   0 = the fleet's own, 1 + i = entry i of `availabilities`
    """

    path: Path
    devices: dict[str, int]
    networks: dict[str, int]
    availabilities: dict[str, int]
    device: NDArray[np.uint8]
    network: NDArray[np.uint8]
    availability: NDArray[np.uint8] | None
    samples: NDArray[np.int64] | None

    @property
    def fingerprint(self) -> str:
        """sha256 over who has what; names and places aside."""
        digest = sha256()
        for column in (self.device, self.network, self.availability, self.samples):
            digest.update(b"none" if column is None else column.tobytes())
        return digest.hexdigest()

    def check_count(self, clients: int) -> None:
        """Raises UserError unless the file has exactly this many clients."""
        if len(self.device) != clients:
            raise UserError(
                f"the file has {len(self.device)} clients, the configuration {clients}",
                where=str(self.path), hint=f"set clients.count to {len(self.device)}",
            )  # fmt: skip


def read_roster(path: Path) -> Roster:
    """Reads and checks a file of clients. Raises ConfigError with file, line and field of the first 20 problems."""
    import numpy as np

    problems: list[Problem] = []
    named: tuple[dict[str, int], ...] = ({}, {}, {})
    places: tuple[dict[str, int], ...] = ({}, {}, {})
    rows: dict[int, tuple[int, int, int, int]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            _check_header(path, reader.fieldnames)
            has = set(reader.fieldnames or ())
            for row in reader:
                where = f"{path}:{reader.line_num}"
                client = _number(row.get("client"), "client", where, problems)
                if client in rows:
                    problems.append(Problem("client", f"client {client} is named twice", where))
                codes = []
                for index, column in enumerate(("device", "network", "availability")):
                    name = (row.get(column) or "").strip()
                    if not name:
                        if index < 2:
                            problems.append(Problem(column, "is empty", where))
                        codes.append(0)
                        continue
                    places[index].setdefault(name, reader.line_num)
                    codes.append(named[index].setdefault(name, len(named[index])) + (index == 2))
                count = _number(row.get("samples"), "samples", where, problems) if "samples" in has else 0
                if client is not None:
                    rows[client] = (codes[0], codes[1], codes[2], count or 0)
    except (OSError, UnicodeDecodeError, csv.Error) as why:
        raise UserError(f"cannot be read: {why}", where=str(path)) from None
    if rows and not problems:
        absent = next((c for c in range(len(rows)) if c not in rows), None)
        if absent is not None:
            problems.append(Problem("client", f"client {absent} is missing; clients are numbered from 0", f"{path}:2"))
    if not rows and not problems:
        problems.append(Problem("", "no client in the file", f"{path}:1"))
    if problems:
        raise ConfigError(problems[:_SHOWN])
    table = np.array([rows[c] for c in range(len(rows))], dtype=np.int64)
    if max(len(n) for n in named) > 255:
        raise UserError("more than 255 classes of one kind", where=str(path))
    return Roster(
        path, places[0], places[1], places[2],
        np.ascontiguousarray(table[:, 0], np.uint8), np.ascontiguousarray(table[:, 1], np.uint8),
        np.ascontiguousarray(table[:, 2], np.uint8) if named[2] else None,
        table[:, 3].copy() if "samples" in has else None,
    )  # fmt: skip


def _check_header(path: Path, header: object) -> None:
    columns = [str(c).strip() for c in header] if isinstance(header, list | tuple) else []
    problems = [Problem(c, "column is missing", f"{path}:1") for c in NEEDED if c not in columns]
    problems += [Problem(c, "unknown column", f"{path}:1", suggest(c, KNOWN)) for c in columns if c not in KNOWN]
    if problems:
        raise ConfigError(problems)


def _number(text: str | None, column: str, where: str, problems: list[Problem]) -> int | None:
    try:
        value = int(text or "")
    except ValueError:
        value = -1
    if value < 0:
        problems.append(Problem(column, f"a number of 0 or more is expected, not {text!r}", where))
        return None
    return value
