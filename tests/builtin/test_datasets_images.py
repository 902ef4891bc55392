"""Image sets: the real readers on small files in the original format."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from aflctl.api import DataSpec
from aflctl.builtin.datasets.cifar10 import Cifar10
from aflctl.builtin.datasets.cifar100 import Cifar100
from aflctl.builtin.datasets.emnist import Emnist
from aflctl.builtin.datasets.fashion_mnist import FashionMnist
from aflctl.builtin.datasets.idx import check_mean
from aflctl.builtin.datasets.mnist import Mnist
from aflctl.builtin.datasets.svhn import Svhn
from aflctl.data import FileDataset
from aflctl.errors import DataMissing, EnvironmentProblem
from aflctl.train.batches import Feed

DICE = np.random.default_rng(7)


def idx(array: np.ndarray) -> bytes:
    """Magic number (0, 0, type 8 = unsigned byte, dimensions), sizes big-endian, bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        if packed:
            (folder / f"{prefix}-{suffix}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / f"{prefix}-{suffix}").write_bytes(idx(array))


def grey(n: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    return DICE.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n) % classes


def prepared(dataset: FileDataset, cache: Path):
    dataset.prepare(cache, download=False)
    return dataset.open(cache)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["mnist/raw", "mnist/MNIST/raw", "MNIST/raw"])
def test_mnist_from_every_place_people_keep_it(place: str, packed: bool, tmp_path: Path) -> None:
    images, labels = grey(20)
    write_idx(tmp_path / place, "train", images, labels, packed=packed)
    write_idx(tmp_path / place, "t10k", images[:10], labels[:10], packed=packed)
    source = prepared(Mnist(), tmp_path)
    assert source.train.x[0].dtype == torch.uint8
    assert (source.train.x[0][:, 0].numpy() == images).all()
    assert source.train.y.tolist() == labels.tolist()
    assert len(source.test) == 10
    assert source.spec.classes == 10


def test_opening_what_was_not_prepared_names_the_command_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        Mnist().open(tmp_path)
    assert "aflctl data prepare mnist;" in (caught.value.hint or "")
    assert str(tmp_path / "mnist" / "raw") in (caught.value.hint or "")
    assert caught.value.exit_code == 3


def test_preparing_without_files_and_without_download_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"missing: train-images-idx3-ubyte\.gz, train-labels"):
        Mnist().prepare(tmp_path, download=False)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["cut gz", "bad gz", "cut content", "not idx", "fewer labels", "label 11", "small"])
def test_damaged_idx_files_are_refused_and_leave_no_cache(damage: str, tmp_path: Path) -> None:
    raw = tmp_path / "mnist" / "raw"
    images, labels = grey(20)
    write_idx(raw, "train", images, labels)
    write_idx(raw, "t10k", images, labels)
    target = raw / "train-images-idx3-ubyte.gz"
    if damage == "cut gz":
        target.write_bytes(target.read_bytes()[:1000])
    elif damage == "bad gz":
        content = bytearray(target.read_bytes())
        content[500:600] = bytes(100)
        target.write_bytes(content)
    elif damage == "small":
        write_idx(raw, "train", images[:, :20], labels)
    elif damage == "cut content":
        target.write_bytes(gzip.compress(idx(images)[:-100]))
    elif damage == "not idx":
        target.write_bytes(gzip.compress(b"<html>not found</html>"))
    elif damage == "fewer labels":
        write_idx(raw, "train", images, labels[:-1])
    else:
        write_idx(raw, "train", images, labels + 2)
    with pytest.raises(EnvironmentProblem, match=r"mnist: a file in .*/mnist/raw cannot be read"):
        Mnist().prepare(tmp_path, download=False)
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_fashion_files_that_are_mnist_in_truth_are_noticed() -> None:
    check_mean(np.full((60_000, 1), 73, np.uint8), 0.2860, "Fashion-MNIST")
    with pytest.raises(ValueError, match=r"mean grey level is 0\.1294, that of Fashion-MNIST is 0\.286"):
        check_mean(np.full((60_000, 1), 33, np.uint8), 0.2860, "Fashion-MNIST")


