"""The converted file: fingerprint, damage, no objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aflctl.data import Table, catalog, fingerprint, folder
from aflctl.data.store import read, write
from aflctl.errors import DiskProblem, EnvironmentProblem


def test_fingerprint_sees_names_types_shapes_values_and_recipe() -> None:
    base = {"a": np.arange(6, dtype=np.int64)}
    marks = {
        fingerprint("x", base),
        fingerprint("y", base),
        fingerprint("x", {"b": base["a"]}),
        fingerprint("x", {"a": base["a"].astype(np.int32)}),
        fingerprint("x", {"a": base["a"].reshape(2, 3)}),
        fingerprint("x", {"a": base["a"] + 1}),
    }
    assert len(marks) == 6
    assert fingerprint("x", {"a": np.arange(12)[::2] // 2}) == fingerprint("x", base)  # a view of the same values
    assert fingerprint("x", {"a": base["a"].astype(">i8")}) == fingerprint("x", base)  # byte order does not matter


def test_what_is_written_is_read_back(tmp_path) -> None:
    mark = write(tmp_path / "d.safetensors", Table({"train/y": np.array([3, 1])}, {"names": ["a", "é"]}), "how")
    stored = read(tmp_path / "d.safetensors", "how")
    assert stored is not None
    assert stored.tensors["train/y"].tolist() == [3, 1]
    assert stored.notes == {"names": ["a", "é"]}
    assert stored.fingerprint == mark
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_a_file_made_in_another_way_counts_as_absent(tmp_path) -> None:
    write(tmp_path / "d", Table({"a": np.zeros(1)}), "old")
    assert read(tmp_path / "d", "new") is None
    assert read(tmp_path / "none", "new") is None


def test_a_damaged_file_is_named(tmp_path) -> None:
    write(tmp_path / "d", Table({"a": np.zeros(1000)}), "how")
    (tmp_path / "d").write_bytes((tmp_path / "d").read_bytes()[:500])
    with pytest.raises(EnvironmentProblem, match=r"/d: the converted dataset is damaged"):
        read(tmp_path / "d", "how")


def test_object_arrays_are_refused(tmp_path) -> None:
    with pytest.raises(TypeError, match="'a' holds Python objects"):
        write(tmp_path / "d", Table({"a": np.array([{}])}), "how")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_disk_problem(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskProblem, match="cannot write"):
        write(tmp_path / "file" / "d", Table({"a": np.zeros(1)}), "how")


def test_the_data_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("AFLCTL_DATA_DIR", str(tmp_path / "here"))
    assert folder() == tmp_path / "here"
    monkeypatch.delenv("AFLCTL_DATA_DIR")
    assert "aflctl" in folder().as_posix()


def test_the_catalog_is_well_formed() -> None:
    for key, listing in catalog().items():
        assert listing.title, key
        assert listing.licence, key
        for file in listing.files:
            assert all(url.startswith(("http://", "https://")) for url in file.urls)
            assert len(file.md5) in (0, 32)
            assert len(file.sha256) in (0, 64)


def test_every_file_that_is_fetched_has_a_checksum_but_those_that_security_md_names() -> None:
    bare = {key for key, listing in catalog().items() for f in listing.files if f.urls and not (f.md5 or f.sha256)}
    told = (Path(__file__).parents[2] / "SECURITY.md").read_text("utf-8")
    assert bare == {"shakespeare", "tiny-imagenet", "uci-har"}
    assert "`shakespeare`, `tiny-imagenet` and `uci-har` publish neither" in told


def test_archives_with_an_address_have_a_bound() -> None:
    assert all(0 < f.max_bytes <= 2_000_000_000 for c in catalog().values() for f in c.files if f.provides)
