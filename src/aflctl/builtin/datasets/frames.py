"""Still frames of a video clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STILLS = 3


def stills(images: list[Any], side: int) -> NDArray[np.uint8]:
    """[3 * 3, side, side]: RGB frames 1 to 3 of five equally spaced positions, stacked along the channels."""
    import numpy as np

    at = np.linspace(0, len(images) - 1, STILLS + 2).round().astype(int)[1:-1]
    frames = [np.asarray(images[i].convert("RGB").resize((side, side))) for i in at]
    return np.concatenate([frame.transpose(2, 0, 1) for frame in frames]).astype(np.uint8)


def read_stills(folder: Path, clip: str, side: int) -> NDArray[np.uint8]:
    """Frames of `<folder>/<clip>/*.jpg`, or of `<folder>/<clip>.flv` (needs the optional package PyAV)."""
    from importlib import import_module

    from PIL import Image

    pictures = sorted((folder / clip).glob("*.jpg"))
    if pictures:
        opened = []
        for path in pictures:
            try:
                with Image.open(path) as image:
                    opened.append(image.convert("RGB"))
            except OSError as error:
                raise ValueError(f"{clip}/{path.name}: {error}") from error
        return stills(opened, side)
    video = folder / f"{clip}.flv"
    if not video.exists():
        raise FileNotFoundError(f"neither {clip}.flv nor a folder {clip} of frames is in {folder}")
    try:
        av = import_module("av")
    except ImportError as error:
        raise EnvironmentProblem(
            f"{video.name} needs a video decoder", hint="pip install av, or put frames as <clip>/<number>.jpg there"
        ) from error
    with av.open(str(video)) as container:
        return stills([frame.to_image() for frame in container.decode(video=0)], side)
