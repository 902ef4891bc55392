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
    strip      leading folder of the members that is taken off; `*` = any
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
        """Whether this archive contains the raw file `name`."""
        return any(fnmatchcase(name, pattern) for pattern in self.provides)


@dataclass(frozen=True)
class Listing:
    """A dataset as `aflctl data list` shows it.

    about_mb   size of the download where the files' own sizes are not published
    layouts    other folders in which people keep the same files
    samples    (training, test) samples of the published set; empty = not published
    balanced   whether all classes are equally frequent in each of the two
    """

    title: str
    licence: str
    natural: str = "none"
    homepage: str = ""
    manual: str = ""
    about_mb: int = 0
    layouts: tuple[str, ...] = ()
    samples: tuple[int, ...] = ()
    balanced: bool = False
    files: tuple[RemoteFile, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of everything that is fetched; 0 = not known."""
        return sum(f.bytes for f in self.files if f.urls) or self.about_mb * 1_000_000

    @property
    def fetchable(self) -> bool:
        """Whether a program can fetch it."""
        return any(f.urls for f in self.files)

    def originals(self) -> list[RemoteFile]:
        """What people download: archives, and files that come in none."""
        return [f for f in self.files if not any(other.brings(f.name) for other in self.files)]

    def named(self, *names: str) -> list[RemoteFile]:
        """The files of these names."""
        return [f for f in self.files if f.name in names]

    def bringing(self, *names: str) -> list[RemoteFile]:
        """Archives that contain one of these raw files, in the order of the catalog."""
        return [f for f in self.files if any(f.brings(name) for name in names)]


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
