"""What a finished run gets: tables, pictures, results.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from aflctl.errors import DiskProblem
from aflctl.report import render, write_all
from aflctl.report.pictures import plots
from aflctl.runs.load import Run
from aflctl.runs.records import UPDATES, metrics_writer, updates_writer

Fabricate = Callable[..., Path]
PICTURES = ("curve.png", "staleness.png", "participation.png")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, fabricate: Fabricate) -> Path:
    """A finished run of 200 updates with its report."""
    return fabricate(tmp_path_factory.mktemp("runs"), updates=200)


def size(picture: Path) -> tuple[int, int]:
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_everything_is_written(path: Path) -> None:
    assert {size(path / name) for name in PICTURES} == {(1350, 510)}
    text = (path / "results.md").read_text()
    assert "fedbuff on digits, model mlp, dirichlet(alpha=0.5), 60 clients, seed 0." in text
    assert "![accuracy over virtual time and over updates](curve.png)" in text
    assert not list(path.glob(".*.tmp"))
    for line in text.splitlines():
        assert line.count("|") in (0, 3, 7)


def test_pictures_are_the_same_bytes_each_time(path: Path, tmp_path: Path) -> None:
    for name, draw in (
        ("curve.png", plots.curve),
        ("staleness.png", plots.staleness),
        ("participation.png", plots.participation),
    ):
        draw(Run(path), tmp_path / name)
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()


def test_the_terminal_form_fits_80_columns_and_degrades(path: Path) -> None:
    for encoding in ("utf-8", "ascii"):
        text = StringIO()
        console = Console(file=text, width=80, no_color=True)
        console.options.encoding = encoding
        options = console.options.update()
        options.encoding = encoding
        for line in console.render_lines(render.terminal(Run(path)), options):
            text.write("".join(segment.text for segment in line).rstrip() + "\n")
        shown = text.getvalue()
        assert shown.isascii() is (encoding == "ascii")
        assert max(map(len, shown.splitlines())) <= 80
        for word in ("accuracy", "staleness of 200 used updates", "jetson-nano", "raspberry-pi-4", "compute"):
            assert word in shown


def test_a_run_that_did_nothing_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("algorithm: {name: fedbuff}\n")
    metrics_writer(tmp_path).close()
    updates_writer(tmp_path).close()
    write_all(tmp_path, {"status": "done"})
    assert {size(tmp_path / name) for name in PICTURES} == {(1350, 510)}
    assert (tmp_path / "staleness.csv").read_text() == "group,cause,staleness,count\n"
    assert "final -, best -" in (tmp_path / "results.md").read_text()
    console = Console(file=StringIO(), width=80)
    console.print(render.terminal(Run(tmp_path)))


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"final": 3, "totals": [], "staleness": None, "participation": "x", "warnings": 4},
        {"final": {"accuracy": "high"}, "time_to_target": {"x": {}}, "staleness": {"by_cause": 1}},
    ],
)
def test_a_summary_edited_by_hand_is_no_traceback(summary: dict[str, object]) -> None:
    assert dict(render.facts(summary))["accuracy"].startswith("final -")
    assert render.warnings(summary) == []


def test_warnings_are_shown(path: Path, tmp_path: Path) -> None:
    assert render.warnings({"warnings": ["a", {"code": "chance", "message": "accuracy at chance"}]}) == [
        "a",
        "accuracy at chance",
    ]


def test_many_device_classes_clients_and_updates_stay_readable(tmp_path: Path, path: Path) -> None:
    lines = (path / "updates.csv").read_text().splitlines()
    device, client = UPDATES.index("device"), UPDATES.index("client")
    rows = [line.split(",") for line in lines[1:]]
    wide = [[*row[:device], f"class-{i % 9}", *row[device + 1 :]] for i, row in enumerate(rows * 3)]
    for i, row in enumerate(wide):
        row[client] = str(i)
    for name in ("config.yaml", "metrics.csv"):
        (tmp_path / name).write_bytes((path / name).read_bytes())
    (tmp_path / "updates.csv").write_text("\n".join([lines[0], *map(",".join, wide)]) + "\n")
    write_all(tmp_path, json.loads((path / "summary.json").read_text()))
    assert all(size(tmp_path / name) for name in PICTURES)


def test_a_full_disk_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskProblem):
        plots.curve(Run(path), tmp_path / "absent" / "curve.png")


def test_reports_load_no_torch_and_no_pyplot(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aflctl.report import write_all; "
        f"write_all(Path({str(path)!r})); print(sorted({{'torch', 'matplotlib.pyplot', 'pandas'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
