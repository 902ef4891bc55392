"""Networks learn from real data, through `aflctl run` on the poster's fleet, clearly above chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aflctl.cli.app import execute
from aflctl.data.raw import looking_in
from aflctl.data.survey import survey
from aflctl.plugins import registry

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


def prepared(cache: Path, real_data: Path, name: str, where: str, params: dict[str, Any]) -> Any:
    dataset = registry().load("datasets", name)(**params)
    with looking_in(real_data / where):
        dataset.prepare(cache, download=False)
    return dataset


@pytest.mark.parametrize(
    ("name", "mean", "std", "classes"),
    [("mnist", 0.1307, 0.3081, [5923, 6742, 5958]), ("fashion-mnist", 0.2860, 0.3530, [6000, 6000, 6000])],
)
def test_statistics(name: str, mean: float, std: float, classes: list[int], cache: Path, real_data: Path) -> None:
    dataset = prepared(cache, real_data, name, ".", {})
    source = dataset.open(cache)
    with looking_in(real_data):
        found_here = survey(dataset, cache)
    assert found_here.differences == []
    assert list(found_here.originals.values()) == ["original"] * 4
    grey, count = torch.arange(256) / 255, source.train.x[0].flatten().bincount(minlength=256).double()
    found = float((grey * count).sum() / count.sum())
    assert found == pytest.approx(mean, abs=5e-5)
    assert float(((grey - found).square() * count).sum() / count.sum()) ** 0.5 == pytest.approx(std, abs=5e-5)
    assert source.train.y.bincount().tolist()[:3] == classes
    (image,) = source.spec.modalities
    assert image.mean == (mean,)
    assert image.std == (std,)


def accuracy(folder: Path, config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> float:
    """Final accuracy of `aflctl run FILE` on the poster's fleet."""
    updates = config["stop"]["updates"]
    whole = {"fleet": "poster-1-1-1", "evaluate": {"every": {"updates": updates}}, **config}
    folder.mkdir(exist_ok=True)
    (folder / "c.yaml").write_text(json.dumps(whole))  # JSON is YAML
    assert execute(["run", str(folder / "c.yaml"), "--json", "-q"]) == 0
    return float(json.loads(capsys.readouterr().out)["summary"]["final"]["accuracy"])


ADAM = {"batch_size": 32, "optimizer": "adam"}
LEARNS: dict[str, tuple[str, dict[str, Any], float]] = {
    # 2NN of McMahan et al. 2017: 97 % after about 100 updates of one epoch over 3,000 images
    "mnist": (".", {
        "dataset": {"name": "mnist", "partition": "iid"},
        "model": {"name": "mlp", "hidden": [200, 200]},
        "clients": {"count": 20, "concurrency": 5},
        "local": {"epochs": 1, "batch_size": 32, "lr": 0.1, "momentum": 0.5},
        "algorithm": {"name": "fedbuff", "buffer_size": 4},
        "stop": {"updates": 100},
    }, 0.97),
    # chance 0.25
    "ag-news": ("agnews", {
        "dataset": {"name": "ag-news", "words": 8000, "length": 64, "partition": {"name": "dirichlet", "alpha": 5.0}},
        "model": {"name": "textcnn", "width": 24, "filters": 16},
        "clients": {"count": 100, "concurrency": 4},
        "local": {"steps": 40, "lr": 0.02, **ADAM},
        "algorithm": {"name": "fedbuff", "buffer_size": 3},
        "stop": {"updates": 24},
    }, 0.5),
    # the same with attention
    "ag-news transformer": ("agnews", {
        "dataset": {"name": "ag-news", "words": 8000, "length": 64, "partition": {"name": "dirichlet", "alpha": 5.0}},
        "model": {"name": "transformer", "width": 24, "heads": 2, "layers": 1},
        "clients": {"count": 100, "concurrency": 4},
        "local": {"steps": 30, "lr": 0.01, **ADAM},
        "algorithm": {"name": "fedbuff", "buffer_size": 3},
        "stop": {"updates": 15},
    }, 0.5),
    # the most frequent character, a space: 0.18
    "shakespeare": ("shakespeare", {
        "dataset": {"name": "shakespeare", "stride": 10, "test_windows": 2000,
                    "partition": {"name": "natural", "min_size": 300}},
        "model": {"name": "char-lstm", "hidden": 48, "layers": 1},
        "clients": {"count": 50, "concurrency": 8},
        "local": {"steps": 20, "lr": 0.01, **ADAM},
        "algorithm": {"name": "fedbuff", "buffer_size": 5},
        "stop": {"updates": 50},
    }, 0.25),
    # chance 0.18; every client is a person, tested on nine others
    "uci-har": ("uci_har", {
        "dataset": {"name": "uci-har", "partition": "natural"},
        "model": {"name": "sensor-cnn", "channels": [16, 32]},
        "clients": {"count": 21, "concurrency": 6},
        "local": {"steps": 10, "lr": 0.01, **ADAM},
        "algorithm": {"name": "fedbuff", "buffer_size": 5},
        "stop": {"updates": 30},
    }, 0.7),
    # chance 0.17; tested on actors whom nobody trained with
    "crema-d": ("crema-d", {
        "dataset": {"name": "crema-d", "partition": "natural"},
        "model": {"name": "cnn", "channels": [8, 16, 16, 16]},
        "clients": {"count": 60, "concurrency": 8},
        "local": {"epochs": 1, "batch_size": 16, "lr": 0.003, "optimizer": "adam"},
        "algorithm": {"name": "fedbuff", "buffer_size": 5},
        "stop": {"updates": 50},
    }, 0.28),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNS)
def test_it_learns(
    name: str, cache: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    where, config, floor = LEARNS[name]
    params = {k: v for k, v in config["dataset"].items() if k not in ("name", "partition")}
    prepared(cache, real_data, config["dataset"]["name"], where, params)
    monkeypatch.setenv("AFLCTL_DATA_DIR", str(cache))
    assert accuracy(tmp_path / "c", config, capsys) > floor


@pytest.mark.slow
def test_a_fifth_of_cifar10_above_45_percent(
    cache: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    prepared(cache, real_data, "cifar10", "cifar-10-batches-py", {"batches": 1})
    monkeypatch.setenv("AFLCTL_DATA_DIR", str(cache))
    config = {
        "dataset": {"name": "cifar10", "batches": 1, "partition": {"name": "dirichlet", "alpha": 10.0}},
        "model": "cnn",
        "clients": {"count": 10, "concurrency": 4},
        "local": {"epochs": 3, "batch_size": 32, "lr": 0.05, "momentum": 0.9},
        "algorithm": {"name": "fedbuff", "buffer_size": 3},
        "stop": {"updates": 75},
    }
    assert accuracy(tmp_path / "c", config, capsys) > 0.45
