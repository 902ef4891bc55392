"""Tests of clients on their own samples: the numbers, the grouping into batches, and that nothing else notices."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIG, plan_of, results, run

import aflctl
from aflctl.engine.course import personal
from aflctl.engine.parts.build import federate
from aflctl.train.evaluate import Member, evaluate, evaluate_clients

DATA = {**CONFIG["dataset"], "test_fraction": 0.25}
SHORT = {"dataset": DATA, "stop": {"updates": 10}}


def test_columns_by_hand() -> None:
    # shares 1, 1/2, 1/4, 1/4: mean 1/2; 8 of 16 samples; variance (1/4 + 0 + 1/16 + 1/16) / 4 = 3/32; the worst is one
    got = personal.columns({0: (4, 4), 1: (2, 4), 2: (1, 4), 3: (1, 4)})
    assert got["personal_accuracy"] == 0.5
    assert got["personal_weighted"] == 0.5
    assert got["personal_std"] == pytest.approx((3 / 32) ** 0.5)
    assert got["personal_worst"] == 0.25
    assert personal.columns({0: (9, 10), 1: (0, 1)})["personal_weighted"] == pytest.approx(9 / 11)
    assert personal.columns({})["personal_accuracy"] == 0.0


@pytest.mark.parametrize("wrapper", ["fedper", "ifca"])
@pytest.mark.parametrize("stacks", [True, False])
@pytest.mark.parametrize("size", [3, 1000])
def test_in_any_grouping_every_client_has_its_own_score(wrapper: str, stacks: bool, size: int) -> None:
    x = run(plan_of("fedbuff", {**SHORT, "personalization": wrapper})).x
    rows = personal.members(x, personal.chosen(x))
    got = evaluate_clients(x.task, x.feed, rows, size, stacks=stacks)
    assert list(got) == list(range(10))
    for row in rows:
        alone = evaluate(x.task, x.feed, row.w, row.samples, 1000)
        assert got[row.client] == (round(alone.accuracy * alone.samples), alone.samples)


def test_testing_and_tuning_touch_nothing() -> None:
    ran = run(plan_of("fedbuff", {**SHORT, "personalization": "fedper"}))
    before, state = results(ran), ran.x.loop.save()
    rng = torch.random.get_rng_state()
    first = personal.test(ran.x)
    tuned = personal.test(ran.x, 2)
    assert results(ran) == before
    assert ran.x.loop.save()["now"] == state["now"]
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert personal.test(ran.x) == first
    assert personal.test(ran.x, 2) == tuned
    assert personal.columns(tuned)["personal_accuracy"] != personal.columns(first)["personal_accuracy"]


def test_tuning_is_the_same_alone_and_stacked() -> None:
    plan = plan_of("fedbuff", {**SHORT, "personalization": "fedper"})
    serial, stacked = run(plan), run(plan, "stacked")
    a, b = personal.columns(personal.test(serial.x, 1)), personal.columns(personal.test(stacked.x, 1))
    assert a["personal_accuracy"] == pytest.approx(b["personal_accuracy"], abs=0.02)


def test_at_most_so_many_clients_evenly_spread() -> None:
    x = run(plan_of("fedbuff", {**SHORT, "evaluate": {"clients": 4}})).x
    assert personal.chosen(x) == [0, 2, 5, 7]


def test_one_vector_is_tested_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    x = run(plan_of("fedbuff", SHORT)).x
    calls: list[int] = []
    logits = x.task.logits

    def counted(w: torch.Tensor, batch: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        return logits(w, batch, present)

    monkeypatch.setattr(x.task, "logits", counted)
    rows = personal.members(x, personal.chosen(x))
    evaluate_clients(x.task, x.feed, rows, 1000, stacks=True)
    assert calls == [sum(len(r.samples) for r in rows)]
    vector = rows[0].w
    assert all(r.w is vector for r in rows)
    assert isinstance(rows[0], Member)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def config(algorithm: Any, **more: Any) -> dict[str, Any]:
    return {**CONFIG, "dataset": DATA, "algorithm": algorithm, "stop": {"updates": 12}, **more}


def test_what_a_run_says_of_its_clients(tmp_path: Path) -> None:
    alone = aflctl.run(config("local-only"), runs_dir=tmp_path)
    got = aflctl.run(config("fedbuff", personalization="fedper", evaluate={"fine_tune": 1}), runs_dir=tmp_path)
    said = json.loads((got.path / "summary.json").read_text())["personal"]
    assert said["clients"] == 10
    assert sum(g["clients"] for g in said["by_device"].values()) == 10
    quartiles = [q["staleness_from"] for q in said["by_staleness"]]
    assert quartiles == sorted(quartiles)
    assert set(said["fine_tuned"]) == {"accuracy", "weighted", "std", "worst"}
    assert said["better_than_local"]["run"] == alone.path.name
    assert 0 <= said["better_than_local"]["share"] <= 1
    rows = table(got.path / "metrics.csv")
    assert float(rows[-1]["personal_accuracy"]) == said["accuracy"]
    assert float(rows[-1]["personal_worst"]) == said["worst"]
    clients = table(got.path / "clients.csv")
    assert all(0 <= float(c["accuracy"]) <= 1 for c in clients)
    assert (got.path / "personal.png").stat().st_size > 5000


def test_a_report_tells_of_the_clients(tmp_path: Path) -> None:
    aflctl.run(config("local-only"), runs_dir=tmp_path)
    got = aflctl.run(config("fedbuff", personalization="ifca", evaluate={"fine_tune": 1}), runs_dir=tmp_path)
    text = (got.path / "results.md").read_text()
    said = json.loads((got.path / "summary.json").read_text())
    assert f"worst tenth {100 * said['personal']['worst']:.1f} %" in text
    alone = said["personal"]["better_than_local"]
    assert f"{100 * alone['share']:.0f} % of {alone['clients']} clients" in text
    assert f"{100 * said['personal']['fine_tuned']['accuracy']:.1f} %, worst tenth" in text
    tables = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert {"track", "clients", *said["staleness"]["by_track"], *said["personal"]["by_device"]} <= set(tables)
    assert "cluster0" in tables
    assert sum(row.startswith("mean staleness ") for row in tables) == len(said["personal"]["by_staleness"])
    assert "(personal.png)" in text


def test_compare_finds_local_only_whichever_ran_first(tmp_path: Path) -> None:
    runs = [
        aflctl.run(config(method, seed=seed, **more), runs_dir=tmp_path).path
        for seed in (0, 1)
        for method, more in (("fedbuff", {"personalization": "fedper"}), ("local-only", {}))
    ]
    both = aflctl.compare(runs)
    assert "personal.above_local" in [c.text for c in both.columns]
    shares = {label: row["personal.above_local"] for label, row in both.table.items()}
    (mine,) = [m for label, m in shares.items() if "fedbuff" in label]
    (alone,) = [m for label, m in shares.items() if "local-only" in label]
    assert alone.mean is None
    for i, seed in enumerate("01"):
        a, b = ({c["client"]: float(c["accuracy"]) for c in table(runs[2 * i + k] / "clients.csv")} for k in (0, 1))
        points = [1.0 if a[c] > b[c] else 0.5 if a[c] == b[c] else 0.0 for c in a if c in b]
        assert mine.values[seed] == pytest.approx(sum(points) / len(points))
    # the runs of fedbuff alone have nothing beside them, and other local training is no baseline
    assert "personal.above_local" not in [c.text for c in aflctl.compare(runs[::2]).columns]
    other = aflctl.run(config("local-only", local={**CONFIG["local"], "lr": 0.01}), runs_dir=tmp_path / "b").path
    assert "personal.above_local" not in [c.text for c in aflctl.compare([runs[0], other]).columns]


def test_training_alone_keeps_test_samples_as_a_personalization_does(tmp_path: Path) -> None:
    plain = {"dataset": CONFIG["dataset"], "stop": {"updates": 2}}
    alone, wrapped = plan_of("local-only", plain), plan_of("fedbuff", {**plain, "personalization": "fedper"})
    assert federate(alone, tmp_path).fingerprint == federate(wrapped, tmp_path).fingerprint
    assert federate(plan_of("fedbuff", plain), tmp_path).local_test(0) is None


def test_the_picture_shows_clients_without_a_hit(tmp_path: Path) -> None:
    from matplotlib.image import imread

    from aflctl.report.pictures.personal import COLOURS, picture

    class Run:
        def columns(self, name: str) -> dict[str, list[Any]]:
            return {"accuracy": [0.0, 0.0, 1.0, None], "device": ["a", "b", "a", "c"]}

    assert picture(Run(), tmp_path / "p.png")  # type: ignore[arg-type]
    pixels = (imread(tmp_path / "p.png")[..., :3] * 255).round().astype(int)
    lower = pixels[pixels.shape[0] // 2 :]  # below the legend
    for colour, seen in zip(COLOURS, (True, True, False)):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert bool((lower == rgb).all(-1).any()) == seen


def test_a_plain_run_says_nothing_unless_asked(tmp_path: Path) -> None:
    plain = aflctl.run({**config("fedbuff"), "dataset": CONFIG["dataset"]}, runs_dir=tmp_path)
    assert "personal" not in json.loads((plain.path / "summary.json").read_text())
    assert not (plain.path / "personal.png").exists()
    asked = aflctl.run(config("fedbuff"), runs_dir=tmp_path)
    assert json.loads((asked.path / "summary.json").read_text())["personal"]["clients"] == 10
