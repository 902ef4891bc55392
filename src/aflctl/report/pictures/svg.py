"""Pictures as part of a page: SVG without prolog, whose colours follow the page's, light or dark."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from aflctl.report.pictures.drawing import CAUSE_COLOURS, INK, LINE_COLOURS, PALE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of a page in the dark: lighter, of the same hue
DARK = {
    "#0072b2": "#56a9e0", "#d55e00": "#ff8a3d", "#009e73": "#2ec99b", "#cc79a7": "#e39cc3", "#e69f00": "#f2b632",
    "#222222": "#d8d8d8", "#56b4e9": "#8fd0f5", "#b8a900": "#d9cb2f", "#555555": "#a0a0a0", "#f0e442": "#f0e442",
}  # fmt: skip
_SERIES = tuple(dict.fromkeys(c.lower() for c in (*LINE_COLOURS, *CAUSE_COLOURS.values())))
_SPECIAL = {INK.lower(): "currentColor", PALE.lower(): "var(--line)", "#ffffff": "var(--page)",
            "#999999": "var(--soft)", "#666666": "var(--soft)"}  # fmt: skip
_FONTS = re.compile(r" font-family: [^;\"]*;")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def variable(colour: str) -> str:
    """`#0072b2` -> `var(--c0072b2)`, or what stands for ink, lines and paper."""
    low = colour.lower()
    return _SPECIAL.get(low) or (f"var(--c{low[1:]})" if low in _SERIES else low)


def variables(dark: bool) -> str:
    """The declarations of all series colours for a style sheet."""
    return " ".join(f"--c{c[1:]}: {DARK.get(c, c) if dark else c};" for c in _SERIES)


def inline(figure: Figure, prefix: str, text: str) -> str:
    """An `<svg>` element; `prefix` keeps its ids apart from those of others, `text` says what there is to see."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    sheet = StringIO()
    FigureCanvasSVG(figure)
    with rc_context({"svg.hashsalt": "aflctl", "svg.fonttype": "none"}):
        figure.savefig(sheet, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = sheet.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', drawn)
    body = drawn[drawn.index(">") + 1 :]
    for part in (r"<metadata>.*?</metadata>", r"<style[^>]*>.*?</style>", r"<!--.*?-->"):
        body = re.sub(part, "", body, flags=re.DOTALL)
    body = _outside_text(body, prefix)
    head = f'<svg viewBox="{box[1] if box else "0 0 504 266"}" role="img" aria-label="{escape(text, quote=True)}">'
    return head + body.rstrip()


def _outside_text(body: str, prefix: str) -> str:
    """Changes tags only: what a configuration calls `#0072b2` stays what it is."""

    def changed(match: re.Match[str]) -> str:
        tag = match[0]
        tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
        tag = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}-", tag)
        tag = tag.replace("xlink:href", "href")
        tag = _FONTS.sub("", tag)
        return _COLOUR.sub(lambda colour: variable(colour[0]), tag)

    return re.sub(r"<[^>]*>", changed, body)
