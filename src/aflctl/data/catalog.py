"""What is known of each dataset that comes in files: `sources.toml` read into plain values."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class RemoteFile:
    """One original file.

    name       path below the raw folder
    bytes      size, 0 = not known
    md5, sha256   of the original, empty = not published
    urls       tried in order; empty = cannot be fetched by a program
    provides   for archives: patterns of the member paths it brings (below `strip`)
    strip      leading folder of the members that is taken off
    max_bytes  for archives: bound on the extracted size
    """

    name: str
    bytes: int = 0
    md5: str = ""
    sha256: str = ""
    urls: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    strip: str = ""
    max_bytes: int = 0

    def brings(self, name: str) -> bool:
        """Whether this file is, or contains, the raw file `name`."""
        return name == self.name or any(fnmatchcase(name, pattern) for pattern in self.provides)


@dataclass(frozen=True)
class Listing:
    """A dataset as `aflctl data list` shows it.

    about_mb   size of the download where the files' own sizes are not published
    layouts    other folders in which people keep the same files
    """

    title: str
    licence: str
    natural: str = "none"
    homepage: str = ""
    manual: str = ""
    about_mb: int = 0
    layouts: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of everything that is fetched; 0 = not known."""
        return sum(f.bytes for f in self.files if f.urls) or self.about_mb * 1_000_000

    def source_of(self, name: str) -> RemoteFile | None:
        """The file that is, or brings, the raw file `name`; one that can be fetched first."""
        found = [f for f in self.files if f.brings(name)]
        return next((f for f in found if f.urls), found[0] if found else None)


@cache
def catalog() -> dict[str, Listing]:
    """Dataset key -> listing."""
    import tomllib

    text = files("aflctl.data").joinpath("sources.toml").read_text("utf-8")
    return {key: _listing(entry) for key, entry in tomllib.loads(text).items()}


def _listing(entry: dict[str, object]) -> Listing:
    raw = entry.pop("files", [])
    listed: list[dict[str, object]] = raw if isinstance(raw, list) else []
    return Listing(**_tuples(entry), files=tuple(RemoteFile(**_tuples(one)) for one in listed))  # type: ignore[arg-type]


def _tuples(entry: dict[str, object]) -> dict[str, object]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
