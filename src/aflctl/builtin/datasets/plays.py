"""Lines by speaking role, from the texts in which people keep Shakespeare's plays."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMEDY_OF_ERRORS = "THE COMEDY OF ERRORS"
BYLINE = "by William Shakespeare"
_ROLE = re.compile(r"^  ([A-Za-z][A-Za-z ]*)\. (.*)")
_MORE = re.compile(r"^    (.*)")
_ROLE_AT_MARGIN = re.compile(r"^([A-Za-z][A-Za-z ]*)\. (.*)")
MAX_BYTES = 200_000_000


def roles_of_plays(text: str) -> dict[str, list[str]]:
    """`<play>_<role>` -> lines, in the order of the text, from Gutenberg's collected works (edition of 1994).

    A play begins at its byline, its title is the nearest line above with text. Two spaces, a name and a full stop
    begin a speech; lines with four spaces continue it (The Comedy of Errors stands at the margin). A play with one
    role is none.
    """
    plays: list[tuple[str, dict[str, list[str]]]] = []
    role: str | None = None
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if BYLINE in line:
            above = [found.strip() for found in lines[max(0, i - 7) : i] if found.strip()]
            plays.append((above[-1] if above else "", {}))
            role = None
            continue
        if not plays:
            continue
        title, roles = plays[-1]
        margin = title == COMEDY_OF_ERRORS
        speech = (_ROLE_AT_MARGIN if margin else _ROLE).match(line)
        if speech:
            role = speech.group(1).upper()
            if margin and role.startswith("ACT "):
                role = None
            else:
                roles.setdefault(role, []).append(speech.group(2))
        elif role is not None:
            more = re.match(r"^(.*)", line) if margin else _MORE.match(line)
            if more and margin and more.group(1).startswith("<"):
                role = None
            elif more:
                roles[role].append(more.group(1))
    return {
        re.sub(r"\W+", "_", f"{title}_{name}"): spoken
        for title, roles in plays
        if len(roles) > 1
        for name, spoken in roles.items()
    }


def roles_of_json(path: Path) -> dict[str, list[str]]:
    """The same from JSON, plain or gz: an object of role -> text, or one of LEAF's all_data files.

    LEAF's windows (80 characters and the next one) are joined to the text that they were cut from.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path.name}: more than {MAX_BYTES} bytes")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: expected an object of role -> text")
    if "user_data" in found:
        return {
            user: [_joined(path, data), "", ""] for user, data in found["user_data"].items()
        }  # no role is too short
    if not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{path.name}: expected an object of role -> text")
    return {role: text.splitlines() for role, text in found.items()}


def _joined(path: Path, data: Any) -> str:
    windows, following = data["x"], data["y"]
    if not windows or len(windows) != len(following):
        raise ValueError(f"{path.name}: windows and next characters do not fit each other")
    for here, char, there in zip(windows, following, windows[1:]):
        if here[1:] + char != there:
            raise ValueError(f"{path.name}: the windows of a role do not follow each other")
    return str(windows[0]) + "".join(following)


def spoken_text(roles: dict[str, list[str]], min_lines: int = 3) -> Iterator[tuple[str, str]]:
    """(role, its lines joined, runs of white space collapsed), without roles of fewer lines; sorted by role."""
    for role in sorted(roles):
        if len(roles[role]) >= min_lines:
            yield role, re.sub(r"\s+", " ", " ".join(roles[role])).strip()
