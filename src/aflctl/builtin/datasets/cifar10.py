"""CIFAR-10."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from aflctl.api import DataSpec
from aflctl.builtin.datasets.cifar import read_batch
from aflctl.builtin.datasets.idx import image_table
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10(ImageDataset):
    """Objects: 50,000 + 10,000 colour images of 32 x 32, 10 classes.

    Reads the Python or the binary version. The published files are pickles; a reader that allows nothing but the one
    byte array opens them. The standard deviations are those over all pixels. Source: Krizhevsky, Learning multiple
    layers of features from tiny images, 2009.
    """

    key: ClassVar[str] = "cifar10"
    shaping: ClassVar[tuple[str, ...]] = ("batches",)

    batches: int = Field(5, ge=1, le=5, description="training batches of 10,000 images to read; fewer = a smaller set")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        names = [f"data_batch_{i}" for i in range(1, self.batches + 1)]
        return tuple((name, f"{name}.bin") for name in (*names, "test_batch"))

    def published(self) -> tuple[int, ...]:
        return (10_000 * self.batches, 10_000)

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        read = [read_batch(raw[names], ("labels",)) for names in self.needs()]
        train = np.concatenate([images for images, _ in read[:-1]])
        labels = np.concatenate([found[0] for _, found in read[:-1]])
        return image_table((train, labels), (read[-1][0], read[-1][1][0]), len(CLASSES))

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((self.image((3, 32, 32), MEAN, STD),), 10, CLASSES)
