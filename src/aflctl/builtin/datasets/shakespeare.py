"""Shakespeare: the next character, by speaking role."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import DataSpec, Modality, Samples, Source
from aflctl.builtin.datasets.plays import roles_of_json, roles_of_plays, spoken_text
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHARACTERS = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
SPACE = CHARACTERS.index(" ")
NAMES = (
    "100.txt", "shakespeare_by_role.json", "shakespeare_by_role.json.gz", "mit_shakespeare_by_role.json.gz",
    "all_data.json",
)  # fmt: skip


class Shakespeare(FileDataset):
    """The next character of the plays: windows of 80 characters, 80 classes, natural clients by speaking role.

    Kept as one text; windows are cut on demand as views into it. Within a role the split is temporal: the first
    `train` of the windows are for training, testing starts `length` - 1 windows later, so that no test window shares
    a character with a training window's text. Roles of two lines or fewer, or shorter than a window, are left out;
    characters outside LEAF's 80 become a space. Sources: LEAF, arXiv 1812.01097; McMahan et al. 2017.
    """

    key: ClassVar[str] = "shakespeare"

    length: int = Field(80, ge=2, le=1000, description="characters in a window")
    stride: int = Field(1, ge=1, description="characters between the starts of two training windows; LEAF: 1")
    train: float = Field(0.8, gt=0, lt=1, description="share of a role's windows for training")
    test_windows: int | None = Field(20_000, ge=1, description="evenly spaced test windows that are kept; none = all")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (NAMES,)

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        path = raw[NAMES]
        if path.suffix == ".txt":
            roles = roles_of_plays(path.read_text("utf-8", errors="replace"))
        else:
            roles = roles_of_json(path)
        if not roles:
            raise ValueError(f"{path.name}: no speaking role was found")
        code = {char: i for i, char in enumerate(CHARACTERS)}
        names, starts, pieces = [], [0], []
        for role, text in spoken_text(roles):
            names.append(role)
            pieces.append(np.array([code.get(char, SPACE) for char in text], np.uint8))
            starts.append(starts[-1] + len(text))
        return Table({"text": np.concatenate(pieces), "starts": np.array(starts, np.int64)}, {"roles": names})

    def spec(self, stored: Stored) -> DataSpec:
        window = Modality("text", (self.length,), "sequence", vocabulary=len(CHARACTERS))
        return DataSpec((window,), len(CHARACTERS), tuple(CHARACTERS))

    def source(self, stored: Stored) -> Source:
        import numpy as np
        import torch

        text = stored.tensors["text"].long()
        train, test, role = self.windows(stored.tensors["starts"].numpy())
        if not len(train) or not len(test):
            raise UserError(
                f"dataset shakespeare: no role is long enough for windows of {self.length} characters in both parts",
                hint="lower dataset.length",
            )
        if self.test_windows is not None and len(test) > self.test_windows:
            test = test[np.linspace(0, len(test) - 1, self.test_windows).round().astype(np.int64)]
        windows, following = text.unfold(0, self.length, 1)[:-1], text[self.length :]
        parts = [Samples((windows,), following, rows=torch.from_numpy(rows)) for rows in (train, test)]
        mark = f"{stored.fingerprint}-{self.length}-{self.stride}-{self.train}-{self.test_windows}"
        return Source(self.spec(stored), parts[0], parts[1], mark, {"role": role})

    def windows(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(starts of the training windows, starts of the test windows, role of each training window)."""
        import numpy as np

        train, test, owner = [], [], []
        for role, (first, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist())):
            count = end - first - self.length  # each window needs one more character to predict
            if count < 1:
                continue
            cut = max(1, int(self.train * count))
            mine = np.arange(first, first + cut, self.stride)
            train.append(mine)
            owner.append(np.full(len(mine), role))
            test.append(np.arange(min(first + cut + self.length - 1, end - self.length), end - self.length))
        if not train:
            return (np.empty(0, np.int64),) * 3
        return np.concatenate(train), np.concatenate(test), np.concatenate(owner)
