"""Small runs that end badly, and the ones they are compared with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Fault = tuple[str, int]

METHODS: dict[str, Any] = {
    "fedbuff": {"name": "fedbuff", "buffer_size": 3},
    "ca2fl": {"name": "ca2fl", "buffer_size": 3},
    "scaffold": {"name": "scaffold", "option": 1},
    "port": "port",
    "fedavg": "fedavg",
}
EXECUTORS: dict[str, dict[str, Any]] = {
    "serial": {"executor": "serial"},
    "workers": {"executor": "workers", "workers": 2},
    "stacked": {"executor": "stacked"},
}


def config(method: str = "fedbuff", executor: str = "serial", **sections: Any) -> dict[str, Any]:
    """A run of a fraction of a second: some tasks fail, a checkpoint every few updates."""
    return {
        "algorithm": METHODS[method],
        "dataset": {"name": "synthetic", "partition": "iid"},
        "model": {"name": "mlp", "hidden": [6]},
        "clients": {"count": 8, "concurrency": 4},
        "local": {"epochs": 1, "batch_size": 64, "lr": 0.05, "momentum": 0.9},
        "fleet": {
            "devices": {"raspberry-pi-4": 1, "jetson-tx2": 1},
            "networks": {"wifi": 1},
            "availability": {"name": "task-failure", "probability": 0.1},
        },
        "stop": {"updates": 24},
        "evaluate": {"every": {"updates": 5}},
        "checkpoint": {"every": {"updates": 4}},
        "engine": EXECUTORS[executor],
        **sections,
    }


class Zygote:
    """The process that forks runs; see zygote.py."""

    def __init__(self, home: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "AFLCTL_DATA_DIR": str(home)}
        script = Path(__file__).with_name("zygote.py")
        self._log = (home / "zygote.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=environment, cwd=home,
        )  # fmt: skip
        assert self._line() == "ready", self._told()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _told(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:]

    def run(self, config: Any, runs_dir: Path, fault: Fault | None = None, **more: Any) -> dict[str, Any]:
        """One run in a process of its own."""
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps({"config": config, "runs_dir": str(runs_dir), "fault": fault, **more}) + "\n"
        )
        self.process.stdin.flush()
        line = self._line()
        assert line, self._told()
        answer: dict[str, Any] = json.loads(line)
        if answer.get("code") == 1 and "error" not in answer:
            raise AssertionError(self._told())
        return answer

    @contextmanager
    def held(self, config: Any, runs_dir: Path, event: int = 5) -> Iterator[int]:
        """A run that stands still in the middle; its pid. Killed at the end."""
        pid = self.run(config, runs_dir, ("held", event), wait=False)["pid"]
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Lets the process end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()
        self._log.close()


def digests(answer: Mapping[str, Any]) -> dict[str, str]:
    """The four digests of a run that is done."""
    assert answer["code"] == 0, answer
    found: dict[str, str] = answer["summary"]["digests"]
    assert sorted(found) == sorted(found.keys() & {"metrics", "model", "schedule", "updates"} | found.keys())
    assert all(len(found[name]) == 64 for name in ("schedule", "updates", "metrics", "model"))
    return found


def files(answer: Mapping[str, Any]) -> dict[str, bytes]:
    """The records of a run, byte by byte."""
    path = Path(answer["path"])
    names = ("metrics.csv", "updates.csv", "clients.csv", "model.safetensors")
    return {name: (path / name).read_bytes() for name in names}
