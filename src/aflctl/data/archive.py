"""Safe extraction of zip and tar archives: only wanted members, only plain files, only inside, only so much."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from aflctl.data.disk import disk_problem, writing
from aflctl.data.fetch import CHUNK_BYTES, tell
from aflctl.errors import AflctlError, EnvironmentProblem

MAX_MEMBERS = 500_000
MAX_BYTES = 4 << 30
STAGING = ".extract-"
ANYWHERE = "*"


class BadArchive(EnvironmentProblem):
    """An archive that cannot be used: damaged, or without the expected files."""


class UnsafeArchive(BadArchive):
    """An archive with a member that must not be written."""


def extract(
    archive: Path,
    folder: Path,
    *,
    wanted: tuple[str, ...] = ("*",),
    strip: str = "",
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
) -> list[Path]:
    """Writes the members that match `wanted` (patterns of their paths without `strip`) below `folder`.

    `strip` is a leading folder, or `*`: whatever folders lie before the last parts of the path that match a pattern,
    part by part. Everything goes to a temporary folder first, so that a refused or broken archive leaves nothing
    behind. Refused: paths that leave the folder, links and devices, more than `max_members` members, more than
    `max_bytes` of content (counted while reading, whatever the archive claims).
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
    try:
        written = _extract(archive, staging, wanted, strip, max_bytes, max_members)
        if not written:
            raise BadArchive(f"{archive}: holds none of the expected files ({', '.join(wanted)})")
        for entry in sorted(staging.iterdir()):
            _move(entry, folder / entry.name)
        return [folder / name for name in written]
    except AflctlError:
        raise
    except Exception as error:  # the parsers raise many kinds on damaged bytes: zlib.error, struct.error, ...
        problem = disk_problem(error, folder)
        if problem is not None:
            raise problem from error
        raise BadArchive(f"{archive}: the archive is damaged ({error})", hint="delete it and fetch it again") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def forget_staging(folder: Path) -> None:
    """Removes what extractions that were killed left in `folder`."""
    for left in folder.glob(f"{STAGING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """In one step where `target` is new, so that a kill in between leaves no half-filled folder."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
    else:
        os.replace(source, target)


def _extract(
    archive: Path, staging: Path, wanted: tuple[str, ...], strip: str, max_bytes: int, max_members: int
) -> list[str]:
    written: list[str] = []
    left = max_bytes
    with _members(archive) as members:
        for count, (name, plain, stream) in enumerate(members, 1):
            if count > max_members:
                raise UnsafeArchive(f"{archive}: more than {max_members} members")
            inner = _chosen(safe_name(archive, name), wanted, strip)
            if inner is None:
                continue
            if not plain:
                raise UnsafeArchive(f"{archive}: member {name!r} is a link or a device, not a plain file")
            target = staging / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                while chunk := stream.read(CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise UnsafeArchive(f"{archive}: holds more than {max_bytes} bytes of content")
                    out.write(chunk)
            written.append(inner)
            tell(f"extracting {archive.name}", max_bytes - left, 0)
    return written


def safe_name(archive: Path, name: str) -> PurePosixPath | None:
    """The member's path; None for folders.

    Raises UnsafeArchive for absolute paths, drive letters, backslashes and `..`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or ":" in name or "\0" in name or ".." in path.parts:
        raise UnsafeArchive(f"{archive}: member {name!r} would be written outside the target folder")
    return None if name.endswith("/") or not path.parts else path


def _chosen(path: PurePosixPath | None, wanted: tuple[str, ...], strip: str) -> str | None:
    """Where below the folder the member goes; None where it is not wanted."""
    if path is None:
        return None
    if strip == ANYWHERE:
        for pattern in wanted:
            shape = PurePosixPath(pattern).parts
            tail = path.parts[-len(shape) :]
            if len(tail) == len(shape) and all(map(fnmatchcase, tail, shape)):
                return "/".join(tail)
        return None
    if strip:
        if not path.is_relative_to(strip):
            return None
        path = path.relative_to(strip)
    inner = path.as_posix()
    return inner if path.parts and any(fnmatchcase(inner, pattern) for pattern in wanted) else None


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, bool, IO[bytes]]]]:
    """(name, whether a plain file, content) of each member that is not a folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip(opened)
    else:
        try:
            opened_tar = tarfile.open(archive, "r:*")  # noqa: SIM115 - closed below
        except tarfile.ReadError as error:
            raise tarfile.ReadError("neither a zip nor a tar file, or its beginning is lost") from error
        with opened_tar:
            yield _tar(opened_tar)


def _zip(opened: zipfile.ZipFile) -> Iterator[tuple[str, bool, IO[bytes]]]:
    for member in opened.infolist():
        kind = (member.external_attr >> 16) & 0o170000
        with opened.open(member) as stream:
            yield member.filename, kind in (0, 0o100000, 0o040000), stream


def _tar(opened: tarfile.TarFile) -> Iterator[tuple[str, bool, IO[bytes]]]:
    import io

    for member in opened:
        if member.isdir():
            continue
        stream = opened.extractfile(member) if member.isreg() else None
        yield member.name, stream is not None, stream or io.BytesIO()
    source = opened.fileobj
    while source is not None and source.read(CHUNK_BYTES):
        pass  # to the end, where a compressed file has its checksum
