"""A distribution of every kind, as `aflctl plugin new` makes it: installed elsewhere, its own tests pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aflctl.scaffold import KINDS, create

pytestmark = pytest.mark.cli
CLI = "from aflctl.cli.app import main; main()"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees this interpreter's packages, with one new distribution of each kind in it."""
    folder = tmp_path_factory.mktemp("scaffold")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([folder / "venv/bin/python", "-c", query], check=True, capture_output=True, text=True)
    mine = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in mine)
    (Path(done.stdout.strip()) / "outer.pth").write_text(lines)
    made = [create(f"aflctl-new-{kind}", kind, folder / "made").folder for kind in KINDS]
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps", "--no-index")
    code, out = call(folder, *pip, "--no-build-isolation", *map(str, made))
    assert code == 0, out
    return folder


def call(folder: Path, *args: str) -> tuple[int, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AFLCTL_", "COV_"))}
    done = subprocess.run(
        [str(folder / "venv/bin/python"), *args], cwd=folder, env=env, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def test_their_own_tests_pass(place: Path) -> None:
    tests = [str(place / "made" / f"aflctl-new-{kind}" / "tests") for kind in KINDS]
    code, out = call(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests)
    assert code == 0, out
    assert "failed" not in out


def test_they_are_listed_checked_and_run(place: Path) -> None:
    code, out = call(place, "-c", CLI, "list", "--check", "--json")
    assert code == 0, out
    found = json.loads(out)
    for kind in KINDS[:-1]:
        row = next(r for r in found[f"{kind}s"] if r["name"] == f"new-{kind}")
        assert row["distribution"] == f"aflctl-new-{kind}"
        assert not row["broken"]
    code, out = call(place, "-c", CLI, "plugin", "check", "aflctl-new-partition")
    assert code == 0, out
    config = {
        "algorithm": "new-algorithm",
        "dataset": {"name": "new-dataset", "partition": "new-partition"},
        "model": "new-model",
        "clients": {"count": 6, "concurrency": 3, "selection": "new-selection"},
        "personalization": "new-personalization",
        "fleet": "new-profile",
        "stop": {"updates": 6},
        "evaluate": {"every": {"updates": 3}},
    }
    (place / "c.yaml").write_text(json.dumps(config))
    code, out = call(place, "-c", CLI, "run", "c.yaml", "--json")
    assert code == 0, out


def test_their_sources_are_clean(place: Path) -> None:
    sources = [str(place / "made" / f"aflctl-new-{kind}" / "src") for kind in KINDS]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--select=E,F,I,UP,B", *sources],
        cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
