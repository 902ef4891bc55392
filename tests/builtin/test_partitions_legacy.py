"""The splits of AFL-Lib and PFLlib, against published ones and against scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aflctl.builtin.partitions.legacy import Legacy
from aflctl.errors import UserError

# A published histogram depends on the class sizes alone: shuffling a class consumes randomness by its length.
CLASS_SIZES = {"cifar10": (10, 6000), "cifar100": (100, 600), "fashion": (10, 7000), "agnews": (4, 31_900)}
GOLDEN = [
    "agnews_dir_a0.05_n20_flselection",
    "cifar100_dir_a0.1_n100_fedlore",
    "cifar10_dir_a0.1_n100_pfllib",
    "cifar10_dir_a0.1_n20_feddcp",
    "cifar10_dir_a0.3_n100_fedlore",
    "cifar10_dir_a0.5_n20_szu",
    "cifar10_pat_k2_n20_unbalanced_pfllib",
    "fashion_mnist_dir_a0.3_n50_fidsus",
]


def labels_of(classes: int, each: int) -> np.ndarray:
    return np.tile(np.arange(classes), each)


def split(scheme: Legacy, labels: np.ndarray, clients: int) -> list[np.ndarray]:
    return scheme.split(labels, clients, np.random.default_rng(0), {})


@pytest.mark.realdata
@pytest.mark.parametrize("name", GOLDEN)
def test_published_partitions_are_reproduced(name: str, real_data: Path) -> None:
    golden = json.loads((real_data / "golden_partitions" / f"{name}.json").read_text())
    classes, each = CLASS_SIZES[name.split("_")[0]]
    scheme = Legacy(
        library="pfllib",
        scheme="pat" if "_pat_" in name else "dir",
        alpha=golden["alpha"],
        batch_size=golden["batch_size"],
        train_ratio=golden["train_ratio"],
        seed=golden["seed"],
    )
    labels = labels_of(classes, each)
    counts = [np.bincount(labels[part]) for part in split(scheme, labels, golden["num_clients"])]
    assert [[[k, int(n)] for k, n in enumerate(c) if n] for c in counts] == golden["label_counts_per_client"]


def test_cifar10_alpha_01_takes_38_draws_and_leaves_41() -> None:
    # DATASETS.md 5.2 and 8
    labels = labels_of(10, 6000)
    assert min(len(p) for p in split(Legacy(alpha=0.1, max_retries=37), labels, 100)) == 41
    with pytest.raises(UserError, match="none of 37 draws gave all 100 clients 40 samples"):
        split(Legacy(alpha=0.1, max_retries=36), labels, 100)


def test_the_run_s_generator_is_not_used() -> None:
    labels = labels_of(10, 60)
    dice = np.random.default_rng(5)
    Legacy(alpha=1).split(labels, 4, dice, {})
    assert dice.random() == np.random.default_rng(5).random()


def test_afl_lib_pat_deals_classes_in_file_order() -> None:
    # C = 4, M = 4, k = 2: class 0 to clients 0 and 1, class 1 to the same, classes 2 and 3 to clients 2 and 3
    labels = np.repeat(np.arange(4), 4)
    parts = split(Legacy(scheme="pat", k=2), labels, 4)
    assert [p.tolist() for p in parts] == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_afl_lib_iid_gives_the_remainder_to_the_last_client() -> None:
    labels = np.repeat(np.arange(2), 7)
    parts = split(Legacy(scheme="iid"), labels, 3)
    assert [np.bincount(labels[p]).tolist() for p in parts] == [[2, 2], [2, 2], [3, 3]]


@pytest.mark.parametrize(("clients", "k"), [(7, 2), (15, 3)])
def test_slots_that_run_out_are_an_error_that_says_so(clients: int, k: int) -> None:
    with pytest.raises(UserError, match="the slots run out before class"):
        split(Legacy(scheme="pat", k=k), labels_of(10, 60), clients)


def test_local_split_is_scikit_learn_s_on_the_same_generator() -> None:
    from sklearn.model_selection import train_test_split

    labels = labels_of(10, 70)
    scheme = Legacy(alpha=0.5)
    parts = split(scheme, labels, 5)
    dice = np.random.RandomState(scheme.seed)
    scheme._split(labels, 5, dice)  # leaves the generator where the partition ended
    for part, (train, test) in zip(parts, scheme.local_split(labels, 5)):
        expected = train_test_split(part, train_size=0.75, shuffle=True, random_state=dice)
        assert expected[0].tolist() == train.tolist()
        assert expected[1].tolist() == test.tolist()
