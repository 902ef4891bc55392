"""Counter-based random streams: a draw is a pure function of its key, so it can be made at any time in any order.

A key is a 64-bit hash of integers and strings, `key(seed, "jitter", client, nth)`. Draw number i below a key k is

    mix(k + GOLDEN * (i + 1)  mod 2^64)

which is output i of SplitMix64 (Steele, Lea, Flood 2014; constants of Stafford's variant 13) started at k. All of
it is integer arithmetic of our own, so the bits depend neither on PYTHONHASHSEED nor on the version of a library;
normal numbers add IEEE arithmetic and `math.log`. Scalars need no numpy; arrays hold the very same bits as scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from math import log, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
M1, M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ROOT = 0x243F6A8885A308D3  # the fraction of pi, where every key starts
_TO_UNIT = 2.0**-53
_TO_OPEN = 2.0**-52

_words: dict[str, int] = {}


def fold(k: int, part: int) -> int:
    """The key below `k` for the number `part`; also draw number `part` of the sequence that starts at `k`."""
    x = (k + GOLDEN * (part + 1)) & MASK
    x = ((x ^ (x >> 30)) * M1) & MASK
    x = ((x ^ (x >> 27)) * M2) & MASK
    return x ^ (x >> 31)


def word(text: str) -> int:
    """64 bits of BLAKE2b over the text's UTF-8, remembered."""
    known = _words.get(text)
    if known is None:
        known = _words[text] = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
    return known


def key(*parts: int | str) -> int:
    """64-bit hash of the parts in order; 1 and "1" differ, and so do (1, 23) and (12, 3)."""
    k = _ROOT
    for part in parts:
        k = fold(k, word(part) if isinstance(part, str) else int(part))
    return k


def uniform(k: int) -> float:
    """Uniform on [0, 1), 53 bits; `k` is a key."""
    return (k >> 11) * _TO_UNIT


def integers(k: int, n: int) -> int:
    """Uniform on 0 .. n - 1 (bias below n / 2^64)."""
    return (k * n) >> 64


def normal(k: int) -> float:
    """Standard normal: the inverse distribution function at the key's 52 high bits."""
    return _quantile(((k >> 12) + 0.5) * _TO_OPEN)


def exponential(k: int) -> float:
    """Exponential with mean 1."""
    return -log(((k >> 12) + 0.5) * _TO_OPEN)


class Dice:
    """A sequence of draws below one key; draw i is `fold(key, i)`, whatever kinds were asked for before."""

    __slots__ = ("_at",)

    def __init__(self, k: int) -> None:
        self._at = k

    def bits(self) -> int:
        """64 random bits."""
        self._at = x = (self._at + GOLDEN) & MASK
        x = ((x ^ (x >> 30)) * M1) & MASK
        x = ((x ^ (x >> 27)) * M2) & MASK
        return x ^ (x >> 31)

    def random(self) -> float:
        """Uniform on [0, 1)."""
        return (self.bits() >> 11) * _TO_UNIT

    def below(self, n: int) -> int:
        """Uniform on 0 .. n - 1."""
        return (self.bits() * n) >> 64

    def normal(self) -> float:
        """Standard normal."""
        return normal(self.bits())


# ---- the normal quantile: Wichura 1988, algorithm AS 241 (PPND16), relative error about 1e-16 ----

