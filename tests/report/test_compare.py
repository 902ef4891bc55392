"""Groups over seeds, what tells them apart, targets that were not reached, and the formats."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aflctl
from aflctl.errors import RunDirError, UserError
from aflctl.report.comparison import Comparison, compare
from aflctl.report.comparison.columns import Measured
from aflctl.report.comparison.formats import as_table
from aflctl.report.comparison.grouping import differences, labels_of
from aflctl.report.comparison.reading import flatten
from aflctl.report.comparison.sentences import sentence
from aflctl.runs.load import Run
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


def value(result: Comparison, label: str, column: str) -> Measured:
    found = result.table[label][column]
    assert isinstance(found, Measured)
    return found


def test_runs_are_grouped_over_seeds(root: Path) -> None:
    result = aflctl.compare(all_runs(root))
    told = [(g.label, g.n, g.seeds) for g in result.groups]
    assert told == [("fedbuff", 3, ("0", "1", "2")), ("fedasync", 2, ("0", "1"))]
    assert result.groups[0].differs == {"algorithm.name": "fedbuff"}
    assert [(name[:18], reason) for name, reason in result.skipped] == [("fedbuff-digits-s7-", "is interrupted")]
    assert result.targets == (0.8,)  # the highest noted one that all five reached


def scored(tmp_path: Path, fabricate: Fabricate, **accuracies: tuple[float, ...]) -> list[Path]:
    """Runs with these final accuracies by seed, one group per method."""
    paths = []
    for name, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            path = fabricate(tmp_path, name, seed, updates=20, report=False)
            paths.append(edit(path, final__accuracy=accuracy))
    return paths


def test_means_and_intervals_by_hand(tmp_path: Path, fabricate: Fabricate) -> None:
    # 0.90, 0.92, 0.97: mean 0.93, squares 0.0009 + 0.0001 + 0.0016 = 0.0026, over n - 1 = 2: 0.0013, s = 0.036056
    # half = t(2) s / sqrt(3) = 4.302653 * 0.036056 / 1.732051 = 0.089567
    result = compare(scored(tmp_path, fabricate, fedbuff=(0.90, 0.92, 0.97)))
    found = value(result, "fedbuff", "acc.final")
    assert found.mean == pytest.approx(0.93)
    assert found.interval is not None
    assert found.interval.half == pytest.approx(0.089567, abs=1e-6)
    assert "93.0 ± 9.0" in str(result)


def test_paired_differences_by_hand(tmp_path: Path, fabricate: Fabricate) -> None:
    # differences 0.10, 0.11, 0.12: mean 0.11, s = 0.01, t = 0.11 / (0.01 / sqrt 3) = 19.05, p(2) = 0.00274
    paths = scored(tmp_path, fabricate, fedavg=(0.80, 0.60, 0.70, 0.99), fedbuff=(0.90, 0.71, 0.82))
    (found,) = compare(paths, baseline="fedavg", on=["acc.final"]).differences
    assert found.seeds == ("0", "1", "2")
    assert found.mean == pytest.approx(0.11)
    assert found.p == pytest.approx(0.002744, abs=1e-5)
    assert (found.p_holm, found.verdict) == (found.p, "better")
    assert found.effect == pytest.approx(11 * 0.5642, rel=1e-3)
    text = sentence(found)
    assert text.startswith("fedbuff is better than fedavg in final accuracy: +11.0 points, 95 % interval +8.5 to +13.5")
    (turned,) = compare(paths, baseline="fedbuff", on=["acc.final"]).differences
    assert turned.verdict == "worse"
    assert turned.mean == pytest.approx(-0.11)


def test_a_difference_that_is_not_shown(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = scored(tmp_path, fabricate, fedavg=(0.80, 0.85, 0.82), fedbuff=(0.82, 0.84, 0.83))
    (found,) = compare(paths, baseline="fedavg", on=["acc.final"]).differences
    assert found.verdict == "no difference shown"
    assert "no difference shown in final accuracy" in sentence(found)


def test_holm_is_over_all_that_is_judged(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = scored(tmp_path, fabricate, fedavg=(0.8, 0.6, 0.7), fedbuff=(0.9, 0.71, 0.82), fedasync=(0.5, 0.6, 0.9))
    found = compare(paths, baseline="fedavg", on=["acc.final"]).differences
    strong = next(d for d in found if d.label == "fedbuff")
    assert strong.p is not None
    assert strong.p_holm == pytest.approx(2 * strong.p)


def test_one_seed_and_no_common_seed(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = scored(tmp_path, fabricate, fedavg=(0.8, 0.7), fedbuff=(0.9,))
    result = compare(paths, baseline="fedavg")
    assert {d.verdict for d in result.differences} == {"not compared"}
    assert result.differences[0].why == "one seed in common gives no interval"
    assert "± -" in str(result)
    assert "one seed has no spread, so there is no interval" in str(result)
    apart = compare([paths[1], paths[2]], baseline="fedavg")
    assert apart.differences[0].why == "no seed in common"
    assert "seeds differ: 1 per group, 0 in common" in apart.doubts


def test_which_group_a_baseline_means(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = []
    for alpha in (0.1, 1.0):
        for name in ("fedavg", "fedbuff"):
            for seed in range(2):
                changes: dict[str, Any] = {"dataset__partition__alpha": alpha}
                paths.append(fabricate(tmp_path, name, seed, updates=20, report=False, **changes))
    result = compare(paths, baseline="fedavg")
    pairs = {(d.label, d.baseline) for d in result.differences}
    assert pairs == {(f"fedbuff, alpha={a}", f"fedavg, alpha={a}") for a in (0.1, 1.0)}
    assert result.doubts == ()  # each is compared with the one on the same data
    assert "fedbuff, alpha=0.1: against fedavg, alpha=0.1" in str(result)
    auto = compare(paths, baseline="auto")
    assert {(d.label, d.baseline) for d in auto.differences} == pairs
    whole = compare(paths, baseline="fedavg, alpha=0.1")
    assert len({d.label for d in whole.differences}) == 3
    assert whole.doubts == ("data differ: dataset.partition.alpha is 0.1 or 1.0",)
    by_alpha = compare(paths, baseline="alpha=0.1")
    assert {(d.label, d.baseline) for d in by_alpha.differences} == {
        (f"{name}, alpha=1.0", f"{name}, alpha=0.1") for name in ("fedavg", "fedbuff")
    }
    with pytest.raises(UserError, match="fits no group"):
        compare(paths, baseline="fedsgd")


def test_a_target_that_some_groups_miss_is_censored(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.9])
    high, low = (value(result, name, "time_to:0.9") for name in ("fedbuff", "fedasync"))
    assert (high.reached, high.runs, high.limit) == (3, 3, None)
    assert (low.reached, low.runs) == (0, 2)
    assert low.at_limit
    text = str(result)
    assert "(0/2)" in text
    assert "> x: none did within a budget of x" in text
    judged = compare(all_runs(root), targets=[0.9], baseline="fedasync", on=["time_to:0.9"]).differences[0]
    assert judged.limit == low.limit  # the pair is compared at the budget that both were followed to


def test_restricted_means_over_runs_that_partly_reach(tmp_path: Path, fabricate: Fabricate) -> None:
    high, low = (fabricate(tmp_path, seed=s, top=t, updates=300, report=False) for s, t in ((0, 0.95), (1, 0.7)))
    for path, mark, end in ((high, 50.0, 400.0), (low, None, 200.0)):
        edit(path, time_to_target={"0.8": {"virtual_s": mark, "update": 9}} if mark else {}, totals__virtual_s=end)
    found = value(compare([high, low], targets=[0.8]), "fedbuff", "time_to:0.8")
    assert (found.mean, found.limit, found.reached, found.runs) == (125.0, 200.0, 1, 2)  # (50 + 200) / 2


def test_a_target_nobody_reached(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.999], baseline="fedasync")
    assert result.notes == ("no run reached an accuracy of 0.999",)
    late = [d for d in result.differences if d.column.censored]
    assert {(d.verdict, d.why) for d in late} == {
        ("not compared", "neither was at the target within the common budget")
    }
    assert "(0/3)" in str(result)
    assert result.pareto is not None
    assert result.pareto.time.text == "time"


def test_a_target_that_no_summary_notes_is_looked_up_in_the_metrics(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.77])
    group = next(g for g in result.groups if g.label == "fedbuff")
    for fact in group.members:
        rows = list(csv.DictReader((root / fact.name / "metrics.csv").read_text().splitlines()))
        seconds = next(float(row["virtual_s"]) for row in rows if float(row["accuracy"]) >= 0.77)
        assert value(result, "fedbuff", "time_to:0.77").values[fact.pair] == seconds


def test_the_front_of_accuracy_and_time(root: Path) -> None:
    front = compare(all_runs(root), targets=[0.5]).pareto
    assert front is not None
    assert front.best[0] in ("fedbuff", "fedasync")
    assert set(front.best) | {label for label, _ in front.beaten} == {"fedbuff", "fedasync"}
    assert compare([next(iter(all_runs(root)))]).pareto is None


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
    assert fedbuff.seeds == ("0", "1", "2", "7")
    assert result.skipped == ()
    assert value(result, "fedbuff", "staleness.mean").missing == 0


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
    result = compare([first, other])
    assert result.doubts == (
        "fedbuff: its runs were made by different code",
        "fedbuff: more than one run with seed 0; they count as their mean",
    )
    assert result.groups[0].n == 1  # the unit is the seed
    with pytest.raises(UserError, match="2 reasons") as caught:
        compare([first, other], strict=True)
    assert "made by different code" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stop": {"updates": 10}}, "budgets differ: stop.updates is 20 or 10"),
        ({"fleet": "afl-lib"}, "fleets differ: fleet is poster-1-1-1 or afl-lib"),
        ({"clients__count": 61}, "fleets differ: clients.count is 60 or 61"),
        ({"dataset__name": "mnist"}, "data differ: dataset.name is digits or mnist"),
        ({"evaluate__every": {"updates": 5}}, "evaluated at different moments: evaluate.every.updates is 20 or 5"),
    ],
)
def test_what_makes_groups_unlike(tmp_path: Path, fabricate: Fabricate, change: dict[str, Any], text: str) -> None:
    paths = [fabricate(tmp_path, updates=20, report=False, stop={"updates": 20})]
    paths.append(fabricate(tmp_path, updates=20, report=False, **{"stop": {"updates": 20}, **change}))
    (found,) = compare(paths).doubts
    assert found.startswith(text)
    with pytest.raises(UserError, match="not fit to be compared"):
        compare(paths, strict=True)


def test_other_data_under_one_name(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = scored(tmp_path, fabricate, fedavg=(0.8,), fedbuff=(0.9,))
    edit(paths[0], fingerprints__data="e" * 64)
    assert compare(paths).doubts == ("data differ: the fingerprints of runs with one seed are not the same",)


def test_mixed_metrics(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = scored(tmp_path, fabricate, fedavg=(0.8, 0.7), fedbuff=(0.9, 0.8))
    for path in paths[:2]:
        edit(path, final={"loss": 1.0}, best={"loss": 1.0}, time_to_target={})
    result = compare(paths, baseline="fedbuff")
    assert result.doubts == ("metrics differ: fedavg without accuracy",)
    judged = next(d for d in result.differences if d.column.text == "acc.final")
    assert (judged.verdict, judged.why) == ("not compared", "fedavg has no acc.final")
    assert value(result, "fedavg", "acc.final").mean is None
    for path in paths[2:]:
        edit(path, final={"loss": 1.5}, best={"loss": 1.0}, time_to_target={})
    only = compare(paths)
    assert "loss.final" in [c.text for c in only.columns]


def labels(*configs: dict[str, Any]) -> list[str]:
    flat = [flatten(config) for config in configs]
    return labels_of(differences(flat), flat)[0]


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


def test_labels_of_unlike_runs_say_only_what_tells_them_apart() -> None:
    first = {"algorithm": {"name": "fedbuff", "buffer_size": 5}, "local": {"lr": 0.1, "epochs": 2, "momentum": 0.0},
             "clients": {"count": 30}, "fleet": "a", "stop": {"updates": 200}}  # fmt: skip
    large = {"algorithm": {"name": "fedbuff", "buffer_size": 9}, "local": {"lr": 0.2, "epochs": 5, "momentum": 0.9},
             "clients": {"count": 60}, "fleet": "b", "stop": {"updates": 900}}  # fmt: skip
    third = {**first, "local": {**first["local"], "lr": 0.3}}  # type: ignore[dict-item]
    other = {**first, "algorithm": {"name": "fedasync"}}
    mine = {**first, "algorithm": {"name": "./plugins/mine.py:FedMine"}}
    # fedasync and FedMine are clear by their names; of all keys the learning rate parts the three fedbuffs best
    assert labels(first, large, third, other, mine) == [
        "fedbuff, lr=0.1", "fedbuff, lr=0.2", "fedbuff, lr=0.3", "fedasync", "FedMine",
    ]  # fmt: skip
    flat = [flatten(c) for c in (first, large, third, other, mine)]
    assert set(labels_of(differences(flat), flat)[1]) == {
        "algorithm.buffer_size", "local.epochs", "local.momentum", "clients.count", "fleet", "stop.updates",
    }  # fmt: skip


def test_the_table_fits_80_columns(root: Path) -> None:
    result = compare(all_runs(root), targets=[0.5, 0.9], baseline="fedasync")
    assert max(map(len, str(result).splitlines())) <= 80
    assert as_table(result, ascii_only=True).isascii()
    assert not as_table(result).isascii()


def test_five_hundred_runs_are_told_by_their_summaries(
    tmp_path: Path, fabricate: Fabricate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a comparison of many runs quick: no table of theirs is read for the columns shown by default."""
    first = fabricate(tmp_path / "one", updates=60, report=False)
    runs = []
    for i in range(500):
        path = tmp_path / "many" / f"run-{i}"
        path.mkdir(parents=True)
        summary = (first / "summary.json").read_text().replace('"identity": "', f'"identity": "{i}-')
        (path / "summary.json").write_text(summary)
        (path / "config.yaml").write_text((first / "config.yaml").read_text().replace("seed: 0", f"seed: {i}"))
        runs.append(path)
    monkeypatch.setattr(Run, "columns", lambda *_: pytest.fail("a table was read"))
    assert compare(runs, targets=[0.8]).groups[0].n == 500


def test_the_target_is_one_that_most_runs_reached(tmp_path: Path, fabricate: Fabricate) -> None:
    """All four reached 0.5 or nobody all: the highest that every run reached, else half of them, else the lowest."""
    mark = {"virtual_s": 10.0, "update": 5}

    def chosen(*reached: tuple[float, ...]) -> tuple[float, ...]:
        for path, targets in zip(paths, reached):
            edit(path, time_to_target={f"{t:g}": mark for t in targets})
        return compare(paths).targets

    paths = scored(tmp_path, fabricate, fedavg=(0.5, 0.6), fedbuff=(0.7, 0.9))
    assert chosen((0.5, 0.6), (0.5, 0.6), (0.5, 0.6), (0.5, 0.6, 0.8)) == (0.6,)
    assert chosen((), (0.5,), (0.5, 0.6), (0.5, 0.6, 0.8)) == (0.6,)  # two of four
    assert chosen((), (), (), (0.5, 0.6, 0.8)) == (0.5,)
    assert chosen((), (), (), ()) == ()
