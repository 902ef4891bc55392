"""A partition on a terminal: class by client as numbers, or, where these are too many, as bubbles of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ROWS = 20
BUBBLES = " .:oO@"
LEAST_COLUMNS = 10


def lines(counts: NDArray[np.int64], names: Sequence[str], width: int) -> list[str]:
    """The first clients of `counts` [clients, classes], in lines of at most `width` characters.

    Numbers under the classes' names where these fit, else under their positions; else a character per class, or per
    few neighbouring classes, whose height stands for the number of samples.
    """
    shown = counts[:MOST_ROWS]
    left = len(counts) - len(shown)
    more = [f"... and {left} more client{'s' if left > 1 else ''}"] if left else []
    for heads in (list(names), [str(k) for k in range(len(names))]):
        table = _numbers(shown, heads)
        if max(map(len, table)) <= width:
            return table + more + ([] if heads == list(names) else _legend(names, width))
    return _bubbles(shown, names, width, more)


def _numbers(counts: NDArray[np.int64], heads: Sequence[str]) -> list[str]:
    rows = [["client", "samples", *heads]]
    rows += [[str(c), str(row.sum()), *map(str, row)] for c, row in enumerate(counts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths)) for row in rows]


def _legend(names: Sequence[str], width: int) -> list[str]:
    told = ", ".join(f"{k} {name}" for k, name in enumerate(names))
    return textwrap.wrap(f"classes: {told}", width, subsequent_indent="  ", break_on_hyphens=False)


def _bubbles(counts: NDArray[np.int64], names: Sequence[str], width: int, more: list[str]) -> list[str]:
    import numpy as np

    sizes = counts.sum(1)
    head = f"{'client':>6}  {'samples':>{max(7, len(str(sizes.max())))}}  "
    room = max(LEAST_COLUMNS, width - len(head))
    each = ceil(counts.shape[1] / room)
    starts = np.arange(0, counts.shape[1], each)
    grouped = np.add.reduceat(counts, starts, axis=1)
    most = int(grouped.max())
    top = len(BUBBLES) - 1
    level = np.ceil(np.sqrt(grouped / max(1, most)) * top - 1e-9).astype(int)
    out = [head + "".join(f"{int(s):<10}" for s in starts[::10])[: len(starts)].rstrip()]
    for client, row in enumerate(level):
        out.append(f"{client:>6}  {sizes[client]:>{len(head) - 10}}  {''.join(BUBBLES[i] for i in row)}".rstrip())
    column = "a column is a class" if each == 1 else f"a column is {each} classes"
    scale = ", ".join(f"{b} up to {int(most * (i / top) ** 2)}" for i, b in enumerate(BUBBLES) if i)
    return [*out, *more, *textwrap.wrap(f"{column}, as numbered; samples: {scale}", width)]
