"""The checks of personalizations: those of methods, made with a method inside, and a few of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aflctl.errors import UserError
from aflctl.plugins import registry
from aflctl.testing import algorithms, parameters
from aflctl.testing.bench import SCENES, Bench
from aflctl.testing.parameters import Settings
from aflctl.testing.play import Make, play, told
from aflctl.testing.results import Body, Failed
from aflctl.testing.toy import Scene

INNERS: Mapping[str, Settings] = {
    "fedbuff": {"buffer_size": 4}, "fedavg": {}, "fedasync": {}, "scaffold": {}, "aso-fed": {},
}  # fmt: skip
"""Methods that a personalization is tried around: a buffered one first, on which most checks look."""
MODAL = (*SCENES, Scene(modal=2), Scene(norm="batch"))


def personalized(cls: type[Any], settings: Settings, method: str = "fedbuff") -> Make:
    """The wrapped method for a setup."""
    made, around = cls(**settings), registry().load("algorithms", method)(**INNERS[method])
    return lambda setup: made.wrap(around, setup)


def bench_of(cls: type[Any], settings: Settings, **more: Any) -> Bench:
    """A personalization around FedBuff, with the checks of methods."""
    return Bench(
        cls, personalized(cls, settings), settings, lambda changed: personalized(cls, changed), scenes=MODAL, **more
    )


def wraps(bench: Bench) -> None:
    """It runs around methods of every sort, or refuses one with a reason."""
    for method in INNERS:
        try:
            made = play(personalized(bench.cls, bench.settings, method), replace(bench.scene, arrivals=8))
        except UserError as error:
            if method in ("fedavg", "fedbuff"):
                raise Failed(f"it refuses {method}: {error.message}") from error
            continue
        if made.error is not None and not isinstance(made.error, UserError):
            raise Failed(f"around {method}: {told(made.error)}")


def personal(bench: Bench) -> None:
    """Each client is evaluated with a finite vector of the model's size, whether it took part or not."""
    made = bench.sound
    for client in range(made.setup.clients):
        w = made.algorithm.personal(made.loop.state, client, made.trainer.memory[client])
        if tuple(w.shape) != (made.setup.size,) or not bool(w.isfinite().all()):
            raise Failed(f"personal gives client {client} a vector of shape {tuple(w.shape)}, or not a finite one")
    w = made.algorithm.params(made.loop.state)
    if tuple(w.shape) != (made.setup.size,):
        raise Failed(f"params gives a vector of shape {tuple(w.shape)}, not [{made.setup.size}]")


def summary(bench: Bench) -> None:
    """A summary line."""
    parameters.docstring(bench.cls, equation=False, sections=())


_OF_METHODS = (
    "config-schema", "constructs", "runs", "state-is-data", "no-mutation", "uploads", "stacked-equals-single",
    "repeatable", "no-global-rng", "select", "recall", "progress", "interrupt", "non-finite", "hyper-parameters-matter",
)  # fmt: skip
CHECKS: dict[str, Body] = {
    "docstring": summary,
    **{name: algorithms.CHECKS[name] for name in _OF_METHODS},
    "wraps": algorithms.alone_on_one_thread(wraps),
    "personal": algorithms.alone_on_one_thread(personal),
}
