"""Groups over seeds, what tells them apart, targets that were not reached, and the formats."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from aflctl.errors import RunDirError, UserError
from aflctl.report.compare import Comparison, compare, differences, flatten
from aflctl.report.formats import as_table
from aflctl.runs.rundir import all_runs

Fabricate = Callable[..., Path]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fabricate: Fabricate) -> Path:
    """FedBuff with three seeds, FedAsync (lower) with two, and one run that was killed."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        fabricate(root, "fedbuff", seed, top=0.95, updates=400, report=False)
    for seed in range(2):
        fabricate(root, "fedasync", seed, top=0.85, updates=400, report=False)
    fabricate(root, "fedbuff", 7, updates=100, finished=False)
    return root


def edit(path: Path, **values: Any) -> Path:
    """Changes `final.accuracy` and the like in a summary: final__accuracy=0.5."""
    document = json.loads((path / "summary.json").read_text())
    for dotted, value in values.items():
        *above, key = dotted.split("__")
        section = document
        for name in above:
            section = section[name]
        section[key] = value
    (path / "summary.json").write_text(json.dumps(document))
    return path


def test_runs_are_grouped_over_seeds(root: Path) -> None:
    result = compare(all_runs(root))
    assert [(g.label, g.n, g.seeds) for g in result.groups] == [("fedbuff", 3, (0, 1, 2)), ("fedasync", 2, (0, 1))]
    assert result.groups[0].differs == {"algorithm.name": "fedbuff"}
    assert [(name[:18], reason) for name, reason in result.skipped] == [("fedbuff-digits-s7-", "is interrupted")]
    assert result.targets == (0.8,)  # the highest noted one that all five reached


def test_means_and_deviations_by_hand(tmp_path: Path, fabricate: Fabricate) -> None:
    # 0.90, 0.92, 0.97: mean 0.93, squares 0.0009 + 0.0001 + 0.0016 = 0.0026, over n - 1 = 2: 0.0013, root 0.036056
    paths = [fabricate(tmp_path, seed=seed, updates=20, report=False) for seed in range(3)]
    for path, accuracy in zip(paths, (0.90, 0.92, 0.97)):
        edit(path, final__accuracy=accuracy)
    (group,) = compare(paths).groups
    assert group.final.mean == pytest.approx(0.93)
    assert group.final.std == pytest.approx(0.0360555)
    assert group.label == "fedbuff"


def test_a_target_that_some_runs_miss_is_censored(root: Path) -> None:
    fedbuff, fedasync = compare(all_runs(root), targets=[0.9]).groups
    assert (fedbuff.targets[0.9].reached, fedbuff.targets[0.9].runs) == (3, 3)
    assert (fedasync.targets[0.9].reached, fedasync.targets[0.9].runs) == (0, 2)
    assert fedasync.targets[0.9].virtual_s.mean is None
    text = compare(all_runs(root), targets=[0.9]).render()
    assert "(0/2)" in text
    assert "k of n runs reached the target" in text


def test_a_target_that_no_summary_notes_is_looked_up_in_the_metrics(root: Path) -> None:
    group = compare(all_runs(root), targets=[0.77]).groups[0]
    for name, seconds in zip(group.runs, group.targets[0.77].virtual_s.values):
        rows = list(csv.DictReader((root / name / "metrics.csv").read_text().splitlines()))
        assert seconds == next(float(row["virtual_s"]) for row in rows if float(row["accuracy"]) >= 0.77)


def test_some_of_a_group_reach_the_target(tmp_path: Path, fabricate: Fabricate) -> None:
    high, low = (fabricate(tmp_path, seed=s, top=t, updates=300, report=False) for s, t in ((0, 0.95), (1, 0.7)))
    result = compare([high, low], targets=[0.8])
    assert "(1/2)" in result.render()
    assert result.groups[0].targets[0.8].reached == 1


