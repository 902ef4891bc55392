"""Images in the IDX format of MNIST, read by torchvision's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.data import Raw, Table, torchvision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNPACKED_BYTES = 200_000_000
SIDE = 28


def idx_names(name: str) -> tuple[str, ...]:
    """Compressed as published, unpacked as torchvision leaves it, or spelled as in some re-packed copies."""
    return (f"{name}.gz", name, name.replace("-idx", ".idx"))


def read_idx(
    raw: Raw, layout: str, kind: str, parts: dict[str, str], **options: Any
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """(train images, train labels, test images, test labels) through `torchvision.datasets.<kind>`.

    `parts` maps "train" and "test" to the files' prefixes. The files are unpacked into a temporary folder of
    torchvision's layout; their checksums are not required, their shapes are checked.
    """
    reader = getattr(torchvision("datasets"), kind)
    with raw.workspace() as root:
        folder = root / layout
        folder.mkdir(parents=True)
        for prefix in parts.values():
            for suffix in ("images-idx3-ubyte", "labels-idx1-ubyte"):
                unpack(raw[idx_names(f"{prefix}-{suffix}")], folder / f"{prefix}-{suffix}")
        found: list[Any] = []
        for part, prefix in parts.items():
            try:
                read = reader(str(root), train=part == "train", download=False, **options)
            except AssertionError as error:  # torchvision's own check of the header
                raise ValueError(f"{prefix}: not a valid IDX file, or cut short") from error
            images, labels = read.data.numpy(), read.targets.numpy()
            if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels) or not len(labels):
                raise ValueError(f"{prefix}: {len(images)} images of shape {images.shape[1:]} and {len(labels)} labels")
            found += [images, labels]
    return found[0], found[1], found[2], found[3]


def unpack(source: Path, target: Path) -> None:
    """Copies a file, taking off gzip; refuses more than `UNPACKED_BYTES`."""
    import gzip
    import zlib

    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rb") as stream:
        try:
            content = stream.read(UNPACKED_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{source.name}: {error}") from error
    if len(content) > UNPACKED_BYTES:
        raise ValueError(f"{source.name}: unpacks to more than {UNPACKED_BYTES} bytes")
    target.write_bytes(content)


def image_table(
    train: tuple[NDArray[Any], NDArray[Any]], test: tuple[NDArray[Any], NDArray[Any]], classes: int, **more: Any
) -> Table:
    """The arrays of an image set, after checking types, shapes and the range of the labels."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = dict(more)
    for part, (images, labels) in (("train", train), ("test", test)):
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise ValueError(f"{part}: images {images.dtype} {images.shape} do not fit {len(labels)} labels")
        if len(labels) and (labels.min() < 0 or labels.max() >= classes):
            raise ValueError(f"{part}: labels {labels.min()}..{labels.max()} lie outside 0..{classes - 1}")
        arrays[f"{part}/x/image"] = images
        arrays[f"{part}/y"] = labels.astype(np.int64)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(f"train images are {train[0].shape[1:]}, test images {test[0].shape[1:]}")
    return Table(arrays)


def check_mean(images: NDArray[np.uint8], expected: float, name: str) -> None:
    """ValueError when a complete set has another mean grey level: the files of another dataset under the same names."""
    if len(images) >= 60_000 and abs(float(images.mean()) / 255 - expected) > 0.02:
        raise ValueError(
            f"the mean grey level is {images.mean() / 255:.4f}, that of {name} is {expected}: other files?"
        )
