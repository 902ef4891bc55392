"""The support matrix of the docs: every claimed cell runs."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script() -> ModuleType:
    spec = spec_from_file_location("support", ROOT / "benchmarks" / "support.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def claimed() -> dict[str, dict[tuple[str, str], str]]:
    """title -> (row, column) -> what the page says."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    title, columns = "", []
    for line in (ROOT / "docs" / "reference" / "support-matrix.md").read_text().splitlines():
        if line.startswith("## "):
            title, columns = line[3:], []
        elif line.startswith("| ") and title:
            first, *cells = (part.strip() for part in line.strip("|").split("|"))
            if not columns:
                columns = cells
            else:
                found.setdefault(title, {}).update({(first, c): v for c, v in zip(columns, cells, strict=True)})
    return found


SUPPORT = script()
CLAIMED = claimed()
QUICK = [
    ("Method and personalization", "fedasync", "fedper"), ("Method and personalization", "fedbuff", "lottery"),
    ("Method and personalization", "scaffold", "lottery"), ("Method and personalization", "safa", "ifca"),
    ("Personalization and executor", "cfl", "stacked"), ("Fusion and modality setting", "gated", "dropout"),
    ("Personalization and modality setting", "blocks", "sensors fail"),
    ("Fusion and personalization", "early", "blocks"),
]  # fmt: skip


def test_the_page_has_every_cell() -> None:
    tables = SUPPORT.tables()
    assert set(CLAIMED) == set(tables)
    for title, (rows, columns, _) in tables.items():
        assert set(CLAIMED[title]) == {(row, column) for row in rows for column in columns}, title
    said = {value for cells in CLAIMED.values() for value in cells.values()}
    assert all(re.fullmatch(r"yes|\d+", value) for value in said)


def test_no_column_is_all_refused() -> None:
    for title, cells in CLAIMED.items():
        for column in {column for _, column in cells}:
            assert "yes" in {value for (_, c), value in cells.items() if c == column}, (title, column)


@pytest.mark.parametrize(("title", "row", "column"), QUICK)
def test_some_cells(title: str, row: str, column: str) -> None:
    _, _, go = SUPPORT.tables()[title]
    assert (go(row, column) == "yes") == (CLAIMED[title][row, column] == "yes")


@pytest.mark.slow
@pytest.mark.parametrize("title", list(CLAIMED))
def test_every_cell(title: str) -> None:
    _, _, go = SUPPORT.tables()[title]
    wrong = {}
    for (row, column), said in CLAIMED[title].items():
        got = go(row, column)
        if (got == "yes") != (said == "yes"):
            wrong[row, column] = got
    assert wrong == {}
