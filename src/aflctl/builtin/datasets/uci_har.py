"""UCI HAR: activities from a phone at the waist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Modality, Samples, Source
from aflctl.builtin.datasets.sensors import numbers, window_table
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.files import naturals_of
from aflctl.data.holdout import systematic
from aflctl.data.npz import read_npz

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES = tuple(f"{sensor}_{axis}" for sensor in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
CLASSES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
ARRAYS = "uci_har_inertial_f16.npz"
TEST_PEOPLE = (2, 4, 9, 10, 12, 13, 18, 20, 24)
SPLIT = {"accelerometer": (0, 1, 2, 6, 7, 8), "gyroscope": (3, 4, 5)}


class UciHar(FileDataset):
    """Activities from a phone at the waist: windows of 9 channels x 128 at 50 Hz, 6 classes, 30 people.

    Channels are body acceleration, angular velocity and total acceleration, x y z each, standardised by the training
    windows. Natural clients: subject, numbered from 1. The published split tests 9 people whom training has not seen.
    Reads the published text files or their values in one .npz (`x` [n, 9, 128], `y`, `subject` from 0 or 1). Source:
    Anguita et al., ESANN 2013.
    """

    key: ClassVar[str] = "uci-har"
    shaping: ClassVar[tuple[str, ...]] = ("test",)
    revision: ClassVar[int] = 2

    test: Literal["official", "subjects", "windows"] = Field(
        "official",
        description="the published split; every fifth person; or every fourth window of each person and class",
    )
    modalities: Literal["joint", "split"] = Field("joint", description="one input, or accelerometer and gyroscope")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("train/y_train.txt", ARRAYS), ("test/y_test.txt", ARRAYS))

    def published(self) -> tuple[int, ...]:
        return self.listing().samples if self.test == "official" else ()

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        if raw.find("train/y_train.txt") is None:
            windows, labels, subject = read_npz(raw[ARRAYS], "x", "y", "subject")
            windows, labels, subject = windows.astype(np.float32), labels.astype(np.int64), subject.astype(np.int64)
            if not len(windows) == len(labels) == len(subject) > 0:
                raise ValueError(f"{ARRAYS}: {len(windows)} windows, {len(labels)} labels, {len(subject)} subjects")
            subject += int(subject.min()) == 0
            official = np.isin(subject, TEST_PEOPLE)
        else:
            parts = [self._read(raw, part) for part in ("train", "test")]
            windows, labels, subject = (np.concatenate(pair) for pair in zip(*parts))
            official = np.arange(len(labels)) >= len(parts[0][1])
        if windows.ndim != 3 or windows.shape[1] != len(AXES):
            raise ValueError(f"windows of shape {windows.shape[1:]}, expected 9 channels")
        if self.test == "subjects":
            test = np.isin(subject, np.unique(subject)[4::5])
        elif self.test == "windows" or not official.any():
            test = systematic(subject * len(CLASSES) + labels, 0.25)
        else:
            test = official
        return window_table("motion", windows, labels, test, {"subject": subject}, len(CLASSES))

    def _read(self, raw: Raw, part: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        import numpy as np

        labels = numbers(raw[f"{part}/y_{part}.txt"])[:, 0].astype(np.int64) - 1
        subject = numbers(raw[f"{part}/subject_{part}.txt"])[:, 0].astype(np.int64)
        axes = [numbers(raw[f"{part}/Inertial Signals/{axis}_{part}.txt"]) for axis in AXES]
        if not len(labels) == len(subject) == len(axes[0]):
            raise ValueError(f"{part}: {len(axes[0])} windows, {len(labels)} labels, {len(subject)} subjects")
        return np.stack(axes, 1), labels, subject

    def spec(self, stored: Stored) -> DataSpec:
        mean, std = stored.notes["mean"], stored.notes["std"]
        length = stored.tensors["train/x/motion"].shape[2]

        def one(name: str, channels: tuple[int, ...]) -> Modality:
            own_mean, own_std = (tuple(values[c] for c in channels) for values in (mean, std))
            return Modality(name, (len(channels), length), "sensor", own_mean, own_std)

        if self.modalities == "joint":
            return DataSpec((one("motion", tuple(range(len(AXES)))),), len(CLASSES), CLASSES)
        return DataSpec(tuple(one(name, channels) for name, channels in SPLIT.items()), len(CLASSES), CLASSES)

    def source(self, stored: Stored) -> Source:
        if self.modalities == "joint":
            return super().source(stored)
        train, test = (
            Samples(
                tuple(stored.tensors[f"{part}/x/motion"][:, channels].contiguous() for channels in SPLIT.values()),
                stored.tensors[f"{part}/y"],
            )
            for part in ("train", "test")
        )
        return Source(self.spec(stored), train, test, f"{stored.fingerprint}-split", naturals_of(stored))
