"""Every plug-in of this installation, present and later, and every example distribution, keeps the rules of the kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aflctl.api import DataSpec, Modality
from aflctl.plugins import BASES, registry
from aflctl.testing import CheckResult, check_plugin, check_profile

ROOT = Path(__file__).resolve().parents[2]
CASES = [(kind, e.name) for kind in BASES for e in registry().entries(kind) if e.distribution == "aflctl"]
SEEN_AND_HEARD = DataSpec((Modality("audio", (1, 32, 32), "audio"), Modality("video", (6, 32, 32), "image")), 3)
MORE: dict[tuple[str, str], dict[str, Any]] = {
    ("algorithms", "fedavg"): {"claims": ["single-client"]},
    ("algorithms", "fedprox"): {"claims": ["single-client"]},
    ("algorithms", "central"): {"claims": ["single-client"]},
    ("algorithms", "scaffold"): {"claims": ["single-client"]},
    ("algorithms", "moon"): {"claims": ["single-client"]},
    ("algorithms", "fedcompass"): {"params": {"min_steps": 2, "max_steps": 6}},  # by default a task has 100 steps
    ("models", "two-stream-resnet18"): {"spec": SEEN_AND_HEARD},  # the kit's own data have other kinds of input
}
WITHOUT = {"datasets": {"opens", "fingerprint", "no-global-rng"}}
"""Checks that may be skipped, by kind: most datasets' files are not on a machine that tests."""


def failures(results: list[CheckResult]) -> str:
    return "".join(f"\n{r.target} {r.name}: {r.detail}" for r in results if not r.ok)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, id=f"{kind}-{name}", marks=[pytest.mark.slow] if name == "two-stream-resnet18" else [])
        for kind, name in CASES
    ],
)
def test_built_in(kind: str, name: str, tmp_path: Path) -> None:
    more = dict(MORE.get((kind, name), {}))
    if name == "from-file":
        (tmp_path / "rows.json").write_text(json.dumps([list(range(c, 240, 8)) for c in range(8)]))
        more["params"] = {"path": tmp_path / "rows.json"}
        more["expected_failures"] = {"hyper-parameters-matter": "`repeats` allows what this file does not have"}
    results = check_plugin(registry().load(kind, name), **more)
    assert not failures(results)
    if kind in ("partitions", "fusions", "selections"):
        assert not [r.name for r in results if r.status == "skipped"]


def test_the_checks_of_a_method_are_made() -> None:
    # A kit that skips everything passes everything.
    results = check_plugin(registry().load("algorithms", "fedbuff"))
    assert {r.name for r in results if r.status == "skipped"} == {"single-client"}
    assert len(results) == 18


def test_shipped_profiles() -> None:
    assert not failures(check_profile(ROOT / "profiles"))


def distributions() -> list[Path]:
    return sorted(p.parent for p in (ROOT / "plugins").glob("*/pyproject.toml"))


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What a test puts on the path is forgotten after it."""
    before = set(sys.modules)
    yield monkeypatch
    for module in set(sys.modules) - before:
        if module.startswith("aflctl_"):
            del sys.modules[module]


@pytest.mark.parametrize("folder", distributions(), ids=lambda p: p.name)
def test_example_distribution(folder: Path, on_path: pytest.MonkeyPatch) -> None:
    on_path.syspath_prepend(str(folder / "src"))
    points = tomllib.loads((folder / "pyproject.toml").read_text())["project"].get("entry-points", {})
    checked = 0
    for group, entries in points.items():
        for value in entries.values():
            module, _, attr = value.partition(":")
            found = import_module(module)
            if group == "aflctl.profiles":
                assert not failures(check_profile(Path(found.__path__[0])))
            elif group.removeprefix("aflctl.") in BASES:
                assert not failures(check_plugin(getattr(found, attr)))
            checked += 1
    assert checked


@pytest.mark.parametrize("folder", distributions(), ids=lambda p: p.name)
def test_an_example_distributions_own_tests(folder: Path) -> None:
    """Beside the kit, which the test above has run."""
    paths = os.pathsep.join([str(folder / "src"), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore-glob=*conformance*", "tests"],
        cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
