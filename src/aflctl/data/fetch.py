"""Verified download: mirrors in turn, resume after a break, size bound, checksum, progress."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.data.catalog import RemoteFile
from aflctl.data.disk import disk_problem
from aflctl.errors import EnvironmentProblem

if TYPE_CHECKING:
    from http.client import HTTPResponse

Progress = Callable[[str, int, int], None]

CHUNK_BYTES = 1 << 20
UNKNOWN_SIZE_BOUND = 8 << 30
TIMEOUT_S = 30
RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

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

    Raises EnvironmentProblem with what each mirror answered; no file under the final name is ever incomplete. What
    arrived before a break stays beside it as `.part`, and the next call continues there.
    """
    from http.client import HTTPException

    target = folder / file.name
    part = target.with_name(target.name + ".part")
    failures = []
    for url in file.urls:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(url, part, file)
            wrong = mismatch(part, file)
            if wrong is None:
                os.replace(part, target)
                return target
            part.unlink()
        except (OSError, ValueError, HTTPException) as error:
            problem = disk_problem(error, part)
            if problem is not None:
                raise problem from error
            wrong = str(error) or type(error).__name__
        failures.append(f"{url}: {wrong}")
    reasons = "; ".join(failures) or "no address is known"
    raise EnvironmentProblem(
        f"cannot download {file.name}: {reasons}",
        hint=f"repeat the command (it continues where it stopped), or put the file into {folder} by hand",
    )


def _download(url: str, part: Path, file: RemoteFile) -> None:
    """Brings `part` to the end, continuing what is there; a server that cannot continue it starts anew."""
    have = part.stat().st_size if part.exists() else 0
    if file.bytes and have >= file.bytes:
        if have == file.bytes:
            return
        have = 0
    if have and _continued(url, part, have, file):
        return
    with _asked(url, None) as answer:
        _copy(answer, part, 0, file)


def _continued(url: str, part: Path, have: int, file: RemoteFile) -> bool:
    """Whether the rest was fetched, or nothing was missing."""
    from urllib.error import HTTPError

    try:
        with _asked(url, have) as answer:
            first, _ = _span(answer.headers.get("Content-Range"))
            if answer.status == 206 and first == have:
                _copy(answer, part, have, file)
                return True
            if answer.status == 200:  # the server sends the whole file
                _copy(answer, part, 0, file)
                return True
        return False
    except HTTPError as error:
        if error.code != 416:  # nothing lies behind what we have: it is complete, or not this file's beginning
            raise
        return _span(error.headers.get("Content-Range"))[1] == have


def _asked(url: str, start: int | None) -> Any:
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "aflctl", **({} if start is None else {"Range": f"bytes={start}-"})}
    return urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)


def _span(text: str | None) -> tuple[int | None, int | None]:
    """(first byte, size of the whole) of a Content-Range header; None for what it does not say."""
    found = RANGE.fullmatch(text or "")
    return tuple(int(n) if n and n != "*" else None for n in found.groups()) if found else (None, None)  # type: ignore[return-value]


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
