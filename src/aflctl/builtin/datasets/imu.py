"""IMU: walking in two buildings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.sensors import numbers, window_table
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.holdout import systematic

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES, STEPS = 9, 100
ACTIVITIES = ("walk", "up", "down")
CLASSES = ("corridor", "upstairs", "downstairs")
USERS = (*((f"hsh_{i}", 0) for i in range(1, 5)), *((f"mmw_{i}", 1) for i in range(1, 4)))


class Imu(FileDataset):
    """Walking: windows of 2 s at 50 Hz, 9 axes scaled to [0, 1], 3 classes, 7 people in two buildings.

    A row of a file is one window in time-major order (100 x 9); here it is 9 x 100. Natural clients: user; natural
    groups: site. A class file that a user lacks is an absent class. Source: Ouyang et al., ClusterFL, MobiSys 2021.
    """

    key: ClassVar[str] = "imu"
    shaping: ClassVar[tuple[str, ...]] = ("test",)

    test: float = Field(0.25, gt=0, lt=1, description="share of each user's and class's windows for testing")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(f"{user}_{activity}_nor.txt" for user, _ in USERS for activity in ACTIVITIES),)

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        windows: list[NDArray[Any]] = []
        labels: list[int] = []
        user: list[int] = []
        site: list[int] = []
        for number, (name, building) in enumerate(USERS):
            for label, activity in enumerate(ACTIVITIES):
                path = raw.find(f"{name}_{activity}_nor.txt")
                if path is None:
                    continue
                values = numbers(path).reshape(-1)
                if len(values) % (AXES * STEPS):
                    raise ValueError(f"{path.name}: {len(values)} values are no whole number of {AXES * STEPS}")
                mine = values.reshape(-1, STEPS, AXES).transpose(0, 2, 1)
                windows.append(mine)
                for column, value in ((labels, label), (user, number), (site, building)):
                    column += [value] * len(mine)
        found = [np.array(column, np.int64) for column in (labels, user, site)]
        test = systematic(found[1] * len(CLASSES) + found[0], self.test)
        return window_table(
            "motion", np.concatenate(windows), found[0], test, {"user": found[1], "site": found[2]}, len(CLASSES)
        )

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((Modality("motion", (AXES, STEPS), "sensor"),), len(CLASSES), CLASSES)