def test_fashion_mnist_reads_its_own_folder(tmp_path: Path) -> None:
    images, labels = grey(10)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "fashion-mnist" / "raw", prefix, images, labels)
    assert prepared(FashionMnist(), tmp_path).spec.class_names[9] == "ankle boot"


def test_afl_lib_s_normalisation_shares_the_converted_file(tmp_path: Path) -> None:
    images, labels = grey(10)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "mnist" / "raw", prefix, images, labels)
    prepared(Mnist(), tmp_path)
    (image,) = Mnist(normalise="half").open(tmp_path).spec.modalities
    assert (image.mean, image.std) == ((0.5,), (0.5,))
    batch = Feed(DataSpec((image,), 10)).batch(Mnist().open(tmp_path).train, torch.arange(10))
    torch.testing.assert_close(batch.x[:, 0], torch.from_numpy(images).float() / 127.5 - 1)  # pixels in [-1, 1]


def test_emnist_is_turned_upright_and_has_47_classes(tmp_path: Path) -> None:
    images, labels = grey(94, 47)
    for part in ("train", "test"):
        write_idx(tmp_path / "emnist" / "raw", f"emnist-balanced-{part}", images, labels)
    source = prepared(Emnist(), tmp_path)
    assert (source.train.x[0][5, 0].numpy() == images[5].T).all()
    assert source.spec.classes == 47
    assert (source.spec.class_names[10], source.spec.class_names[36], source.spec.class_names[46]) == ("A", "a", "t")


def cifar_batch(n: int, **labels: list[int]) -> dict[str, object]:
    rows = DICE.integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"batch_label": "batch", "data": rows, "filenames": ["x.png"] * n, **labels}


