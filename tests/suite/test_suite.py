"""Many runs as one: what is missing is executed, single failures are survived, repeating completes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aflctl
from aflctl.cli.app import execute
from aflctl.engine.suites.suite import SuiteResult, run_suite
from aflctl.runs import lock
from aflctl.runs.rundir import find_all

Write = Callable[..., Path]
Told = Callable[[Path], list[dict[str, Any]]]
FOUR = "matrix:\n  algorithm: [fedasync, {name: fedbuff, buffer_size: 3}]\n  seed: [0, 1]\n"


def states(result: SuiteResult) -> list[str]:
    return [row.state for row in result.rows]


# ---- one after the other ----


def test_what_is_missing_is_run_and_the_comparison_is_the_end(
    write: Write, runs_dir: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aflctl.builtin.datasets.digits import Digits

    opened: list[int] = []
    before = Digits.open
    monkeypatch.setattr(Digits, "open", lambda self, cache: (opened.append(1), before(self, cache))[1])
    heard: list[tuple[int, str]] = []
    result = run_suite(write(FOUR), progress=lambda board, i: heard.append((i, board.rows[i].state)))
    assert (states(result), result.exit_code) == (["done"] * 4, 0)
    assert len(opened) == 1  # four runs, one copy of the data
    assert [(i, s) for n, (i, s) in enumerate(heard) if n == 0 or heard[n - 1] != (i, s)] == [
        (i, s) for i in range(4) for s in ("running", "done")
    ]
    assert result.comparison is not None
    assert {g.label: g.n for g in result.comparison.groups} == {"fedasync": 2, "fedbuff": 2}
    assert result.path is not None
    assert [row["run"] for row in told(result.path)] == [Path(str(row.path)).name for row in result.rows]
    assert "fedbuff" in (result.path / "comparison.md").read_text()
    assert {(d.label, d.baseline) for d in result.comparison.differences} == {("fedbuff", "fedasync")}

    again = run_suite(write(FOUR))
    assert (states(again), again.exit_code, again.path) == (["kept"] * 4, 0, result.path)
    assert [row["state"] for row in told(result.path)] == ["kept"] * 4
    larger = run_suite(write(FOUR), sets=["matrix.seed=[1, 2]"])
    assert states(larger) == ["kept", "done", "kept", "done"]
    assert len(list(runs_dir.glob("fed*"))) == 6
    assert [p.name for p in find_all(str(result.path), runs_dir)] == [row["run"] for row in told(result.path)]


BAD = """\
from aflctl.api import Algorithm
class Bad(Algorithm):
    how: str
    def init(self, setup, fleet):
        if self.how == "exit":
            raise SystemExit("leaving")
        if self.how == "die":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no such thing")
    def receive(self, state, update, fleet):
        raise NotImplementedError
