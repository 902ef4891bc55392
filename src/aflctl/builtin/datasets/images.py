"""What all image sets share: how their bytes are scaled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aflctl.api import Modality
from aflctl.data import FileDataset


class ImageDataset(FileDataset):
    """Bytes 0..255, shown to a network as (x / 255 - mean) / std per channel, on the fly."""

    normalise: Literal["dataset", "half"] = Field(
        "dataset", description="mean and deviation: of the training pixels, or 0.5 and 0.5 (AFL-Lib, PFLlib)"
    )

    def image(self, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> Modality:
        """The one modality; `mean` and `std` are those of the training pixels."""
        if self.normalise == "half":
            mean = std = (0.5,) * shape[0]
        return Modality("image", shape, "image", mean, std)
