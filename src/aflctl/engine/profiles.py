"""The profiles of devices, networks, availability and fleets that a configuration may name, for listings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aflctl import errors
from aflctl.sim.fleet.profiles import FOLDERS, Found, Library

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


def profiles(base: Path | None = None, *, check: bool = False) -> list[ProfileRow]:
    """All profiles that a configuration in `base` (by default the working folder) can name; read only with `check`."""
    library = Library(base or Path.cwd())
    return [_row(library, group, found, check) for group in FOLDERS for found in library.entries(group)]


def values(row: ProfileRow) -> dict[str, dict[str, Any]]:
    """Field -> its value, its source, whether that is unverified, and whether the file gives it or it is a default.

    The parameters of an availability process are fields like others; a fleet has one source for all that its file says.
    """
    import yaml

    read = getattr(Library(row.path.parent), _READERS[row.group])
    data = read(str(row.path.resolve())).model_dump(mode="json")
    sources, whole = data.pop("sources", {}), data.pop("source", "")
    given = set(yaml.safe_load(row.path.read_text(encoding="utf-8")))
    return {
        field: {
            "value": value,
            "source": sources.get(field, {}).get("source", "") or (whole if field in given else ""),
            "unverified": sources.get(field, {}).get("unverified", False),
            "given": field in given,
        }
        for field, value in {**data, **data.pop("params", {})}.items()
        if field not in ("name", "summary", "params") and value is not None
    }


def _row(library: Library, group: str, found: Found, check: bool) -> ProfileRow:
    row = ProfileRow(group, found.name, found.owner, found.path, _summary(found.path))
    if not check:
        return row
    try:
        getattr(library, _READERS[group])(str(found.path.resolve()))
    except errors.AflctlError as error:
        return replace(row, broken=error.message)
    return row


def _summary(path: Path) -> str:
    """The line `summary: ...` of a file; parsing all files whole takes a second."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = next((line.partition(":")[2].strip() for line in lines if line.startswith("summary:")), "")
    return said[1:-1] if said[:1] in ("'", '"') and said[-1:] == said[:1] else said
