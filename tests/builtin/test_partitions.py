"""Partition schemes: who gets which sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.api import Partition
from aflctl.builtin.partitions.dirichlet import Dirichlet
from aflctl.builtin.partitions.grouped import Grouped
from aflctl.builtin.partitions.iid import Iid
from aflctl.builtin.partitions.pathological import Pathological
from aflctl.builtin.partitions.quantity import Quantity
from aflctl.builtin.partitions.sizes import check, repair
from aflctl.errors import UserError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(classes: int, each: int) -> np.ndarray:
    return np.tile(np.arange(classes), each)


EVERY_SAMPLE_ONCE: list[Callable[[], Partition]] = [
    lambda: Quantity(min_size=0),
    lambda: Quantity(law="lognormal", sigma=2, min_size=0),
    lambda: Grouped(groups=1, iid=0.3),
    lambda: Pathological(k=1, form="shards"),
    Iid,
    lambda: Iid(stratified=True),
    lambda: Dirichlet(alpha=0.1, min_size=0),
    lambda: Dirichlet(alpha=0.1, min_size=0, cap=False),
    lambda: Dirichlet(alpha=0.1, min_size=0, by="client"),
    lambda: Dirichlet(alpha=1e-3, min_size=1, shortfall="repair", max_retries=0),
]


@pytest.mark.parametrize("make", EVERY_SAMPLE_ONCE)
@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 2**32),
)
def test_every_sample_goes_to_exactly_one_client(
    make: Callable[[], Partition], labels: list[int], share: float, seed: int
) -> None:
    clients = max(1, int(share * len(labels)))
    parts = make().split(np.array(labels), clients, rng(seed), {})
    assert len(parts) == clients
    assert all(part.dtype == np.int64 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("make", EVERY_SAMPLE_ONCE)
def test_same_seed_same_split_other_seed_other_split(make: Callable[[], Partition]) -> None:
    labels = balanced(5, 40)
    first, again, other = (make().split(labels, 8, rng(s), {}) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again))
    assert any(a.tolist() != b.tolist() for a, b in zip(first, other))


def test_iid_sizes_differ_by_at_most_one() -> None:
    sizes = [len(part) for part in Iid().split(balanced(3, 10), 7, rng(), {})]
    assert sorted(sizes) == [4, 4, 4, 4, 4, 5, 5]


def test_stratified_iid_gives_every_client_the_same_classes() -> None:
    labels = balanced(4, 10)
    for part in Iid(stratified=True).split(labels, 10, rng(), {}):
        assert np.bincount(labels[part], minlength=4).tolist() == [1, 1, 1, 1]


def spread(parts: list[np.ndarray], labels: np.ndarray) -> float:
    """Mean total-variation distance of the clients' label mixes from the whole."""
    classes = labels.max() + 1
    whole = np.bincount(labels, minlength=classes) / len(labels)
    mixes = [np.bincount(labels[p], minlength=classes) / len(p) for p in parts if len(p)]
    return float(np.mean([abs(mix - whole).sum() / 2 for mix in mixes]))


@pytest.mark.parametrize("by", ["class", "client"])
def test_smaller_alpha_is_more_skewed(by: str) -> None:
    labels = balanced(10, 200)
    skews = [
        spread(Dirichlet(alpha=a, by=by, min_size=0).split(labels, 20, rng(), {}), labels) for a in (0.05, 0.5, 5, 500)
    ]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.6
    assert skews[-1] < 0.15


def test_by_client_gives_equal_sizes() -> None:
    sizes = {len(p) for p in Dirichlet(alpha=0.1, by="client").split(balanced(10, 100), 16, rng(), {})}
    assert sizes == {62, 63}


def test_cap_keeps_a_full_client_from_growing() -> None:
    # a client may pass its fair share of 100 only within the one class that fills it (100 samples each)
    parts = Dirichlet(alpha=0.2, min_size=0).split(balanced(10, 100), 10, rng(), {})
    assert max(len(p) for p in parts) < 200
    free = Dirichlet(alpha=0.2, min_size=0, cap=False).split(balanced(10, 100), 10, rng(), {})
    assert max(len(p) for p in free) > max(len(p) for p in parts)


def test_more_clients_than_samples_is_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match=r"clients\.count: 2000 clients but 1442 training samples") as caught:
        Iid().split(np.zeros(1442, np.int64), 2000, rng(), {})
    assert "1442" in (caught.value.hint or "")


def test_minimum_that_cannot_be_met_is_refused_before_drawing() -> None:
    with pytest.raises(UserError, match=r"min_size: 20 clients of at least 10 samples need 200, there are 100"):
        Dirichlet(min_size=10).split(balanced(10, 10), 20, rng(), {})


def test_retries_end_with_the_numbers_and_what_to_change() -> None:
    with pytest.raises(UserError, match=r"none of 4 draws gave every client min_size 9 samples") as caught:
        Dirichlet(alpha=0.05, min_size=9, max_retries=3).split(balanced(10, 20), 20, rng(), {})
    assert "raise alpha" in (caught.value.hint or "")


def test_shortfall_policies() -> None:
    labels = balanced(10, 20)

    def sizes(shortfall: str) -> list[int]:
        scheme = Dirichlet(alpha=0.05, min_size=9, max_retries=3, shortfall=shortfall)
        return [len(part) for part in scheme.split(labels, 20, rng(), {})]

    assert min(sizes("repair")) == 9
    assert sum(sizes("repair")) == 200
    assert min(sizes("accept")) < 9
    assert {size for size in sizes("drop") if size < 9} == {0}


def test_repair_takes_from_the_largest_client_its_most_frequent_class() -> None:
    # client 0 holds four of class 0 and one of class 1; client 1 nothing: two samples of class 0 move, last ones first
    labels = np.array([0, 0, 1, 0, 0])
    held = repair([np.arange(5), np.empty(0, np.int64)], labels, 2)
    assert [part.tolist() for part in held] == [[0, 1, 2], [4, 3]]


def test_check_refuses_repeats_and_positions_out_of_range() -> None:
    with pytest.raises(ValueError, match="more than one client"):
        check([np.array([0, 1]), np.array([1])], 3)
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        check([np.array([3])], 3)
