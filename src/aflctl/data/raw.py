"""The original files of one dataset, wherever people keep them: found, fetched, unpacked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from aflctl.data.catalog import Listing, RemoteFile
from aflctl.data.disk import writing
from aflctl.errors import DiskProblem, EnvironmentProblem

WORKSPACE = ".work-"

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
    """Where they may lie: `raw/`, a folder inside it (as archives unpack), or torchvision's own layout.

    folder   where downloads go and archives are unpacked
    extra    the folder of `looking_in`
    """

    def __init__(self, home: Path, listing: Listing) -> None:
        self.home, self.folder, self.listing = home, home / "raw", listing
        self.extra = _looked_in.get()
        near = (self.extra, self.extra / "raw") if self.extra else ()
        roots = (*near, self.folder, home, home.parent)
        self._folders: list[Path] = [*roots[:-1], *(root / layout for layout in listing.layouts for root in roots)]
        self._inner: list[Path] | None = None
        self._fetched: set[Path] = set()

    def find(self, *names: str) -> Path | None:
        """The first of these names that exists."""
        for folders in (self._folders, self._unpacked()):
            for name in names:
                for folder in folders:
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
        """Makes one of these files present: from an archive that is here, else fetched when `download`."""
        failures = []
        for fetching in (False, True) if download else (False,):
            for file in self.listing.named(*names) if fetching else ():
                try:
                    if file.urls and self._fetch(file):
                        return True
                except DiskProblem:
                    raise
                except EnvironmentProblem as error:
                    failures.append(error)
            for archive in self.listing.bringing(*names):
                try:
                    here = self.find(archive.name) or self.obtain((archive.name,), download=fetching)
                except DiskProblem:
                    raise
                except EnvironmentProblem as error:
                    if not fetching:
                        raise
                    failures.append(error)
                    continue
                if here:
                    self._unpack(archive)
                    if self.find(*names) is not None:
                        return True
        if failures:
            raise failures[0]
        return False

    def _fetch(self, file: RemoteFile) -> Path:
        from aflctl.data.fetch import fetch

        path = fetch(file, self.folder)
        self._fetched.add(path)
        return path

    def _unpack(self, archive: RemoteFile) -> None:
        from aflctl.data.archive import MAX_BYTES, BadArchive, extract

        path = self[archive.name]
        try:
            extract(
                path,
                self.folder,
                wanted=archive.provides,
                strip=archive.strip,
                max_bytes=archive.max_bytes or MAX_BYTES,
            )
        except BadArchive:
            if path in self._fetched:  # a page that says sorry, most likely; the next call fetches it anew
                path.unlink()
            raise
        self._inner = None

    def archive(self, names: tuple[str, ...]) -> Path | None:
        """An archive that is here and brings one of these files."""
        for source in self.listing.bringing(*names):
            path = self.find(source.name) or self.archive((source.name,))
            if path is not None:
                return path
        return None

    def status(self, file: RemoteFile) -> str:
        """absent, original (as published), other (differs), or present (nothing published to compare with)."""
        from aflctl.data.fetch import mismatch

        path = self.find(file.name)
        if path is None:
            return "absent"
        if not (file.md5 or file.sha256):
            return "present"
        return "original" if mismatch(path, file) is None else "other"

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder for files in between, on the disk of the data; gone afterwards."""
        with writing(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=WORKSPACE, dir=self.home))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def tidy(self) -> None:
        """Removes what a killed conversion or extraction left."""
        from aflctl.data.archive import forget_staging

        forget_staging(self.folder)
        for left in self.home.glob(f"{WORKSPACE}*"):
            shutil.rmtree(left, ignore_errors=True)
        for half in self.home.glob("*.safetensors.part"):
            half.unlink(missing_ok=True)

    def _unpacked(self) -> list[Path]:
        """Folders inside `raw/`: what an archive that was unpacked by hand makes."""
        if self._inner is None:
            self._inner = sorted(p for p in self.folder.iterdir() if p.is_dir()) if self.folder.is_dir() else []
        return self._inner
