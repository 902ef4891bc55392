"""Rows that come back with the same bits, files that were cut, digests that can be put aside."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aflctl.errors import DiskProblem, RunDirError
from aflctl.runs.records import (
    CAUSES,
    METRICS,
    UPDATES,
    Digest,
    MetricRow,
    RowWriter,
    UpdateRow,
    metrics_writer,
    read_rows,
    updates_writer,
)


def update(task: int = 0, **changes: object) -> UpdateRow:
    """A used update of staleness 3 = 1 held + 2 compute."""
    values: dict[str, object] = {
        "task": task, "client": 4, "nth": 0, "device": "jetson-nano", "link": "lte", "sent_s": 0.1, "ended_s": 7.25,
        "base_version": 2, "version": 5, "staleness": 3, "staleness_held": 1, "staleness_download": 0,
        "staleness_compute": 2, "staleness_offline": 0, "staleness_upload": 0, "download_s": 0.5, "compute_s": 6.0,
        "offline_s": 0.0, "upload_s": 0.65, "buffer_s": None, "bytes_down": 100, "bytes_up": 50, "steps": 9,
        "train_loss": 0.1 + 0.2, "weight": 0.5, "outcome": "used",
    }  # fmt: skip
    return UpdateRow(**{**values, **changes})  # type: ignore[arg-type]


def metric(update: int, accuracy: float | None = 0.5, **extra: float) -> MetricRow:
    return MetricRow(update, update // 2, update * 1.5, update * 32, 10, 20, 0.0, 0.0, accuracy, 1.0, extra=extra)


def test_the_header_is_the_contract() -> None:
    head = "update,version,virtual_s,samples,bytes_down,bytes_up,energy_j,wasted_j,accuracy,loss,macro_f1"
    assert ",".join(METRICS) == head
    assert ",".join(UPDATES) == (
        "task,client,nth,device,link,sent_s,ended_s,base_version,version,staleness,"
        "staleness_held,staleness_download,staleness_compute,staleness_offline,staleness_upload,"
        "download_s,compute_s,offline_s,upload_s,buffer_s,bytes_down,bytes_up,steps,train_loss,weight,"
        "outcome,reason,interrupted,energy_j,tracks"
    )
    assert all(f"staleness_{cause}" in UPDATES for cause in CAUSES)


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [
        update(0),
        update(1, device='a "b", c\nd', interrupted=True, version=None, tracks="x=1;y=2", reason="stale"),
    ]
    with updates_writer(tmp_path) as writer:
        for row in rows:
            writer.write(row)
    table = read_rows(tmp_path / "updates.csv")
    assert tuple(table) == UPDATES
    assert table.rows == 2
    for values, row in zip(table.records(), rows):
        assert values == {name: getattr(row, name) for name in UPDATES}
    assert table.where("interrupted", True)["task"] == [1]


@given(st.floats(allow_nan=False))
def test_floats_keep_their_bits(value: float) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        with updates_writer(Path(folder)) as writer:
            writer.write(update(weight=value))
        (back,) = read_rows(Path(folder) / "updates.csv")["weight"]
    assert struct.pack("<d", back) == struct.pack("<d", value)


def test_nan_is_not_an_empty_cell(tmp_path: Path) -> None:
    with metrics_writer(tmp_path) as writer:
        writer.write(metric(1, float("nan")))
        writer.write(metric(2, None))
    first, second = read_rows(tmp_path / "metrics.csv")["accuracy"]
    assert math.isnan(first)
    assert second is None


def test_numbers_of_other_libraries(tmp_path: Path) -> None:
    with metrics_writer(tmp_path, extra=("perplexity",)) as writer:
        row = metric(1, perplexity=np.float32(0.1))
        row.accuracy, row.loss, row.samples = np.float64(0.1), torch.tensor(0.5), np.int64(7)  # type: ignore[assignment]
        writer.write(row)
    table = read_rows(tmp_path / "metrics.csv")
    assert (table["accuracy"], table["loss"], table["samples"]) == ([0.1], [0.5], [7])
    assert table["perplexity"] == [float(np.float32(0.1))]


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    with updates_writer(tmp_path) as writer:
        for task in range(3):
            writer.write(update(task))
    whole = (tmp_path / "updates.csv").read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == 10]
    for length in range(ends[0], len(whole) + 1):
        (tmp_path / "updates.csv").write_bytes(whole[:length])
        complete = sum(end < length for end in ends) - 1
        assert read_rows(tmp_path / "updates.csv").rows == max(0, complete)


def test_a_damaged_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with metrics_writer(tmp_path) as writer:
        writer.write(metric(1))
    good = path.read_text()
    path.write_text(good + "1,2\n" + good.splitlines()[1] + "\n")
    with pytest.raises(RunDirError) as caught:
        read_rows(path)
    assert caught.value.where == f"{path}:3"
    path.write_text(good.replace("1.5", "x"))
    with pytest.raises(RunDirError, match="column virtual_s"):
        read_rows(path)
    with pytest.raises(RunDirError, match="cannot be read"):
        read_rows(tmp_path / "absent.csv")


def test_a_column_that_came_later_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    head = "update,version,virtual_s,samples,bytes_down,bytes_up,energy_j,accuracy,loss,macro_f1\n"
    path.write_text(head + "1,1,0.5,3,4,5,6.5,0.25,1.5,0.125\n")
    table = read_rows(path)
    assert (table["energy_j"], table["wasted_j"], table["accuracy"]) == ([6.5], [None], [0.25])
    path.write_text(head.replace("energy_j,", "") + "1,1,0.5,3,4,5,0.25,1.5,0.125\n")
    with pytest.raises(RunDirError, match="no column energy_j"):
        read_rows(path)


def test_a_table_without_rows(tmp_path: Path) -> None:
    metrics_writer(tmp_path).close()
    table = read_rows(tmp_path / "metrics.csv")
    assert (tuple(table), table.rows, list(table.records())) == (METRICS, 0, [])


def test_continuing_at_an_offset_gives_the_same_file(tmp_path: Path) -> None:
    with updates_writer(tmp_path) as writer:
        writer.write(update(0))
        offset = writer.sync()
        writer.write(update(1))
        writer.write(update(2))
    once = (tmp_path / "updates.csv").read_bytes()
    with updates_writer(tmp_path, offset=offset) as writer:
        writer.write(update(1))
        writer.write(update(2))
    assert (tmp_path / "updates.csv").read_bytes() == once
    with pytest.raises(RunDirError, match="shorter"):
        updates_writer(tmp_path, offset=10**6)


def test_a_full_disk_keeps_whole_lines(tmp_path: Path) -> None:
    writer = updates_writer(tmp_path)
    writer.write(update(0))
    writer.flush()

    class Full:
        def __init__(self, file: object) -> None:
            self.file, self.left = file, 40

        def write(self, data: bytes) -> int:
            if self.left <= 0:
                raise OSError(28, os.strerror(28))
            written = self.file.write(data[: self.left])  # type: ignore[attr-defined]
            self.left -= written
            return int(written)

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    writer._file = Full(writer._file)  # type: ignore[assignment]
    writer.write(update(1))
    with pytest.raises(DiskProblem, match="full"):
        writer.close()
    assert (tmp_path / "updates.csv").read_bytes().endswith(b"\n")
    assert read_rows(tmp_path / "updates.csv")["task"] == [0]


def test_a_hundred_thousand_rows_are_cheap(tmp_path: Path) -> None:
    row = update()
    begun = time.perf_counter()
    with updates_writer(tmp_path) as writer:
        for task in range(20_000):
            row.task = task
            writer.write(row)
    assert time.perf_counter() - begun < 5  # about 0.2 s; a slow machine is no failure
    assert read_rows(tmp_path / "updates.csv").rows == 20_000


def test_other_columns_are_kept_and_unknown_files_read(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b,c\n1,x,2.5\n,,\n")
    assert dict(read_rows(tmp_path / "other.csv")) == {"a": [1, None], "b": ["x", None], "c": [2.5, None]}


def test_a_row_writer_of_ones_own(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "m.csv", ("update", "loss")) as writer:
        writer.write(metric(3))
    assert (tmp_path / "m.csv").read_text() == "update,loss\n3,1.0\n"


# ---- digests ----


def test_a_digest_is_the_sha256_of_packed_values() -> None:
    packed = struct.pack("<qqd", 1, -2, 0.5) + struct.pack("<q", 2) + "é".encode()
    expected = hashlib.sha256(packed + struct.pack("<q", len(packed))).hexdigest()
    assert Digest().ints(1, -2).floats(0.5).text("é").hexdigest() == expected


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=2000), st.integers(0, 2000))
def test_a_digest_can_be_put_aside(values: list[int], at: int) -> None:
    whole, first = Digest(), Digest()
    for value in values:
        whole.ints(value)
    first.ints(*values[:at])
    assert Digest.restore(first.save()).ints(*values[at:]).hexdigest() == whole.hexdigest()


def test_digests_tell_apart() -> None:
    different = [
        Digest(), Digest().ints(0), Digest().ints(None), Digest().floats(1.0), Digest().floats(-1.0),
        Digest().ints(0, 0), Digest().text("", "", ""), Digest().text("ab", "c"), Digest().text("a", "bc"),
        Digest().floats(float("nan")), Digest().floats(float("inf")), Digest().ints(*range(5000)),
    ]  # fmt: skip
    digests = [d.hexdigest() for d in different]
    assert len(set(digests)) == len(digests)
    assert Digest().floats(float("nan")).hexdigest() == Digest().floats(-float("nan")).hexdigest()


def test_integers_must_be_integers() -> None:
    with pytest.raises(TypeError):
        Digest().ints(1.5)  # type: ignore[arg-type]
    with pytest.raises(struct.error):
        Digest().ints(2**64)
    assert Digest().ints(np.int64(3)).hexdigest() == Digest().ints(3).hexdigest()  # type: ignore[arg-type]


def test_a_tensor_counts_with_its_bits_shape_and_type() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    same = Digest().tensor(a.t().contiguous().t()).hexdigest()
    assert Digest().tensor(a).hexdigest() == same
    others = [a.double(), a.reshape(-1), -a, a.bfloat16(), torch.zeros(0), torch.tensor(1.0)]
    assert len({same, *(Digest().tensor(t).hexdigest() for t in others)}) == 7


def test_a_column_that_format_1_gained_later_is_empty_in_older_runs(tmp_path: Path) -> None:
    names = [name for name in METRICS if name != "wasted_j"]
    (tmp_path / "metrics.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    table = read_rows(tmp_path / "metrics.csv")
    assert (table["wasted_j"], table["energy_j"]) == ([None], [1.0])
    (tmp_path / "metrics.csv").write_text("update\n1\n")
    with pytest.raises(RunDirError, match="no column version"):
        read_rows(tmp_path / "metrics.csv")
