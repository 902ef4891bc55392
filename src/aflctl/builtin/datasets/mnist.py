"""MNIST."""

from __future__ import annotations

from typing import ClassVar

from aflctl.api import DataSpec
from aflctl.builtin.datasets.idx import check_mean, idx_names, image_table, read_idx
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table

MEAN, STD = 0.1307, 0.3081


class Mnist(ImageDataset):
    """Handwritten digits: 60,000 + 10,000 grey images of 28 x 28, 10 classes.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """

    key: ClassVar[str] = "mnist"

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return tuple(idx_names(f.name.removesuffix(".gz")) for f in self.listing().files)

    def convert(self, raw: Raw) -> Table:
        images, labels, test_images, test_labels = read_idx(
            raw, "MNIST/raw", "MNIST", {"train": "train", "test": "t10k"}
        )
        check_mean(images, MEAN, "MNIST")
        return image_table((images[:, None], labels), (test_images[:, None], test_labels), 10)

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((self.image((1, 28, 28), (MEAN,), (STD,)),), 10, tuple(str(digit) for digit in range(10)))
