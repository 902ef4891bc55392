"""Pictures of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aflctl.errors import UserError
from aflctl.report.comparison import compare
from aflctl.report.pictures import figures
from aflctl.report.pictures.drawing import looks
from aflctl.runs.rundir import all_runs

Fabricate = Callable[..., Path]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fabricate: Fabricate) -> Path:
    """Two methods, two seeds."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("fedbuff", "fedasync"):
        for seed in range(2):
            fabricate(root, name, seed, updates=60, report=name == "fedbuff" and seed == 0)
    return root


def test_a_folder_gets_all_of_them_with_the_same_bytes_each_time(root: Path, tmp_path: Path) -> None:
    result = compare(all_runs(root))
    drawn = figures.draw(result, tmp_path / "deep" / "pictures")
    assert {p.name for p in drawn} == {f"{n}.{s}" for n in figures.PICTURES for s in ("png", "svg")}
    again = figures.draw(result, tmp_path / "again")
    assert [p.read_bytes() for p in drawn] == [p.read_bytes() for p in again]
    assert set(figures.PICTURES) == set(figures.CAPTIONS)


@pytest.mark.parametrize(
    ("name", "head"),
    [("time.svg", b"<?xml"), ("fig3-tradeoff.pdf", b"%PDF"), ("staleness.PNG", b"\x89PNG"), ("other.png", b"\x89PNG")],
)
def test_one_file_by_its_suffix(root: Path, tmp_path: Path, name: str, head: bytes) -> None:
    (drawn,) = figures.draw(compare(all_runs(root)), tmp_path / name)
    assert drawn.read_bytes().startswith(head)


def test_other_suffixes_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PNG, SVG or PDF"):
        figures.draw(compare(all_runs(root)), tmp_path / "curve.jpg")
    assert not list(tmp_path.iterdir())


def test_bands_by_hand() -> None:
    runs = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    found = figures.band(runs)
    assert found is not None
    low, high = stats.t.interval(0.95, 2, 2.0, stats.sem([1, 2, 3]))
    assert [found[0][0], found[1][0]] == pytest.approx([low, high])
    assert (found[0][1], found[1][1]) == (5.0, 5.0)
    assert figures.band(runs[:1]) is None


def test_looks_do_not_repeat() -> None:
    made = looks([f"method {i}" for i in range(40)])
    assert len({str(look[:3]) for look in made.values()}) == 40


def test_odd_names_one_seed_and_missing_files(fabricate: Fabricate, tmp_path: Path) -> None:
    first = fabricate(tmp_path, "_hidden", 0, updates=20, report=False, fleet="$x^$ & <b>")
    fabricate(tmp_path, "$\\alpha$", 0, updates=20, report=False, fleet="a" * 90)
    (first / "metrics.csv").write_text((first / "metrics.csv").read_text().splitlines()[0] + "\n")
    assert len(figures.draw(compare(all_runs(tmp_path)), tmp_path / "pictures")) == 12


def test_many_methods_are_named_below_the_picture(fabricate: Fabricate, tmp_path: Path) -> None:
    for name in ("ace", "area", "fedasync", "fedbuff", "pisces", "a method with a name of some length"):
        fabricate(tmp_path, name, 0, updates=20, report=False)
    figure = figures.time(compare(all_runs(tmp_path)).groups)
    figure.draw_without_rendering()
    axes, legend = figure.axes[0], figure.axes[0].get_legend()
    assert legend is not None
    below, canvas = legend.get_window_extent(), figure.bbox
    assert len(legend.get_texts()) == 6
    assert below.y1 < axes.get_window_extent().y0
    assert canvas.x0 <= below.x0
    assert below.x1 <= canvas.x1
    assert canvas.y0 <= below.y0
