"""From a waveform to what a network is shown, with numpy and SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE_HZ, SECONDS = 16_000, 3
WINDOW, HOP, BANDS = 1024, 512, 64
RANGE_DB = 80.0
SEGMENT, OVERLAP = 512, 353  # of the spectrogram; the hop is their difference, 159
POINTER = b"version https://git-lfs"


def read_wav(path: Path) -> NDArray[np.float64]:
    """[n] mono at 16 kHz in [-1, 1]; other rates are resampled. ValueError naming a file that is damaged or silent."""
    import warnings

    import numpy as np
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    with path.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise EnvironmentProblem(
                f"{path} is a pointer of Git LFS, not sound",
                hint=f"run `git lfs pull` in the clone that holds {path.parent}",
            )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, wave = wavfile.read(path)
    except Exception as error:  # SciPy raises many kinds on a damaged file
        raise ValueError(f"{path.name}: {error}") from error
    full = float(np.iinfo(wave.dtype).max) if np.issubdtype(wave.dtype, np.integer) else 1.0
    mono = (wave if wave.ndim == 1 else wave.mean(1)) / full
    if rate != RATE_HZ:
        mono = resample_poly(mono, RATE_HZ, rate)
    if not len(mono) or not np.abs(mono).max() > 0:
        raise ValueError(f"{path.name}: silent")
    return np.asarray(np.clip(mono, -1, 1), float)


def three_seconds(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """[48000] the clip repeated and cut, as AFL-Lib and OGM-GE do; they do not pad with silence."""
    import numpy as np

    wanted = RATE_HZ * SECONDS
    return np.tile(wave, -(-wanted // len(wave)))[:wanted]


def spectrogram(wave: NDArray[np.float64]) -> NDArray[np.float16]:
    """[257, 299] of a clip tiled and cut to 3 s: log(|S| + 1e-7) with mean 0 and deviation 1 over the clip.

    S is SciPy's power spectrogram of segments of 512 samples that overlap by 353, as AFL-Lib calls it. UNVERIFIED: its
    window there; here SciPy's default, Tukey (0.25).
    """
    import numpy as np
    from scipy.signal import spectrogram as power_of

    _, _, power = power_of(three_seconds(wave), RATE_HZ, nperseg=SEGMENT, noverlap=OVERLAP)
    log = np.log(np.abs(power) + 1e-7)
    return ((log - log.mean()) / (log.std() + 1e-9)).astype(np.float16)  # type: ignore[no-any-return]


def log_mel(wave: NDArray[np.float64]) -> NDArray[np.uint8]:
    """[64, 94] bytes of a clip tiled and cut to 3 s: the upper 80 dB of the mel power spectrum, 255 = its maximum.

    Hann window of 1024 samples, hop 512, frames centred (reflected ends), 64 triangular bands on the HTK mel scale.
    """
    import numpy as np

    padded = np.pad(three_seconds(wave), WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1], axis=1)) ** 2
    decibel = 10 * np.log10(np.maximum(power @ mel_bands().T, 1e-10)).T
    scaled = (decibel - decibel.max() + RANGE_DB) / RANGE_DB
    return np.asarray((np.clip(scaled, 0, 1) * 255).round(), np.uint8)


def mel_bands() -> NDArray[Any]:
    """[64, 513] triangles with equal spacing on the mel scale 2595 log10(1 + f / 700)."""
    import numpy as np

    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))