_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _ratio(x: Any, table: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    """Quotient of two polynomials of degree 7 by Horner's rule; `x` is a number or an array."""
    (a7, a6, a5, a4, a3, a2, a1, a0), (b7, b6, b5, b4, b3, b2, b1, b0) = table
    top = ((((((a7 * x + a6) * x + a5) * x + a4) * x + a3) * x + a2) * x + a1) * x + a0
    return top / (((((((b7 * x + b6) * x + b5) * x + b4) * x + b3) * x + b2) * x + b1) * x + b0)


def _quantile(p: float) -> float:
    q = p - 0.5
    if not -0.425 <= q <= 0.425:
        return _tail(p, q)
    x = 0.180625 - q * q  # below: `_ratio(x, _CENTRE)` written out, since every task draws one
    top = 2509.0809287301226727 * x + 33430.575583588128105
    top = ((top * x + 67265.770927008700853) * x + 45921.953931549871457) * x + 13731.693765509461125
    top = ((top * x + 1971.5909503065514427) * x + 133.14166789178437745) * x + 3.3871328727963666080
    low = 5226.4952788528545610 * x + 28729.085735721942674
    low = ((low * x + 39307.895800092710610) * x + 21213.794301586595867) * x + 5394.1960214247511077
    low = ((low * x + 687.18700749205790830) * x + 42.313330701600911252) * x + 1.0
    return q * (top / low)


def _tail(p: float, q: float) -> float:
    z: float
    r = sqrt(-log(p if q < 0.0 else 1.0 - p))
    z = _ratio(r - 1.6, _TAIL) if r <= 5.0 else _ratio(r - 5.0, _FAR_TAIL)
    return -z if q < 0.0 else z


# ---- arrays: the same bits as the scalars ----


def folds(k: int | NDArray[np.uint64], parts: int | NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`fold` elementwise, where either argument (or both) is an array."""
    import numpy as np

    start = np.asarray(k, dtype=np.uint64)
    if isinstance(parts, int):
        x = np.atleast_1d(start) + np.uint64(GOLDEN * (parts + 1) & MASK)
    else:
        x = np.asarray(parts).astype(np.uint64) + np.uint64(1)
        x *= np.uint64(GOLDEN)
        x += start
    x ^= x >> np.uint64(30)
    x *= np.uint64(M1)
    x ^= x >> np.uint64(27)
    x *= np.uint64(M2)
    x ^= x >> np.uint64(31)
    return x


def sequence(k: int, n: int) -> NDArray[np.uint64]:
    """Draws 0 .. n - 1 below `k`."""
    import numpy as np

    return folds(k, np.arange(n, dtype=np.uint64))


def uniform_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """`uniform` elementwise."""
    import numpy as np

    return (keys >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def integers_of(keys: NDArray[np.uint64], n: int) -> NDArray[np.int64]:
    """`integers` elementwise: the high half of the 128-bit product, by halves of 32 bits; n below 2^63."""
    import numpy as np

    half, low = np.uint64(32), np.uint64((1 << 32) - 1)
    n_high, n_low = np.uint64(n >> 32), np.uint64(n & ((1 << 32) - 1))
    high, rest = keys >> half, keys & low
    cross = high * n_low + (rest * n_low >> half)
    second = rest * n_high + (cross & low)
    top: NDArray[np.uint64] = high * n_high + (cross >> half) + (second >> half)
    return top.astype(np.int64)


def normal_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """`normal` elementwise; logarithms by `math.log`, because numpy's may differ from it in the last bit."""
    import numpy as np

    p = ((keys >> np.uint64(12)).astype(np.float64) + 0.5) * _TO_OPEN
    q = p - 0.5
    z: NDArray[np.float64] = q * _ratio(0.180625 - q * q, _CENTRE)
    out = np.flatnonzero(np.abs(q) > 0.425)
    if out.size:
        low = q[out] < 0.0
        inside = np.where(low, p[out], 1.0 - p[out])
        r = np.sqrt(-np.fromiter(map(log, inside.tolist()), np.float64, out.size))
        tail = np.where(r <= 5.0, _ratio(r - 1.6, _TAIL), _ratio(r - 5.0, _FAR_TAIL))
        z[out] = np.where(low, -tail, tail)
    return z


def uniforms(k: int, n: int) -> NDArray[np.float64]:
    """[n] uniform draws; element i equals `uniform(fold(k, i))` and draw i of `Dice(k)`."""
    return uniform_of(sequence(k, n))


def normals(k: int, n: int) -> NDArray[np.float64]:
    """[n] normal draws; element i equals `normal(fold(k, i))` and draw i of `Dice(k)`."""
    return normal_of(sequence(k, n))


class _Seed:
    """Hands numpy a key as it is: the stream of `Philox(key=k)`, whose `spawn` would ask the system for entropy."""

    def __init__(self, k: int) -> None:
        self.k, self.spawned = k, 0

    def generate_state(self, n_words: int, dtype: Any = None) -> NDArray[np.uint64]:
        """The two words of Philox's key."""
        import numpy as np

        return np.array([self.k, 0], dtype=np.uint64)

    def spawn(self, n_children: int) -> list[_Seed]:
        """Seeds of the next children, for `Generator.spawn`."""
        first, self.spawned = self.spawned, self.spawned + n_children
        return [_Seed(fold(fold(self.k, word("spawn")), i)) for i in range(first, self.spawned)]


@cache
def _seeding() -> Callable[[int], Any]:
    """`_Seed`, which numpy knows by now."""
    from numpy.random.bit_generator import ISpawnableSeedSequence

    ISpawnableSeedSequence.register(_Seed)
    return _Seed


def generator(k: int) -> np.random.Generator:
    """A numpy generator (Philox) of its own for one key; for whoever needs numpy's distributions."""
    import numpy as np

    return np.random.Generator(np.random.Philox(_seeding()(k)))
