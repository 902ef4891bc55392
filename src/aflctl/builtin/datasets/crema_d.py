"""CREMA-D: acted emotion."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.frames import read_stills
from aflctl.builtin.datasets.sound import BANDS, log_mel, read_wav, spectrogram
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.fetch import tell
from aflctl.data.holdout import systematic
from aflctl.data.npz import read_npz

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
CLASSES = ("neutral", "happy", "sad", "fear", "disgust", "anger")
FEATURES = "crema_d_logmel_64x94_uint8.npz"
NAME = re.compile(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{1,2}")


class CremaD(FileDataset):
    """Acted emotion: 7,442 clips of 91 actors as log-mel features (64 x 94 bytes), with `video` three frames too.

    Features are made once from the WAV files (16 kHz, tiled and cut to 3 s) or read from an .npz of them (`logmel`,
    `clip`, `actor`, `label`). `audio: spectrogram` with `video: true, side: 224` are AFL-Lib's inputs: 257 x 299
    numbers, and three frames of 224 x 224, which lie along the channels here and one below the other there; kept in
    half precision and as bytes, 4.5 GB in all. Files are taken in sorted order; unreadable or silent clips are left
    out and counted. Natural clients: actor. Source: Cao et al., IEEE Trans. Affective Computing 2014.
    """

    key: ClassVar[str] = "crema-d"
    shaping: ClassVar[tuple[str, ...]] = ("audio", "video", "side", "test")
    revision: ClassVar[int] = 2

    audio: Literal["log-mel", "spectrogram"] = Field(
        "log-mel", description="64 x 94 bytes, or AFL-Lib's 257 x 299 numbers"
    )
    video: bool = Field(False, description="three frames of each clip as a second modality")
    side: int = Field(32, ge=8, le=224, description="video: side of a frame in pixels")
    test: Literal["actors", "clips"] = Field(
        "actors", description="every fifth actor, unseen in training; or every fourth clip of each actor and class"
    )

    def needs(self) -> tuple[tuple[str, ...], ...]:
        sound = ("AudioWAV", FEATURES) if self.audio == "log-mel" else ("AudioWAV",)
        return (sound,) + ((("VideoFlash", "Frames"),) if self.video else ())

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        names, listen = self._sound(raw)
        readers: dict[str, Callable[[str], NDArray[Any]]] = {"audio": listen}
        if self.video:
            folder = raw["Frames", "VideoFlash"]
            readers["video"] = lambda name: read_stills(folder, name, self.side)
        actor, labels = _parsed(names)
        if self.test == "actors":
            test = np.isin(actor, np.unique(actor)[4::5])
        else:
            test = systematic(actor * len(CLASSES) + labels, 0.25)
        if test.all() or not test.any():
            raise ValueError(f"{len(names)} clips of {len(np.unique(actor))} actors are too few to split")
        arrays: dict[str, NDArray[Any]] = {}
        left_out: list[str] = []
        for part, rows in (("train", np.flatnonzero(~test)), ("test", np.flatnonzero(test))):
            kept, inputs, problems = _read([names[i] for i in rows], readers)
            arrays[f"{part}/y"] = labels[rows[kept]]
            arrays |= {f"{part}/x/{name}": values for name, values in inputs.items()}
            left_out += problems
            if part == "train":
                arrays["natural/actor"] = actor[rows[kept]]
        statistics = {name: _statistics(arrays[f"train/x/{name}"]) for name in readers}
        return Table(arrays, {"statistics": statistics, "left out": left_out})

    def _sound(self, raw: Raw) -> tuple[list[str], Callable[[str], NDArray[Any]]]:
        """(clip names in order, what reads the sound of one)."""
        import numpy as np

        folder = raw.find("AudioWAV")
        if folder is None:
            clip, features = read_npz(raw[FEATURES], "clip", "logmel")
            names = [str(name) for name in clip]
            if features.dtype != np.uint8 or features.shape[:2] != (len(names), BANDS):
                raise ValueError(f"{FEATURES}: features {features.dtype} {features.shape} of {len(names)} clips")
            rows = dict(zip(names, features, strict=True))
            return names, lambda name: rows[name][None]
        form, place = (log_mel if self.audio == "log-mel" else spectrogram), Path(folder)
        clips = sorted(path.stem for path in place.glob("*.wav"))
        if not clips:
            raise ValueError(f"{place} holds no .wav file")
        return clips, lambda name: form(read_wav(place / f"{name}.wav"))[None]

    def spec(self, stored: Stored) -> DataSpec:
        inputs = []
        for name, (mean, std) in stored.notes["statistics"].items():
            shape = tuple(stored.tensors[f"train/x/{name}"].shape[1:])
            inputs.append(Modality(name, shape, "audio" if name == "audio" else "image", (mean,), (std,)))
        return DataSpec(tuple(inputs), len(CLASSES), CLASSES)


def _parsed(names: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(actor, label) of each clip, from its name."""
    import numpy as np

    rows = []
    for name in names:
        match = NAME.fullmatch(name)
        if match is None or match[2] not in EMOTIONS:
            raise ValueError(f"{name}: not a clip name (actor_sentence_emotion_level)")
        rows.append((int(match[1]), EMOTIONS.index(match[2])))
    columns = np.array(rows, np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def _read(
    names: list[str], readers: dict[str, Callable[[str], NDArray[Any]]]
) -> tuple[list[int], dict[str, NDArray[Any]], list[str]]:
    """(positions of the clips of which all inputs could be read, these as arrays, what was wrong with the others).

    Memory is taken once, when the first clip says how large one is.
    """
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    kept: list[int] = []
    left_out: list[str] = []
    for i, name in enumerate(names):
        try:
            read = {kind: reader(name) for kind, reader in readers.items()}
        except ValueError as error:
            left_out.append(str(error))
            continue
        for kind, values in read.items():
            if kind not in arrays:
                arrays[kind] = np.empty((len(names), *values.shape), values.dtype)
            arrays[kind][len(kept)] = values
        kept.append(i)
        if i % 100 == 0:
            tell("decoding clips", i, len(names))
    if not kept:
        raise ValueError(
            f"no readable clip ({len(left_out)} damaged or silent{': ' + left_out[0] if left_out else ''})"
        )
    return kept, {kind: values[: len(kept)] for kind, values in arrays.items()}, left_out


def _statistics(values: NDArray[Any]) -> list[float]:
    """Mean and standard deviation of the inputs as a network sees them, bytes as 0..1."""
    import numpy as np

    scale = 255.0 if values.dtype == np.uint8 else 1.0
    first = second = 0.0
    for rows in np.array_split(values, max(1, len(values) // 256)):
        seen = rows.astype(float) / scale
        first, second = first + seen.sum(), second + np.square(seen).sum()
    mean = first / values.size
    return [float(mean), max(1e-3, float(np.sqrt(max(0.0, second / values.size - mean**2))))]
