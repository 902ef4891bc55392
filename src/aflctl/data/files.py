"""A dataset that comes in files: finds, fetches, unpacks and converts them once, then opens the converted file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aflctl.api import Dataset, Samples, Source
from aflctl.data.catalog import Listing, RemoteFile, catalog
from aflctl.errors import DataMissing, EnvironmentProblem

if TYPE_CHECKING:
    from aflctl.api import DataSpec
    from aflctl.data.store import Stored, Table


MOST_NAMES = 4


class FileDataset(Dataset):
    """Base of datasets in files. Below `<data folder>/<key>/`: originals in `raw/`, and one converted file.

    key       name of the folder and of the entry in the catalog
    shaping   names of the fields on which the converted file depends
    revision  raised when `convert` changes what it writes
    """

    key: ClassVar[str]
    shaping: ClassVar[tuple[str, ...]] = ()
    revision: ClassVar[int] = 1

    @classmethod
    def listing(cls) -> Listing:
        """What the catalog says; override in datasets that ship outside this package."""
        return catalog()[cls.key]

    def needs(self) -> tuple[tuple[str, ...], ...]:
        """Raw files that `convert` reads: for each, the names under which it may lie."""
        return tuple((f.name,) for f in self.listing().files if not f.provides)

    @abstractmethod
    def convert(self, raw: Raw) -> Table:
        """Parses the original files, checks their content, and returns plain arrays."""

    @abstractmethod
    def spec(self, stored: Stored) -> DataSpec:
        """Shapes, classes and normalisation."""

    # ---- the plug-in's hooks ----
    def prepare(self, cache: Path, *, download: bool) -> None:
        """Converts what lies in `raw/`, fetching what is missing when `download`; nothing where that was done."""
        from aflctl.data import store

        if store.read(self.stored_at(cache), self.how()) is not None:
            return
        raw = Raw(cache / self.key, self.listing())
        missing = [names for names in self.needs() if raw.find(*names) is None]
        for names in missing:
            if raw.find(*names) is None and not raw.obtain(names, download=download):
                raise self.absent(cache, [n for n in missing if raw.find(*n) is None])
        try:
            table = self.convert(raw)
        except (ValueError, KeyError, EOFError, OSError, IndexError, RuntimeError) as error:
            raise EnvironmentProblem(
                f"{self.key}: a file in {raw.folder} cannot be read: {error}",
                hint="delete the damaged file and prepare the dataset again",
            ) from error
        store.write(self.stored_at(cache), table, self.how())

    def open(self, cache: Path) -> Source:
        """The converted file, mapped; DataMissing with the command that makes it."""
        from aflctl.data import store

        stored = store.read(self.stored_at(cache), self.how())
        if stored is None:
            raise self.absent(cache, [])
        return self.source(stored)

    def source(self, stored: Stored) -> Source:
        """The opened file as a Source; override where samples are not rows of one array."""
        spec = self.spec(stored)
        tensors = stored.tensors

        def part(name: str) -> Samples:
            return Samples(tuple(tensors[f"{name}/x/{m.name}"] for m in spec.modalities), tensors[f"{name}/y"].long())

        return Source(spec, part("train"), part("test"), stored.fingerprint, naturals_of(stored))

    # ---- places ----
    def state(self, cache: Path) -> str:
        """prepared, downloaded (all files are there, not converted), or absent."""
        if self.stored_at(cache).is_file():
            return "prepared"
        raw = Raw(cache / self.key, self.listing())
        return "downloaded" if all(raw.find(*names) or raw.archive(names) for names in self.needs()) else "absent"

    def how(self) -> str:
        """What the converted file depends on."""
        import json

        chosen = {name: getattr(self, name) for name in self.shaping}
        return f"{self.key} r{self.revision} {json.dumps(chosen, sort_keys=True, default=str)}"

    def stored_at(self, cache: Path) -> Path:
        """The converted file of these parameters."""
        changed = [f"{n}-{getattr(self, n)}" for n in self.shaping if getattr(self, n) != self._default(n)]
        name = "-".join([self.key, *changed]).replace("/", "_").replace(" ", "")
        return cache / self.key / f"{name}.safetensors"

    def command(self) -> str:
        """The command that makes the converted file of these parameters."""
        changed = [n for n in self.shaping if getattr(self, n) != self._default(n)]
        return " ".join([f"aflctl data prepare {self.key}", *(f"--set {n}={getattr(self, n)}" for n in changed)])

    def absent(self, cache: Path, missing: list[tuple[str, ...]]) -> DataMissing:
        """The error that names the command and the folder for files downloaded by hand."""
        folder = cache / self.key / "raw"
        listing = self.listing()
        names = [alternatives[0] for alternatives in missing] or [f.name for f in listing.files]
        files = ", ".join(names[:MOST_NAMES]) + (
            f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        )
        lacking = f"; missing: {files}" if missing else ""
        manual = f" ({listing.manual})" if listing.manual else ""
        which = "" if missing or not files else f" ({files})"
        return DataMissing(
            f"dataset {self.key} is not prepared in {cache / self.key}{lacking}",
            hint=f"run: {self.command()}; files downloaded by hand{which} go to {folder} first{manual}",
        )

    def _default(self, name: str) -> Any:
        return type(self).model_fields[name].default


_looked_in: ContextVar[Path | None] = ContextVar("looked_in", default=None)


@contextmanager
def looking_in(folder: Path | None) -> Iterator[None]:
    """Inside, original files are looked for in `folder` first; they are read there and not copied."""
    token = _looked_in.set(folder)
    try:
        yield
    finally:
        _looked_in.reset(token)


class Raw:
    """The original files of one dataset, wherever people keep them: `raw/`, or torchvision's own layout."""

    def __init__(self, home: Path, listing: Listing) -> None:
        self.folder: Path = home / "raw"
        self.listing = listing
        extra = _looked_in.get()
        roots = (*((extra, extra / "raw") if extra else ()), self.folder, home, home.parent)
        self._folders: list[Path] = [*roots[:-1], *(root / layout for layout in listing.layouts for root in roots)]

    def find(self, *names: str) -> Path | None:
        """The first of these names that exists."""
        for name in names:
            for folder in self._folders:
                if (folder / name).exists():
                    return folder / name
        return None

    def __getitem__(self, names: str | tuple[str, ...]) -> Path:
        wanted = (names,) if isinstance(names, str) else names
        found = self.find(*wanted)
        if found is None:
            raise FileNotFoundError(f"{' or '.join(wanted)} is not in {self.folder}")
        return found

    def obtain(self, names: tuple[str, ...], *, download: bool) -> bool:
        """Unpacks the archive that brings one of these files, fetching it (or the file) first when `download`."""
        from aflctl.data.archive import MAX_BYTES, extract
        from aflctl.data.fetch import fetch

        brought = [source for name in names if (source := self.listing.source_of(name)) is not None]
        for source in brought:
            path = self.find(source.name)
            if path is None and download and source.urls:
                path = fetch(source, self.folder)
            if path is None:
                continue
            if source.provides:
                bound = source.max_bytes or MAX_BYTES
                extract(path, self.folder, wanted=source.provides, strip=source.strip, max_bytes=bound)
            if self.find(*names) is not None:
                return True
        return False

    def archive(self, names: tuple[str, ...]) -> Path | None:
        """An archive that is here and brings one of these files."""
        for name in names:
            source = self.listing.source_of(name)
            path = self.find(source.name) if source is not None else None
            if path is not None:
                return path
        return None

    def status(self, file: RemoteFile) -> str:
        """absent, original (checksum as published), other (differs), or present (nothing published)."""
        from aflctl.data.fetch import mismatch

        path = self.find(file.name)
        if path is None:
            return "absent"
        if not (file.md5 or file.sha256):
            return "present"
        return "original" if mismatch(path, file) is None else "other"


def naturals_of(stored: Stored) -> dict[str, Any]:
    """Column -> [n] int64 owner of each training sample."""
    return {
        name.removeprefix("natural/"): tensor.long().numpy()
        for name, tensor in stored.tensors.items()
        if name.startswith("natural/")
    }
