"""For dataset authors: where data live, verified download, safe extraction, plain array files, torchvision's shim.

A dataset keeps everything below `<data folder>/<name>/`: original files in `raw/`, and one converted array file.
"""

from __future__ import annotations

from aflctl.data.cache import fingerprint, folder
from aflctl.data.catalog import Listing, RemoteFile, catalog
from aflctl.data.files import FileDataset
from aflctl.data.raw import Raw
from aflctl.data.store import Stored, Table
from aflctl.data.vision import torchvision

__all__ = [
    "FileDataset",
    "Listing",
    "Raw",
    "RemoteFile",
    "Stored",
    "Table",
    "catalog",
    "fingerprint",
    "folder",
    "torchvision",
]
