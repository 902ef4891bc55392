"""A histogram drawn with characters: bars in eighths of a cell, or `#` where the output is not UTF-8."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import log1p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = " ▁▂▃▄▅▆▇█"
ASCII_LEVELS = " .:-=+*%#"
ROWS = 16


def bins(counts: Mapping[int, int], rows: int = ROWS) -> list[tuple[int, int]]:
    """Ranges [first, last] that cover 0 .. the highest value.

    At most `rows` of equal width; but where three quarters of the cases would fall into the first of several values,
    0, 1, 2, 3-4, 5-8, 9-16 and so on, each twice as wide as the one before.
    """
    highest = max(counts, default=0)
    width = 1
    while (highest + width) // width > rows:
        width += 1
    if width > 1 and 4 * sum(n for v, n in counts.items() if v < width) > 3 * sum(counts.values()):
        ranges = [(0, 0), (1, 1)]
        while ranges[-1][1] < highest:
            last = ranges[-1][1]
            ranges.append((last + 1, 2 * last))
        return ranges
    return [(first, first + width - 1) for first in range(0, highest + 1, width)]


def doubling(ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether the ranges grow."""
    return ranges[-1][1] - ranges[-1][0] != ranges[0][1] - ranges[0][0]


def binned(counts: Mapping[int, int], ranges: Sequence[tuple[int, int]]) -> list[int]:
    """How many cases fall into each range."""
    ends = [last for _, last in ranges]
    found = [0] * len(ranges)
    for value, count in counts.items():
        found[bisect_left(ends, value)] += count
    return found


def names(ranges: Sequence[tuple[int, int]]) -> list[str]:
    """`3`, or `3-4`."""
    return [str(a) if a == b else f"{a}-{b}" for a, b in ranges]


def bar(length: float, ascii_only: bool = False) -> str:
    """A bar `length` cells long; what is above 0 shows."""
    if ascii_only:
        return "#" * max(round(length), 1 if length > 0 else 0)
    eighths = max(round(length * 8), 1 if length > 0 else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def spark(numbers: Sequence[float], ascii_only: bool = False, log: bool = False) -> str:
    """One character per number, as high as its share (or its logarithm's) of the largest."""
    levels, heights = ASCII_LEVELS if ascii_only else LEVELS, [log1p(n) if log else n for n in numbers]
    top = max(heights, default=0)
    return "".join(levels[0 if not n else max(1, round(8 * n / top))] for n in heights)


class Histogram:
    """Counts by staleness; prints itself on a rich console, in ASCII where the console cannot do better."""

    def __init__(self, counts: Mapping[int, int], rows: int = ROWS) -> None:
        self.counts = dict(counts)
        self.ranges = bins(self.counts, rows)

    def lines(self, width: int = 80, ascii_only: bool = False) -> Iterator[str]:
        """One line per range: the range, a bar, how many."""
        numbers = binned(self.counts, self.ranges)
        told = names(self.ranges)
        wide, digits = max(map(len, told)), len(f"{max(numbers):,}")
        room = max(8, min(width - wide - digits - 5, 52))
        top = max(1, *numbers)
        edge = "|" if ascii_only else "▕"
        for name, number in zip(told, numbers):
            drawn = bar(room * number / top, ascii_only)
            yield f"  {name:>{wide}} {edge}{drawn} {number:,}" if drawn else f"  {name:>{wide}} {edge} {number:,}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for line in self.lines(options.max_width, options.ascii_only):
            yield Text(line, no_wrap=True, overflow="crop")
