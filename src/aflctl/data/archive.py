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

from aflctl.data.fetch import CHUNK_BYTES, tell
from aflctl.errors import EnvironmentProblem

MAX_MEMBERS = 500_000
MAX_BYTES = 4 << 30


class UnsafeArchive(EnvironmentProblem):
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

    Everything goes to a temporary folder first, so that a refused or broken archive leaves nothing behind. Refused:
    paths that leave the folder, links and devices, more than `max_members` members, more than `max_bytes` of content
    (counted while reading, whatever the archive claims).
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".extract-", dir=folder))
    try:
        written = _extract(archive, staging, wanted, strip, max_bytes, max_members)
        if not written:
            raise EnvironmentProblem(f"{archive}: holds none of the expected files ({', '.join(wanted)})")
        final = []
        for name in written:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target)
            final.append(target)
        return final
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise EnvironmentProblem(
            f"{archive}: the archive is damaged ({error})", hint="delete it and fetch it again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(
    archive: Path, staging: Path, wanted: tuple[str, ...], strip: str, max_bytes: int, max_members: int
) -> list[str]:
    written: list[str] = []
    left = max_bytes
    with _members(archive) as members:
        for count, (name, plain, stream) in enumerate(members, 1):
            if count > max_members:
                raise UnsafeArchive(f"{archive}: more than {max_members} members")
            inner = safe_name(archive, name, strip)
            if inner is None or not any(fnmatchcase(inner, pattern) for pattern in wanted):
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


def safe_name(archive: Path, name: str, strip: str = "") -> str | None:
    """The member's path below the target folder; None for folders and members outside `strip`.

    Raises UnsafeArchive for absolute paths, drive letters, backslashes and `..`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or ":" in name or "\0" in name or ".." in path.parts:
        raise UnsafeArchive(f"{archive}: member {name!r} would be written outside the target folder")
    if name.endswith("/"):
        return None
    if strip:
        if not path.is_relative_to(strip):
            return None
        path = path.relative_to(strip)
    return path.as_posix() if path.parts else None


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, bool, IO[bytes]]]]:
    """(name, whether a plain file, content) of each member that is not a folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _zip(opened)
    else:
        with tarfile.open(archive, "r:*") as opened_tar:
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
