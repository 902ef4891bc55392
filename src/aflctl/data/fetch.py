"""Verified download: mirrors in turn, resume after a break, size bound, checksum, progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.data.catalog import RemoteFile
from aflctl.errors import DiskProblem, EnvironmentProblem

if TYPE_CHECKING:
    from http.client import HTTPResponse

Progress = Callable[[str, int, int], None]

CHUNK_BYTES = 1 << 20
UNKNOWN_SIZE_BOUND = 8 << 30
TIMEOUT_S = 30

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def watching(progress: Progress) -> Iterator[None]:
    """Inside, `progress(what, done, total)` is called as bytes arrive (total 0 = not known)."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def tell(what: str, done: int, total: int) -> None:
    """Reports to whoever watches."""
    progress = _progress.get()
    if progress is not None:
        progress(what, done, total)


def fetch(file: RemoteFile, folder: Path) -> Path:
    """`folder / file.name`, downloaded from the first mirror that gives the right bytes.

    Raises EnvironmentProblem with what each mirror answered; no file under the final name is ever incomplete.
    """
    target = folder / file.name
    part = target.with_name(target.name + ".part")
    failures = []
    for url in file.urls:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(url, part, file)
        except (OSError, ValueError) as error:
            if _disk_full(error):
                raise DiskProblem(f"cannot write {part}: {error}", hint="free some space and repeat") from error
            failures.append(f"{url}: {error}")
            continue
        wrong = mismatch(part, file)
        if wrong is None:
            os.replace(part, target)
            return target
        part.unlink()
        failures.append(f"{url}: {wrong}")
    reasons = "; ".join(failures) or "no address is known"
    raise EnvironmentProblem(
        f"cannot download {file.name}: {reasons}",
        hint=f"repeat the command (it continues where it stopped), or put the file into {folder} by hand",
    )


def _download(url: str, part: Path, file: RemoteFile) -> None:
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.exists() else 0
    if file.bytes and have >= file.bytes:
        if have == file.bytes:
            return
        part.unlink()
        have = 0
    request = Request(url, headers={"User-Agent": "aflctl", **({"Range": f"bytes={have}-"} if have else {})})
    with urlopen(request, timeout=TIMEOUT_S) as answer:
        if have and answer.status != 206:  # the server starts anew
            have = 0
        _copy(answer, part, have, file)


def _copy(answer: HTTPResponse, part: Path, have: int, file: RemoteFile) -> None:
    announced = int(answer.headers.get("Content-Length") or 0)
    total = have + announced if announced else file.bytes
    bound = file.bytes or UNKNOWN_SIZE_BOUND
    if total > bound:
        raise ValueError(f"the server announces {total} bytes, expected {bound}")
    with part.open("ab" if have else "wb") as out:
        while chunk := answer.read(CHUNK_BYTES):
            have += len(chunk)
            if have > bound:
                raise ValueError(f"more than the expected {bound} bytes arrive")
            out.write(chunk)
            tell(file.name, have, total)
    if total and have < total:
        raise ValueError(f"the connection ended after {have} of {total} bytes")


def mismatch(path: Path, file: RemoteFile) -> str | None:
    """What differs from the published file, in words; None where nothing does or nothing is published."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return f"{size} bytes, expected {file.bytes}"
    for kind, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected:
            found = checksum(path, kind)
            return None if found == expected else f"{kind} {found}, expected {expected}"
    return None


def checksum(path: Path, kind: str) -> str:
    """Hex digest of a file."""
    options: dict[str, Any] = {"usedforsecurity": False} if kind == "md5" else {}
    digest = hashlib.new(kind, **options)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _disk_full(error: Exception) -> bool:
    import errno

    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
