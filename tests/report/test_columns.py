"""The language of columns, filters and order; the formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from aflctl.errors import UserError
from aflctl.report.comparison import Comparison, compare
from aflctl.report.comparison.columns import Measured, parse
from aflctl.report.comparison.reading import Facts
from aflctl.runs.load import Run
from aflctl.runs.rundir import all_runs

Fabricate = Callable[..., Path]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fabricate: Fabricate) -> Path:
    """FedBuff with three seeds, FedAsync (lower) with two."""
    root = tmp_path_factory.mktemp("runs")
    for name, seeds, top in (("fedbuff", 3, 0.95), ("fedasync", 2, 0.85)):
        for seed in range(seeds):
            fabricate(root, name, seed, top=top, updates=400, report=False)
    return root


def value(result: Comparison, label: str, column: str) -> Measured:
    found = result.table[label][column]
    assert isinstance(found, Measured)
    return found


def pair(tmp_path: Path, fabricate: Fabricate, seeds: int = 1) -> list[Path]:
    """FedAvg, then FedBuff."""
    named = [(name, seed) for name in ("fedavg", "fedbuff") for seed in range(seeds)]
    return [fabricate(tmp_path, name, seed, updates=20, report=False) for name, seed in named]


def test_columns_filters_and_order(root: Path) -> None:
    runs = all_runs(root)
    words = ["acc.final,time_to:0.5", "updates_to:0.5,bytes_to:0.5,joules_to:0.5,reached:0.9,auc,auc:bytes,converge",
             "staleness.p95,totals.lost,=local.lr,=*,.host_s,.runs,.seeds,.executor,.stop,loss.final,f1.best,traffic"]
    result = compare(runs, columns=words, sort="time_to:0.5", filters=["algorithm=fedbuff"])
    assert [g.label for g in result.groups] == ["fedbuff"]
    row = {c.text: result.table["fedbuff"][c.text] for c in result.columns}
    assert row["=local.lr"] == "0.05"
    assert (row[".runs"], row[".seeds"], row[".executor"], row[".stop"]) == ("3", "0 1 2", "serial", "updates")
    assert "(3/3)" in str(result)
    assert value(result, "fedbuff", "totals.lost").mean is not None
    assert max(map(len, str(result).splitlines())) <= 80
    assert [g.label for g in compare(runs, sort="acc.final").groups] == ["fedbuff", "fedasync"]
    assert [g.label for g in compare(runs, sort="-acc.final").groups] == ["fedasync", "fedbuff"]
    assert [g.label for g in compare(runs, sort="label").groups] == ["fedasync", "fedbuff"]
    hidden = compare(runs, filters=["acc.final>0.9"])
    assert [g.label for g in hidden.groups] == ["fedbuff"]
    assert "hides 1 group" in hidden.notes[0]
    kept = compare(runs, filters=["seed<=1", "local.lr>=0.01", "dataset!=mnist"])
    assert {g.seeds for g in kept.groups} == {("0", "1")}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"columns": ["acc.finl"]}, "no column 'acc.finl'"),
        ({"columns": ["time_to:high"]}, "needs a number"),
        ({"columns": ["time_to:80"]}, "between 0 and 1"),
        ({"columns": ["=local.rl"]}, "no run has a configuration key"),
        ({"filters": ["high accuracy"]}, "not a filter"),
        ({"filters": ["acc.final>>0.5"]}, "not a filter"),
        ({"filters": ["acc.final>high"]}, "'high' is no number"),
        ({"filters": ["acc.final="]}, "not a filter"),
        ({"filters": ["acc.final>80"]}, "no group passes the filter"),
        ({"filters": ["algorithm=fedsgd"]}, "no run passes the filter"),
        ({"on": ["=local.lr"]}, "cannot be judged"),
        ({"baseline": ""}, "fits"),
        ({"sort": "speed"}, "no column 'speed'"),
    ],
)
def test_mistakes_in_the_language(root: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        compare(all_runs(root), **options)
    assert caught.value.exit_code == 2


def test_areas_are_over_a_common_budget(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = pair(tmp_path, fabricate)
    head = "update,version,virtual_s,samples,bytes_down,bytes_up,energy_j,accuracy,loss,macro_f1\n"
    for path, rows in zip(paths, ([(0, 0.1), (10, 0.5), (20, 0.9)], [(0, 0.3), (40, 0.9)])):
        body = "".join(f"{i},0,{t},0,{t},{t},0,{a},1,\n" for i, (t, a) in enumerate(rows))
        (path / "metrics.csv").write_text(head + body)
    # until 20: (0.1 + 0.5) / 2 = 0.3, and 0.3 throughout
    result = compare(paths, columns=["auc", "auc:bytes"])
    for column in ("auc", "auc:bytes"):
        assert [value(result, g, column).mean for g in ("fedavg", "fedbuff")] == [pytest.approx(0.3)] * 2


def test_what_does_not_vary_is_hidden(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = pair(tmp_path, fabricate, 2)
    for path in paths:
        summary = json.loads((path / "summary.json").read_text())
        summary["staleness"]["mean"] = 1.0
        (path / "summary.json").write_text(json.dumps(summary))
    shown = [c.text for c in compare(paths).columns]
    assert "acc.final" in shown
    assert "staleness.mean" not in shown
    assert [c.text for c in compare(paths, columns=["staleness.mean"]).columns] == ["staleness.mean"]
    assert parse("=*", compare(paths).groups)[0].text == "=algorithm.name"


def test_the_formats(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.5, 0.9], baseline="fedasync")
    rows = list(csv.DictReader(StringIO(result.render("csv"))))
    assert [row["label"] for row in rows] == ["fedbuff", "fedasync"]
    assert rows[0]["seeds"] == "0 1 2"
    assert float(rows[0]["acc.final"]) == value(result, "fedbuff", "acc.final").mean
    assert rows[1]["time_to:0.9_reached"] == "0"
    assert rows[1]["acc.final_verdict"] == ""
    assert rows[0]["acc.final_verdict"] in ("better", "worse", "no difference shown")
    document = json.loads(result.render("json"))
    assert (document["schema"], document["version"]) == ("aflctl.compare", 1)
    assert document["groups"][0]["values"]["time_to:0.9"]["reached"] == 3
    assert document["differences"][0]["baseline"] == "fedasync"
    assert document["pareto"]["front"]
    markdown = result.render("markdown").splitlines()
    assert len({line.count("|") for line in markdown[:4]}) == 1
    latex = result.render("latex")
    assert latex.count(r"\toprule") == 4
    assert r"\pm" in latex
    assert r"final \%" in latex
    with pytest.raises(UserError, match="unknown format 'tabel'") as caught:
        result.render("tabel")
    assert "did you mean 'table'" in str(caught.value.hint)


def test_clients_with_models_of_their_own(tmp_path: Path, fabricate: Fabricate) -> None:
    """Their accuracy is judged too, and drawn: 0.4, 0.76, 0.8, ...: 95 % of 0.8 is there at the second evaluation."""
    from aflctl.report.pictures import figures

    runs = pair(tmp_path, fabricate, seeds=2)
    for run in runs:
        first, *rows = (run / "metrics.csv").read_text().splitlines()
        own = [0.4, 0.76, *[0.8] * len(rows)]
        told = [f"{first},personal_accuracy", *(f"{row},{value}" for row, value in zip(rows, own))]
        (run / "metrics.csv").write_text("\n".join(told) + "\n")
        summary = json.loads((run / "summary.json").read_text())
        summary["final"]["personal_accuracy"] = 0.8
        (run / "summary.json").write_text(json.dumps(summary))
        moment = float(rows[1].split(",")[first.split(",").index("virtual_s")])
        assert Facts(Run(run), False).convergence(0.95, "personal_accuracy") == moment
    result = compare(runs, baseline="fedavg")
    assert [d.column.text for d in result.differences][:2] == ["personal.mean", "acc.final"]
    assert [c.text for c in parse("personal.converge:0.9", result.groups)] == ["personal.converge:0.9"]
    assert figures.tradeoff(result.groups).axes[0].get_ylabel() == "mean personal accuracy (%)"
    assert Facts(Run(runs[0]), False).convergence(0.95, "no_such_metric") is None
