"""What every scheme keeps: no position twice, enough samples per client, and errors that name the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = list[NDArray[np.int64]]

Shortfall = Literal["error", "repair", "drop", "accept"]


def require_enough(samples: int, clients: int, min_size: int = 1) -> None:
    """UserError where `samples` cannot give every client its minimum."""
    if clients > samples:
        raise UserError(
            f"clients.count: {clients} clients but {samples} training samples",
            hint=f"lower clients.count to {samples} or less",
        )
    if clients * min_size > samples:
        raise UserError(
            f"dataset.partition.min_size: {clients} clients of at least {min_size} samples need {clients * min_size}, "
            f"there are {samples} training samples",
            hint=f"lower min_size to {samples // clients} or clients.count to {samples // min_size}",
        )


def check(parts: Parts, samples: int, *, repeats: bool = False) -> Parts:
    """`parts`, sorted inside each client, when every position is in range and used once; else ValueError."""
    import numpy as np

    sorted_parts = [np.sort(np.asarray(part, np.int64)) for part in parts]
    joined = np.concatenate(sorted_parts) if sorted_parts else np.empty(0, np.int64)
    if len(joined) and (joined.min() < 0 or joined.max() >= samples):
        raise ValueError(f"a position lies outside 0..{samples - 1}")
    if not repeats and len(np.unique(joined)) != len(joined):
        raise ValueError("a position was given to more than one client")
    return sorted_parts


def until_enough(
    draw: Callable[[], Parts],
    labels: NDArray[np.int64],
    clients: int,
    *,
    min_size: int,
    max_retries: int,
    shortfall: Shortfall,
    scheme: str,
    remedy: str,
) -> Parts:
    """Draws until every client has `min_size` samples; after `max_retries` further draws `shortfall` decides.

    error    UserError with the numbers of the best draw
    repair   the best draw, completed by moves from the largest clients
    drop     the best draw; clients below the minimum get nothing, and a run has so many fewer clients
    accept   the best draw as it is
    """
    best, most = draw(), -1
    parts = best
    for attempt in range(max_retries + 1):
        if attempt:
            parts = draw()
        least = min(len(part) for part in parts)
        if least >= min_size:
            return parts
        if least > most:
            best, most = parts, least
    if shortfall == "repair":
        return repair(best, labels, min_size)
    if shortfall == "drop":
        return [part if len(part) >= min_size else part[:0] for part in best]
    if shortfall == "accept":
        return best
    below = sum(len(part) < min_size for part in best)
    raise UserError(
        f"dataset.partition: {scheme}: none of {max_retries + 1} draws gave every client min_size {min_size} samples; "
        f"in the best one {below} of {clients} clients have fewer, the smallest {most} "
        f"({len(labels)} samples, {len(labels) / clients:.1f} per client on average)",
        hint=f"{remedy}; or lower clients.count or min_size (to {most}); or set shortfall: repair",
    )


def repair(parts: Parts, labels: NDArray[np.int64], min_size: int) -> Parts:
    """Moves samples one at a time from the largest client to each client below the minimum.

    The donor (ties: lowest id) gives the last sample of its most frequent class (ties: lowest class).
    """
    import numpy as np

    held = [list(part) for part in parts]
    sizes = np.array([len(part) for part in held])
    for client in np.flatnonzero(sizes < min_size):
        while sizes[client] < min_size:
            donor = int(sizes.argmax())
            mine = labels[held[donor]]
            classes, counts = np.unique(mine, return_counts=True)
            at = int(np.flatnonzero(mine == classes[counts.argmax()])[-1])
            held[client].append(held[donor].pop(at))
            sizes[donor] -= 1
            sizes[client] += 1
    return [np.array(part, np.int64) for part in held]


def cut(order: NDArray[np.int64], weights: NDArray[np.float64]) -> Parts:
    """`order` cut at floor(cumsum(weights) * n)."""
    import numpy as np

    return np.split(order, (np.cumsum(weights) * len(order)).astype(int)[:-1])
