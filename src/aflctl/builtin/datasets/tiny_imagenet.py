"""Tiny ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec
from aflctl.builtin.datasets.idx import image_table
from aflctl.builtin.datasets.images import ImageDataset
from aflctl.data import Raw, Stored, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)


class TinyImagenet(ImageDataset):
    """Objects: 100,000 + 10,000 colour images of 64 x 64, 200 classes.

    Classes are the WordNet ids in ascending order. The test images are the published validation images with the
    labels of their annotation file. Grey images are made RGB. Kept as bytes: 1.35 GB. Source: Le and Yang, CS231N
    2015.
    """

    key: ClassVar[str] = "tiny-imagenet"
    shaping: ClassVar[tuple[str, ...]] = ("size",)

    size: Literal[32, 64] = Field(64, description="side in pixels; 32 halves the images as NIID-Bench does")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("wnids.txt",), ("val/val_annotations.txt",))

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        root = raw["wnids.txt"].parent
        ids = sorted(raw["wnids.txt"].read_text("ascii").split())
        index = {wnid: i for i, wnid in enumerate(ids)}
        train = [(path, index[wnid]) for wnid in ids for path in sorted((root / "train" / wnid / "images").glob("*"))]
        test = []
        for line, text in enumerate((root / "val" / "val_annotations.txt").read_text("ascii").splitlines(), 1):
            name, wnid, *_ = text.split("\t")
            if wnid not in index or "/" in name:
                raise ValueError(f"val_annotations.txt, row {line}: {text!r} names no known class")
            test.append((root / "val" / "images" / name, index[wnid]))
        missing = [wnid for wnid in ids if not (root / "train" / wnid / "images").is_dir()]
        if missing or not train:
            raise ValueError(f"no training images of {', '.join(missing[:3])}")
        parts = [(self._pixels([p for p, _ in part]), np.array([y for _, y in part])) for part in (train, test)]
        table = image_table(parts[0], parts[1], len(ids))
        words = dict(line.split("\t", 1) for line in _lines(root / "words.txt"))
        return Table(table.arrays, {"classes": [words.get(wnid, wnid).split(",")[0] for wnid in ids]})

    def _pixels(self, paths: list[Path]) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image

        from aflctl.data.fetch import tell

        out = np.empty((len(paths), 3, self.size, self.size), np.uint8)
        for i, path in enumerate(paths):
            try:
                with Image.open(path) as image:
                    if image.size != (64, 64):
                        raise ValueError(f"{image.size[0]} x {image.size[1]} pixels, expected 64 x 64")
                    colour = image.convert("RGB")
                    if self.size != 64:
                        colour = colour.resize((self.size, self.size), Image.Resampling.BOX)
                    out[i] = np.asarray(colour).transpose(2, 0, 1)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path.name}: {error}") from error
            if i % 1000 == 0:
                tell("decoding images", i, len(paths))
        return out

    def spec(self, stored: Stored) -> DataSpec:
        names = tuple(stored.notes["classes"])
        return DataSpec((self.image((3, self.size, self.size), MEAN, STD),), len(names), names)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if "\t" in line] if path.is_file() else []
