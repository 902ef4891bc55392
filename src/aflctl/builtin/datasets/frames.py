"""Still frames of a video clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STILLS = 3
MAX_FRAMES = 2_000
MAX_PIXELS = 4096 * 4096


def chosen(count: int) -> list[int]:
    """Positions 1 to 3 of five equally spaced ones among `count` frames."""
    import numpy as np

    return np.linspace(0, count - 1, STILLS + 2).round().astype(int)[1:-1].tolist()  # type: ignore[no-any-return]


def read_stills(folder: Path, clip: str, side: int) -> NDArray[np.uint8]:
    """[3 * 3, side, side] bytes: three RGB frames stacked along the channels, scaled.

    Reads `<folder>/<clip>/*.jpg` in the order of their names, or `<folder>/<clip>.flv`, which needs PyAV (the extra
    `video`). ValueError names a clip that cannot be read.
    """
    import numpy as np

    try:
        pictures = sorted((folder / clip).glob("*.jpg"))
        images = _of_pictures(pictures) if pictures else _of_video(folder / f"{clip}.flv")
        frames = [np.asarray(image.resize((side, side)), np.uint8).transpose(2, 0, 1) for image in images]
    except EnvironmentProblem:
        raise
    except Exception as error:  # decoders raise many kinds on damaged bytes
        raise ValueError(f"{clip}: {error}") from error
    return np.concatenate(frames)


def _of_pictures(paths: list[Path]) -> list[Any]:
    from PIL import Image

    images = []
    for path in [paths[i] for i in chosen(len(paths))]:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{path.name} has {image.width} x {image.height} pixels")
            images.append(image.convert("RGB"))
    return images


def _of_video(path: Path) -> list[Any]:
    from importlib import import_module
    from itertools import islice

    if not path.exists():
        raise FileNotFoundError(f"neither {path.name} nor a folder {path.stem} of frames is in {path.parent}")
    try:
        av = import_module("av")
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path.name} needs a video decoder",
            hint=f"pip install 'aflctl[video]', or put frames as {path.stem}/<number>.jpg there",
        ) from error
    with av.open(str(path)) as container:
        frames = list(islice(container.decode(video=0), MAX_FRAMES))
        if not frames:
            raise ValueError("no frame")
        return [frames[i].to_image().convert("RGB") for i in chosen(len(frames))]
