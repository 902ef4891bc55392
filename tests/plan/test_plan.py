"""What `aflctl plan` prints and stores, and what it costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aflctl.cli.app import execute
from aflctl.engine import run
from aflctl.engine.plans.planning import plan
from aflctl.runs.records import read_rows


def test_the_document(tiny: dict[str, Any], tmp_path: Path) -> None:
    result = plan({**tiny, "algorithm": "fedbuff"}, runs_dir=tmp_path, host=False)
    assert result.path.parent == tmp_path / "plans"
    assert result.path.name == f"fedbuff-digits-s0-{result.document['identity'][:8]}"
    stored = json.loads((result.path / "plan.json").read_text())
    assert stored == json.loads(json.dumps(result.document))
    assert sorted(p.name for p in result.path.iterdir()) == ["plan.json", "staleness.csv"]
    totals, server, timeline = stored["totals"], stored["server"], stored["timeline"]
    assert totals["tasks"] == sum(totals[k] for k in ("updates", "lost", "rejected", "cancelled", "flying"))
    assert server["arrivals_per_s"] == pytest.approx(totals["updates"] / totals["virtual_s"])
    assert server["arrivals_peak_per_s"] >= server["arrivals_per_s"]
    assert timeline["arrivals"][-1] == totals["updates"]
    assert timeline["versions"][-1] == totals["versions"]
    assert timeline["virtual_s"][-1] == pytest.approx(totals["virtual_s"])
    assert stored["energy"]["wasted_share"] == pytest.approx(totals["wasted_j"] / totals["energy_j"])
    classes = stored["participation"]["by_device"]
    assert sum(c["clients"] for c in classes.values()) == 12
    assert sum(c["used"] for c in classes.values()) == totals["updates"]
    assert sum(c["share_of_updates"] for c in classes.values()) == pytest.approx(1)
    assert all(stored["invariants"].values())


def test_rows_are_those_of_the_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = {**tiny, "algorithm": {"name": "fedbuff", "buffer_size": 4}}
    planned = plan(config, runs_dir=tmp_path, host=False, rows=True).path
    trained = run(config, runs_dir=tmp_path).path
    assert trained.name == planned.name
    for name in ("updates", "clients", "staleness"):
        mine, theirs = read_rows(planned / f"{name}.csv"), read_rows(trained / f"{name}.csv")
        assert list(mine) == list(theirs)
        for column in mine:
            if column == "train_loss":
                assert set(mine[column]) == {None}
            else:
                assert mine[column] == theirs[column], (name, column)
    again = plan(config, runs_dir=tmp_path, host=False).path
    assert again == planned
    assert not (again / "updates.csv").exists()


def test_a_plan_is_no_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    from aflctl.runs.rundir import all_runs

    plan({**tiny, "algorithm": "fedbuff"}, runs_dir=tmp_path, host=False)
    assert all_runs(tmp_path) == []


@pytest.mark.parametrize("executor", ["serial", "workers", "stacked"])
def test_host_time_is_of_the_right_size(executor: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    # a measurement on a machine that others use too: within a factor of ten is all that a test may ask
    config = {**tiny, "algorithm": "fedbuff", "engine": {"executor": executor}, "stop": {"updates": 60}}
    host = plan(config, runs_dir=tmp_path).document["host"]
    spent = run(config, runs_dir=tmp_path).summary["host"]["run_s"]
    assert host["executor"]["name"] == executor
    assert spent / 10 < host["run_s"] < spent * 10
    # evaluation may go on beside the rest
    rest = host["training_s"] + host["server_s"]
    assert 0.99 * rest <= host["run_s"] <= 1.01 * (rest + host["evaluation_s"] + host["measured"]["ms_per_evaluation"])
    assert min(host["training_s"], host["server_s"], host["evaluation_s"]) > 0


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--set", "stop.updates=40", "--set", "model.hidden=[4]", "--runs-dir", str(tmp_path)]
    assert execute(words) == 0
    shown = capsys.readouterr().out
    for text in ("server load", "host time of the run", "The run has exactly this", "Vectors of length 0", "stored in"):
        assert text in shown
    assert execute([*words, "--json", "--rows", "--seed", "4"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "aflctl.plan"
    assert document["seed"] == 4
    assert (Path(document["path"]) / "updates.csv").exists()
    assert execute(["plan", "nowhere.yaml"]) == 2
    assert execute([*words, "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_a_stalled_plan_fails_as_the_run_would(tiny: dict[str, Any], tmp_path: Path) -> None:
    from aflctl.errors import Stalled

    (tmp_path / "away.csv").write_text("client,start,end\n" + "".join(f"{c},0,1\n" for c in range(12)))
    fleet = {**tiny["fleet"], "availability": {"name": "trace", "path": str(tmp_path / "away.csv")}}
    with pytest.raises(Stalled, match="nobody flies"):
        plan({**tiny, "fleet": fleet}, runs_dir=tmp_path, host=False)


def crowd(clients: int) -> dict[str, Any]:
    return {
        "algorithm": {"name": "fedbuff", "buffer_size": 10},
        "dataset": {"name": "synthetic", "test_samples": 50},
        "model": "logistic",
        "clients": {"count": clients, "concurrency": 50},
        "fleet": {
            "devices": {"phone-high": 1, "phone-low": 1}, "networks": {"wifi": 1, "lte": 1, "nr": 1},
            "availability": "markov",
        },
        "stop": {"updates": 300},
    }  # fmt: skip


def test_a_client_costs_less_than_200_bytes(tmp_path: Path) -> None:
    # peaks of the allocator with 20,000 and with 220,000 clients, the same number of tasks and flights
    import tracemalloc

    plan(crowd(2000), runs_dir=tmp_path, host=False)
    peaks = []
    for clients in (20_000, 220_000):
        tracemalloc.start()
        plan(crowd(clients), runs_dir=tmp_path, host=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 200_000 < 200


def test_the_simulator_plans_without_touching_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # clients that exist only as numbers stay numbers: nobody's features are made
    from aflctl.builtin.datasets.synthetic import Crowd

    def refuse(self: Any, client: int) -> Any:
        raise AssertionError("features were made")

    monkeypatch.setattr(Crowd, "train", refuse)
    assert plan(crowd(500), runs_dir=tmp_path, host=False).document["totals"]["updates"] == 300


def test_nothing_of_torch_in_the_stand_in() -> None:
    import subprocess

    words = "import sys, aflctl.sim.stand_in; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
