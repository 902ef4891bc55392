"""A run that fails in the middle of training keeps what it has, says whose job it was, and can be continued."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import aflctl
from aflctl.errors import HookFailed

METHOD = '''
from pathlib import Path

from aflctl.builtin.algorithms.fedasync import FedAsync


class Bomb(FedAsync):
    """As FedAsync, but a job's third step fails at a high version while a file is there."""

    def grad(self, g, w, job):
        if "late" in job.sent and Path({flag!r}).exists() and int(job.step.reshape(-1)[0]) == 2:
            raise ZeroDivisionError("no luck")
        return g

    def assign(self, state, client, fleet):
        order = super().assign(state, client, fleet)
        late = {{"late": state.w[:0]}} if fleet.version == 12 else {{}}
        return type(order)({{**order.tensors, **late}}, version=order.version, down_bytes=0)
'''


@pytest.mark.parametrize(
    "executor",
    [pytest.param("serial", marks=pytest.mark.slow), "workers", pytest.param("stacked", marks=pytest.mark.slow)],
)
def test_a_job_that_raises_stops_the_run_which_continues_once_it_does_not(tmp_path: Path, executor: str) -> None:
    flag = tmp_path / "flag"
    (tmp_path / "bomb.py").write_text(METHOD.format(flag=str(flag)))
    settings: dict[str, Any] = {
        "algorithm": f"{tmp_path}/bomb.py:Bomb",
        "dataset": {"name": "synthetic", "partition": "iid"},
        "model": {"name": "mlp", "hidden": [6]},
        "clients": {"count": 8, "concurrency": 4},
        "local": {"batch_size": 16, "lr": 0.05},
        "stop": {"updates": 24},
        "evaluate": {"every": {"updates": 5}},
        "checkpoint": {"every": {"updates": 4}},
        "engine": {"executor": executor, "workers": 2},
    }
    whole = aflctl.run(settings, runs_dir=tmp_path / "whole").summary["digests"]
    flag.touch()
    with pytest.raises(HookFailed, match=r"^Bomb.grad for task \d+ of client \d+ at step 3 of \d+ raised ZeroDivision"):
        aflctl.run(settings, runs_dir=tmp_path / "runs")
    (folder,) = (p for p in (tmp_path / "runs").iterdir() if not p.is_symlink())
    with (folder / "updates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 12, "what was recorded is kept"
    flag.unlink()
    again = aflctl.run(settings, runs_dir=tmp_path / "runs")
    assert again.path == folder
    assert "continuing an attempt" in again.note
    assert again.summary["digests"] == whole