"""


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "bad.py").write_text(BAD)
    return tmp_path / "bad.py"


def test_a_failed_run_stops_no_other(write: Write, bad: Path, told: Told) -> None:
    matrix = 'matrix:\n  algorithm: [{name: "./bad.py:Bad", how: raise}, {name: "./bad.py:Bad", how: exit}, fedasync]\n'
    result = run_suite(write(matrix))
    assert (states(result), result.exit_code) == (["failed", "failed", "done"], 1)
    assert "no such thing" in result.rows[0].message
    assert "leaving" in result.rows[1].message
    assert result.comparison is not None
    assert [g.label for g in result.comparison.groups] == ["fedasync"]
    assert result.path is not None
    assert [row["code"] for row in told(result.path)] == [1, 1, 0]
    bad.write_text(BAD.replace('raise ValueError("no such thing")', "return None"))
    assert states(run_suite(write(matrix)))[2] == "kept"


def test_a_run_that_another_process_makes_is_left_to_it(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = run_suite(write("matrix: {seed: [0]}\n")).rows
    (Path(str(row.path)) / "summary.json").unlink()  # as if it were under way
    mine = lock.acquire(Path(str(row.path)))
    file = write("matrix: {seed: [0, 1]}\n")
    result = run_suite(file)
    assert (states(result), result.exit_code) == (["busy", "done"], 1)
    assert f"process {os.getpid()}" in result.rows[0].message
    assert execute(["run", str(file)]) == 1
    assert "1 before, 1 made elsewhere" in capsys.readouterr().out
    lock.release(Path(str(row.path)), mine)
    assert states(run_suite(file)) == ["done", "kept"]


def test_where_all_fail_alike_the_exit_code_says_how(write: Write) -> None:
    result = run_suite(write("matrix: {dataset.name: [mnist], seed: [0, 1]}\n"))
    assert (states(result), result.exit_code) == (["failed"] * 2, 3)
    assert result.comparison is None


# ---- several processes ----


def test_processes_give_the_same_bits_and_one_that_dies_costs_its_run(write: Write, bad: Path, tmp_path: Path) -> None:
    matrix = FOUR + '  include: [{algorithm: {name: "./bad.py:Bad", how: die}}]\n'
    many = run_suite(write(matrix), jobs=2, runs_dir=tmp_path / "many")
    assert (states(many), many.exit_code) == (["done"] * 4 + ["failed"], 1)
    assert many.rows[4].message == "its process was killed by SIGKILL"
    one = run_suite(write(FOUR), runs_dir=tmp_path / "one")
    names = [Path(str(row.path)).name for row in one.rows]
    assert [Path(str(row.path)).name for row in many.rows[:4]] == names
    for name in names:
        found = [aflctl.load_run(tmp_path / side / name).summary["digests"] for side in ("many", "one")]
        assert found[0] == found[1]
    assert "workers: 1" in (tmp_path / "many" / names[0] / "config.yaml").read_text()


TWELVE = """\
matrix:
  algorithm: [fedasync, {name: fedbuff, buffer_size: 3}]
  dataset.partition.alpha: [0.3, 1.0]
  seed: [0, 1, 2]
