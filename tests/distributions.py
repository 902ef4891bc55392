"""Small distributions that exist for one test: a folder on the path with a module and its metadata."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from aflctl.plugins import registry

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install("my-dist", {"algorithms": {"mine": "my_mod:Mine"}}, {"my_mod.py": "..."}) -> its folder."""

    def make(
        name: str, points: Mapping[str, Mapping[str, str]], files: Mapping[str, str], version: str = "1.0"
    ) -> Path:
        folder = tmp_path / "site" / name
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        text = "".join(
            f"[aflctl.{kind}]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())
            for kind, rows in points.items()
        )
        (info / "entry_points.txt").write_text(text)
        for path, code in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(str(folder))
        registry.cache_clear()
        return folder

    before = set(sys.modules)
    yield make
    registry.cache_clear()
    for module in set(sys.modules) - before:
        if not module.startswith(("torch", "numpy", "aflctl.")):
            del sys.modules[module]
