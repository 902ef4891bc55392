"""The kit's page names every check."""

from __future__ import annotations

from pathlib import Path

import pytest

from aflctl.plugins import BASES, registry
from aflctl.testing import checks_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", [*BASES, "profiles"])
def test_every_check_is_described(kind: str) -> None:
    text = (ROOT / "docs" / "reference" / "plugin-kit.md").read_text()
    found = registry().entries(kind) if kind != "profiles" else []
    target = registry().load(kind, found[0].name) if found else ROOT / "profiles"
    for check in checks_of(target):
        assert f"`{check.name}`" in text, check.name
