"""CREMA-D: acted emotion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.frames import STILLS, read_stills
from aflctl.builtin.datasets.sound import BANDS, log_mel, read_wav
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.holdout import systematic

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
    `clip`, `actor`, `label`). Files are taken in sorted order; unreadable or silent clips are skipped and counted in
    the notes. Natural clients: actor. Source: Cao et al., IEEE Trans. Affective Computing 2014.
    """

    key: ClassVar[str] = "crema-d"
    shaping: ClassVar[tuple[str, ...]] = ("video", "side", "test")

    video: bool = Field(False, description="three frames of each clip as a second modality")
    side: int = Field(32, ge=8, le=224, description="video: side of a frame in pixels")
    test: Literal["actors", "clips"] = Field(
        "actors", description="every fifth actor, unseen in training; or every fourth clip of each actor and class"
    )

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("AudioWAV", FEATURES),) + ((("VideoFlash", "Frames"),) if self.video else ())

    def convert(self, raw: Raw) -> Table:
        import numpy as np

        names, features, skipped = self._sound(raw)
        parsed = [NAME.fullmatch(name) for name in names]
        for name, match in zip(names, parsed):
            if match is None or match[2] not in EMOTIONS:
                raise ValueError(f"{name}: not a clip name (actor_sentence_emotion_level)")
        actor = np.array([int(match[1]) for match in parsed if match], np.int64)
        labels = np.array([EMOTIONS.index(match[2]) for match in parsed if match], np.int64)
        if self.test == "actors":
            test = np.isin(actor, np.unique(actor)[4::5])
        else:
            test = systematic(actor * len(CLASSES) + labels, 0.25)
        if test.all() or not test.any():
            raise ValueError(f"{len(names)} clips of {len(np.unique(actor))} actors are too few to split")
        inputs: dict[str, NDArray[Any]] = {"audio": features[:, None]}
        if self.video:
            folder = raw["Frames", "VideoFlash"]
            inputs["video"] = np.stack([read_stills(folder, name, self.side) for name in names])
        arrays: dict[str, NDArray[Any]] = {"natural/actor": actor[~test]}
        for part, rows in (("train", ~test), ("test", test)):
            arrays[f"{part}/y"] = labels[rows]
            for name, values in inputs.items():
                arrays[f"{part}/x/{name}"] = values[rows]
        statistics = {
            name: [float(v[~test].mean()) / 255, max(1e-3, float(v[~test].std()) / 255)] for name, v in inputs.items()
        }
        return Table(arrays, {"statistics": statistics, "skipped": skipped})

    def _sound(self, raw: Raw) -> tuple[list[str], NDArray[np.uint8], list[str]]:
        """(clip names, features [n, 64, frames], clips left out)."""
        import numpy as np

        folder = raw.find("AudioWAV")
        if folder is None:
            with np.load(raw[FEATURES], allow_pickle=False) as found:
                return [str(name) for name in found["clip"]], found["logmel"], []
        names, features, skipped = [], [], []
        for path in sorted(Path(folder).glob("*.wav")):
            try:
                features.append(log_mel(read_wav(path)))
                names.append(path.stem)
            except ValueError as error:
                skipped.append(str(error))
        if not names:
            raise ValueError(f"no readable clip in {folder} ({len(skipped)} damaged or silent)")
        return names, np.stack(features), skipped

    def spec(self, stored: Stored) -> DataSpec:
        steps = stored.tensors["train/x/audio"].shape[-1]
        (mean, std), *video = stored.notes["statistics"].values()
        inputs = [Modality("audio", (1, BANDS, steps), "audio", (mean,), (std,))]
        for mean, std in video:
            inputs.append(Modality("video", (3 * STILLS, self.side, self.side), "image", (mean,), (std,)))
        return DataSpec(tuple(inputs), len(CLASSES), CLASSES)
