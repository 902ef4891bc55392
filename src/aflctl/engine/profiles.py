"""The profiles of devices, networks, availability and fleets that a configuration may name, for listings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflctl import errors
from aflctl.sim.profiles import FOLDERS, Found, Library

_READERS = {"devices": "device", "networks": "network", "availability": "availability", "fleets": "fleet"}


@dataclass(frozen=True)
class ProfileRow:
    """One profile: `group` is devices, networks, availability or fleets; `broken` says why it cannot be read."""

    group: str
    name: str
    owner: str
    path: Path
    summary: str = ""
    broken: str | None = None


def profiles(base: Path | None = None) -> list[ProfileRow]:
    """All profiles that a configuration in `base` (by default the working folder) can name."""
    library = Library(base or Path.cwd())
    return [_row(library, group, found) for group in FOLDERS for found in library.entries(group)]


def values(row: ProfileRow) -> dict[str, dict[str, Any]]:
    """Field -> its value, where the value comes from, and whether that is unverified; fields at their default too."""
    read = getattr(Library(row.path.parent), _READERS[row.group])
    data = read(str(row.path.resolve())).model_dump(mode="json")
    sources = data.pop("sources", {})
    return {
        field: {
            "value": value,
            "source": sources.get(field, {}).get("source", ""),
            "unverified": sources.get(field, {}).get("unverified", False),
        }
        for field, value in data.items()
        if field not in ("name", "summary") and value is not None
    }


def _row(library: Library, group: str, found: Found) -> ProfileRow:
    try:
        read = getattr(library, _READERS[group])(str(found.path.resolve()))
    except errors.AflctlError as error:
        return ProfileRow(group, found.name, found.owner, found.path, broken=error.message)
    return ProfileRow(group, found.name, found.owner, found.path, read.summary)
