"""The identity rule, the lock, derived status, and how a run is found."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aflctl.errors import ConfigError, DiskProblem, Diverged, HookFailed, Problem, RunDirError, UnknownName, UserError
from aflctl.runs import atomic, lock, rundir
from aflctl.runs.rundir import RunDir, find, status

IDENTITY = "ab" * 32
OTHER = "ab" * 4 + "cd" * 28  # the same first eight digits


def begin(root: Path, identity: str = IDENTITY, *, rerun: bool = False) -> RunDir:
    """A run that has written its provenance, as the engine does first."""
    run = RunDir.open(root, "quick-s0", identity, rerun=rerun)
    if not run.finished:
        run.write_json("provenance.json", {"format": 1, "identity": identity, "started": "2026-01-01T00:00:00+00:00"})
    return run


def finish(run: RunDir) -> None:
    run.write_json("summary.json", {"version": 1, "status": "done", "identity": run.identity})
    run.close()


def test_a_new_run_gets_the_name_that_the_design_says(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        assert run.name == "quick-s0-abababab"
        assert not run.finished
        assert not run.interrupted
        assert status(run.path) == "running"
    assert status(run.path) == "interrupted"


def end_with(root: Path, error: Exception, notes: str = "") -> Path:
    """A directory in which `error` came up before anything was executed."""
    with suppress(type(error)), RunDir.open(root, "quick-s0", OTHER) as run:
        run.write_text("config.yaml", "seed: 0")
        run.log("begun")
        (run.path / "profiles").mkdir(exist_ok=True)
        if notes:
            (run.path / "notes.txt").write_text(notes)
        raise error
    return run.path


def test_a_refused_configuration_leaves_no_directory_and_latest_as_it_was(tmp_path: Path) -> None:
    error = ConfigError([Problem("model", "cannot read images", None)])
    assert not end_with(tmp_path, error).exists()
    assert list(tmp_path.iterdir()) == []
    done = begin(tmp_path)
    finish(done)
    assert not end_with(tmp_path, error).exists()
    assert (tmp_path / "latest").resolve() == done.path.resolve()


def test_a_directory_with_anything_of_worth_stays(tmp_path: Path) -> None:
    assert status(end_with(tmp_path / "a", HookFailed("raised"))) == "failed"  # work that failed is a run
    assert status(end_with(tmp_path / "a", UserError("no"))) == "failed"  # it was there before
    assert (end_with(tmp_path / "b", UserError("no"), notes="mine") / "notes.txt").read_text() == "mine"
    with suppress(UserError), begin(tmp_path / "c") as run:  # from provenance.json on something was executed
        raise UserError("no")
    assert status(run.path) == "failed"


def test_the_same_identity_is_the_same_directory(tmp_path: Path) -> None:
    finish(begin(tmp_path))
    again = begin(tmp_path)
    assert again.finished
    assert status(again.path) == "done"
    assert not (again.path / "lock").exists()


def test_rerun_takes_the_next_number_and_leaves_the_result_alone(tmp_path: Path) -> None:
    finish(begin(tmp_path))
    second = begin(tmp_path, rerun=True)
    assert second.name == "quick-s0-abababab-2"
    second.close()  # killed: the next --rerun takes the same one
    second = begin(tmp_path, rerun=True)
    assert (second.name, second.interrupted) == ("quick-s0-abababab-2", True)
    finish(second)
    third = begin(tmp_path, rerun=True)
    assert third.name == "quick-s0-abababab-3"
    third.close()
    assert begin(tmp_path).name == "quick-s0-abababab"


def test_two_identities_with_the_same_eight_digits(tmp_path: Path) -> None:
    finish(begin(tmp_path))
    other = begin(tmp_path, OTHER)
    assert other.name == "quick-s0-ababababcdcd"
    finish(other)
    assert begin(tmp_path, OTHER).finished
    assert begin(tmp_path).name == "quick-s0-abababab"


def test_a_killed_run_is_recognised_and_cleared(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.write_text("metrics.csv", "update\n1\n")
    (run.path / "checkpoint").mkdir()
    (run.path / "notes.txt").write_text("mine")
    (run.path / ".curve.png.17.tmp").write_text("half")
    run.log("t=0 began")
    held = lock.read(run.path)
    assert held is not None
    (run.path / "lock").write_text(json.dumps({**json.loads((run.path / "lock").read_text()), "started": "earlier"}))
    assert status(run.path) == "interrupted"
    again = RunDir.open(tmp_path, "quick-s0", IDENTITY)
    assert again.interrupted
    assert again.history == [{"started": "2026-01-01T00:00:00+00:00", "ended_as": "interrupted"}]
    again.clear()
    assert sorted(p.name for p in again.path.iterdir()) == ["events.log", "lock", "notes.txt"]
    again.close()


def test_a_second_process_is_refused_with_pid_and_host(tmp_path: Path) -> None:
    with begin(tmp_path) as run, pytest.raises(RunDirError) as caught:
        begin(tmp_path)
    assert f"process {os.getpid()} on {socket.gethostname()}" in caught.value.message
    assert str(run.path) in str(caught.value.hint)


def test_a_lock_of_a_process_that_is_gone_is_stale(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"""
import os
from pathlib import Path
from aflctl.runs.rundir import RunDir
run = RunDir.open(Path({str(tmp_path)!r}), "quick-s0", {IDENTITY!r})
run.write_json("provenance.json", {{"identity": {IDENTITY!r}}})
os._exit(9)
"""],
        check=False,
    )  # fmt: skip
    assert done.returncode == 9
    run = begin(tmp_path)
    assert run.interrupted
    assert lock.read(run.path) == lock.holder(run.path)
    run.close()


def test_a_holder_on_another_machine_counts_until_it_has_been_quiet(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: x\n")
    (folder / "lock").write_text('{"pid": 1, "host": "elsewhere", "started": "x", "since": "then"}')
    assert status(folder) == "running"
    long_ago = time.time() - lock.QUIET_S - 60
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert status(folder) == "interrupted"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "\x00\xff"])
def test_a_damaged_lock_holds_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert lock.holder(tmp_path) is None
    held = lock.acquire(tmp_path)
    assert lock.holder(tmp_path) == held


def test_a_lock_is_released_by_its_holder_only(tmp_path: Path) -> None:
    held = lock.acquire(tmp_path)
    (tmp_path / "lock").write_text('{"pid": 1, "host": "elsewhere", "started": "x", "since": "then"}')
    lock.release(tmp_path, held)
    assert (tmp_path / "lock").exists()


def test_an_error_leaves_an_exit_record(tmp_path: Path) -> None:
    home = os.path.expanduser("~")
    run = begin(tmp_path)
    with pytest.raises(Diverged), run:
        raise Diverged("weights are not finite", hint="lower the rate", where=f"{home}/x.yaml:3")
    assert status(run.path) == "failed"
    record = json.loads((run.path / "exit.json").read_text())
    assert (record["code"], record["exit_code"], record["where"]) == ("Diverged", 1, "~/x.yaml:3")
    run = begin(tmp_path)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    assert status(run.path) == "interrupted"


@pytest.mark.parametrize("summary", ["{", '{"format": 99, "status": "done"}', "[]"])
def test_a_summary_that_cannot_be_read(tmp_path: Path, summary: str) -> None:
    (tmp_path / "summary.json").write_text(summary)
    assert status(tmp_path) == "unreadable"


def test_an_empty_directory_is_no_run(tmp_path: Path) -> None:
    assert status(tmp_path) == "unreadable"


def test_latest_follows_the_newest(tmp_path: Path) -> None:
    finish(begin(tmp_path))
    begin(tmp_path, "cd" * 32).close()
    assert os.readlink(tmp_path / "latest") == "quick-s0-cdcdcdcd"
    assert find("latest", tmp_path).name == "quick-s0-cdcdcdcd"
    assert begin(tmp_path).finished
    assert find("latest", tmp_path).name == "quick-s0-abababab"


def test_without_symbolic_links_the_newest_is_found_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    begin(tmp_path).close()
    newer = begin(tmp_path, "cd" * 32)
    newer.close()
    os.utime(newer.path / "provenance.json", (time.time() + 9, time.time() + 9))
    assert not (tmp_path / "latest").exists()
    assert find("latest", tmp_path) == newer.path


def test_a_run_is_a_directory_a_prefix_or_latest(tmp_path: Path) -> None:
    first, second = begin(tmp_path), begin(tmp_path, "cd" * 32)
    assert find(str(first.path), tmp_path) == first.path
    assert find("quick-s0-ab", tmp_path) == first.path
    assert find(second.name, tmp_path) == second.path
    with pytest.raises(RunDirError, match="fits 2 runs") as caught:
        find("quick", tmp_path)
    assert "quick-s0-cdcdcdcd" in str(caught.value.hint)
    with pytest.raises(UnknownName) as unknown:
        find("quikc-s0-abababab", tmp_path)
    assert "did you mean 'quick-s0-abababab'" in str(unknown.value.hint)
    with pytest.raises(UnknownName):
        find("", tmp_path)
    with pytest.raises(UnknownName):
        find("x" * 5000, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunDirError, match="not a run directory"):
        find(str(tmp_path / "empty"), tmp_path)


@pytest.mark.parametrize("reference", ["latest", "abc"])
def test_no_runs_at_all(tmp_path: Path, reference: str) -> None:
    with pytest.raises(UnknownName) as caught:
        find(reference, tmp_path / "nowhere")
    assert "aflctl run" in str(caught.value.hint)


def test_among_many_runs_the_list_is_not_printed(tmp_path: Path) -> None:
    for i in range(12):
        begin(tmp_path, f"{i:02d}" * 32).close()
    with pytest.raises(UnknownName) as caught:
        find("zzz", tmp_path)
    assert caught.value.hint == "12 runs are there: aflctl list runs"


def test_runs_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunDirError, match="not a folder") as caught:
        begin(tmp_path / "runs")
    assert "--runs-dir" in str(caught.value.hint)
    with pytest.raises(RunDirError, match="not a folder"):
        begin(tmp_path / "runs" / "deeper")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_runs_dir_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DiskProblem, match="no permission"):
        begin(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind"), [(13, DiskProblem), (30, DiskProblem), (28, DiskProblem), (36, RunDirError)]
)
def test_what_the_operating_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(kind) as caught:
        begin(tmp_path)
    assert caught.value.where == str(tmp_path)


def test_a_finished_run_is_shown_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = begin(tmp_path)
    made.write_json("summary.json", {"format": 1, "status": "done"})
    made.close()
    monkeypatch.setattr(rundir, "_writable", lambda root: pytest.fail("nothing is to be written"))
    assert begin(tmp_path).finished


def test_text_that_the_locale_could_not_read_is_written(tmp_path: Path) -> None:
    # "\udcc3\udcbc" are the bytes of a u umlaut under a locale without UTF-8; "\udcff" alone is no UTF-8
    atomic.write_json(tmp_path / "a.json", {"where": "r\udcc3\udcbc"})
    atomic.write_json(tmp_path / "b.json", {"where": "r\udcff"})
    assert rundir.read_json(tmp_path / "a.json") == {"where": "r\u00fc"}
    assert rundir.read_json(tmp_path / "b.json") == {"where": "r\udcff"}


def test_an_earlier_run_of_the_same_configuration_is_found(tmp_path: Path) -> None:
    assert rundir.predecessor(tmp_path, "quick-s0", IDENTITY, "c") is None
    runs = ((IDENTITY, "c", "3"), ("cd" * 32, "c", "1"), ("ef" * 32, "c", "2"), ("12" * 32, "d", "4"))
    for identity, config, started in runs:
        with RunDir.open(tmp_path, "quick-s0", identity) as run:
            prints = {"config": config, "code": identity}
            run.write_json("provenance.json", {"identity": identity, "fingerprints": prints, "started": started})
    found = rundir.predecessor(tmp_path, "quick-s0", IDENTITY, "c")
    assert found is not None
    assert found["identity"] == "ef" * 32


def test_json_is_strict(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.write_json("summary.json", {"a": float("nan"), "b": (1, float("inf")), 3: Path("x"), "d": "é"})
        assert json.loads((run.path / "summary.json").read_text()) == {"a": None, "b": [1, None], "3": "x", "d": "é"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(tmp_path) as run:
        run.write_text("results.md", "old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskProblem, match="full") as caught:
            run.write_text("results.md", "new")
        assert caught.value.where == str(run.path / "results.md")
        assert caught.value.exit_code == 3
        monkeypatch.undo()
        assert (run.path / "results.md").read_text() == "old"
        assert not list(run.path.glob(".*"))


def test_events_are_appended_without_the_home_folder(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.log("one")
        run.log(f"two {os.path.expanduser('~')}/secret\n")
        assert (run.path / "events.log").read_text() == "one\ntwo ~/secret\n"
    assert rundir.is_run(run.path)
