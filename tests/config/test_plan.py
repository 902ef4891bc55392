"""The plan: objects, seeds, and what makes two configurations the same experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from aflctl.config.load import load, to_yaml
from aflctl.errors import UserError
from aflctl.plan import config_digest, label, portable, resolve, seeds

MINE = "from aflctl.api import Algorithm\nclass FedMine(Algorithm):\n    k: int = 3\n"


def digest(**data: object) -> str:
    return config_digest(load(data).config)


def test_names_become_objects() -> None:
    plan = resolve(load({"algorithm": {"name": "fedbuff", "buffer_size": 4}, "model": {"name": "mlp", "hidden": [3]}}))
    assert plan.algorithm.buffer_size == 4  # type: ignore[attr-defined]
    assert plan.model.hidden == (3,)  # type: ignore[attr-defined]
    assert type(plan.partition).__name__ == "Dirichlet"
    assert type(plan.selection).__name__ == "Uniform"
    assert (plan.fusion, plan.personalization) == (None, ())
    assert plan.distributions.keys() == {"aflctl"}
    assert plan.source_hashes.keys() >= {"algorithms:fedbuff", "datasets:digits", "models:mlp"}


def test_a_stream_without_a_seed_has_the_master_seed() -> None:
    found = seeds(load({"seed": 7, "seeds": {"fleet": 0}}).config)
    assert found == {"data": 7, "fleet": 0, "selection": 7, "algorithm": 7, "model": 7, "training": 7}


def test_what_does_not_change_the_result_does_not_change_the_digest() -> None:
    base = digest(seed=1)
    assert base == digest(seed=1, name="x", tags=["a"], engine={"executor": "serial"}, track=["y"])
    assert base == digest(seed=1, checkpoint={"every": {"updates": 3}})
    assert base == digest(seed=1, seeds={"data": 1})
    assert base == digest(seed=1, algorithm={"name": "fedbuff", "buffer_size": 10})
    assert base == digest(seed=1, local={"epochs": 1, "lr": 0.01})


def test_what_changes_the_result_changes_the_digest() -> None:
    found = {
        digest(),
        digest(seed=1),
        digest(seeds={"data": 1}),
        digest(algorithm="fedavg"),
        digest(algorithm={"name": "fedbuff", "buffer_size": 9}),
        digest(stop={"updates": 999}),
        digest(evaluate={"every": {"updates": 5}}),
        digest(fleet="iot-mixed"),
        digest(local={"lr": 0.02}),
    }
    assert len(found) == 9


def test_the_digest_of_the_resolved_file_is_the_same(tmp_path: Path) -> None:
    first = load("smoke", ["seed=5"])
    (tmp_path / "config.yaml").write_text(to_yaml(first.config))
    assert config_digest(load(tmp_path).config) == config_digest(first.config)


def test_labels() -> None:
    assert label(load({"seed": 3}).config) == "fedbuff-digits-s3"
    assert label(load({"name": "my run/1"}).config) == "my-run-1-s0"
    assert label(load({"name": "../.."}).config) == "run-s0"


def test_a_local_file_travels_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.py").write_text(MINE)
    (tmp_path / "c.yaml").write_text("algorithm: ./a/mine.py:FedMine\n")
    plan = resolve(load(tmp_path / "c.yaml"))
    assert plan.local_files == ((tmp_path / "a" / "mine.py").resolve(),)
    assert plan.label == "fedmine-digits-s0"
    assert plan.config.algorithm.name == "./plugins/mine.py:FedMine"
    run = tmp_path / "run"
    (run / "plugins").mkdir(parents=True)
    (run / "plugins" / "mine.py").write_text(MINE)
    (run / "config.yaml").write_text(to_yaml(plan.config))
    again = resolve(load(run))
    assert (again.digest, again.source_hashes) == (plan.digest, plan.source_hashes)
    assert portable(again.config) == again.config


def test_two_files_of_one_name_cannot_travel_together(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "m.py").write_text(MINE)
    (tmp_path / "b" / "m.py").write_text("from aflctl.api import Model\nclass Net(Model): ...\n")
    (tmp_path / "c.yaml").write_text("algorithm: ./a/m.py:FedMine\nmodel: ./b/m.py:Net\n")
    with pytest.raises(UserError, match=r"two local files are called m\.py"):
        resolve(load(tmp_path / "c.yaml"))
