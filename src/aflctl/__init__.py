"""aflctl: a command-line laboratory for asynchronous federated learning.

The names below are all that the command line uses, resolved when first asked for, so that importing costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AflctlError": "errors",
    "RunResult": "engine",
    "check_plugin": "testing",
    "compare": "report",
    "create_plugin": "scaffold",
    "load_config": "config.load",
    "load_run": "runs.load",
    "registry": "plugins",
    "run": "engine",
    "run_suite": "engine.suites.suite",
    "verify": "engine.verify",
}
_NAMES = {"create_plugin": "create", "load_config": "load"}

__all__ = [
    "AflctlError",
    "RunResult",
    "__version__",
    "check_plugin",
    "compare",
    "create_plugin",
    "load_config",
    "load_run",
    "registry",
    "run",
    "run_suite",
    "verify",
]

if TYPE_CHECKING:
    from aflctl.config.load import load as load_config
    from aflctl.engine import RunResult, run
    from aflctl.engine.suites.suite import run_suite
    from aflctl.engine.verify import verify
    from aflctl.errors import AflctlError
    from aflctl.plugins import registry
    from aflctl.report import compare
    from aflctl.runs.load import load_run
    from aflctl.scaffold import create as create_plugin
    from aflctl.testing import check_plugin


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aflctl' has no attribute {name!r}")
    value = getattr(import_module(f"aflctl.{_HOMES[name]}"), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
