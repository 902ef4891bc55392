"""Official test samples divided too (AFL-Lib's and PFLlib's protocol): nobody trains on what anybody is tested with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aflctl.builtin.partitions.legacy import Legacy
from aflctl.config.load import load
from aflctl.engine import run
from aflctl.engine.parts.build import federate
from aflctl.errors import UserError
from aflctl.plan import Plan, resolve
from aflctl.plugins import registry
from aflctl.train.federation import Divided

LEGACY = {"name": "legacy", "scheme": "dir", "alpha": 0.5}


def plan_of(**changes: Any) -> Plan:
    dataset = {"name": "digits", "merge_test": True, "partition": LEGACY, **changes.pop("dataset", {})}
    clients = {"count": 6, "concurrency": 3}
    return resolve(load({"dataset": dataset, "clients": clients, "model": "logistic", **changes}))


def divided(plan: Plan, cache: Path = Path()) -> Divided:
    data = federate(plan, cache)
    assert isinstance(data, Divided)
    return data


def all_labels() -> np.ndarray:
    source = registry().load("datasets", "digits")().open(Path())
    return torch.cat([source.train.labels, source.test.labels]).numpy()


def test_legacy_divides_the_union_and_splits_each_client_as_its_library_does() -> None:
    data, labels = divided(plan_of()), all_labels()
    expected = Legacy(alpha=0.5).local_split(labels, 6)
    for client, (train, test) in enumerate(expected):
        assert data.train(client).rows.tolist() == sorted(train)
        assert data.local_test(client).rows.tolist() == sorted(test)
        # training gets floor(0.75 n)
        assert len(train) == (len(train) + len(test)) * 3 // 4
    assert data.class_counts() == np.bincount(np.concatenate([labels[t] for t, _ in expected])).tolist()


@pytest.mark.parametrize("partition", [LEGACY, {"name": "dirichlet", "alpha": 1.0, "min_size": 5}, "iid"], ids=str)
def test_every_sample_is_used_once_and_the_global_test_set_is_everybody_s(partition: Any) -> None:
    fraction = {} if partition is LEGACY else {"test_fraction": 0.25}
    data, labels = divided(plan_of(dataset={"partition": partition, **fraction})), all_labels()
    trained = [r for c in range(6) for r in data.train(c).rows.tolist()]
    tested = [r for c in range(6) for r in data.local_test(c).rows.tolist()]
    assert sorted(trained + tested) == list(range(len(labels)))
    assert sorted(tested) == data.test().rows.tolist()
    assert data.test().labels.tolist() == labels[sorted(tested)].tolist()
    assert abs(len(tested) / len(labels) - 0.25) < 0.01


def test_a_method_that_pools_trains_on_all_training_parts_and_no_test_part() -> None:
    apart, pooled = divided(plan_of()), divided(plan_of(algorithm="central"))
    assert pooled.train(0).rows.tolist() == sorted(r for c in range(6) for r in apart.train(c).rows.tolist())
    assert pooled.test().rows.tolist() == apart.test().rows.tolist()


def test_without_a_test_set_left_it_is_refused() -> None:
    with pytest.raises(UserError, match="no test set is left") as caught:
        federate(plan_of(dataset={"partition": "iid"}), Path())
    assert "test_fraction" in (caught.value.hint or "")


def test_a_dataset_that_makes_its_clients_has_nothing_to_merge() -> None:
    with pytest.raises(UserError, match="clients of its own"):
        federate(plan_of(dataset={"name": "synthetic", "test_fraction": 0.2}), Path())


def test_it_is_another_experiment_and_runs(tmp_path: Path) -> None:
    config = {
        "dataset": {"name": "digits", "merge_test": True, "partition": LEGACY}, "model": "logistic",
        "clients": {"count": 6, "concurrency": 3}, "local": {"steps": 2}, "stop": {"updates": 6},
    }  # fmt: skip
    merged = run(config, runs_dir=tmp_path)
    official = run({**config, "dataset": {"name": "digits", "partition": LEGACY}}, runs_dir=tmp_path)
    assert merged.summary["identity"] != official.summary["identity"]
    assert "merge_test: true" in (merged.path / "config.yaml").read_text()
    assert run(merged.path, runs_dir=tmp_path).fresh is False


def test_windows_of_one_text_are_merged_without_a_copy(tmp_path: Path) -> None:
    raw = tmp_path / "shakespeare" / "raw"
    raw.mkdir(parents=True)
    line = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n"
    (raw / "shakespeare_by_role.json").write_text(json.dumps({f"R{i}": line * 8 for i in range(4)}))
    dataset = registry().load("datasets", "shakespeare")()
    dataset.prepare(tmp_path, download=False)
    source = dataset.open(tmp_path)
    with pytest.raises(UserError, match="the owners of test samples are not known"):
        federate(plan_of(dataset={"name": "shakespeare", "partition": "natural", "test_fraction": 0.2}), tmp_path)
    data = divided(plan_of(dataset={"name": "shakespeare", "partition": "iid", "test_fraction": 0.2}), tmp_path)
    count = sum(len(data.train(c)) + len(data.local_test(c)) for c in range(6))
    assert count == len(source.train) + len(source.test)
    assert data.train(0).x[0].untyped_storage().nbytes() == source.train.x[0].untyped_storage().nbytes()


@pytest.mark.realdata
def test_a_published_partition_of_merged_fashion_mnist(real_data: Path, tmp_path: Path) -> None:
    golden = json.loads((real_data / "golden_partitions" / "fashion_mnist_dir_a0.3_n50_fidsus.json").read_text())
    shutil.copytree(real_data / "FashionMNIST" / "raw", tmp_path / "fashion-mnist" / "raw")
    registry().load("datasets", "fashion-mnist")().prepare(tmp_path, download=False)
    names = ("alpha", "batch_size", "train_ratio", "seed")
    partition = {"name": "legacy", "library": "pfllib", **{k: golden[k] for k in names}}
    clients = {"count": golden["num_clients"]}
    data = divided(plan_of(dataset={"name": "fashion-mnist", "partition": partition}, clients=clients), tmp_path)
    for client, published in enumerate(golden["label_counts_per_client"]):
        mine = data.train(client).labels.bincount(minlength=10) + data.local_test(client).labels.bincount(minlength=10)
        assert [[k, n] for k, n in enumerate(mine.tolist()) if n] == published
