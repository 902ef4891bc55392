"""Test samples of sets that come without a split, and of single clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def hold_out(
    labels: NDArray[np.int64], rows: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, test) positions of one client: round(fraction n) test samples, stratified by class, seeded.

    Each class gives floor(fraction n_c) test samples; the rest go to the classes with the largest remainders (ties: by
    a seeded order). A client with two samples or more keeps at least one of each kind.
    """
    import numpy as np

    n = len(rows)
    wanted = min(max(round(fraction * n), 1), n - 1) if n > 1 else 0
    mine = rng.permutation(rows)
    classes, of = np.unique(labels[mine], return_inverse=True)
    shares = np.bincount(of, minlength=len(classes)) * (wanted / n if n else 0.0)
    quota = np.floor(shares + 1e-9).astype(np.int64)
    order = rng.permutation(len(classes))
    order = order[np.argsort(-(shares - quota)[order], kind="stable")]
    quota[order[: wanted - quota.sum()]] += 1
    chosen = np.zeros(n, bool)
    for label, take in enumerate(quota):
        chosen[np.flatnonzero(of == label)[:take]] = True
    return np.sort(mine[~chosen]), np.sort(mine[chosen])


def systematic(groups: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """[n] which samples test: in each group, in order of appearance, the i-th where floor(fraction i) grows.

    0.2 takes every fifth, 0.25 every fourth. Uses no random numbers, so the split is the same on every machine.
    """
    import numpy as np

    chosen = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        steps = np.floor(fraction * np.arange(len(rows) + 1) + 1e-9)
        chosen[rows] = np.diff(steps) > 0
    return chosen
