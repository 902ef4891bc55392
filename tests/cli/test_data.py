"""`aflctl data`: listing, preparing from a folder, paths, and the picture of a partition."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from aflctl.cli.app import execute
from aflctl.data.index import read_index


def write_mnist(folder: Path, n: int = 40) -> None:
    folder.mkdir(parents=True)
    dice = np.random.default_rng(1)
    for prefix in ("train", "t10k"):
        for suffix, shape in (("images-idx3-ubyte", (n, 28, 28)), ("labels-idx1-ubyte", (n,))):
            array = dice.integers(0, 10, shape, dtype=np.uint8)
            head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            (folder / f"{prefix}-{suffix}.gz").write_bytes(gzip.compress(head + array.tobytes()))


def words(*options: str) -> list[str]:
    return [word for option in options for word in ("--set", option)]


def document(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_list_says_for_each_what_is_here_and_how_to_get_it(capsys, data_dir: Path) -> None:
    assert execute(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in document(capsys)["datasets"]}
    assert rows["digits"]["state"] == "built in"
    assert (rows["mnist"]["state"], rows["mnist"]["get"]) == ("absent", "aflctl data prepare mnist")
    assert rows["shakespeare"]["natural"] == "role"
    assert "by hand" in rows["harbox"]["get"]
    assert all(row["licence"] for row in rows.values() if row["state"] != "built in")
    write_mnist(data_dir / "mnist" / "raw")
    execute(["data", "list", "--json"])
    assert {r["name"]: r["state"] for r in document(capsys)["datasets"]}["mnist"] == "downloaded"


def test_prepare_from_a_folder_then_show(capsys, tmp_path: Path, data_dir: Path) -> None:
    write_mnist(tmp_path / "elsewhere" / "MNIST" / "raw")
    assert execute(["data", "prepare", "mnist", "--from", str(tmp_path / "elsewhere"), "--no-download"]) == 0
    assert (data_dir / "mnist" / "mnist.safetensors").is_file()
    assert "mnist is ready" in capsys.readouterr().out
    options = ["dataset.name=mnist", "clients.count=4", "clients.concurrency=2", "dataset.partition=iid"]
    sets = [word for option in options for word in ("--set", option)]
    png, index = tmp_path / "p.png", tmp_path / "p.safetensors"
    assert execute(["data", "show", *sets, "--png", str(png), "--save", str(index), "--json"]) == 0
    shown = document(capsys)
    assert (shown["clients"], shown["samples"], shown["size_min"]) == (4, 40, 10)
    assert np.array(shown["counts"]).shape == (4, 10)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert [len(part) for part in read_index(index).parts] == [10] * 4
    assert execute(["data", "show", *sets]) == 0
    assert "median client: 10" in capsys.readouterr().out


def test_prepare_without_files_names_them_and_exits_3(capsys, data_dir: Path) -> None:
    assert execute(["data", "prepare", "mnist", "--no-download"]) == 3
    message = capsys.readouterr().err
    assert "train-images-idx3-ubyte.gz" in message
    assert str(data_dir / "mnist" / "raw") in message


def test_run_on_an_absent_dataset_says_which_command_fetches_it(capsys) -> None:
    assert execute(["run", "--set", "dataset.name=fashion-mnist", "-q"]) == 3
    assert "aflctl data prepare fashion-mnist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "mnits"], "did you mean 'mnist'"),
        (["prepare", "cifar10", "--set", "batches=9"], "less than or equal to 5"),
        (["prepare", "cifar10", "--set", "batch=1"], "parameters of cifar10: normalise, batches"),
        (["prepare", "cifar10", "--set", "batches"], "expected KEY=VALUE"),
        (["prepare", "mnist", "--from", "/no/such/folder"], "no such folder"),
    ],
)
def test_mistakes_exit_2(words: list[str], expected: str, capsys) -> None:
    assert execute(["data", *words]) == 2
    assert expected in capsys.readouterr().err


def test_prepare_of_a_set_without_files(capsys) -> None:
    assert execute(["data", "prepare", "digits"]) == 0
    assert "digits needs no files" in capsys.readouterr().out


def test_path(capsys, data_dir: Path) -> None:
    assert execute(["data", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(data_dir)
    assert execute(["data", "path", "cifar10", "--json"]) == 0
    assert document(capsys)["path"] == str(data_dir / "cifar10")


def test_the_list_fits_80_columns_and_one_dataset_is_told_in_full(capsys, data_dir: Path) -> None:
    assert execute(["data", "list"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in table if not line.startswith("folder:")) <= 80
    assert len(table) == 16 + 3
    assert execute(["data", "list", "harbox"]) == 0
    told = capsys.readouterr().out
    assert "put large_scale_HARBox.zip (from https://github.com/xmouyang/FL-Datasets-for-HAR" in told
    assert str(data_dir / "harbox" / "raw") in told
    assert execute(["data", "list", "harbx"]) == 2
    assert "did you mean 'harbox'" in capsys.readouterr().err


def test_what_is_here_with_other_parameters_is_listed(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (folder / name).write_bytes(bytes(3073 * 4))
    assert execute(["data", "prepare", "cifar10", "--from", str(folder), "--set", "batches=1", "--no-download"]) == 0
    told = capsys.readouterr()
    assert "4 training and 4 test samples, 10 classes" in told.out
    assert "warning: 4 training samples, the published set has 10,000" in told.err
    execute(["data", "list"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cifar10 "))
    assert row.split()[1] == "partly"
    execute(["data", "list", "cifar10"])
    assert "prepared with other parameters: batches=1" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aflctl.data.fetch.fetch", stop)
    assert execute(["data", "prepare", "mnist"]) == 130
    assert "repeat the command: it continues where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--png", "p.pdf"], 2, "p.pdf does not end in .png"),
        (["--png", "/proc/p.png"], 3, "cannot write /proc/p.png"),
        (["--save", "/proc/p.idx"], 3, "cannot write /proc/p.idx"),
    ],
)
def test_a_picture_that_cannot_be_written(options: list[str], code: int, said: str, capsys) -> None:
    assert execute(["data", "show", *options]) == code
    assert said in capsys.readouterr().err


def test_a_partition_saved_for_other_data_is_refused(capsys, tmp_path: Path) -> None:
    index = tmp_path / "p.safetensors"
    assert execute(["data", "show", *words("clients.count=4"), "--save", str(index)]) == 0
    file = words("clients.count=4", "dataset.partition.name=from-file", f"dataset.partition.path={index}")
    assert execute(["data", "show", *file]) == 0
    capsys.readouterr()
    assert execute(["data", "show", *file, *words("dataset.name=synthetic-modal")]) == 2
    assert "was written for data with the fingerprint" in capsys.readouterr().err


def test_clients_that_a_partition_drops_are_no_clients(capsys, tmp_path: Path) -> None:
    some = words(
        "clients.count=40", "clients.concurrency=3", "dataset.partition.name=dirichlet", "dataset.partition.alpha=0.1",
        "dataset.partition.min_size=20", "dataset.partition.max_retries=0", "dataset.partition.shortfall=drop",
    )  # fmt: skip
    assert execute(["data", "show", *some, "--json"]) == 0
    shown = document(capsys)
    assert 3 < shown["clients"] < 40
    assert shown["size_min"] >= 20
    assert shown["coverage"] < 1
    assert execute(["run", *some, *words("stop.updates=3", "model=logistic"), "--json", "-q"]) == 0
    summary = document(capsys)["summary"]
    assert summary["partition"]["clients"] == shown["clients"]
    assert "clients-left-out" in {warning["code"] for warning in summary["warnings"]}


def test_of_clients_that_make_their_data_the_first_thousand_are_shown(capsys) -> None:
    assert execute(["data", "show", *words("dataset.name=synthetic", "clients.count=1200")]) == 0
    shown = capsys.readouterr().out
    assert "the first 1,000 of 1,200 clients" in shown
    assert "partition:" not in shown


def test_a_parameter_typed_in_set_is_read_as_in_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for given, told in (("x={a: [", "not readable as YAML"), ("nonsense={a: 1}", "nonsense: unknown parameter")):
        assert execute(["data", "prepare", "digits", "--set", given]) == 2
        assert told in capsys.readouterr().err
    assert execute(["data", "prepare", "ag-news", "--set", "words=.5", "--from", str(tmp_path)]) == 2
    assert "words: Input should be a valid integer" in capsys.readouterr().err
