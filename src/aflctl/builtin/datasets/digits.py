"""Handwritten digits that scikit-learn ships: real data without a download."""

from __future__ import annotations

from pathlib import Path

from aflctl.api import Dataset, DataSpec, Modality, Samples, Source

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
        from sklearn.datasets import load_digits

        from aflctl.data import fingerprint
        from aflctl.data.holdout import systematic

        raw = load_digits()
        images = ((raw.images.astype(np.int64) * 255 + 8) // 16).astype(np.uint8)[:, None]
        labels = raw.target.astype(np.int64)
        test = systematic(labels, 0.2)
        arrays = {"x": images, "y": labels, "test": test}
        train_part, test_part = (
            Samples((torch.from_numpy(images[rows]),), torch.from_numpy(labels[rows])) for rows in (~test, test)
        )
        spec = DataSpec(
            (Modality("image", (1, 8, 8), "image", (MEAN,), (STD,)),), 10, tuple(str(digit) for digit in range(10))
        )
        return Source(spec, train_part, test_part, fingerprint("digits: every fifth of a class tests", arrays))
