"""Where runs cannot be kept: the place and the next step; 2 for a wrong name, 3 for a full or read-only disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aflctl.cli.app import execute
from aflctl.config.load import presets


def refused(folder: Path, capsys: pytest.CaptureFixture[str], expected: int = 2) -> str:
    code = execute(["run", "smoke", "--runs-dir", str(folder)])
    told = capsys.readouterr().err
    assert code == expected, told
    assert str(folder) in told
    assert "--runs-dir or AFLCTL_RUNS_DIR" in told
    assert "Traceback" not in told
    return told


def test_a_place_where_nothing_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    refused(Path("/proc/runs"), capsys)


def test_a_file_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "not a folder" in refused(tmp_path / "file", capsys)
    refused(tmp_path / "file" / "below", capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_write_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "no permission" in refused(tmp_path / "locked", capsys, 3)
    assert "no permission" in refused(tmp_path / "locked" / "below", capsys, 3)


SAYS = [(errno.EACCES, 3), (errno.EROFS, 3), (errno.ENOENT, 2), (errno.ENOSPC, 3)]


@pytest.mark.parametrize(("number", "code"), SAYS)
def test_what_the_system_says(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Path, data: bytes) -> int:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert execute(["run", "smoke", "--runs-dir", str(tmp_path / "runs")]) == code
    told = capsys.readouterr().err
    assert str(tmp_path / "runs") in told
    assert "hint:" in told


def test_a_run_goes_on_where_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from aflctl.cli import console

    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        console.err("progress")
        console.status("more of it")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            console.out("an answer that is lost is told")
        console._silence(full)


LOCAL = """\
from aflctl.builtin.algorithms.fedbuff import FedBuff


class FedMine(FedBuff):
    pass
"""


def test_what_comes_next_is_of_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(LOCAL)
    (tmp_path / "my run.yaml").write_text((presets()["smoke"]).read_text())
    few = ["--set", "stop.updates=4"]
    assert execute(["run", "my run.yaml", "--runs-dir", "kept", *few, "--set", "algorithm=./mine.py:FedMine"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FedMine on digits")  # by its class, not by the place of its copy
    told = out.splitlines()[-1]
    assert told == (
        "next: aflctl show latest --why; aflctl run 'my run.yaml' --set algorithm=fedasync; aflctl compare kept"
    )


def test_a_configuration_that_only_the_model_refuses_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", "smoke", "--set", "model=textcnn", "--runs-dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "textcnn cannot read image input" in told
    assert "running in" not in told
    assert list(tmp_path.iterdir()) == []
