"""The digits that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from aflctl.builtin.datasets.digits import Digits
from aflctl.data.holdout import systematic


def test_every_fifth_of_each_class_is_a_test_sample() -> None:
    # class 0 sits at 0 2 4 6 8 (its fifth is position 8), class 1 at 1 3 5 7 (has no fifth)
    assert np.flatnonzero(systematic(np.array([0, 1, 0, 1, 0, 1, 0, 1, 0]), 0.2)).tolist() == [8]


def test_images_are_bytes_and_labels_int64(tmp_path: Path) -> None:
    source = Digits().open(tmp_path)
    image = source.spec.modalities[0]
    assert (len(source.train), len(source.test)) == (1442, 355)
    assert source.train.x[0].shape == (1442, *image.shape)
    assert source.train.x[0].dtype == torch.uint8
    assert source.train.y.dtype == torch.int64
    assert source.train.x[0].max() == 255
    assert not any(tmp_path.iterdir())


def test_stated_statistics_are_those_of_the_training_images(tmp_path: Path) -> None:
    source = Digits().open(tmp_path)
    pixels = source.train.x[0].double() / 255
    image = source.spec.modalities[0]
    assert abs(pixels.mean().item() - image.mean[0]) < 5e-4
    assert abs(pixels.std().item() - image.std[0]) < 5e-4


def test_every_class_is_in_both_parts_at_its_share(tmp_path: Path) -> None:
    source = Digits().open(tmp_path)
    train, test = (torch.bincount(part.y, minlength=10) for part in (source.train, source.test))
    assert ((test.double() / (train + test)) - 0.2).abs().max() < 0.01


def test_fingerprint_is_the_same_every_time(tmp_path: Path) -> None:
    assert Digits().open(tmp_path).fingerprint == Digits().open(tmp_path).fingerprint
