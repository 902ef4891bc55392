"""Clients that exist only as numbers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from aflctl.builtin.datasets.synthetic import Crowd, Synthetic
from aflctl.errors import UserError


def crowd(clients: int, seed: int = 0, **form: object) -> Crowd:
    made = Synthetic(**form).federate(Path(), clients, np.random.default_rng(seed))
    assert isinstance(made, Crowd)
    return made


def test_a_million_clients_are_made_at_once() -> None:
    began = time.perf_counter()
    many = crowd(1_000_000)
    assert time.perf_counter() - began < 2
    assert len(many.samples) == 1_000_000
    assert len(many.train(999_999)) == many.samples[999_999]
    assert len(many.test()) == 4000


def test_more_clients_change_no_client_s_data() -> None:
    few, many = crowd(10), crowd(1000)
    assert list(few.samples) == list(many.samples[:10])
    for client in (0, 9):
        assert torch.equal(few.train(client).x[0], many.train(client).x[0])
        assert torch.equal(few.train(client).y, many.train(client).y)


def test_seeds_and_parameters_reach_the_fingerprint() -> None:
    marks = {crowd(5).fingerprint, crowd(5, seed=1).fingerprint, crowd(6).fingerprint, crowd(5, alpha=0).fingerprint}
    assert len(marks) == 4
    assert crowd(5).fingerprint == crowd(5).fingerprint


def test_training_and_test_samples_of_a_client_differ() -> None:
    one = crowd(3)
    local = one.local_test(1)
    assert local is not None
    assert len(local) == one.samples[1] // 4
    assert not torch.equal(local.x[0][0], one.train(1).x[0][0])


def test_beta_moves_inputs_apart_and_iid_does_not() -> None:
    def spread(**form: object) -> float:
        some = crowd(30, mu=6, sigma=0, **form)
        means = torch.stack([some.train(c).x[0].mean() for c in range(30)])
        return float(means.std())

    assert spread(beta=4.0) > 1.5 * spread(beta=0.5) > 0
    assert spread(iid=True) < 0.02


def test_iid_classes_are_all_there() -> None:
    counts = crowd(30, iid=True).test().y.bincount(minlength=10)
    assert counts.min() > 0
    assert counts.max() < 0.4 * counts.sum()


def test_sizes_stay_within_bounds() -> None:
    sizes = np.asarray(crowd(5000, mu=4, sigma=3, min_size=7, max_size=300).samples)
    assert (sizes.min() >= 7, sizes.max()) == (True, 300)


def test_there_is_no_undivided_form() -> None:
    with pytest.raises(UserError, match="no samples apart from its clients"):
        Synthetic().open(Path())
