"""EMNIST, balanced split."""

from __future__ import annotations

from typing import ClassVar

from aflctl.api import DataSpec
from aflctl.builtin.datasets.idx import idx_names, image_table, read_idx
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table

MEAN, STD = 0.1751, 0.3332
CLASSES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")


class Emnist(ImageDataset):
    """Handwritten digits and letters, balanced split: 112,800 + 18,800 grey images of 28 x 28, 47 classes.

    The published images are transposed; here they stand upright, as in MNIST. Lower-case letters that look like their
    capitals share one class. Source: Cohen et al., arXiv 1702.05373.
    """

    key: ClassVar[str] = "emnist"

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return tuple(
            idx_names(f"emnist-balanced-{part}-{suffix}")
            for part in ("train", "test")
            for suffix in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )

    def convert(self, raw: Raw) -> Table:
        images, labels, test_images, test_labels = read_idx(
            raw,
            "EMNIST/raw",
            "EMNIST",
            {"train": "emnist-balanced-train", "test": "emnist-balanced-test"},
            split="balanced",
        )
        upright = [stored.transpose(0, 2, 1)[:, None] for stored in (images, test_images)]
        return image_table((upright[0], labels), (upright[1], test_labels), len(CLASSES))

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((self.image((1, 28, 28), (MEAN,), (STD,)),), len(CLASSES), CLASSES)
