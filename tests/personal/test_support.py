"""The support matrix of the docs: every claimed cell runs."""

from __future__ import annotations

import json
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
RECORD = json.loads((ROOT / "docs" / "reference" / "support-matrix.json").read_text())
SLOWER = {"Personalization and circumstances", "Personalization and model"}  # their diagonals are left to -m slow


def diagonal(title: str) -> list[tuple[str, str, str]]:
    """Cells so that each row and each column is among them."""
    rows, columns, _ = SUPPORT.tables()[title]
    n = max(len(rows), len(columns))
    return [(title, rows[i % len(rows)], columns[i % len(columns)]) for i in range(n)]


QUICK = [cell for title in SUPPORT.tables() if title not in SLOWER for cell in diagonal(title)]
QUICK += [
    ("Method and personalization", "scaffold", "lottery"), ("Method and personalization", "safa", "ifca"),
    ("Personalization and model", "fedbn", "resnet with BatchNorm"),
    ("Personalization and circumstances", "ifca", "clients go offline"),
    ("Personalization and circumstances", "cfl", "memory on disk"),
    ("Personalization and circumstances", "blocks", "live data"),
    ("Personalization (rows) inside another (columns)", "blocks", "ditto"),
    ("Personalization (rows) inside another (columns)", "lottery", "cfl"),
    ("Fusion and personalization", "early", "blocks"),
]  # fmt: skip


def test_the_page_is_what_the_cells_said() -> None:
    assert (ROOT / "docs" / "reference" / "support-matrix.md").read_text() == SUPPORT.written(RECORD)


def test_the_page_has_every_cell() -> None:
    tables = SUPPORT.tables()
    assert set(CLAIMED) == set(RECORD) == set(tables)
    for title, (rows, columns, _) in tables.items():
        cells = {(row, column) for row in rows for column in columns}
        assert set(CLAIMED[title]) == cells, title
        assert {(row, column) for row, told in RECORD[title].items() for column in told} == cells, title
    said = {value for cells in CLAIMED.values() for value in cells.values()}
    assert all(re.fullmatch(r"yes|\d+", value) for value in said)


def test_no_column_is_all_refused() -> None:
    for title, cells in CLAIMED.items():
        for column in {column for _, column in cells}:
            assert "yes" in {value for (_, c), value in cells.items() if c == column}, (title, column)


def wrong(cells: list[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """What the cells say now, where that is not what the record says of them."""
    tables = SUPPORT.tables()
    now = {(title, row, column): tables[title][2](row, column) for title, row, column in cells}
    return {at: got for at, got in now.items() if got != RECORD[at[0]][at[1]][at[2]]}


def test_a_part_of_the_cells() -> None:
    assert wrong(QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("title", list(CLAIMED))
def test_every_cell(title: str) -> None:
    assert wrong([(title, row, column) for row, column in CLAIMED[title]]) == {}
