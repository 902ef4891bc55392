"""A run that is stopped at any moment and started again ends as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from reliability.lab import EXECUTORS, METHODS, Fault, Zygote, config, digests, files

KILLED = -signal.SIGKILL
CASES = [(m, e) for m in METHODS for e in EXECUTORS]


def until_done(zygote: Zygote, settings: Any, runs_dir: Path, faults: list[Fault]) -> dict[str, Any]:
    """Starts the run once per fault, then without any."""
    for fault in faults:
        answer = zygote.run(settings, runs_dir, fault)
        if fault[0] == "timer":
            assert answer["code"] in (-signal.SIGALRM, 0), answer
        else:
            assert answer["code"] in (KILLED, 0), answer
    answer = zygote.run(settings, runs_dir)
    assert answer["code"] == 0, answer
    assert not (Path(answer["path"]) / "lock").exists()
    assert list(Path(answer["path"]).rglob(".*.tmp")) == []
    return answer


def plan_of(number: int) -> tuple[str, str, list[Fault]]:
    """The number-th case: a method, an executor, and one to three kills at random instants."""
    dice = random.Random(number)
    method, executor = CASES[(number * 4) % len(CASES)]
    highest = {"event": 30, "write": 44, "torn": 22, "timer": 400}
    kinds = ["event", "write", "torn", "timer"]
    first = kinds[number % 4]
    faults = [(kind, dice.randint(1, highest[kind])) for kind in (first, *dice.choices(kinds, k=dice.randint(0, 2)))]
    return method, executor, faults


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n < 8 else pytest.mark.slow, id=f"kill-{n}") for n in range(50)]
)
def test_killed_at_a_random_instant(zygote: Zygote, whole: Any, tmp_path: Path, number: int) -> None:
    method, executor, faults = plan_of(number)
    settings = config(method, executor)
    answer = until_done(zygote, settings, tmp_path / "runs", faults)
    assert digests(answer) == digests(whole(settings)), faults
    assert files(answer) == files(whole(settings)), faults


@pytest.mark.parametrize("method", ["fedbuff", pytest.param("ca2fl", marks=pytest.mark.slow)])
def test_killed_at_every_write_of_the_state(zygote: Zygote, whole: Any, tmp_path: Path, method: str) -> None:
    """One run, killed again and again, each time three writes later."""
    settings = config(method, stop={"updates": 12})
    deaths = 0
    for n in range(1, 45, 3):
        deaths += zygote.run(settings, tmp_path, ("write", n))["code"] == KILLED
    assert deaths >= 5
    assert digests(zygote.run(settings, tmp_path)) == digests(whole(settings))


@pytest.mark.parametrize(("fault", "n"), [("term", 9), ("int", 1), ("eval", 3)])
def test_asked_to_stop_it_saves_its_state(zygote: Zygote, whole: Any, tmp_path: Path, fault: str, n: int) -> None:
    settings = config("port", checkpoint={"every": {"host_s": 1000}})
    answer = zygote.run(settings, tmp_path, (fault, n))
    assert answer["code"] == 130
    assert "state is saved" in answer["error"]
    (folder,) = (p for p in tmp_path.iterdir() if not p.is_symlink())
    assert len(list((folder / "checkpoint").glob("*.json"))) == 1
    assert json.loads((folder / "exit.json").read_text())["exit_code"] == 130
    again = zygote.run(settings, tmp_path)
    assert "interrupted" in again["note"]
    assert digests(again) == digests(whole(settings))
    assert not (folder / "exit.json").exists(), "a run that is done has no exit record"


@pytest.mark.parametrize("fault", ["load", "build", "report"])
def test_sigterm_where_nothing_is_trained_gives_the_lock_back(
    zygote: Zygote, whole: Any, tmp_path: Path, fault: str
) -> None:
    settings = config()
    answer = zygote.run(settings, tmp_path, (fault, 1))
    assert answer["code"] == 130, answer
    assert "stopped at once" in answer["error"]
    assert not list(tmp_path.glob("*/lock"))
    ended = [json.loads(file.read_text())["exit_code"] for file in tmp_path.glob("*-*/exit.json")]
    assert ended == ([] if fault == "load" else [130]), "before its directory is made, a run leaves nothing"
    again = zygote.run(settings, tmp_path)
    assert ("continuing" in again["note"]) == (fault == "report")
    assert digests(again) == digests(whole(settings))


def test_a_second_ctrl_c_stops_at_once(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    settings = config()
    answer = zygote.run(settings, tmp_path, ("twice", 12))
    assert answer["code"] == 130
    assert digests(zygote.run(settings, tmp_path)) == digests(whole(settings))


def test_a_second_process_is_refused(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    settings = config()
    with zygote.held(settings, tmp_path) as pid:
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("*/lock")) and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = zygote.run(settings, tmp_path)
        assert answer["code"] == 2
        assert f"process {pid} on {socket.gethostname()}" in answer["error"]
    deadline = time.monotonic() + 20
    while answer["code"] == 2 and time.monotonic() < deadline:  # the kernel takes a moment to end a process
        answer = zygote.run(settings, tmp_path)
    assert digests(answer) == digests(whole(settings)), "the lock of a dead process is stale"


def test_of_two_that_race_one_wins(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    settings = config()
    pids = [zygote.run(settings, tmp_path, wait=False)["pid"] for _ in range(2)]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = zygote.run(settings, tmp_path)
        if answer["code"] == 0:
            break
        assert any(f"process {pid} on" in answer["error"] for pid in pids)
        time.sleep(0.02)
    assert digests(answer) == digests(whole(settings))
    assert len([p for p in tmp_path.iterdir() if not p.is_symlink()]) == 1


def generations(folder: Path) -> list[int]:
    return sorted(int(p.stem) for p in (folder / "checkpoint").glob("*.json"))


@pytest.mark.parametrize("harm", ["half json", "half tensors", "no tensors", "flipped", "empty"])
def test_a_torn_checkpoint_falls_back_to_the_one_before(zygote: Zygote, whole: Any, tmp_path: Path, harm: str) -> None:
    settings = config("scaffold")
    assert zygote.run(settings, tmp_path, ("event", 20))["code"] == KILLED
    (folder,) = (p for p in tmp_path.iterdir() if not p.is_symlink())
    newest = generations(folder)[-1]
    assert len(generations(folder)) == 2
    document, tensors = (folder / "checkpoint" / f"{newest}.{kind}" for kind in ("json", "safetensors"))
    if harm == "half json":
        os.truncate(document, document.stat().st_size // 2)
    elif harm == "half tensors":
        os.truncate(tensors, tensors.stat().st_size // 2)
    elif harm == "no tensors":
        tensors.unlink()
    elif harm == "empty":
        document.write_bytes(b"")
    else:
        content = bytearray(tensors.read_bytes())
        content[-5] ^= 4
        tensors.write_bytes(content)
    again = zygote.run(settings, tmp_path)
    assert "continuing" in again["note"]
    assert digests(again) == digests(whole(settings))


def test_no_whole_checkpoint_means_the_beginning(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    settings = config()
    assert zygote.run(settings, tmp_path, ("event", 20))["code"] == KILLED
    for file in tmp_path.glob("*/checkpoint/*.json"):
        file.write_text("{}")
    again = zygote.run(settings, tmp_path)
    assert "no usable checkpoint" in again["note"]
    assert digests(again) == digests(whole(settings))


@pytest.mark.parametrize("name", ["updates.csv", "metrics.csv"])
@pytest.mark.parametrize("harm", ["short", "gone"])
def test_rows_that_the_disk_lost_mean_the_beginning(
    zygote: Zygote, whole: Any, tmp_path: Path, name: str, harm: str
) -> None:
    settings = config()
    assert zygote.run(settings, tmp_path, ("event", 20))["code"] == KILLED
    (file,) = (p for p in tmp_path.glob(f"*/{name}") if not p.parent.is_symlink())
    if harm == "gone":
        file.unlink()
    else:
        os.truncate(file, 40)
    again = zygote.run(settings, tmp_path)
    assert digests(again) == digests(whole(settings))
    assert files(again) == files(whole(settings))


@pytest.mark.parametrize("fault", [("event", 13), ("write", 30), ("torn", 14)])
def test_client_memory_on_disk(zygote: Zygote, whole: Any, tmp_path: Path, fault: Fault) -> None:
    settings = config("scaffold", engine={"executor": "serial", "client_memory": "disk"})
    answer = until_done(zygote, settings, tmp_path, [fault])
    assert digests(answer) == digests(whole(settings)) == digests(whole(config("scaffold")))


def test_a_lost_row_of_client_memory_means_the_beginning(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    settings = config("scaffold", engine={"executor": "serial", "client_memory": "disk"})
    assert zygote.run(settings, tmp_path, ("event", 20))["code"] == KILLED
    for file in tmp_path.glob("*/checkpoint/shelves/*/*"):
        file.unlink()
    again = zygote.run(settings, tmp_path)
    assert digests(again) == digests(whole(settings))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_larger_stop_begins_where_the_shorter_run_ended(
    zygote: Zygote, whole: Any, tmp_path: Path, executor: str
) -> None:
    short, long = config("ca2fl", executor, stop={"updates": 11}), config("ca2fl", executor)
    digests(zygote.run(short, tmp_path))
    answer = zygote.run(long, tmp_path)
    assert "begins where" in answer["note"]
    assert digests(answer) == digests(whole(long))
    assert digests(zygote.run(short, tmp_path)) == digests(whole(short)), "the shorter run is as it was"


def test_a_longer_run_that_was_killed_goes_on_from_its_own_state(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    short, long = config(stop={"updates": 11}), config()
    digests(zygote.run(short, tmp_path))
    for fault in (("write", 3), ("torn", 4), ("event", 6)):
        assert zygote.run(long, tmp_path, fault)["code"] == KILLED
    assert digests(zygote.run(long, tmp_path)) == digests(whole(long))


@pytest.mark.parametrize("every", [{"updates": 1}, {"updates": 7}, {"host_s": 0.001}])
def test_checkpoints_change_no_result(zygote: Zygote, whole: Any, tmp_path: Path, every: Any) -> None:
    answer = zygote.run(config(checkpoint={"every": every}), tmp_path)
    assert digests(answer) == digests(whole(config()))
