"""torchvision, importable beside a torch that it was not built for.

torchvision from PyPI beside a CPU-only torch cannot load its compiled operators and then fails at import with "operator
torchvision::nms does not exist", because it registers shapes for two operators that nobody declared. Declaring the two
schemas first is enough: nothing here calls them. Every torchvision import of the package goes through `torchvision()`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aflctl.errors import EnvironmentProblem

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[Any] = []  # torch drops a schema with the library object that declared it


def torchvision(part: str = "") -> ModuleType:
    """The module `torchvision`, or one below it (`torchvision("datasets")`)."""
    import sys
    from importlib import import_module

    if "torchvision" not in sys.modules:
        _declare_missing()
    try:
        return import_module(f"torchvision.{part}" if part else "torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        raise EnvironmentProblem(
            f"torchvision cannot be imported: {error}",
            hint="install a torchvision that belongs to the installed torch (0.21 with 2.6, ..., 0.28 with 2.13)",
        ) from error


def _declare_missing() -> None:
    """Loads torchvision's own operators where that works, then declares the schemas that are still absent."""
    from importlib.util import find_spec
    from pathlib import Path

    import torch

    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in sorted(Path(folder).glob("_C.*")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except (OSError, RuntimeError):
                continue
    for name, schema in SCHEMAS.items():
        if not _known(name):
            fragment: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            fragment.define(schema)
            _declared.append(fragment)


def _known(name: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, name)
