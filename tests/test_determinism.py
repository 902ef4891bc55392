"""The same run gives the same bits, another seed others; methods meet one world; no global generator moves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aflctl

DIGESTS = {"schedule", "updates", "metrics", "model"}
RUN = "import json, sys, aflctl; print(json.dumps(aflctl.run('smoke', sets=sys.argv[1:]).summary['digests']))"


def digests(runs_dir: Path, hash_seed: int, *sets: str) -> dict[str, str]:
    """Digests of a run of `smoke` in a process of its own."""
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "AFLCTL_RUNS_DIR": str(runs_dir)}
    done = subprocess.run([sys.executable, "-c", RUN, *sets], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    assert set(found) == DIGESTS
    return found


@pytest.mark.cli
def test_two_processes_agree_and_another_seed_does_not(tmp_path: Path) -> None:
    first = digests(tmp_path / "first", 1)
    assert digests(tmp_path / "second", 2) == first
    other = digests(tmp_path / "third", 1, "seed=1")
    assert {name for name in DIGESTS if other[name] == first[name]} == set()


def run(runs_dir: Path, *sets: str) -> Any:
    """A run of `smoke` in this process, read back."""
    return aflctl.load_run(aflctl.run("smoke", sets=sets, runs_dir=runs_dir).path)


def test_one_stream_can_be_changed_alone(runs_dir: Path) -> None:
    # Another order of the batches: the same schedule, other weights.
    one, two = (run(runs_dir, f"seeds.training={seed}").summary["digests"] for seed in (5, 6))
    assert one["schedule"] == two["schedule"]
    assert one["model"] != two["model"]


def delays(runs_dir: Path, algorithm: str) -> dict[tuple[int, int], tuple[float, ...]]:
    """(client, that client's own task number) -> seconds of each phase, of tasks that came to an end."""
    rows = run(runs_dir, f"algorithm={algorithm}", "stop.updates=80").updates
    names = ("client", "nth", "outcome", "download_s", "compute_s", "offline_s", "upload_s")
    table = zip(*(list(rows[name]) for name in names))
    return {(client, nth): tuple(seconds) for client, nth, outcome, *seconds in table if outcome == "used"}


def test_two_methods_meet_the_same_delays(runs_dir: Path) -> None:
    buffered, mixed = delays(runs_dir, "fedbuff"), delays(runs_dir, "fedasync")
    both = buffered.keys() & mixed.keys()
    assert len(both) > 40
    assert {task: buffered[task] for task in both} == {task: mixed[task] for task in both}


def test_no_global_generator_is_touched(runs_dir: Path, poison: Callable[[], None]) -> None:
    run(runs_dir)
    poison()


def test_global_generators_do_not_matter(tmp_path: Path) -> None:
    import numpy as np
    import torch

    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        found.append(run(tmp_path / str(seed)).summary["digests"])
    assert found[0] == found[1]
