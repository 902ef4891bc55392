"""Pathological, grouped, natural, quantity and file partitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflctl.builtin.partitions.from_file import FromFile
from aflctl.builtin.partitions.grouped import Grouped
from aflctl.builtin.partitions.natural import Natural
from aflctl.builtin.partitions.pathological import Pathological
from aflctl.builtin.partitions.quantity import Quantity
from aflctl.data.holdout import hold_out
from aflctl.data.index import describe_counts, parts_fingerprint, read_index, write_index
from aflctl.errors import UserError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(classes: int, each: int) -> np.ndarray:
    return np.tile(np.arange(classes), each)


def classes_of(parts: list[np.ndarray], labels: np.ndarray) -> list[set[int]]:
    return [set(labels[part].tolist()) for part in parts]


@given(clients=st.integers(1, 30), k=st.integers(1, 10), seed=st.integers(0, 99))
def test_k_classes_per_client_and_no_class_lost(clients: int, k: int, seed: int) -> None:
    labels = balanced(10, 40)
    scheme = Pathological(k=k)
    if k * clients < 10:
        with pytest.raises(UserError, match=f"cover at most {k * clients} of 10 classes"):
            scheme.split(labels, clients, rng(seed), {})
        return
    parts = scheme.split(labels, clients, rng(seed), {})
    held = classes_of(parts, labels)
    assert all(len(mine) == k for mine in held)
    assert all(client % 10 in mine for client, mine in enumerate(held))
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))


def test_two_shards_per_client() -> None:
    # 4 clients, 8 shards of 5 samples; classes of 10, so no shard straddles
    labels = balanced(4, 10)
    parts = Pathological(k=2, form="shards").split(labels, 4, rng(), {})
    assert [len(part) for part in parts] == [10] * 4
    assert all(len(mine) <= 2 for mine in classes_of(parts, labels))


def test_pathological_errors_name_numbers() -> None:
    with pytest.raises(UserError, match="11 classes per client, but the data have 10"):
        Pathological(k=11).split(balanced(10, 10), 5, rng(), {})
    with pytest.raises(UserError, match="need 120 shards, there are 100 training samples"):
        Pathological(k=6, form="shards").split(balanced(10, 10), 20, rng(), {})


def test_groups_without_shared_part_are_disjoint() -> None:
    labels = balanced(10, 30)
    held = classes_of(Grouped(groups=5).split(labels, 20, rng(), {}), labels)
    assert held == [{2 * (client // 4), 2 * (client // 4) + 1} for client in range(20)]


def test_every_sample_of_a_group_is_given_once() -> None:
    # DATASETS.md 5.6: 1,000 samples, C = 10, M = 20, G = 10, s = 0.2, where AFL-Lib hands out 9,100
    labels = balanced(10, 100)
    parts = Grouped(groups=10, iid=0.2).split(labels, 20, rng(), {})
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert {len(part) for part in parts} == {50}
    # 20 of 100 samples of a class are spread over 20 clients, 80 over the 2 of its group
    counts = np.bincount(labels[parts[0]], minlength=10)
    assert counts.tolist() == [41, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_uneven_groups_give_the_remainder_to_the_last() -> None:
    labels = balanced(5, 12)
    held = classes_of(Grouped(groups=2).split(labels, 5, rng(), {}), labels)
    assert held == [{0, 1}, {0, 1}, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}]


def test_all_shared_is_iid() -> None:
    labels = balanced(4, 10)
    for part in Grouped(groups=2, iid=1).split(labels, 10, rng(), {}):
        assert np.bincount(labels[part], minlength=4).tolist() == [1, 1, 1, 1]


def test_more_groups_than_clients_or_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"4 groups need at least as many clients \(there are 3\)"):
        Grouped(groups=4).split(balanced(10, 10), 3, rng(), {})


def test_quantity_skew_grows_as_beta_falls() -> None:
    labels = balanced(10, 100)
    spans = [
        np.std([len(p) for p in Quantity(beta=beta, min_size=0).split(labels, 20, rng(), {})]) for beta in (0.1, 1, 100)
    ]
    assert spans == sorted(spans, reverse=True)
    assert spans[-1] < 10


OWNERS = {"user": np.array([7, 7, 3, 3, 3, 9])}
SIX = np.zeros(6, np.int64)


def test_natural_clients_are_owners_in_ascending_order() -> None:
    parts = Natural().split(SIX, 3, rng(), OWNERS)
    assert [part.tolist() for part in parts] == [[2, 3, 4], [0, 1], [5]]


def test_natural_leaves_out_small_owners_and_takes_the_largest() -> None:
    assert [p.tolist() for p in Natural(min_size=2).split(SIX, 2, rng(), OWNERS)] == [[2, 3, 4], [0, 1]]
    assert [p.tolist() for p in Natural(choose="largest").split(SIX, 1, rng(), OWNERS)] == [[2, 3, 4]]


def test_natural_merges_owners() -> None:
    assert [p.tolist() for p in Natural(merge=2).split(SIX, 1, rng(), OWNERS)] == [[0, 1, 2, 3, 4]]


def test_natural_errors() -> None:
    with pytest.raises(UserError, match=r"4 clients but 3 natural ones \(3 owners"):
        Natural().split(SIX, 4, rng(), OWNERS)
    with pytest.raises(UserError, match="no natural clients"):
        Natural().split(SIX, 1, rng(), {})
    with pytest.raises(UserError, match="'actor' is no column") as caught:
        Natural(by="actor").split(SIX, 1, rng(), OWNERS)
    assert caught.value.hint == "columns: user"


def test_an_index_file_is_read_back(tmp_path: Path) -> None:
    parts = [np.array([0, 2]), np.array([], np.int64), np.array([1])]
    write_index(tmp_path / "p.safetensors", parts, {"data": "abc"})
    index = read_index(tmp_path / "p.safetensors")
    assert [part.tolist() for part in index.parts] == [[0, 2], [], [1]]
    assert index.notes == {"data": "abc", "fingerprint": parts_fingerprint(parts)}
    assert parts_fingerprint(index.parts) == parts_fingerprint(parts)


def test_an_index_file_with_a_changed_position_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_index(path, [np.array([0, 2]), np.array([1])])
    content = bytearray(path.read_bytes())
    content[-1 - 4 * 8] ^= 1  # four `starts` of 8 bytes end the file or begin its data; either way a number changes
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="not a partition file"):
        read_index(path)


@pytest.mark.parametrize("content", [[[0, 1], [2]], {"a": [0, 1], "b": [2]}])
def test_a_partition_from_json(content: object, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    assert [p.tolist() for p in FromFile(path=path).split(np.zeros(3, np.int64), 2, rng(), {})] == [[0, 1], [2]]


@pytest.mark.parametrize("text", ["", "[[0.5]]", '[["a"]]', "3", "[[true]]"])
def test_a_file_that_is_no_partition_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"p\.json: not a partition file"):
        FromFile(path=path).split(SIX, 1, rng(), {})


def test_a_file_for_other_data_or_clients_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("[[0, 6]]")
    with pytest.raises(UserError, match=r"outside 0\.\.5; the data have 6 training samples"):
        FromFile(path=path).split(SIX, 1, rng(), {})
    with pytest.raises(UserError, match=r"2 clients but .*p\.json divides the data among 1"):
        FromFile(path=path).split(SIX, 2, rng(), {})
    with pytest.raises(UserError, match="no such partition file"):
        FromFile(path=tmp_path / "none.json").split(SIX, 1, rng(), {})


def test_describe() -> None:
    # two clients, one class each, of a balanced set: each mix is 1/2 away from the whole
    labels = np.array([0, 0, 1, 1])
    found = describe_counts(np.array([[2, 0], [0, 1]]), np.bincount(labels))
    assert (found["size_min"], found["size_max"]) == (1, 2)
    assert found["distance"] == 0.5
    assert found["classes_per_client"] == 1


@given(labels=st.lists(st.integers(0, 3), min_size=0, max_size=60), seed=st.integers(0, 99))
def test_local_split_is_stratified_and_loses_nothing(labels: list[int], seed: int) -> None:
    all_labels = np.array(labels, np.int64)
    rows = np.arange(len(labels))
    train, test = hold_out(all_labels, rows, 0.25, rng(seed))
    assert sorted([*train, *test]) == rows.tolist()
    if len(labels) >= 2:
        assert len(test) == min(max(round(0.25 * len(labels)), 1), len(labels) - 1)
        for label in range(4):
            held = sum(all_labels[test] == label)
            assert abs(held - len(test) / len(labels) * sum(all_labels == label)) <= 1
