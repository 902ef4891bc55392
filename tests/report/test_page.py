"""The page of `aflctl report`: valid, alone, escaped, and drawn by a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from aflctl.report.comparison import AUTO, compare
from aflctl.report.page import page, write_page
from aflctl.report.pictures.svg import inline, variable
from aflctl.runs.rundir import all_runs

Fabricate = Callable[..., Path]
VOID = {"meta", "br", "link", "img", "hr"}
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
EVIL = "<script>alert(1)</script>&\"'"


class Checker(HTMLParser):
    """Every element that is opened is closed in order; ids are unique; what it loads is kept."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.seen: set[str] = set()
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self._attributes(attrs)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "data", "action"):
                self.loads.append(value or "")
            assert not name.startswith("on")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert all(target.startswith("#") and target[1:] in checker.ids for target in checker.loads)
    for used in re.findall(r"url\(([^)]*)\)", text):
        assert used.startswith("#")
        assert used[1:] in checker.ids
    assert not re.search("https?:|//[a-z]", text)
    assert "@import" not in text
    assert not checker.seen & {"script", "link", "iframe", "object", "img"}
    return checker


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fabricate: Fabricate) -> Path:
    """FedAvg and FedBuff, three seeds each."""
    root = tmp_path_factory.mktemp("runs")
    for name, top in (("fedavg", 0.8), ("fedbuff", 0.95)):
        for seed in range(3):
            path = fabricate(root, name, seed, top=top, updates=100, report=False) / "summary.json"
            summary = json.loads(path.read_text())
            summary["final"]["accuracy"] = top + 0.01 * (seed if name == "fedavg" else 0)
            path.write_text(json.dumps(summary))
    return root


def test_the_conclusion_comes_first_and_the_page_stands_alone(root: Path, tmp_path: Path) -> None:
    write_page(compare(all_runs(root), baseline=AUTO), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert len(text) < 5_000_000
    found = checked(text)
    assert found.headings == [
        "fedbuff against fedavg on digits", "Conclusion", "Results", "Pictures", "Configurations", "Runs", "Provenance",
        "How to repeat this",
    ]  # fmt: skip
    assert "fedbuff is better than fedavg in final accuracy" in text
    assert "aflctl run fedbuff.yaml --seed 2" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert page(compare(all_runs(root), baseline=AUTO)) == text  # nothing depends on the moment


def test_configurations_can_be_copied_from_the_page(root: Path) -> None:
    text = page(compare(all_runs(root)))
    (block,) = re.findall(r"<summary>fedbuff\.yaml</summary>\n<pre><code>(.*?)</code></pre>", text, re.DOTALL)
    copied = yaml.safe_load(block)
    assert copied["algorithm"] == {"name": "fedbuff", "lr": 1.0, "buffer_size": 10}
    assert "seed" not in copied


def test_everything_from_runs_is_escaped(tmp_path: Path, fabricate: Fabricate) -> None:
    first = fabricate(tmp_path, EVIL.replace("/", "|"), 0, updates=20, report=False)
    second = fabricate(tmp_path, "fedbuff", 0, updates=20, report=False, fleet=EVIL, clients__note=f"</style>{EVIL}")
    for path in (first, second):
        summary = (path / "summary.json").read_text()
        (path / "summary.json").write_text(summary.replace('"warnings": []', '"warnings": ["<b onclick=x>"]'))
    text = page(compare(all_runs(tmp_path), baseline=AUTO), title="A < B & <i>C</i>")
    checked(text)
    assert "<script" not in text
    assert "<b onclick" not in text
    assert "<title>A &lt; B &amp; &lt;i&gt;C&lt;/i&gt;</title>" in text


def test_one_group_one_seed_and_doubts(root: Path, tmp_path: Path, fabricate: Fabricate) -> None:
    text = page(compare([next(iter(all_runs(root)))], baseline=AUTO))
    checked(text)
    assert "there is nothing to compare it with" in text
    assert "one seed has no spread" in text
    paths = [fabricate(tmp_path, "fedbuff", 0, updates=20, report=False, clients__count=c) for c in (60, 61)]
    paths.append(fabricate(tmp_path, "fedbuff", 5, updates=20, finished=False))
    text = page(compare(paths, baseline=AUTO))
    checked(text)
    assert "fleets differ: clients.count is 60 or 61" in text
    assert "is interrupted" in text


def test_colours_follow_the_page_and_texts_stay() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#0072B2")
    axes.set_title("is #0072b2 <blue>")
    drawn = inline(figure, "one", "a line")
    assert "is #0072b2 &lt;blue&gt;" in drawn
    assert "stroke: var(--c0072b2)" in drawn
    assert 'aria-label="a line"' in drawn
    assert variable("#123456") == "#123456"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the page is not drawn")
def test_a_browser_draws_it(root: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    write_page(compare(all_runs(root), baseline=AUTO), tmp_path / "report.html")
    shades = {}
    for name, scheme in (("light", 1), ("dark", 0)):
        picture = tmp_path / f"{name}.png"
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,1600",
                   f"--user-data-dir={tmp_path / name}", f"--blink-settings=preferredColorScheme={scheme}",
                   f"--screenshot={picture}", (tmp_path / "report.html").as_uri()]  # fmt: skip
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        pixels = imread(picture)[..., :3]
        assert pixels.shape[0] >= 1500
        assert pixels.std() > 0.05  # not an empty page
        shades[name] = float(pixels.mean())
    assert shades["light"] > 0.85
    assert shades["dark"] < 0.25
