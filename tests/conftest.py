"""Fixtures and marks that all tests share."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"

settings.register_profile("aflctl", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("aflctl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run when `-m` asks for them; tests of real data skip where the files are absent."""
    if "slow" not in str(config.getoption("markexpr")):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    if REAL_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason=f"no real data at {REAL_DATA}"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data files; for tests marked `realdata`."""
    return REAL_DATA


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout's `runs`, reads the user's data folder, or inherits the shell's settings."""
    monkeypatch.setenv("AFLCTL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("AFLCTL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("AFLCTL_PROFILES", "AFLCTL_TRACEBACK", "NO_COLOR", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Where this test's runs go (also `AFLCTL_RUNS_DIR`)."""
    return tmp_path / "runs"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where this test's datasets lie (also `AFLCTL_DATA_DIR`)."""
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """One intra-op thread, as in a run; only where the test's imports loaded torch already."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Global random generators that raise when called and must not have moved at the end.

    Returns a check that may also be called in the middle of a test. Inside `torch.random.fork_rng` torch's own may be
    used: layers know no other way to draw their first values, and afterwards it is as before.
    """
    import torch

    def refuse(name: str) -> Callable[..., object]:
        def fail(*args: object, **kwargs: object) -> object:
            raise AssertionError(f"the global generator was touched: {name}")

        return fail

    before = (random.getstate(), np.random.get_state(legacy=False), torch.random.get_rng_state().clone())

    def check() -> None:
        assert random.getstate() == before[0], "the global generator of `random` has moved"
        now = np.random.get_state(legacy=False)
        assert now["state"]["pos"] == before[1]["state"]["pos"], "numpy's global generator has moved"
        assert (now["state"]["key"] == before[1]["state"]["key"]).all(), "numpy's global generator was seeded"
        assert torch.equal(torch.random.get_rng_state(), before[2]), "torch's global generator has moved"

    for module, names in (
        (random, "seed random randint choice sample shuffle gauss uniform"),
        (np.random, "seed rand randn randint random choice permutation shuffle normal uniform"),
        (torch, "manual_seed seed"),
    ):
        for name in names.split():
            monkeypatch.setattr(module, name, refuse(f"{module.__name__}.{name}"))
    yield check
    check()


@pytest.fixture(scope="session")
def fabricate() -> Callable[..., Path]:
    """`fabricate(root, algorithm, seed, **changes)`: a run directory that looks real, made without running anything."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("fabricate", ROOT / "tests" / "runs" / "fabricate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fabricate
