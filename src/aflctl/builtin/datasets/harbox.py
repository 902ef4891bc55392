"""HARBox: activities from 120 people's own phones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.sensors import channel_statistics, numbers, window_table
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.holdout import systematic

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES, STEPS = 9, 100
FILES = ("Call_train.txt", "Hop_train.txt", "typing_train.txt", "Walk_train.txt", "Wave_train.txt")
CLASSES = ("call", "hop", "typing", "walk", "wave")
FOLDERS = range(1, 121)


class Harbox(FileDataset):
    """Activities from people's own phones: windows of 2 s at 50 Hz, 9 axes, 5 classes, 120 people.

    A row of a file is a time stamp, which is dropped, and the axes of accelerometer, gyroscope and magnetometer; 100
    rows make a window, windows do not overlap, an incomplete tail is cut. Many people lack some class files: an
    absent class, no error. Folder 0 holds nothing. Natural clients: user (folder k is user k - 1). Source: Ouyang et
    al., ClusterFL, MobiSys 2021.

    The compass reaches +-226 while the gyroscope stays below 2, so values are standardised per client and channel by
    the client's training windows, unless `scale` says otherwise.
    """

    key: ClassVar[str] = "harbox"
    shaping: ClassVar[tuple[str, ...]] = ("scale", "test")

    scale: Literal["client", "global", "raw"] = Field("client", description="standardised by what; raw as AFL-Lib")
    test: float = Field(0.25, gt=0, lt=1, description="share of each user's and class's windows for testing")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(f"{folder}/{name}" for folder in FOLDERS for name in FILES),)

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        windows, labels, user = [], [], []
        for folder in FOLDERS:
            for label, name in enumerate(FILES):
                path = raw.find(f"{folder}/{name}")
                if path is not None:
                    mine = _windows(path)
                    windows.append(mine)
                    labels += [label] * len(mine)
                    user += [folder - 1] * len(mine)
        found = [np.array(column, np.int64) for column in (labels, user)]
        test = systematic(found[1] * len(CLASSES) + found[0], self.test)
        values = np.concatenate(windows)
        if self.scale == "client":
            for one in np.unique(found[1]):
                mine_ = found[1] == one
                base = values[mine_ & ~test] if (mine_ & ~test).any() else values[mine_]
                mean, std = (np.array(s)[:, None] for s in channel_statistics(base))
                values[mine_] = (values[mine_] - mean) / std
        return window_table("motion", values, found[0], test, {"user": found[1]}, len(CLASSES))

    def spec(self, stored: Stored) -> DataSpec:
        known = (tuple(stored.notes["mean"]), tuple(stored.notes["std"])) if self.scale == "global" else ((), ())
        return DataSpec((Modality("motion", (AXES, STEPS), "sensor", *known),), len(CLASSES), CLASSES)


def _windows(path: Path) -> NDArray[Any]:
    """[n, 9, 100] of one file."""
    rows = numbers(path)
    if rows.size and rows.shape[1] != AXES + 1:
        raise ValueError(f"{path.parent.name}/{path.name}: {rows.shape[1]} columns, expected a time and {AXES} axes")
    if not rows.size:
        return rows.reshape(0, AXES, STEPS)
    whole = len(rows) // STEPS * STEPS
    return rows[:whole, 1:].reshape(-1, STEPS, AXES).transpose(0, 2, 1)
