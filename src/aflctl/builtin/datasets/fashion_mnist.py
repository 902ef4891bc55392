"""Fashion-MNIST."""

from __future__ import annotations

from typing import ClassVar

from aflctl.api import DataSpec
from aflctl.builtin.datasets.idx import check_mean, idx_names, image_table, read_idx
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table

MEAN, STD = 0.2860, 0.3530
CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


class FashionMnist(ImageDataset):
    """Articles of clothing: 60,000 + 10,000 grey images of 28 x 28, 10 classes.

    Its files have the names of MNIST's, so a complete set is also checked by its mean grey level. Source: Xiao et al.,
    arXiv 1708.07747.
    """

    key: ClassVar[str] = "fashion-mnist"

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return tuple(idx_names(f.name.removesuffix(".gz")) for f in self.listing().files)

    def convert(self, raw: Raw) -> Table:
        images, labels, test_images, test_labels = read_idx(
            raw, "FashionMNIST/raw", "FashionMNIST", {"train": "train", "test": "t10k"}
        )
        check_mean(images, MEAN, "Fashion-MNIST")
        return image_table((images[:, None], labels), (test_images[:, None], test_labels), 10)

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((self.image((1, 28, 28), (MEAN,), (STD,)),), 10, CLASSES)
