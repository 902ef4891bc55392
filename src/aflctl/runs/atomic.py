"""Files that are either the old ones or the new ones, never half of each."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aflctl.errors import DiskProblem

BROKEN = DiskProblem.FULL | {errno.EIO, errno.ENOMEM}


def problem(error: OSError, path: Path) -> DiskProblem:
    """An operating-system error on `path` as what the user is told."""
    if error.errno == errno.EFBIG:
        message = "larger than a file may be here (ulimit -f, or the file system)"
        return DiskProblem(message, where=str(path), hint="raise the limit, then repeat the command")
    if error.errno in DiskProblem.FULL:
        return DiskProblem("the disk is full", where=str(path), hint="free some space, then repeat the command")
    if error.errno in DiskProblem.FORBIDDEN:
        return DiskProblem("no permission to write", where=str(path), hint="check the owner and mode of its folder")
    return DiskProblem(f"cannot be written ({error.strerror or error})", where=str(path))


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns an OSError inside the block into a DiskProblem that names `path`."""
    try:
        yield
    except OSError as error:
        raise problem(error, path) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; when the block ends well, the file is flushed to disk and takes its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk(path):
        try:
            yield temporary
            descriptor = os.open(temporary, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable, on the file systems that can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces the content of `path`."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replaces the content of `path`, UTF-8 with newlines as they are."""
    write_bytes(path, utf8(text))


def utf8(text: str) -> bytes:
    """UTF-8. Bytes of file names that the locale could not read come back as they were; where that is no UTF-8, as
    `\\udc..`, which JSON reads."""
    data = text.encode(errors="surrogateescape")
    try:
        data.decode()
    except UnicodeDecodeError:
        return text.encode(errors="backslashreplace")
    return data


def write_json(path: Path, document: Any) -> None:
    """Replaces the content of `path` with strict JSON: numbers that are not finite become null."""
    write_text(path, json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same tree with NaN and infinities as None, tuples as lists and keys as text: what strict JSON can say."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [finite(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str | int):
        return finite(value.item())
    return str(value) if isinstance(value, Path) else value
