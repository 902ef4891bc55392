"""Extraction refuses hostile and broken archives and leaves nothing behind."""

from __future__ import annotations

import errno
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from aflctl.data.archive import UnsafeArchive, extract
from aflctl.errors import DiskProblem, EnvironmentProblem


def tar_of(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                out.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_wanted_members_are_written_without_their_leading_folder(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tgz", {"top/data_1": b"1", "top/sub/data_2": b"2", "top/readme": b"r", "x": b""})
    extract(archive, tmp_path / "raw", wanted=("data_*", "sub/*"), strip="top")
    assert files_below(tmp_path / "raw") == ["data_1", "sub/data_2"]


def test_zip_works_the_same(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"gzip/x.gz": b"1", "gzip/y.txt": b"2"})
    extract(archive, tmp_path / "raw", wanted=("*.gz",), strip="gzip")
    assert files_below(tmp_path / "raw") == ["x.gz"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:evil", "a\\..\\evil"])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_path_that_leaves_the_folder_is_refused(make: object, name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", {"good": b"1", name: b"2"})  # type: ignore[operator]
    with pytest.raises(UnsafeArchive, match="outside the target folder"):
        extract(archive, tmp_path / "raw")
    assert files_below(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "member", [link("l", "/etc/passwd"), link("l", "good", tarfile.LNKTYPE), link("l", "", tarfile.FIFOTYPE)]
)
def test_links_and_devices_are_refused(member: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tgz", {"good": b"1", "l": member})
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(archive, tmp_path / "raw")
    assert files_below(tmp_path) == ["a.tgz"]


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("l")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "raw")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_bomb_stops_at_the_bound(make: object, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", {"big": bytes(5_000_000)})  # type: ignore[operator]
    assert archive.stat().st_size < 50_000
    with pytest.raises(UnsafeArchive, match="more than 1000000 bytes"):
        extract(archive, tmp_path / "raw", max_bytes=1_000_000)
    assert files_below(tmp_path) == ["a"]


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {str(i): b"" for i in range(11)})
    with pytest.raises(UnsafeArchive, match="more than 10 members"):
        extract(archive, tmp_path / "raw", max_members=10)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_truncated_archive_is_named_and_leaves_nothing(make: object, tmp_path: Path) -> None:
    archive = make(tmp_path / "a", {f"f{i}": bytes(range(256)) * 50 for i in range(20)})  # type: ignore[operator]
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(EnvironmentProblem, match=r"a: the archive is damaged"):
        extract(archive, tmp_path / "raw")
    assert files_below(tmp_path) == ["a"]


def test_an_archive_without_the_expected_files_says_so(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"other": b""})
    with pytest.raises(EnvironmentProblem, match=r"none of the expected files \(train\)"):
        extract(archive, tmp_path / "raw", wanted=("train",))


def test_any_leading_folders_are_taken_off_where_the_catalog_says_so(tmp_path: Path) -> None:
    names = ("2021/large/1/Walk_train.txt", "2021/large/1/notes.txt", "__MACOSX/x", "2/Hop_train.txt")
    archive = zip_of(tmp_path / "a.zip", dict.fromkeys(names, b"1"))
    extract(archive, tmp_path / "raw", wanted=("[0-9]*/*_train.txt",), strip="*")
    assert files_below(tmp_path / "raw") == ["1/Walk_train.txt", "2/Hop_train.txt"]


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_changed_byte_anywhere_in_the_content_is_noticed(make: object, tmp_path: Path) -> None:
    import random

    content = random.Random(0).randbytes(20_000)
    archive = make(tmp_path / "a", {"f": content})  # type: ignore[operator]
    whole = archive.read_bytes()
    for at in range(200, 19_000, 1700):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        archive.write_bytes(bytes(changed))
        with pytest.raises(EnvironmentProblem, match="damaged"):
            extract(archive, tmp_path / "raw")
    assert files_below(tmp_path) == ["a"]


def test_a_member_that_is_file_and_folder_at_once_is_damage(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a", {"x": b"1", "x/y": b"2"})
    with pytest.raises(EnvironmentProblem, match="damaged"):
        extract(archive, tmp_path / "raw")


def test_what_was_there_before_stays_beside_what_is_extracted(tmp_path: Path) -> None:
    (tmp_path / "raw" / "train").mkdir(parents=True)
    (tmp_path / "raw" / "train" / "old").write_bytes(b"o")
    extract(zip_of(tmp_path / "a.zip", {"train/new": b"n"}), tmp_path / "raw")
    assert files_below(tmp_path / "raw") == ["train/new", "train/old"]


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_of(tmp_path / "a.zip", {"f": b"1"})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("aflctl.data.archive._extract", full)
    with pytest.raises(DiskProblem, match=r"cannot write .*raw: .*No space left") as caught:
        extract(archive, tmp_path / "raw")
    assert "AFLCTL_DATA_DIR" in (caught.value.hint or "")
