"""Numbers as people read them; a value that is not there is a dash."""

from __future__ import annotations

import re
from math import isfinite

DASH = "-"
_UNITS = ((1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h"))


def number(value: object) -> float | None:
    """The value where it is a finite number; summaries are edited by hand too."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def percent(share: object, digits: int = 1) -> str:
    """0.947 -> `94.7 %`."""
    value = number(share)
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def seconds(given: object) -> str:
    """Up to two minutes in seconds, then minutes, hours, days."""
    value = number(given)
    if not value:
        return DASH if value is None else "0 s"
    for limit, divisor, unit in _UNITS:
        if value < limit:
            return f"{short(value / divisor)} {unit}"
    return f"{short(value / 86400)} d"


def scaled(given: object, unit: str) -> str:
    """With a decimal prefix: 12_345_678 B -> `12.3 MB`."""
    value = number(given)
    if value is None:
        return DASH
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or prefix == "T":
            return f"{short(value)} {prefix}{unit}"
        value /= 1000
    return DASH  # pragma: no cover


def short(given: object) -> str:
    """Three significant digits; whole numbers stay whole."""
    value = number(given)
    if value is None:
        return DASH
    value = float(f"{value:.6g}")
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def count(given: object) -> str:
    """12345 -> `12,345`."""
    value = number(given)
    return DASH if value is None else f"{value:,.0f}"


def called(name: object) -> str:
    """A plug-in by its name; one from a file that travels with the run, `./plugins/mine.py:FedMine`, by its class."""
    return re.sub(r"^\./plugins/[^:]*\.py:", "", str(name))


def plural(given: object, noun: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{count(given)} {noun}{'' if given == 1 else 's'}"