def test_cifar10_from_the_published_archive(tmp_path: Path) -> None:
    batches = {f"data_batch_{i}": cifar_batch(4, labels=[i, 0, 9, 1]) for i in range(1, 6)}
    batches["test_batch"] = cifar_batch(3, labels=[1, 2, 3])
    raw = tmp_path / "cifar10" / "raw"
    raw.mkdir(parents=True)
    with tarfile.open(raw / "cifar-10-python.tar.gz", "w:gz") as out:
        for name, batch in batches.items():
            content = pickle.dumps(batch, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    source = prepared(Cifar10(), tmp_path)
    assert source.train.x[0].shape == (20, 3, 32, 32)
    assert source.train.y.tolist()[:5] == [1, 0, 9, 1, 2]
    first = batches["data_batch_1"]["data"]
    assert (source.train.x[0][0].flatten().numpy() == first[0]).all()  # channel-planar, rows in order


def test_cifar10_binary_version_and_fewer_batches(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records = DICE.integers(0, 256, (5, 3073), dtype=np.uint8)
        records[:, 0] = [0, 1, 2, 3, 9]
        (folder / name).write_bytes(records.tobytes())
    with pytest.raises(DataMissing, match="data_batch_2"):
        Cifar10().prepare(tmp_path, download=False)
    with pytest.raises(DataMissing, match="not prepared") as caught:
        Cifar10(batches=1).open(tmp_path)
    assert "aflctl data prepare cifar10 --set batches=1" in (caught.value.hint or "")
    assert prepared(Cifar10(batches=1), tmp_path).train.y.tolist() == [0, 1, 2, 3, 9]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return (os.system, ("echo harmed",))


@pytest.mark.parametrize(
    "content",
    [
        Evil(),
        [1, 2],
        {"data": np.zeros((2, 3072), np.uint8), "labels": [Evil()]},
        {"data": np.zeros((2, 3072), np.float64), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": ["a", "b"]},
        {"labels": [0, 1]},
    ],
)
def test_a_batch_file_cannot_run_code(content: object, tmp_path: Path) -> None:
    raw = tmp_path / "cifar10" / "raw"
    raw.mkdir(parents=True)
    for name in ("data_batch_1", "test_batch"):
        (raw / name).write_bytes(pickle.dumps(content))
    with pytest.raises(EnvironmentProblem, match="data_batch_1"):
        Cifar10(batches=1).prepare(tmp_path, download=False)


def test_cifar10_from_the_binary_archive_alone(tmp_path: Path) -> None:
    raw = tmp_path / "cifar10" / "raw"
    raw.mkdir(parents=True)
    with tarfile.open(raw / "cifar-10-binary.tar.gz", "w:gz") as out:
        for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = 2 * 3073
            out.addfile(info, io.BytesIO(bytes(info.size)))
    assert len(prepared(Cifar10(), tmp_path).train) == 10


def test_cifar100_fine_and_coarse(tmp_path: Path) -> None:
    raw = tmp_path / "cifar100" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "test"):
        batch = cifar_batch(3, fine_labels=[99, 0, 5], coarse_labels=[19, 4, 4])
        (raw / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
    (raw / "meta").write_bytes(pickle.dumps(names, protocol=2))
    fine, coarse = prepared(Cifar100(), tmp_path), Cifar100(labels="coarse").open(tmp_path)
    assert (fine.spec.classes, coarse.spec.classes) == (100, 20)
    assert (fine.train.y.tolist(), coarse.train.y.tolist()) == ([99, 0, 5], [19, 4, 4])
    assert coarse.spec.class_names[19] == "c19"
    assert fine.naturals["superclass"].tolist() == [19, 4, 4]
    assert fine.fingerprint != coarse.fingerprint


def test_cifar100_binary_has_the_coarse_label_first(tmp_path: Path) -> None:
    raw = tmp_path / "cifar100" / "raw"
    raw.mkdir(parents=True)
    records = np.zeros((2, 3074), np.uint8)
    records[:, 0], records[:, 1] = [19, 3], [99, 7]
    for name in ("train.bin", "test.bin"):
        (raw / name).write_bytes(records.tobytes())
    for kind in ("fine", "coarse"):
        (raw / f"{kind}_label_names.txt").write_text("\n".join("abc"))
    assert prepared(Cifar100(), tmp_path).train.y.tolist() == [99, 7]


def write_svhn(raw: Path, labels: list[int]) -> dict[str, np.ndarray]:
    from scipy.io import savemat

    raw.mkdir(parents=True, exist_ok=True)
    stored = {}
    for split in ("train", "test"):
        x = DICE.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(raw / f"{split}_32x32.mat", {"X": x, "y": np.array(labels, np.uint8)[:, None]})
        stored[split] = x
    return stored


def test_svhn_moves_the_sample_axis_and_maps_ten_to_zero(tmp_path: Path) -> None:
    stored = write_svhn(tmp_path / "svhn" / "raw", [10, 1, 9, 10])
    source = prepared(Svhn(), tmp_path)
    assert source.train.y.tolist() == [0, 1, 9, 0]
    assert source.train.x[0].shape == (4, 3, 32, 32)
    assert (source.train.x[0][2, 1].numpy() == stored["train"][:, :, 1, 2]).all()


def test_a_damaged_mat_file_is_named(tmp_path: Path) -> None:
    write_svhn(tmp_path / "svhn" / "raw", [10, 1])
    path = tmp_path / "svhn" / "raw" / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(EnvironmentProblem, match=r"test_32x32\.mat"):
        Svhn().prepare(tmp_path, download=False)


def copied(real: Path, target: Path) -> None:
    shutil.copytree(real, target, copy_function=shutil.copyfile)


@pytest.mark.realdata
def test_real_mnist_nearest_class_mean(real_data: Path, tmp_path: Path) -> None:
    copied(real_data / "MNIST" / "raw", tmp_path / "mnist" / "raw")
    source = prepared(Mnist(), tmp_path)
    x, test = (part.x[0].flatten(1).float() for part in (source.train, source.test))
    means = torch.stack([x[source.train.y == k].mean(0) for k in range(10)])
    right = (torch.cdist(test, means).argmin(1) == source.test.y).float().mean().item()
    assert abs(right - 0.8203) < 5e-4


@pytest.mark.realdata
def test_real_cifar10_in_part(real_data: Path, tmp_path: Path) -> None:
    copied(real_data / "cifar-10-batches-py", tmp_path / "cifar10" / "cifar-10-batches-py")
    source = prepared(Cifar10(batches=1), tmp_path)
    assert source.train.y.tolist()[:5] == [6, 9, 9, 4, 1]
    assert source.train.x[0][0, 0, 0, :3].tolist() == [59, 43, 50]
    assert source.train.x[0][1, 0, 0, :3].tolist() == [154, 126, 105]