"""


@pytest.fixture
def start(runs_dir: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line in a process of its own; what is left at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def make(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "aflctl.cli.app", *words]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield make
    for process in begun:
        process.kill()
        process.communicate()


def wait_for(what: Callable[[], bool], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


def done(runs_dir: Path) -> int:
    """Finished runs; `latest` is one of them under another name."""
    return sum(not file.parent.is_symlink() for file in runs_dir.glob("*/summary.json"))


def training(runs_dir: Path) -> bool:
    """Some run has recorded updates and is not done."""
    return any(
        file.stat().st_size > 1500 and not (file.parent / "summary.json").exists()
        for file in runs_dir.glob("*/updates.csv")
    )


@pytest.mark.cli
def test_a_suite_killed_twice_and_repeated_ends_as_one_uninterrupted(
    write: Write, runs_dir: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    file = write(TWELVE, name="twelve.yaml")
    text = file.read_text().replace("updates: 24", "updates: 120").replace("updates: 8", "updates: 60")
    file.write_text(text)
    command = ("run", str(file), "--jobs", "2")

    first = start(*command)
    wait_for(lambda: done(runs_dir) >= 1 and training(runs_dir))
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=240)
    assert first.returncode == 130, err
    assert "the same command goes on" in err
    kept = done(runs_dir)
    assert 1 <= kept < 12
    left = [p for p in runs_dir.glob("fed*") if not (p / "summary.json").exists()]
    assert left
    assert any((p / "checkpoint").is_dir() for p in left)
    assert not any((p / "lock").exists() for p in left)

    second = start(*command)
    wait_for(lambda: done(runs_dir) >= kept + 2 and training(runs_dir))
    second.kill()
    second.communicate()
    wait_for(lambda: not list(runs_dir.glob("*/lock")))  # its processes stop by themselves
    assert done(runs_dir) < 12

    third = start(*command, "--json")
    out, err = third.communicate(timeout=480)
    assert third.returncode == 0, err
    document = json.loads(out)
    assert document["schema"] == "aflctl.suite"
    found = [row["state"] for row in document["runs"]]
    assert found.count("kept") + found.count("done") == 12
    assert found.count("kept") >= kept + 2
    histories = [json.loads(f.read_text())["history"] for f in runs_dir.glob("fed*/provenance.json")]
    assert any(histories)  # some run was continued

    whole = run_suite(file, runs_dir=tmp_path / "whole")
    assert states(whole) == ["done"] * 12
    for row in whole.rows:
        name = Path(str(row.path)).name
        ours, theirs = (aflctl.load_run(folder / name) for folder in (tmp_path / "whole", runs_dir))
        assert ours.summary["digests"] == theirs.summary["digests"]
    assert whole.comparison is not None
    assert whole.comparison.document() == document["comparison"]
    tables = [next(folder.glob("suites/*/comparison.md")).read_text() for folder in (tmp_path / "whole", runs_dir)]
    assert tables[0] == tables[1]


# ---- dry run, cluster, command line ----


def test_a_dry_run_lists_and_estimates_and_runs_nothing(write: Write, runs_dir: Path) -> None:
    run_suite(write(FOUR), sets=['matrix.algorithm=["fedasync"]', "matrix.seed=[1]"])
    before = sorted(p.name for p in runs_dir.iterdir())
    result = run_suite(write(FOUR), dry_run=True, jobs=2)
    assert sorted(p.name for p in runs_dir.iterdir()) == before
    assert states(result) == ["waiting", "kept", "waiting", "waiting"]
    assert [row.note for row in result.rows] == ["measured", "", "estimated", "estimated"]
    forecast = result.forecast
    assert forecast is not None
    assert (forecast["runs"], forecast["missing"], forecast["unknown"]) == (4, 3, 0)
    assert 0 < forecast["wall_s"] <= forecast["total_s"]
    assert all(row.seconds > 0 for row in result.rows if row.state == "waiting")


def test_on_a_cluster_every_run_is_a_job(
    write: Write, runs_dir: Path, bad: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr("aflctl.engine.suites.slurm.LOOK_EVERY_S", 0.1)
    matrix = 'matrix:\n  algorithm: [fedasync, {name: "./bad.py:Bad", how: die}]\n'
    result = run_suite(write(matrix), engine="slurm", slurm={"cluster": "local", "timeout_min": 2})
    assert (states(result), result.exit_code) == (["done", "failed"], 1)
    assert "ended without a result" in result.rows[1].message
    assert Path(result.rows[1].message.rpartition(" ")[2]).is_file()  # where the job's errors are
    assert result.path is not None
    assert list((result.path / "slurm").iterdir())
    assert states(run_suite(write("matrix: {algorithm: [fedasync]}\n"))) == ["kept"]


def test_the_command_line(write: Write, capsys: pytest.CaptureFixture[str], runs_dir: Path) -> None:
    file = str(write("matrix: {seed: [0, 1]}\n"))
    assert execute(["run", file]) == 0
    out, err = capsys.readouterr()
    assert "n = 2 seeds" in out
    assert "2 runs: 2 done now" in out
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert [line.split()[:2] for line in lines] == [[f"[{i}/2]", word] for i in (1, 2) for word in ("running", "done")]
    assert execute(["run", file, "--dry-run"]) == 0
    assert "0 of 2 runs are missing" in capsys.readouterr().out
    assert execute(["run", file, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in document["runs"]] == ["kept", "kept"]
    assert execute(["config", "validate", file]) == 0
    assert "valid; 2 runs" in capsys.readouterr().out
    assert execute(["run", file, "--engine", "grid"]) == 2
    assert execute(["run", file, "--slurm", "x"]) == 2
    assert execute(["plan", file]) == 2
    assert "many runs" in capsys.readouterr().err
    assert os.listdir(runs_dir / "suites")
