"""A dataset in files: where its originals are found, what is made of them, and what is said of it."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.data import FileDataset, Listing, Raw, RemoteFile, Stored, Table, catalog, store
from aflctl.data import archive as archives
from aflctl.data.disk import alone, disk_problem
from aflctl.data.npz import read_npz
from aflctl.data.raw import looking_in
from aflctl.data.survey import survey
from aflctl.errors import DataMissing, DiskProblem, EnvironmentProblem
from aflctl.train.federation import Divided

PAGE = "http://example.org/inner.zip"


class Toy(FileDataset):
    """Labels from `labels.txt`, which lies in inner.zip, which lies in outer.zip."""

    key: ClassVar[str] = "toy"
    shaping: ClassVar[tuple[str, ...]] = ("shift",)

    shift: int = Field(0, ge=0, description="added to every input")

    @classmethod
    def listing(cls) -> Listing:
        return Listing(
            "Toy", "none", homepage="http://example.org", samples=(4, 2), balanced=True,
            files=(
                RemoteFile("inner.zip", urls=(PAGE,), provides=("*.txt",), strip="*"),
                RemoteFile("outer.zip", provides=("inner.zip",)),
            ),
        )  # fmt: skip

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("labels.txt",),)

    def convert(self, raw: Raw) -> Table:
        labels = np.array([int(word) for word in raw["labels.txt"].read_text().split()])
        x = labels[:, None].astype(np.float32) + self.shift
        arrays = {"train/x/v": x[:-2], "train/y": labels[:-2], "test/x/v": x[-2:], "test/y": labels[-2:]}
        return Table(arrays, {"left out": ["sample 7: unreadable"] if len(labels) == 5 else []})

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((Modality("v", (1,)),), 2)


def raw(cache: Path) -> Path:
    folder = cache / "toy" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def zipped(path: Path, name: str, content: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(name, content)
    return path


def labels_in(cache: Path, text: str = "0 1 0 1 0 1") -> Path:
    path = raw(cache) / "labels.txt"
    path.write_text(text)
    return path


def test_an_archive_inside_an_archive(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", "toy/labels.txt", "0 1 0 1 0 1").read_bytes()
    zipped(raw(tmp_path) / "outer.zip", "inner.zip", inner)
    assert Toy().state(tmp_path) == "downloaded"
    Toy().prepare(tmp_path, download=False)
    assert Toy().open(tmp_path).train.y.tolist() == [0, 1, 0, 1]
    assert Toy().state(tmp_path) == "prepared"


def test_what_was_unpacked_by_hand_into_a_folder_of_its_own(tmp_path: Path) -> None:
    (raw(tmp_path) / "toy-v1").mkdir()
    labels_in(tmp_path).rename(raw(tmp_path) / "toy-v1" / "labels.txt")
    Toy().prepare(tmp_path, download=False)
    assert len(Toy().open(tmp_path).train) == 4


def test_a_page_that_came_instead_of_the_archive_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(file: RemoteFile, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_text("<html>sorry</html>")
        return folder / file.name

    monkeypatch.setattr("aflctl.data.fetch.fetch", fetch)
    with pytest.raises(EnvironmentProblem, match=r"inner\.zip: the archive is damaged"):
        Toy().prepare(tmp_path, download=True)
    assert [path.name for path in raw(tmp_path).iterdir()] == []


def test_a_damaged_archive_that_the_user_put_there_is_named_and_kept(tmp_path: Path) -> None:
    (raw(tmp_path) / "inner.zip").write_text("no zip")
    with pytest.raises(EnvironmentProblem, match=r"inner\.zip: .* \(neither a zip nor a tar") as caught:
        Toy().prepare(tmp_path, download=False)
    assert "delete it" in (caught.value.hint or "")
    assert (raw(tmp_path) / "inner.zip").exists()


def test_nothing_there_names_the_file_the_page_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"missing: labels\.txt \(in inner\.zip\)") as caught:
        Toy().prepare(tmp_path, download=False)
    hint = caught.value.hint or ""
    assert "run: aflctl data prepare toy" in hint
    assert f"put inner.zip (from http://example.org) into {tmp_path / 'toy' / 'raw'}" in hint
    (tmp_path / "here").mkdir()
    with looking_in(tmp_path / "here"), pytest.raises(DataMissing, match=f"nor are its files in {tmp_path / 'here'}"):
        Toy().prepare(tmp_path, download=False)


def test_a_changed_byte_of_the_converted_file_is_found_and_mended_by_prepare(tmp_path: Path) -> None:
    labels_in(tmp_path)
    Toy().prepare(tmp_path, download=False)
    path = Toy().stored_at(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not store.intact(path, Toy().how())
    Toy().prepare(tmp_path, download=False)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_converted_file_cut_short_is_called_damaged_and_mended_by_prepare(length: int, tmp_path: Path) -> None:
    labels_in(tmp_path)
    Toy().prepare(tmp_path, download=False)
    path = Toy().stored_at(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    assert Toy().state(tmp_path) == "damaged"
    with pytest.raises(EnvironmentProblem, match="damaged") as caught:
        Toy().open(tmp_path)
    assert "aflctl data prepare toy" in (caught.value.hint or "")
    Toy().prepare(tmp_path, download=False)
    assert path.read_bytes() == whole


def test_a_file_of_another_version_is_outdated_and_other_parameters_are_told(tmp_path: Path) -> None:
    labels_in(tmp_path)
    Toy(shift=3).prepare(tmp_path, download=False)
    assert (Toy().state(tmp_path), Toy().others(tmp_path)) == ("downloaded", ["shift=3"])
    store.write(Toy().stored_at(tmp_path), Table({"a": np.zeros(1)}), "toy r0 {}")
    assert Toy().state(tmp_path) == "outdated"
    with pytest.raises(DataMissing, match="made by another version"):
        Toy().open(tmp_path)
    Toy().prepare(tmp_path, download=False)
    assert Toy().state(tmp_path) == "prepared"


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    labels_in(tmp_path)
    for left in (raw(tmp_path) / f"{archives.STAGING}x", tmp_path / "toy" / ".work-y"):
        left.mkdir()
        (left / "big").write_bytes(bytes(100))
    (tmp_path / "toy" / "toy-shift-1.safetensors.part").write_bytes(bytes(100))
    Toy().prepare(tmp_path, download=False)
    assert sorted(p.name for p in (tmp_path / "toy").rglob("*")) == [".lock", "labels.txt", "raw", "toy.safetensors"]


def test_a_second_process_waits(tmp_path: Path) -> None:
    order: list[str] = []
    inside, told = threading.Event(), threading.Event()

    def first() -> None:
        with alone(tmp_path, lambda: None):
            inside.set()
            told.wait(120)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(120)
    with alone(tmp_path, told.set):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 1 0 1 0 1", []),
        ("0 1 0 0 1", ["3 training samples, the published set has 4"]),
        ("0 0 0 1 0 1", ["1 to 3 training samples of a class, the published set has 2 of each"]),
    ],
)
def test_the_survey_compares_with_the_published_set(text: str, said: list[str], tmp_path: Path) -> None:
    labels_in(tmp_path, text)
    Toy().prepare(tmp_path, download=False)
    found = survey(Toy(), tmp_path)
    assert found.differences == said
    assert (found.train, found.test, found.classes) == (len(text.split()) - 2, 2, 2)
    assert found.left_out == (["sample 7: unreadable"] if len(text.split()) == 5 else [])


def test_the_disk_s_failures_are_told_apart() -> None:
    place = Path("/data/x")
    for code, said in ((28, "free some space"), (30, "may write"), (13, "may write")):
        problem = disk_problem(OSError(code, "no"), place)
        assert isinstance(problem, DiskProblem)
        assert said in (problem.hint or "")
    assert disk_problem(OSError(5, "Input/output error"), place) is None
    assert disk_problem(ValueError("x"), place) is None


def test_an_archive_put_there_is_used_although_another_could_be_fetched(tmp_path: Path) -> None:
    # CIFAR-10's binary version is not in the archive that is fetched, whatever patterns say
    listing = catalog()["cifar10"]
    assert [f.name for f in listing.bringing("data_batch_1.bin")] == ["cifar-10-binary.tar.gz"]
    assert [f.name for f in listing.bringing("data_batch_1")] == ["cifar-10-python.tar.gz"]


def test_arrays_of_an_npz_are_plain_complete_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1000), y=np.array([{}]))
    (x,) = read_npz(path, "x")
    assert len(x) == 1000
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_npz(path, "y")
    with pytest.raises(ValueError, match=r"a\.npz: no array z; it has x, y"):
        read_npz(path, "x", "z")
    with pytest.raises(ValueError, match="more than 4000 bytes"):
        read_npz(path, "x", max_bytes=4000)


def test_a_hundred_clients_hold_one_copy(tmp_path: Path) -> None:
    labels_in(tmp_path, " ".join("01" * 60))
    Toy().prepare(tmp_path, download=False)
    source = Toy().open(tmp_path)
    data = Divided(source, [np.array([c]) for c in range(100)])
    assert {data.train(c).x[0].data_ptr() for c in range(100)} == {source.train.x[0].data_ptr()}
