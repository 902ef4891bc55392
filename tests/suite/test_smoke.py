"""The smoke benchmark: its schedule is pinned, and the workflow checks what the documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import aflctl


def test_the_schedule_of_the_smoke_preset_is_the_pinned_one(root: Path) -> None:
    pinned = (root / ".github" / "smoke.digest").read_text().strip()
    assert aflctl.run("smoke").summary["digests"]["schedule"] == pinned


@pytest.mark.cli
def test_the_workflow_runs_the_preset_twice_and_compares(root: Path, tmp_path: Path) -> None:
    steps = yaml.safe_load((root / ".github" / "workflows" / "smoke.yml").read_text())["jobs"]["smoke"]["steps"]
    scripts = [step["run"] for step in steps if "aflctl run" in step.get("run", "") or "digests" in step.get("run", "")]
    assert len(scripts) == 2
    (tmp_path / ".github").symlink_to(root / ".github")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "aflctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aflctl.cli.app "$@"\n')
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for file in bin_.iterdir():
        file.chmod(0o755)

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{bin_}:/usr/bin:/bin"}
        return subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)

    for script in scripts:
        done = bash(script)
        assert done.returncode == 0, done.stderr
    second = tmp_path / "second.json"
    second.write_text(second.read_text().replace('"schedule": "1', '"schedule": "2'))
    done = bash(scripts[1])
    assert (done.returncode, "differ" in done.stderr) == (1, True)
