"""A fleet's own files belong to a run's identity and lie in its directory, which can be executed by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import aflctl
from aflctl.config.fleet import FleetSpec
from aflctl.errors import ConfigError
from aflctl.sim.fleet import build_world
from aflctl.sim.fleet.portable import pack

BOARD = "dense_gflops: {gflops}\nmemory_mib: 900\n"
LINK = "down_mbps: 5\nup_mbps: 5\n"
BASE: dict[str, Any] = {
    "dataset": {"name": "digits", "partition": "iid"},
    "model": "logistic",
    "clients": {"count": 4, "concurrency": 2},
    "stop": {"updates": 4},
    "evaluate": {"every": {"updates": 4}},
    "local": {"steps": 1},
}


def folder_of_files(folder: Path, gflops: float = 5) -> Path:
    """A board, a link, a trace, a file of clients that names the board by its path, and a fleet file over them."""
    (folder / "boards").mkdir(parents=True)
    (folder / "profiles" / "networks").mkdir(parents=True)
    (folder / "boards" / "board.yaml").write_text(BOARD.format(gflops=gflops))
    (folder / "profiles" / "networks" / "village.yaml").write_text(LINK)
    (folder / "boards" / "on.csv").write_text("client,start,end\n0,0,1000\n1,5,900\n")
    rows = "".join(f"{c},./board.yaml,village\n" for c in range(4))
    (folder / "boards" / "clients.csv").write_text("client,device,network\n" + rows)
    (folder / "boards" / "fleet.yaml").write_text(
        "devices: {./board.yaml: 1, jetson-nano: 1}\nnetworks: {village: 1}\n"
        "availability: {name: trace, path: on.csv, period_s: 1000}\noffline: abort\n"
    )
    return folder


FLEETS: dict[str, Any] = {
    "parts": {
        "devices": {"./boards/board.yaml": 1, "jetson-nano": 2},
        "networks": {"village": 1},
        "availability": {"name": "trace", "path": "boards/on.csv"},
    },
    "file": "./boards/fleet.yaml",
    "file with changes": {"name": "./boards/fleet.yaml", "offline": "pause"},
    "clients": {"csv": "boards/clients.csv"},
    "shipped": {"name": "poster-1-1-1", "networks": {"village": 1}},
}


def config(folder: Path, fleet: Any) -> Path:
    file = folder / "c.yaml"
    file.write_text(json.dumps({**BASE, "fleet": fleet}))
    return file


@pytest.mark.parametrize("kind", FLEETS)
def test_the_directory_of_a_run_is_enough_to_run_it_again(tmp_path: Path, kind: str) -> None:
    home = folder_of_files(tmp_path / "home")
    first = aflctl.run(config(home, FLEETS[kind]), runs_dir=tmp_path / "runs")
    assert first.summary["fingerprints"]["fleet"]
    elsewhere = shutil.copytree(first.path, tmp_path / "elsewhere" / "saved")
    shutil.rmtree(home)
    again = aflctl.run(elsewhere, runs_dir=tmp_path / "others")
    assert again.fresh
    for key in ("identity", "digests", "fingerprints"):
        assert again.summary[key] == first.summary[key], key
    assert (again.path / "updates.csv").read_text() == (first.path / "updates.csv").read_text()
    assert not aflctl.run(first.path, runs_dir=tmp_path / "runs").fresh
    assert aflctl.run(first.path, runs_dir=tmp_path / "runs", rerun=True).path.name == f"{first.path.name}-2"


def test_what_a_profile_says_is_part_of_the_identity(tmp_path: Path) -> None:
    home = folder_of_files(tmp_path / "home")
    file = config(home, FLEETS["parts"])
    first = aflctl.run(file, runs_dir=tmp_path / "runs")
    for name, text in (
        ("boards/board.yaml", BOARD.format(gflops=6)),
        ("profiles/networks/village.yaml", LINK.replace("5", "7")),
        ("boards/on.csv", "client,start,end\n0,0,1000\n1,6,900\n"),
    ):
        before = (home / name).read_text()
        (home / name).write_text(text)
        other = aflctl.run(file, runs_dir=tmp_path / "runs")
        assert other.fresh
        assert other.summary["fingerprints"]["fleet"] != first.summary["fingerprints"]["fleet"]
        assert other.summary["fingerprints"]["config"] == first.summary["fingerprints"]["config"]
        (home / name).write_text(before)
    assert not aflctl.run(file, runs_dir=tmp_path / "runs").fresh


def test_two_files_of_one_name_stay_two(tmp_path: Path) -> None:
    for where, gflops in (("a", 5), ("b", 50)):
        (tmp_path / where).mkdir()
        (tmp_path / where / "board.yaml").write_text(BOARD.format(gflops=gflops))
    (tmp_path / "jetson-nano.yaml").write_text(BOARD.format(gflops=500))
    devices = {"./a/board.yaml": 1, "./b/board.yaml": 1, "jetson-nano": 1, "./jetson-nano.yaml": 1}
    fleet = FleetSpec(devices=devices, networks={"wifi": 1})
    packed = pack(fleet, tmp_path)
    assert list(packed.fleet["devices"]) == ["board", "board-2", "jetson-nano", "jetson-nano-2"]
    for name, content in packed.files.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    again = pack(FleetSpec(**packed.fleet), tmp_path / "run")
    assert (again.fleet["devices"], again.fingerprint) == (packed.fleet["devices"], packed.fingerprint)
    worlds = [build_world(fleet, 8, 0, tmp_path), build_world(FleetSpec(**packed.fleet), 8, 0, tmp_path / "run")]
    assert worlds[0].fingerprint == worlds[1].fingerprint


def test_a_fleet_of_shipped_profiles_stays_as_it_is(tmp_path: Path) -> None:
    packed = pack("poster-1-1-1", tmp_path)
    assert (packed.fleet, packed.files) == ("poster-1-1-1", {})
    spec = FleetSpec(devices={"jetson-nano": 1}, networks={"wifi": 1})
    assert pack(spec, tmp_path).fleet is spec


def test_the_order_of_classes_counts(tmp_path: Path) -> None:
    # Three clients, two classes of equal shares: the larger half goes to the class named first.
    one = pack(FleetSpec(devices={"jetson-nano": 1, "jetson-tx2": 1}, networks={"wifi": 1}), tmp_path)
    two = pack(FleetSpec(devices={"jetson-tx2": 1, "jetson-nano": 1}, networks={"wifi": 1}), tmp_path)
    assert one.fingerprint != two.fingerprint


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = FleetSpec(
        devices={"jetson-nano": 1}, networks={"wifi": 1}, availability={"name": "trace", "path": "gone.csv"}
    )
    with pytest.raises(ConfigError, match=r"there is no trace file .*gone\.csv"):
        pack(spec, tmp_path)


def test_an_interrupted_run_is_repeated_from_its_own_directory(tmp_path: Path) -> None:
    home = folder_of_files(tmp_path / "home")
    (home / "mine.py").write_text("from aflctl.builtin.algorithms.fedbuff import FedBuff\nclass Mine(FedBuff): pass\n")
    file = home / "c.yaml"
    file.write_text(json.dumps({**BASE, "fleet": FLEETS["parts"], "algorithm": "./mine.py:Mine"}))
    first = aflctl.run(file, runs_dir=tmp_path / "runs")
    (first.path / "summary.json").unlink()  # as if it had been killed
    shutil.rmtree(first.path / "checkpoint", ignore_errors=True)
    again = aflctl.run(first.path, runs_dir=tmp_path / "runs")
    assert again.fresh
    assert again.path == first.path
    assert again.summary["digests"] == first.summary["digests"]


@pytest.mark.parametrize("kind", ["parts", "clients"])
def test_a_plan_carries_the_identity_of_its_run(tmp_path: Path, kind: str) -> None:
    from aflctl.engine.plans.planning import plan

    file = config(folder_of_files(tmp_path / "home"), FLEETS[kind])
    planned = plan(file, runs_dir=tmp_path / "runs", host=False)
    assert planned.document["identity"] == aflctl.run(file, runs_dir=tmp_path / "runs").summary["identity"]
