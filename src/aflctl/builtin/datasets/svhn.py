"""SVHN, cropped digits."""

from __future__ import annotations

import os
from typing import ClassVar

from aflctl.api import DataSpec
from aflctl.builtin.datasets.idx import image_table
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table, torchvision

MEAN, STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


class Svhn(ImageDataset):
    """House numbers, cropped digits: 73,257 + 26,032 colour images of 32 x 32, 10 classes.

    The files say 10 for the digit 0; here it is class 0. Classes are not balanced: about 19 % of the training images
    are ones. Source: Netzer et al., Reading digits in natural images, 2011.
    """

    key: ClassVar[str] = "svhn"

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        base = torchvision("datasets").SVHN
        unchecked = {split: [url, name, None] for split, (url, name, *_) in base.split_list.items()}
        reader = type("Svhn", (base,), {"split_list": unchecked})
        parts = []
        for split in ("train", "test"):
            path = raw[f"{split}_32x32.mat"]
            with raw.workspace() as root:
                os.symlink(path.resolve(), root / path.name)
                try:
                    read = reader(str(root), split=split, download=False)
                except Exception as error:  # SciPy raises many kinds on a damaged file
                    raise ValueError(f"{path.name}: {error}") from error
            parts.append((np.ascontiguousarray(read.data), np.atleast_1d(read.labels)))
        return image_table(parts[0], parts[1], 10)

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((self.image((3, 32, 32), MEAN, STD),), 10, tuple(str(d) for d in range(10)))
