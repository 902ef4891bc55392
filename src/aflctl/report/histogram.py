"""A histogram drawn with characters: bars in eighths of a cell, or `#` where the output is not UTF-8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = " ▁▂▃▄▅▆▇█"
ASCII_LEVELS = " .:-=+*%#"
ROWS = 16


def bins(highest: int, rows: int = ROWS) -> list[tuple[int, int]]:
    """Ranges [first, last] of equal width that cover 0 .. highest in at most `rows` of them."""
    width = 1
    while (highest + width) // width > rows:
        width += 1
    return [(first, first + width - 1) for first in range(0, highest + 1, width)]


def binned(counts: Mapping[int, int], ranges: list[tuple[int, int]]) -> list[int]:
    """How many cases fall into each range."""
    width = ranges[0][1] - ranges[0][0] + 1
    found = [0] * len(ranges)
    for value, count in counts.items():
        found[value // width] += count
    return found


def bar(length: float, ascii_only: bool = False) -> str:
    """A bar `length` cells long; what is above 0 shows."""
    if ascii_only:
        return "#" * max(round(length), 1 if length > 0 else 0)
    eighths = max(round(length * 8), 1 if length > 0 else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def spark(numbers: list[int], ascii_only: bool = False) -> str:
    """One character per number, as high as its share of the largest."""
    levels, top = ASCII_LEVELS if ascii_only else LEVELS, max(numbers, default=0)
    return "".join(levels[0 if not n else max(1, round(8 * n / top))] for n in numbers)


class Histogram:
    """Counts by staleness; prints itself on a rich console, in ASCII where the console cannot do better."""

    def __init__(self, counts: Mapping[int, int], rows: int = ROWS) -> None:
        self.counts = dict(counts)
        self.ranges = bins(max(self.counts, default=0), rows)

    def lines(self, width: int = 80, ascii_only: bool = False) -> Iterator[str]:
        """One line per range: the range, a bar, how many."""
        numbers = binned(self.counts, self.ranges)
        names = [str(a) if a == b else f"{a}-{b}" for a, b in self.ranges]
        wide, digits = max(map(len, names)), len(f"{max(numbers):,}")
        room = max(8, min(width - wide - digits - 5, 52))
        top = max(1, *numbers)
        edge = "|" if ascii_only else "▕"
        for name, number in zip(names, numbers):
            drawn = bar(room * number / top, ascii_only)
            yield f"  {name:>{wide}} {edge}{drawn} {number:,}" if drawn else f"  {name:>{wide}} {edge} {number:,}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for line in self.lines(options.max_width, options.ascii_only):
            yield Text(line, no_wrap=True, overflow="crop")
