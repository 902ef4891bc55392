"""What only the engine can check of a configuration: names that the simulator resolves. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aflctl.config.load import Check
from aflctl.config.schema import Config
from aflctl.errors import ConfigError, Problem


def fleet(config: Config, base: Path) -> Sequence[Problem]:
    """Devices, networks, availability and files of a fleet exist and agree."""
    from aflctl.sim.fleet.resolve import resolve

    try:
        resolve(config.fleet, base)
    except ConfigError as error:
        return error.problems
    return ()


CHECKS: tuple[Check, ...] = (fleet,)
