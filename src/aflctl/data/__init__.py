"""For dataset authors: where data live, verified download, safe extraction, plain array files, torchvision's shim.

A dataset keeps everything below `<data folder>/<name>/`: original files in `raw/`, and one converted array file.
"""

from __future__ import annotations

from aflctl.data.cache import fingerprint, folder

__all__ = ["fingerprint", "folder"]
