"""The README is true: its files are written, its commands are run, in its order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name in its first line, `# first.yaml`."""
        match = re.match(r"# (\S+\.(?:yaml|py))\n", self.text)
        return match[1] if match else None


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
COMMANDS = [
    command.strip()
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
    for command in line.split("&&")
]
# What changes an environment, or is this very test run, is not repeated here; who does it instead is checked below.
ELSEWHERE = ("make run", "make test", "pip install .", "pip install ./plugins/aflctl-fedstale", "python -m pytest")
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("docs/**/*.md"))]
HERE = [c for c in COMMANDS if c not in ELSEWHERE]


def call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs one command with the scripts of this environment."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AFLCTL_", "PYTHONPATH"))}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    if "fedstale" in command[-1]:
        env["PYTHONPATH"] = str(folder / "installed")
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the README's files, and FedStale where `pip install` would have put it."""
    folder = tmp_path_factory.mktemp("readme")
    for block in BLOCKS:
        if block.file:
            (folder / block.file).write_text(block.text)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-build-isolation", "--target", folder / "installed", ROOT / "plugins" / "aflctl-fedstale"],
        check=True,
    )  # fmt: skip
    return folder


def test_commands_are_found() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    assert "aflctl run" in HERE
    assert all(c.startswith("aflctl ") for c in HERE)


@pytest.mark.parametrize("command", HERE)
def test_command_works(folder: Path, command: str) -> None:
    done = call(["sh", "-c", command], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it says nothing"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python" and not b.file])
def test_python_works(folder: Path, block: Block) -> None:
    done = call([sys.executable, "-c", block.text], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def recipe(target: str) -> str:
    return subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_make_does_what_the_readme_says() -> None:
    run, test = recipe("run"), recipe("test")
    assert "bin/aflctl run" in [line.strip().removeprefix(".venv/") for line in run.splitlines()]
    assert "bin/python -m pytest" in [line.strip().removeprefix(".venv/") for line in test.splitlines()]


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet '.[test]'" in script
    assert "\npython -m pytest" in script


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    targets = re.findall(r"\]\(([^)#:]+)\)", file.read_text())
    assert [t for t in targets if not (file.parent / t).exists()] == []
