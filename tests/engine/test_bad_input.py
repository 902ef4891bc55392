"""Bad input: each refused with place, value, what is allowed and what to do next, exit code 2, no traceback.

Through Python and through the command line, in this process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aflctl.engine import run
from aflctl.errors import EnvironmentProblem, UserError
from distributions import Install, install  # noqa: F401

GOOD = "algorithm: fedbuff\nclients: {count: 8, concurrency: 4}\nstop: {updates: 5}\n"

# what is wrong -> (text of the file, words that the message must contain)
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown key": (GOOD + "locl: {lr: 0.1}\n", ("bad.yaml:4", "locl", "did you mean 'local'")),
    "unknown key inside": (GOOD + "local:\n  learning_rate: 0.1\n", ("bad.yaml:5", "learning_rate", "lr")),
    "unknown algorithm": ("algorithm: fedbuf\n", ("bad.yaml:1", "fedbuf", "did you mean 'fedbuff'")),
    "unknown model": ("model: mpl\n", ("bad.yaml:1", "mpl", "'mlp'")),
    "unknown parameter": ("algorithm: {name: fedbuff, bufer_size: 3}\n", ("bad.yaml:1", "bufer_size", "buffer_size")),
    "unknown device": (
        "fleet: {devices: {jetson-tx3: 1}, networks: {wifi: 1}}\n",
        ("bad.yaml:1", "jetson-tx3", "jetson-tx2"),
    ),
    "wrong type": (GOOD + "seed: many\n", ("bad.yaml:4", "seed", "many", "integer")),
    "wrong type of a section": (GOOD + "local: 5\n", ("bad.yaml:4", "local", "5")),
    "out of range": (GOOD + "local: {lr: -0.1}\n", ("bad.yaml:4", "local.lr", "-0.1", "> 0")),
    "out of range of a plug-in": ("algorithm: {name: fedbuff, buffer_size: 0}\n", ("bad.yaml:1", "buffer_size", "1")),
    "concurrency above count": (
        "clients:\n  count: 5\n  concurrency: 6\n",
        ("bad.yaml:3", "clients.concurrency", "6", "at most clients.count = 5"),
    ),
    "more clients than samples": (
        "clients: {count: 5000, concurrency: 4}\n",
        ("clients.count", "5000", "1442", "lower"),
    ),
    "a model that does not fit a device of the fleet": (  # though none of the four tasks in flight need be on it
        GOOD + "model: {name: mlp, hidden: [512]}\n"
        "fleet: {devices: {jetson-nano: 7, mcu-m7: 1}, networks: {wifi: 1}}\n",
        ("mcu-m7", "cannot train this model", "smaller model"),
    ),
    "no end": ("stop: {accuracy: 0.5}\n", ("bad.yaml:1", "stop", "updates, versions, time_s")),
    "unreadable yaml": ("algorithm: [fedbuff\nstop: }\n", ("bad.yaml:2",)),
    "not a mapping": ("- fedbuff\n", ("bad.yaml", "keys and values")),
    "a key twice": ("seed: 1\nseed: 2\n", ("bad.yaml:2", "seed")),
    "a local file that is not there": ("algorithm: ./gone.py:Gone\n", ("gone.py",)),
}  # fmt: skip


FOUND_LATE = {"more clients than samples", "a model that does not fit a device of the fleet"}
"""Not before data and model are there."""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`say("run", "x.yaml")` -> exit code, stdout, stderr of the command line."""
    from aflctl.cli import app

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            app.main(list(words))
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return call


@pytest.mark.parametrize("what", FILES)
def test_a_file_with_a_mistake(what: str, tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text, words = FILES[what]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        run(path)
    for word in words:
        assert word in str(error.value), str(error.value)
    code, out, err = say("run", str(path))
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err
    code, out, err = say("run", str(path), "--json")
    document = json.loads(out)
    assert code == document["error"]["code"] == 2
    for word in words:
        assert word in json.dumps(document["error"], ensure_ascii=False)
    assert not any((tmp_path / "runs").glob("*")) or what in FOUND_LATE


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["local.lr=fast"], ("--set local.lr=fast", "local.lr", "fast", "number")),
        (["local.lrr=1"], ("--set local.lrr=1", "lrr", "lr")),
        (["algorithm=fedbuf"], ("--set algorithm=fedbuf", "did you mean 'fedbuff'")),
        (["clients.concurrency=600"], ("clients.concurrency", "600", "60")),
        (["stop"], ("stop", "key=value")),
    ],
)
def test_a_mistake_on_the_command_line(sets: list[str], words: tuple[str, ...], say: Any) -> None:
    with pytest.raises(UserError) as error:
        run(None, sets=sets)
    code, _, err = say("run", *[w for s in sets for w in ("--set", s)])
    assert code == 2
    for word in words:
        assert word in str(error.value)
        assert word in err.replace("\n", " ")


def test_all_mistakes_at_once(tmp_path: Path, say: Any) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("algorithm: fedbuf\nlocal: {lr: -1, epoch: 3}\nseed: x\n")
    code, _, err = say("run", str(path))
    assert code == 2
    assert "4 problems" in err


@pytest.mark.parametrize("source", ["missing.yaml", "folder/missing.yaml", "quickstrat", "./quickstart"])
def test_a_file_that_is_not_there(source: str, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = say("run", source)
    assert (code, out) == (2, "")
    assert source.removeprefix("./") in err
    assert "hint" in err
    if source == "quickstrat":
        assert "did you mean 'quickstart'" in err


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(EnvironmentProblem, match="working folder does not exist"):
        run("smoke", runs_dir=tmp_path)


def test_a_folder_that_is_no_run(say: Any, tmp_path: Path) -> None:
    code, _, err = say("run", str(tmp_path))
    assert code == 2
    assert str(tmp_path.name) in err


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_runs_folder_without_write_permission(say: Any, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, err = say("run", "smoke", "--runs-dir", str(locked))
    assert code == 3
    assert "locked" in err


def test_two_plugins_of_one_name(say: Any, install: Install) -> None:  # noqa: F811
    text = "from aflctl.builtin.algorithms.fedbuff import FedBuff\nclass Mine(FedBuff):\n    'Mine.'\n"
    for name in ("dist-a", "dist-b"):
        module = name.replace("-", "_")
        install(name, {"algorithms": {"twice": f"{module}:Mine"}}, {f"{module}.py": text})
    with pytest.raises(UserError) as error:
        run(None, sets=["algorithm=twice"])
    code, _, err = say("run", "--set", "algorithm=twice")
    assert code == 2
    for word in ("twice", "dist-a", "dist-b", "dist-a/twice"):
        assert word in str(error.value)
        assert word in err
