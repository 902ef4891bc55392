"""Run directories: one per identity, with a status that is derived and never claimed.

runs/<name, or algorithm-dataset>-s<seed>-<8 hex of the identity>/
runs/latest -> the run that was started or shown last
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from aflctl.errors import AflctlError, DiskProblem, RunDirError, UnknownName, UserError, suggest
from aflctl.runs import lock
from aflctl.runs.atomic import BROKEN, disk, problem, write_json, write_text
from aflctl.runs.provenance import now, redact

FORMAT = 1
LATEST = "latest"
SUITE = "suite.json"
FILES = (
    "config.yaml", "provenance.json", "metrics.csv", "updates.csv", "clients.csv", "staleness.csv", "staleness.png",
    "curve.png", "participation.png", "summary.json", "results.md", "model.safetensors", "exit.json",
)  # fmt: skip
FOLDERS = ("checkpoint", "plugins", "profiles", "tracking")

Status = Literal["running", "done", "failed", "interrupted", "unreadable"]


def runs_root(runs_dir: str | Path | None = None) -> Path:
    """The given folder, else AFLCTL_RUNS_DIR, else ./runs."""
    return Path(runs_dir or os.environ.get("AFLCTL_RUNS_DIR") or "runs")


class RunDir:
    """A run directory that this process may write, or the finished one of the same identity.

    finished     the directory holds the result already; nothing is locked
    interrupted  an earlier process left it unfinished; `clear` it to begin again
    before       the status found on opening, None for a new directory
    history      the earlier attempts, as told by the provenance that they left
    """

    def __init__(
        self, path: Path, identity: str, before: Status | None, held: lock.Holder | None, latest: Path | None = None
    ) -> None:
        self.path, self.identity, self.before = path, identity, before
        self.finished = before == "done"
        self.interrupted = before is not None and not self.finished
        self.history = _history(path, before)
        self._held, self._latest = held, latest

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.name

    @classmethod
    def open(cls, root: Path, label: str, identity: str, *, rerun: bool = False) -> RunDir:
        """The directory of `identity` below `root`: new, finished, or left unfinished by a process that is gone.

        With `rerun` a finished directory is left alone and the next of `-2`, `-3`, ... is taken.
        """
        for path in _candidates(root, label, identity, rerun):
            if status(path) == "done":
                if rerun:
                    continue
                point_latest(path)
                return cls(path, identity, "done", None)
            _writable(root)
            with disk(path):
                path.mkdir(exist_ok=True)
            held = lock.acquire(path)
            keep = False
            try:
                before = _left_behind(path)
                if before == "done" and rerun:  # finished by another process between the two looks
                    continue
                keep = before != "done"
                _sweep(path)
                latest = latest_of(root)
                point_latest(path)
                return cls(path, identity, before, held if keep else None, latest)
            finally:
                if not keep:
                    lock.release(path, held)
        raise RunDirError("no free directory name", where=str(root / label))  # pragma: no cover

    def file(self, name: str) -> Path:
        """The path of one file of the run."""
        return self.path / name

    def clear(self) -> None:
        """Removes what an unfinished attempt recorded; events.log and files that are not ours stay."""
        with disk(self.path):
            for name in FILES:
                self.file(name).unlink(missing_ok=True)
            for name in FOLDERS:
                if self.file(name).is_dir():
                    shutil.rmtree(self.file(name))

    def write_text(self, name: str, text: str) -> Path:
        """Writes one file atomically."""
        write_text(self.file(name), text)
        return self.file(name)

    def write_json(self, name: str, document: Mapping[str, Any]) -> Path:
        """Writes one strict JSON document atomically; numbers that are not finite become null."""
        write_json(self.file(name), document)
        return self.file(name)

    def log(self, text: str) -> None:
        """Appends lines for people to events.log."""
        path = self.file("events.log")
        with disk(path), open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redact(text.rstrip("\n")) + "\n")

    def fail(self, error: BaseException) -> None:
        """Leaves the exit record of a run that ended with an error."""
        record = exit_record(error)
        self.write_json("exit.json", record)
        self.log(f"{now()}  ended with {record['code']}: {record['message']}")

    def close(self) -> None:
        """Gives the lock back; the directory stays."""
        if self._held is not None:
            lock.release(self.path, self._held)
            self._held = None

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or self._held is None:
            self.close()
        elif isinstance(error, UserError) and self.before is None and not self.file("provenance.json").exists():
            self._withdraw()
        else:
            with suppress(AflctlError):
                self.fail(error)
            self.close()

    def _withdraw(self) -> None:
        """A new directory of a configuration that was refused before anything ran goes; so does `latest` pointing here.

        What a mistake in a configuration would leave behind is no run, and no later one would ever take its place.
        """
        with suppress(AflctlError, OSError):
            self.clear()
            self.file("events.log").unlink(missing_ok=True)
        self.close()
        with suppress(OSError):  # whoever has put something there keeps it
            self.path.rmdir()
            if latest_of(self.path.parent) == self.path:
                if self._latest is not None and self._latest.is_dir():
                    point_latest(self._latest)
                else:
                    (self.path.parent / LATEST).unlink()


def exit_record(error: BaseException) -> dict[str, Any]:
    """What is kept of an error: `code` is its class, `exit_code` what the process ends with."""
    stopped = isinstance(error, KeyboardInterrupt)
    known = error if isinstance(error, AflctlError) else None
    return {
        "schema": "aflctl.exit",
        "version": 1,
        "code": "Interrupted" if stopped else type(error).__name__,
        "exit_code": known.exit_code if known else 130 if stopped else 1,
        "message": redact(known.message if known else "stopped by the user" if stopped else str(error)),
        "hint": redact(known.hint) if known and known.hint else None,
        "where": redact(known.where) if known and known.where else None,
    }


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def status(path: Path) -> Status:
    """What became of the run in `path`: looked up, never remembered."""
    if lock.holder(path) is not None:
        return "running"
    left = _left_behind(path)
    if left is None:
        return "interrupted" if (path / lock.NAME).exists() else "unreadable"
    return left


def _left_behind(path: Path) -> Status | None:
    """The status as the files tell it, whoever holds the lock; None for a directory without a run."""
    summary, ended = path / "summary.json", read_json(path / "exit.json")
    if summary.exists():
        document = read_json(summary)
        if document is None or _version(document.get("format")) > FORMAT:
            return "unreadable"
        if document.get("status") == "done":
            return "done"
    if ended is not None:
        return "interrupted" if ended.get("exit_code") == 130 else "failed"
    begun = ("provenance.json", "config.yaml", "updates.csv")
    return "interrupted" if any((path / name).exists() for name in begun) else None


def _version(value: object) -> int:
    return value if isinstance(value, int) else FORMAT


def _writable(root: Path) -> None:
    """Makes `root` and tries a file in it, so that the user learns at once where runs cannot go."""
    probe = root / f".{os.getpid()}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        hint = "name another folder with --runs-dir or AFLCTL_RUNS_DIR"
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise RunDirError("runs cannot be kept here: not a folder", where=str(root), hint=hint) from error
        if error.errno in BROKEN:
            raise problem(error, root) from error
        if error.errno in DiskProblem.FORBIDDEN:
            message = "runs cannot be kept here: no permission to write"
            raise DiskProblem(message, where=str(root), hint=hint) from error
        why = (error.strerror or str(error)).lower()
        raise RunDirError(f"runs cannot be kept here: {why}", where=str(root), hint=hint) from error


def _sweep(path: Path) -> None:
    """Removes what a process that was killed was about to rename."""
    for folder in (path, path / "checkpoint"):
        for left in folder.glob(".*.tmp"):
            with suppress(OSError):
                left.unlink()


def _candidates(root: Path, label: str, identity: str, rerun: bool) -> Iterator[Path]:
    """Names to try, in order; more digits where another identity has the same first eight."""
    width = 8
    while width < len(identity) and identity_of(root / f"{label}-{identity[:width]}") not in (None, identity):
        width += 4
    name = f"{label}-{identity[:width]}"
    yield root / name
    number = 2
    while rerun:
        yield root / f"{name}-{number}"
        number += 1


def identity_of(path: Path) -> str | None:
    """The full identity that a run directory was made for."""
    for file in ("provenance.json", "summary.json"):
        found = (read_json(path / file) or {}).get("identity")
        if isinstance(found, str):
            return found
    return None


def predecessor(root: Path, label: str, identity: str, config: str) -> dict[str, Any] | None:
    """The provenance of the newest run of the same configuration (digest `config`) that other code or data made.

    `provenance.changes(predecessor, ours)` says what changed.
    """
    found: list[dict[str, Any]] = []
    for path in all_runs(root):
        if path.name.startswith(f"{label}-"):
            told = read_json(path / "provenance.json") or {}
            prints = told.get("fingerprints")
            if told.get("identity") != identity and isinstance(prints, dict) and prints.get("config") == config:
                found.append(told)
    return max(found, key=lambda told: str(told.get("started")), default=None)


def _history(path: Path, before: Status | None) -> list[dict[str, Any]]:
    """Attempts made before this one, oldest first."""
    told = read_json(path / "provenance.json") if before not in (None, "done") else None
    if told is None:
        return []
    earlier = told.get("history")
    entries = [dict(entry) for entry in earlier if isinstance(entry, dict)] if isinstance(earlier, list) else []
    return [*entries, {"started": told.get("started"), "ended_as": before}]


def point_latest(path: Path) -> None:
    """Lets `runs/latest` point at `path`; where the file system has no symbolic links, nothing happens."""
    link, temporary = path.parent / LATEST, path.parent / f".{LATEST}.{os.getpid()}.tmp"
    if link.exists() and not link.is_symlink():
        return
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path.name, target_is_directory=True)
        os.replace(temporary, link)


def latest_of(root: Path) -> Path | None:
    """What `runs/latest` points at, whether it is there or not."""
    try:
        return root / os.readlink(root / LATEST)
    except OSError:
        return None


def is_run(path: Path) -> bool:
    """Whether a folder looks like a run directory."""
    return any((path / name).is_file() for name in ("provenance.json", "summary.json", "config.yaml"))


def all_runs(root: Path) -> list[Path]:
    """The run directories directly below `root`, by name."""
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return []
    return [p for p in entries if not p.is_symlink() and not p.name.startswith(".") and p.is_dir() and is_run(p)]


def find(reference: str, root: Path) -> Path:
    """The run that `reference` means: a directory, an unambiguous prefix of a run's name below `root`, or `latest`."""
    matches = _matching(reference, root)
    if len(matches) == 1:
        return matches[0]
    shown = ", ".join(path.name for path in matches[:6]) + (f" and {len(matches) - 6} more" if len(matches) > 6 else "")
    hint = f"write more of the name: {shown}"
    raise RunDirError(f"{reference!r} fits {len(matches)} runs", where=str(root), hint=hint)


