"""Which datasets are here, and what they hold, told as rows and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aflctl.cli import console

if TYPE_CHECKING:
    from aflctl.api import Dataset
    from aflctl.data.survey import Survey

MOST_LEFT_OUT = 3


def described(name: str, summary: str, found: type[Dataset]) -> dict[str, Any]:
    """The row of `aflctl data list`, with what its JSON and `aflctl data list NAME` tell besides."""
    from aflctl.data import FileDataset, catalog, folder

    if not issubclass(found, FileDataset):
        known = catalog().get(name)
        told = (known.natural, known.licence, known.title) if known else ("", "", summary)
        return {"name": name, "state": "built in", "download": "", "natural": told[0], "licence": told[1], "how": "-",
                "get": "nothing to do", "title": told[2], "others": []}  # fmt: skip
    listing, chosen = found.listing(), found()
    by_hand = f"by hand ({listing.homepage}), then {chosen.command()}"
    return {
        "name": name,
        "state": chosen.state(folder()),
        "others": chosen.others(folder()),
        "download": _size(listing.bytes) if listing.fetchable else "",
        "natural": listing.natural,
        "licence": listing.licence,
        "how": "prepare" if listing.fetchable else "by hand",
        "get": chosen.command() if listing.fetchable else by_hand,
        "by_hand": chosen.by_hand(folder()),
        "title": listing.title,
        "homepage": listing.homepage,
        "folder": str(folder() / found.key / "raw"),
        "files": [{"name": f.name, "bytes": f.bytes, "urls": f.urls} for f in listing.originals()],
    }


def short(key: str, row: dict[str, Any]) -> str:
    """A cell of the list; what is here with other parameters makes an absent set `partly` here."""
    value = str(row.get(key, ""))
    if key == "licence":
        return value.split(" (")[0].split(";")[0].split(":")[0]
    if key == "state" and value in ("absent", "downloaded") and row.get("others"):
        return "partly"
    return value


def tell_of(row: dict[str, Any]) -> None:
    """One dataset, a fact a line."""
    console.out(f"{row['name']}: {row.get('title', '')}")
    for key in ("state", "download", "licence", "natural", "homepage", "get", "by_hand"):
        if row.get(key):
            console.out(f"{key.replace('_', ' ')}: {row[key]}")
    if row.get("others"):
        console.out(f"prepared with other parameters: {'; '.join(row['others'])}")
    for file in row.get("files", ()):
        size = f" ({file['bytes']:,} bytes)" if file["bytes"] else ""
        console.out(f"file: {file['name']}{size}" + "".join(f"\n  {url}" for url in file["urls"]))


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else "?"


def tell_content(found: Survey) -> None:
    """What the prepared file holds, on stdout; what a careful reader would ask about, on stderr."""
    owners = "".join(f", {count:,} natural clients by {column}" for column, count in found.owners.items())
    console.out(f"{found.train:,} training and {found.test:,} test samples, {found.classes} classes{owners}")
    for status, said in (("original", "as published, by checksum"), ("other", "other bytes than the published file")):
        names = [name for name, its in found.originals.items() if its == status]
        if names:
            console.out(f"{said}: {', '.join(names)}")
    for text in found.differences:
        console.err(f"warning: {text}")
    if found.left_out:
        shown = "; ".join(found.left_out[:MOST_LEFT_OUT]) + ("; ..." if len(found.left_out) > MOST_LEFT_OUT else "")
        console.err(f"warning: {len(found.left_out)} samples were left out: {shown}")
