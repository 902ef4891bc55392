"""Handwritten digits that scikit-learn ships: real data without a download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.api import Dataset, DataSpec, Modality, Samples, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEAN, STD = 0.3052, 0.3760


class Digits(Dataset):
    """Handwritten digits of scikit-learn: 1797 images of 8 x 8 pixels, 10 classes, no download.

    The 17 grey levels 0..16 become the bytes 0..255. Every fifth image of each class, in the order of the file, is a
    test image: 1442 for training, 355 for testing. Source: Alpaydin and Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998 (CC BY 4.0).
    """

    def open(self, cache: Path) -> Source:
        """Reads the copy inside scikit-learn; `cache` is not used."""
        import numpy as np
        import torch

        from aflctl.data import fingerprint
        from aflctl.data.holdout import systematic

        table = read_table()
        images = ((table[:, :64] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
        labels = table[:, 64].copy()
        test = systematic(labels, 0.2)
        arrays: dict[str, NDArray[Any]] = {"x": images, "y": labels, "test": test}
        train_part, test_part = (
            Samples((torch.from_numpy(images[rows]),), torch.from_numpy(labels[rows])) for rows in (~test, test)
        )
        spec = DataSpec(
            (Modality("image", (1, 8, 8), "image", (MEAN,), (STD,)),), 10, tuple(str(digit) for digit in range(10))
        )
        return Source(spec, train_part, test_part, fingerprint("digits: every fifth of a class tests", arrays))


def read_table() -> NDArray[np.int64]:
    """[1797, 65] grey levels and label, from scikit-learn's own file; loading scikit-learn itself takes a second."""
    import numpy as np

    found = find_spec("sklearn")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if file is not None and file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target]).astype(np.int64)
