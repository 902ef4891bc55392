"""Failures of this machine's disk, told apart from failures of what lies on it; and one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aflctl.errors import DiskProblem


def disk_problem(error: BaseException, place: Path) -> DiskProblem | None:
    """The error to raise where the disk is full or `place` may not be written; None where it is something else."""
    code = error.errno if isinstance(error, OSError) else None
    if code in DiskProblem.FULL:
        hint = "free some space, or set AFLCTL_DATA_DIR to a larger disk"
    elif code in DiskProblem.FORBIDDEN:
        hint = "set AFLCTL_DATA_DIR to a folder that you may write, or change the rights of this one"
    else:
        return None
    return DiskProblem(f"cannot write {place}: {error}", hint=hint)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Inside, whatever the system refuses becomes a DiskProblem that names `place`."""
    try:
        yield
    except OSError as error:
        other = DiskProblem(f"cannot write {place}: {error.strerror or error}", hint="name another place")
        raise (disk_problem(error, place) or other) from error


@contextmanager
def alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Inside, no other process works in `folder`; calls `wait` once where one does. A dead process holds no lock."""
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: two processes at once stay possible
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
