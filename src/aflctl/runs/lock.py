"""One process per run directory: a lock that names its holder and is seen through once the holder is gone."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from aflctl.errors import RunBusy
from aflctl.runs.atomic import disk, write_text

NAME = "lock"
QUIET_S = 900.0  # a holder on another machine that wrote nothing for this long is taken for dead


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock: `started` tells it from a later process with the same pid."""

    pid: int
    host: str
    started: str | None
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def current() -> Holder:
    """This process."""
    pid = os.getpid()
    return Holder(pid, socket.gethostname(), start_of(pid), datetime.now(UTC).isoformat(timespec="seconds"))


def start_of(pid: int) -> str | None:
    """When a process of this machine began, as text that only compares equal; None where it is unknown or gone."""
    if sys.platform == "linux":
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (OSError, IndexError):
            return None
        return None if after_name[0] == "Z" else f"{boot}:{after_name[19]}"
    with suppress(OSError, subprocess.SubprocessError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    return None


def read(folder: Path) -> Holder | None:
    """Who is written into the folder's lock; None when there is no lock or it cannot be understood."""
    try:
        fields = json.loads((folder / NAME).read_text())
        started = fields["started"]
        return Holder(int(fields["pid"]), str(fields["host"]), started and str(started), str(fields["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def holder(folder: Path) -> Holder | None:
    """The living holder of the folder's lock, or None: a lock whose process is gone does not count.

    A process of another machine cannot be looked up; it counts as alive as long as something in the folder was written
    within `QUIET_S`.
    """
    found = read(folder)
    if found is None:
        return None
    if found.host != socket.gethostname():
        return found if time.time() - _last_write(folder) < QUIET_S else None
    if found.started is not None:
        return found if start_of(found.pid) == found.started else None
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return found


def _last_write(folder: Path) -> float:
    times = [0.0]
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                times.append(entry.stat().st_mtime)
    return max(times)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes that find the same stale lock take it over one after the other."""
    with disk(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without flock: the race stays, everything else works
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def acquire(folder: Path) -> Holder:
    """Takes the folder's lock for this process, or says who holds it."""
    with _alone(folder):
        living = holder(folder)
        if living is not None:
            raise RunBusy(
                f"this run is being made by {living} since {living.since}",
                where=str(folder),
                hint=f"wait for it, or if that process is gone, delete {folder / NAME}",
            )
        mine = current()
        write_text(folder / NAME, json.dumps(asdict(mine)) + "\n")
        return mine


def release(folder: Path, mine: Holder) -> None:
    """Gives the lock back, unless somebody else has it by now."""
    with _alone(folder):
        if read(folder) == mine:
            with suppress(OSError):
                (folder / NAME).unlink()
