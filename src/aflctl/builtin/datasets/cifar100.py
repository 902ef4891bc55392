"""CIFAR-100."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Samples, Source
from aflctl.builtin.datasets.cifar import read_batch, read_pickle
from aflctl.builtin.datasets.idx import image_table
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table
from aflctl.data.files import naturals_of

MEAN, STD = (0.50708, 0.48655, 0.44092), (0.26733, 0.25644, 0.27615)
KEYS = ("coarse_labels", "fine_labels")


class Cifar100(ImageDataset):
    """Objects: 50,000 + 10,000 colour images of 32 x 32, 100 classes in 20 superclasses.

    `labels: coarse` makes the superclasses the classes. The superclass is also a natural column, for clients by
    semantic group. Source: Krizhevsky 2009.
    """

    key: ClassVar[str] = "cifar100"

    labels: Literal["fine", "coarse"] = Field("fine", description="100 classes or their 20 superclasses")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("train", "train.bin"), ("test", "test.bin"), ("meta", "fine_label_names.txt"))

    def convert(self, raw: Raw) -> Table:
        train, (coarse, fine) = read_batch(raw["train", "train.bin"], KEYS)
        test, (test_coarse, test_fine) = read_batch(raw["test", "test.bin"], KEYS)
        table = image_table((train, fine), (test, test_fine), 100)
        if max(coarse.max(), test_coarse.max()) >= 20:
            raise ValueError("superclass labels lie outside 0..19")
        more = {"train/coarse": coarse, "test/coarse": test_coarse, "natural/superclass": coarse}
        return Table({**table.arrays, **more}, self._names(raw))

    def _names(self, raw: Raw) -> dict[str, Any]:
        meta = raw.find("meta")
        if meta is not None:
            named = read_pickle(meta)
            return {"fine": list(named["fine_label_names"]), "coarse": list(named["coarse_label_names"])}
        lists = {kind: raw[f"{kind}_label_names.txt"].read_text("utf-8") for kind in ("fine", "coarse")}
        return {kind: text.split() for kind, text in lists.items()}

    def spec(self, stored: Stored) -> DataSpec:
        classes = 100 if self.labels == "fine" else 20
        return DataSpec((self.image((3, 32, 32), MEAN, STD),), classes, tuple(stored.notes[self.labels]))

    def source(self, stored: Stored) -> Source:
        column = "y" if self.labels == "fine" else "coarse"
        train, test = (
            Samples((stored.tensors[f"{part}/x/image"],), stored.tensors[f"{part}/{column}"])
            for part in ("train", "test")
        )
        return Source(self.spec(stored), train, test, f"{stored.fingerprint}-{self.labels}", naturals_of(stored))