def find_all(reference: str, root: Path) -> list[Path]:
    """As `find`, but a prefix means every run that it fits, a folder of runs all in it, one of a suite the suite's."""
    folder = Path(os.path.expanduser(reference))
    with suppress(OSError):
        if reference and reference != LATEST and folder.is_dir() and not is_run(folder):
            inside = runs_of_suite(folder) if (folder / SUITE).is_file() else all_runs(folder)
            if inside:
                return inside
    return _matching(reference, root)


def runs_of_suite(folder: Path) -> list[Path]:
    """The runs that a suite's record names, in its order; those that never began, or are gone, are left out.

    The record lies two levels below the runs: runs/suites/<name>-<8 hex>/suite.json.
    """
    told = (read_json(folder / SUITE) or {}).get("runs")
    rows = told if isinstance(told, list) else []
    root = folder.resolve().parent.parent
    found = [root / str(row["run"]) for row in rows if isinstance(row, dict) and row.get("run")]
    kept = [path for path in found if is_run(path)]
    if not kept:
        raise RunDirError("this suite has no runs", where=str(folder), hint="repeat its aflctl run to complete it")
    return kept


def _matching(reference: str, root: Path) -> list[Path]:
    """The runs that a reference may mean; at least one."""
    runs = {path.name: path for path in all_runs(root)}
    nothing = f"there are no runs in {root} yet; start one with: aflctl run" if not runs else None
    if reference == LATEST:
        target = root / LATEST
        if target.is_symlink() and target.resolve().name in runs:
            return [runs[target.resolve().name]]
        if runs:
            return [max(runs.values(), key=_begun)]
        raise UnknownName("run", reference, [], hint=nothing)
    if reference in runs:
        return [runs[reference]]
    given = Path(os.path.expanduser(reference))
    with suppress(OSError):  # a name that is too long is no path
        if reference and given.is_dir():
            if not is_run(given):
                raise RunDirError("not a run directory: it has no config.yaml", where=reference)
            return [given]
    matches = [path for name, path in runs.items() if reference and name.startswith(reference)]
    if not matches:
        raise UnknownName("run", reference, runs, where=str(root), hint=nothing or _close(reference, list(runs)))
    return matches


def _close(reference: str, names: list[str]) -> str | None:
    """Too many runs to list: the newest instead, unless something is spelled alike."""
    if len(names) <= 8:
        return None
    text = suggest(reference, names)
    return text if text.startswith("did you") else f"{len(names)} runs are there: aflctl list runs"


def _begun(path: Path) -> float:
    for name in ("provenance.json", "config.yaml", "summary.json"):
        with suppress(OSError):
            return (path / name).stat().st_mtime
    return 0.0
