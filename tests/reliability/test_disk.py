"""A disk that is full at the n-th write: exit code 3, the last good state is kept, the same bits afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reliability.lab import Zygote, config, digests, files

SAMPLED = (1, 2, 5, 9, 12, 14, 15, 20, 26, 33, 41, 52, 60, 75)
EVERY = range(1, 130)


def settings(memory: str = "ram") -> dict[str, Any]:
    return config("scaffold", stop={"updates": 12}, engine={"executor": "serial", "client_memory": memory})


def numbers() -> list[Any]:
    return [pytest.param(n, marks=() if n in SAMPLED else pytest.mark.slow) for n in EVERY]


@pytest.mark.parametrize("n", numbers())
def test_full_from_the_nth_write_on(zygote: Zygote, whole: Any, tmp_path: Path, n: int) -> None:
    kind, memory = ("full", "once", "short")[n % 3], ("ram", "disk")[n // 2 % 2]
    answer = zygote.run(settings(memory), tmp_path, (kind, n))
    assert answer["code"] in (0, 3), answer
    if answer["code"] == 3:
        assert "disk is full" in answer["error"] or "No space left" in answer["error"]
        assert not list(tmp_path.glob("*/lock")), "nobody holds a run that ended"
        states = len(list(tmp_path.glob("*-*/checkpoint/*.json")))
        answer = zygote.run(settings(memory), tmp_path)
        assert ("continuing" in answer["note"]) == bool(states), answer["note"]
    assert digests(answer) == digests(whole(settings()))
    assert files(answer) == files(whole(settings()))


def test_a_disk_that_stays_full_changes_nothing(zygote: Zygote, whole: Any, tmp_path: Path) -> None:
    assert zygote.run(settings(), tmp_path, ("full", 60))["code"] == 3
    (folder,) = (p for p in tmp_path.iterdir() if not p.is_symlink())
    kept = sorted(p.name for p in (folder / "checkpoint").iterdir())
    assert len(kept) >= 2
    for n in (1, 4, 7, 10):
        assert zygote.run(settings(), tmp_path, ("full", n))["code"] == 3
        assert sorted(p.name for p in (folder / "checkpoint").iterdir()) == kept
    assert digests(zygote.run(settings(), tmp_path)) == digests(whole(settings()))