@pytest.mark.parametrize("target", [0, -1, 90, float("nan")])
def test_a_target_is_a_share(root: Path, target: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        compare(all_runs(root), targets=[target])


def test_comparing_nothing(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        compare([])
    with pytest.raises(RunDirError, match=r"nothing to compare: fedbuff-digits-s7-\w+ is interrupted"):
        compare(root.glob("fedbuff-digits-s7*"))
    with pytest.raises(RunDirError, match="cannot be read"):
        compare([tmp_path])


def test_unfinished_runs_count_when_asked_for(root: Path) -> None:
    result = compare(all_runs(root), unfinished=True)
    fedbuff = next(g for g in result.groups if g.label == "fedbuff")
    assert fedbuff.seeds == (0, 1, 2, 7)
    assert result.skipped == ()
    assert fedbuff.staleness_max is not None


def test_damaged_runs_are_skipped_with_the_reason(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root, tmp_path / "runs", symlinks=True)
    broken, newer, bare, *_ = (p for p in all_runs(tmp_path / "runs") if (p / "summary.json").exists())
    (broken / "config.yaml").write_text("[")
    edit(newer, format=2)
    edit(bare, final={})
    reasons = dict(compare(all_runs(tmp_path / "runs")).skipped)
    assert reasons[broken.name].startswith("cannot be read: not readable YAML")
    assert reasons[newer.name].startswith("cannot be read: made by a newer aflctl")
    assert reasons[bare.name] == "has no evaluation"


def test_a_run_counts_once(tmp_path: Path, root: Path) -> None:
    first, *_ = all_runs(root)
    shutil.copytree(first, tmp_path / f"{first.name}-2")
    result = compare([first, first, tmp_path / f"{first.name}-2"])
    assert result.groups[0].n == 1
    assert result.notes == ("1 rerun of runs that are here already: counted once",)


def test_doubtful_groups_are_noted(tmp_path: Path, root: Path) -> None:
    first = next(p for p in all_runs(root) if p.name.startswith("fedbuff-digits-s0"))
    other = tmp_path / "other"
    shutil.copytree(first, other)
    edit(other, identity="f" * 64, fingerprints__code="x")
    assert compare([first, other]).notes == (
        "fedbuff: its runs were made by different code",
        "fedbuff: more than one run with seed 0",
    )


def labels(*configs: dict[str, Any]) -> list[str]:
    return [label for label, _ in differences([flatten(config) for config in configs])]


def test_labels_say_what_differs_and_nothing_else() -> None:
    buff = {"algorithm": {"name": "fedbuff", "buffer_size": 10, "lr": 1.0}, "local": {"lr": 0.1}, "fleet": "a"}
    other = {"algorithm": {"name": "fedasync", "mix": 0.6}, "local": {"lr": 0.1}, "fleet": "a"}
    five = {**buff, "algorithm": {**buff["algorithm"], "buffer_size": 5}}  # type: ignore[dict-item]
    assert labels(buff) == ["fedbuff"]
    assert labels(buff, other) == ["fedbuff", "fedasync"]
    assert labels(buff, five, other) == ["fedbuff, buffer_size=10", "fedbuff, buffer_size=5", "fedasync"]
    assert labels(buff, five) == ["fedbuff, buffer_size=10", "fedbuff, buffer_size=5"]
    assert labels(buff, {**buff, "fleet": "b"}) == ["fedbuff, fleet=a", "fedbuff, fleet=b"]
    assert labels(buff, {**buff, "local": {}}) == ["fedbuff, lr=0.1", "fedbuff, lr=none"]
    both = {**five, "algorithm": {**five["algorithm"], "lr": 2.0, "buffer_size": 10}, "local": {"lr": 0.2}}  # type: ignore[dict-item]
    assert labels(buff, both)[1] == "fedbuff, algorithm.lr=2.0, local.lr=0.2"


def test_the_formats(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.5, 0.9])
    rows = list(csv.DictReader(StringIO(result.render("csv"))))
    assert [row["label"] for row in rows] == ["fedbuff", "fedasync"]
    assert rows[0]["seeds"] == "0 1 2"
    assert float(rows[0]["final_mean"]) == result.groups[0].final.mean
    assert rows[1]["reached_0.9"] == "0"
    assert rows[1]["time_s_mean_0.9"] == ""
    document = json.loads(result.render("json"))
    assert (document["schema"], document["version"]) == ("aflctl.compare", 1)
    assert document["groups"][0]["time_to_target"]["0.9"]["reached"] == 3
    assert document["groups"][1]["time_to_target"]["0.9"]["virtual_s"] == {"mean": None, "std": None, "values": []}
    markdown = result.render("markdown").splitlines()
    assert len({line.count("|") for line in markdown[:4]}) == 1
    latex = result.render("latex")
    assert latex.count(r"\\") == 3
    assert r"\pm" in latex
    assert r"final \%" in latex
    with pytest.raises(UserError, match="unknown format 'tabel'") as caught:
        result.render("tabel")
    assert "did you mean 'table'" in str(caught.value.hint)


def test_the_table_fits_80_columns(root: Path) -> None:
    result = compare(all_runs(root))
    assert max(map(len, str(result).splitlines())) <= 80
    assert as_table(result, ascii_only=True).isascii()
    assert not as_table(result).isascii()


def test_a_single_seed_has_no_spread(root: Path) -> None:
    result: Comparison = compare([next(iter(all_runs(root)))])
    assert result.groups[0].final.std is None
    assert "no spread can be told" in str(result)


def test_five_hundred_runs_within_seconds(tmp_path: Path, fabricate: Fabricate) -> None:
    first = fabricate(tmp_path / "one", updates=60, report=False)
    runs = []
    for i in range(500):
        path = tmp_path / "many" / f"run-{i}"
        path.mkdir(parents=True)
        for name in ("config.yaml", "metrics.csv"):
            (path / name).write_bytes((first / name).read_bytes())
        summary = (first / "summary.json").read_text().replace('"identity": "', f'"identity": "{i}-')
        (path / "summary.json").write_text(summary)
        (path / "config.yaml").write_text((first / "config.yaml").read_text().replace("seed: 0", f"seed: {i}"))
        runs.append(path)
    begun = time.perf_counter()
    result = compare(runs, targets=[0.33])
    assert time.perf_counter() - begun < 5
    assert result.groups[0].n == 500
