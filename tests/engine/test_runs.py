"""Runs end to end through `aflctl.engine.run`: the directory, identity, interruptions, local files, pooled data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aflctl.engine import RunResult, run
from aflctl.errors import Diverged, HookFailed, Interrupted, UserError

SMALL: dict[str, Any] = {
    "algorithm": {"name": "fedbuff", "buffer_size": 3},
    "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 20}},
    "model": {"name": "mlp", "hidden": [8]},
    "clients": {"count": 8, "concurrency": 4},
    "local": {"batch_size": 64, "lr": 0.05},
    "stop": {"updates": 20},
    "evaluate": {"every": {"updates": 5}},
}


def small(runs_dir: Path, *, rerun: bool = False, sets: tuple[str, ...] = (), **sections: Any) -> RunResult:
    return run({**SMALL, **sections}, runs_dir=runs_dir, rerun=rerun, sets=sets)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pictures take a second; one test draws them."""
    if "pictures" not in request.fixturenames:
        import aflctl.report as report

        monkeypatch.setattr(report, "write_all", lambda folder, summary: None)


def rows(path: Path, name: str) -> list[dict[str, str]]:
    with (path / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---- the directory ----

FILES = (
    "config.yaml", "provenance.json", "metrics.csv", "updates.csv", "clients.csv", "staleness.csv", "staleness.png",
    "curve.png", "participation.png", "summary.json", "results.md", "model.safetensors", "events.log",
)  # fmt: skip


def test_every_file_of_the_format_is_there(runs_dir: Path, pictures: None) -> None:
    result = small(runs_dir)
    assert [name for name in FILES if not (result.path / name).is_file()] == []
    assert (runs_dir / "latest").resolve() == result.path.resolve()
    assert result.fresh
    assert json.loads((result.path / "summary.json").read_text()) == result.summary


@pytest.fixture
def pictures() -> None:
    """Marks the test that draws."""


def test_the_rows_of_a_run_add_up(runs_dir: Path) -> None:
    fleet = {
        "devices": {"raspberry-pi-4": 1}, "networks": {"wifi": 1},
        "availability": {"name": "task-failure", "probability": 0.2},
    }  # fmt: skip
    result = small(runs_dir, fleet=fleet, server={"max_staleness": 2}, algorithm="fedasync")
    updates, totals = rows(result.path, "updates"), result.summary["totals"]
    by = {o: [r for r in updates if r["outcome"] == o] for o in ("used", "lost", "rejected", "cancelled", "flying")}
    assert {k: len(v) for k, v in by.items()} == {
        "used": totals["updates"], "lost": totals["lost"], "rejected": 0, "cancelled": 0, "flying": totals["flying"],
    }  # fmt: skip
    assert {r["reason"] for r in by["lost"]} == {"dropout", "stale"}
    assert len(updates) == totals["tasks"] == len({r["task"] for r in updates})
    assert sum(int(r["bytes_down"]) for r in updates) == totals["bytes_down"]
    assert sum(int(r["bytes_up"]) for r in updates) == totals["bytes_up"]
    assert sum(float(r["energy_j"]) for r in updates if r["energy_j"]) == pytest.approx(totals["energy_j"])
    for r in updates:
        parts = [int(r[f"staleness_{c}"]) for c in ("held", "download", "compute", "offline", "upload")]
        assert sum(parts) == int(r["staleness"]) == int(r["version"]) - int(r["base_version"])
        if r["outcome"] != "flying":
            spent = sum(float(r[f"{p}_s"]) for p in ("download", "compute", "offline", "upload"))
            assert spent == pytest.approx(float(r["ended_s"]) - float(r["sent_s"]), abs=1e-9)
    clients = rows(result.path, "clients")
    assert sum(int(r["dispatched"]) for r in clients) == totals["tasks"]
    assert sum(int(r["used"]) for r in clients) == totals["updates"]
    assert all(result.summary["invariants"].values())
    metrics = rows(result.path, "metrics")
    assert [int(r["update"]) for r in metrics] == [0, 5, 10, 15, 20]
    assert float(metrics[-1]["accuracy"]) == result.summary["final"]["accuracy"]


def test_the_model_is_stored_by_parameter(runs_dir: Path) -> None:
    result = small(runs_dir)
    model = load_file(result.path / "model.safetensors")
    assert {k: tuple(v.shape) for k, v in model.items()} == {
        "fc1.weight": (8, 64), "fc1.bias": (8,), "head.weight": (10, 8), "head.bias": (10,),
    }  # fmt: skip


# ---- identity ----


def test_the_same_run_is_shown_and_not_run_again(runs_dir: Path) -> None:
    first = small(runs_dir)
    stamp = (first.path / "updates.csv").stat().st_mtime_ns
    second = small(runs_dir)
    assert (second.path, second.fresh, second.summary) == (first.path, False, first.summary)
    assert "nothing was run" in second.note
    assert (first.path / "updates.csv").stat().st_mtime_ns == stamp


def test_what_changes_no_result_changes_no_identity(runs_dir: Path) -> None:
    first = small(runs_dir, name="a")
    for more in ({"engine": {"executor": "serial"}}, {"tags": ["x"]}, {"checkpoint": {"every": {"updates": 3}}}):
        assert not small(runs_dir, name="a", **more).fresh
    other = small(runs_dir, name="a", local={"batch_size": 64, "lr": 0.06})
    assert other.fresh
    assert other.path != first.path


def test_rerun_goes_into_a_second_directory_and_agrees(runs_dir: Path) -> None:
    first, second = small(runs_dir), small(runs_dir, rerun=True)
    assert second.fresh
    assert second.path.name == f"{first.path.name}-2"
    assert second.summary["digests"] == first.summary["digests"]


def test_a_run_directory_executes_again_to_the_same_bits(runs_dir: Path, tmp_path: Path) -> None:
    first = small(runs_dir)
    again = run(first.path, runs_dir=tmp_path / "elsewhere")
    assert again.fresh
    assert again.path.name == first.path.name
    assert again.summary["digests"] == first.summary["digests"]


class Stop:
    """Interrupts at the second evaluation."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, progress: Any) -> None:
        self.seen += 1
        if self.seen == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("checkpoint", [None, {"every": {"updates": 3}}])
def test_an_interrupted_run_ends_as_if_it_had_not_been(runs_dir: Path, tmp_path: Path, checkpoint: Any) -> None:
    clean = small(tmp_path / "clean")
    more = {} if checkpoint is None else {"checkpoint": checkpoint}
    with pytest.raises(Interrupted) as error:
        run({**SMALL, **more}, runs_dir=runs_dir, progress=Stop())
    assert error.value.exit_code == 130
    said: list[str] = []
    result = run({**SMALL, **more}, runs_dir=runs_dir, begun=lambda path, note: said.append(note))
    assert result.fresh
    assert result.path.name == clean.path.name
    assert result.summary["digests"] == clean.summary["digests"]
    assert said[0]  # what is left of the earlier attempt, and what is done with it, is said
    assert rows(result.path, "updates") == rows(clean.path, "updates")
    assert rows(result.path, "metrics") == rows(clean.path, "metrics")


def test_a_larger_stop_is_another_run_with_the_same_beginning(runs_dir: Path, tmp_path: Path) -> None:
    short, long = small(runs_dir), small(runs_dir, stop={"updates": 30})
    assert long.path != short.path
    alone = small(tmp_path / "alone", stop={"updates": 30})
    assert long.summary["digests"] == alone.summary["digests"]
    assert rows(long.path, "metrics")[:5] == rows(short.path, "metrics")


def test_a_failed_run_keeps_what_was_recorded(runs_dir: Path) -> None:
    local = {"batch_size": 64, "lr": 1e30, "steps": 5}
    with pytest.raises(Diverged, match=r"client \d+"):
        small(runs_dir, local=local)
    (path,) = [p for p in runs_dir.iterdir() if not p.is_symlink()]
    assert len(rows(path, "metrics")) == 1
    assert not (path / "summary.json").exists()


# ---- plug-ins in files ----

ALGORITHM = '''
"""A local method."""
from dataclasses import dataclass
from typing import Any
from pydantic import Field
from aflctl.api import Algorithm, Step


@dataclass(frozen=True)
class Mine:
    w: Any


class FedMine(Algorithm[Mine]):
    """Adds a share of every update."""

    rate: float = Field(0.5, gt=0, description="share")

    def init(self, setup, fleet):
        return Mine(setup.init)

    def receive(self, state, update, fleet):
        return Step(Mine(state.w + self.rate * update.delta), advanced=True, weight=self.rate)
'''
MODEL = '''
"""A local model."""
from torch import nn
from aflctl.api import Model


class Thin(Model):
    """One narrow hidden layer."""

    def build(self, spec, fusion=None):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, spec.classes))
'''
DATASET = '''
"""A local dataset."""
import torch
from aflctl.api import Dataset, DataSpec, Modality, Samples, Source


class Stripes(Dataset):
    """Three classes on a line."""

    n: int = 240

    def open(self, cache):
        x = torch.arange(float(self.n)).view(-1, 1) / self.n
        y = (x[:, 0] * 3).long()
        spec = DataSpec((Modality("x", (1,)),), 3)
        return Source(spec, Samples((x,), y), Samples((x[::3],), y[::3]), f"stripes {self.n}")
'''


def test_local_files_for_method_model_and_dataset(runs_dir: Path, tmp_path: Path) -> None:
    for name, text in (("mine", ALGORITHM), ("thin", MODEL), ("stripes", DATASET)):
        (tmp_path / f"{name}.py").write_text(text)
    config = tmp_path / "config.yaml"
    config.write_text(
        "algorithm: {name: ./mine.py:FedMine, rate: 0.25}\n"
        "dataset: {name: ./stripes.py:Stripes, n: 120, partition: iid}\n"
        "model: logistic\n"
        "clients: {count: 4, concurrency: 2}\n"
        "stop: {updates: 6}\n"
    )
    result = run(config, runs_dir=runs_dir)
    assert result.summary["totals"]["updates"] == 6
    assert {r["weight"] for r in rows(result.path, "updates") if r["outcome"] == "used"} == {"0.25"}
    assert sorted(p.name for p in (result.path / "plugins").iterdir()) == ["mine.py", "stripes.py"]
    model = run({**SMALL, "model": f"{tmp_path}/thin.py:Thin", "stop": {"updates": 4}}, runs_dir=runs_dir)
    assert model.summary["model"]["parameters"] == 64 * 5 + 5 + 5 * 10 + 10
    # the directory is complete: the originals may go
    for name in ("mine", "stripes"):
        (tmp_path / f"{name}.py").unlink()
    again = run(result.path, runs_dir=tmp_path / "again")
    assert again.summary["digests"] == result.summary["digests"]


def test_an_edited_local_file_is_another_run(runs_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ALGORITHM)
    config = tmp_path / "config.yaml"
    config.write_text("algorithm: ./mine.py:FedMine\nclients: {count: 4}\nmodel: logistic\nstop: {updates: 3}\n")
    first = run(config, runs_dir=runs_dir)
    file.write_text(ALGORITHM.replace("self.rate * update.delta", "0.0 * update.delta"))
    second = run(config, runs_dir=runs_dir)
    assert second.fresh
    assert second.path != first.path
    assert second.summary["digests"]["model"] != first.summary["digests"]["model"]


def test_a_local_method_that_raises_is_named(runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALGORITHM.replace("return Step(Mine(", "return Step(Nothing("))
    config = tmp_path / "config.yaml"
    config.write_text("algorithm: ./mine.py:FedMine\nclients: {count: 4}\nmodel: logistic\nstop: {updates: 3}\n")
    with pytest.raises(HookFailed, match=r"FedMine\.receive for client \d at .* raised NameError"):
        run(config, runs_dir=runs_dir)


# ---- baselines ----


def test_central_pools_all_data(runs_dir: Path) -> None:
    result = small(runs_dir, algorithm="central", stop={"updates": 3})
    assert result.summary["participation"]["clients"] == 1
    (client,) = rows(result.path, "clients")
    assert int(client["samples"]) == 1442  # of 1797 digits, four fifths
    assert result.summary["staleness"]["max"] == 0
    assert result.summary["totals"]["samples"] == 3 * 1442


def test_central_is_plain_training(runs_dir: Path) -> None:
    # one task = an epoch; three of them with SGD without momentum = three epochs of the plain loop in that order
    result = small(runs_dir, algorithm="central", stop={"updates": 3}, model="logistic")
    found = load_file(result.path / "model.safetensors")
    from tiny import experiment, plan_of

    plan = plan_of("central", {**SMALL, "algorithm": "central", "model": "logistic", "seed": 0})
    x, _, _ = experiment(plan)
    w, train = x.task.init.clone(), x.data.train(0)
    for nth in range(3):
        order = torch.from_numpy(x.pool.order_rng(0, nth).permutation(1442))
        for at in order.split(64):
            leaf = w.clone().requires_grad_()
            (g,) = torch.autograd.grad(x.task.loss(leaf, x.feed.batch(train, at)), leaf)
            w = w - 0.05 * g
    parts = x.task.parts(w)
    for name, value in found.items():
        assert torch.allclose(value, parts[name], rtol=1e-4, atol=1e-6)


# ---- more clients than there is data for, and the like ----


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"clients": {"count": 2000, "concurrency": 4}}, ("2000", "1442")),
        ({"clients": {"count": 9}, "dataset": {"partition": {"name": "dirichlet", "min_size": 500}}}, ("500",)),
        ({"algorithm": {"name": "fedasync", "staleness": {"sampled": "uniform"}}}, ("concurrency",)),
    ],
)  # fmt: skip
def test_what_only_the_data_or_the_method_can_refuse(runs_dir: Path, sections: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        small(runs_dir, **sections)
    assert error.value.exit_code == 2
    assert error.value.hint
    for word in words:
        assert word in str(error.value)


def test_progress_and_begin_are_told(runs_dir: Path) -> None:
    told: list[Any] = []
    begun: Callable[[Path, str], None] = lambda path, note: told.append((path, note))  # noqa: E731
    result = run(SMALL, runs_dir=runs_dir, begun=begun, progress=lambda p: told.append(p.row.update))
    assert told == [(result.path, ""), 0, 5, 10, 15, 20]
