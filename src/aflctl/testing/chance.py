"""Whether a piece of work leaves the global random generators where they were."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

from aflctl.testing.results import Failed


def untouched(work: Callable[[], object], instead: str) -> None:
    """Does the work; fails where a generator of random, numpy or torch has moved. They are put back in any case."""
    python, ours, own = random.getstate(), np.random.get_state(legacy=False), torch.random.get_rng_state()
    try:
        work()
        now = np.random.get_state(legacy=False)
        moved = ["random"] if random.getstate() != python else []
        if now["state"]["pos"] != ours["state"]["pos"] or (now["state"]["key"] != ours["state"]["key"]).any():
            moved.append("numpy.random")
        if not torch.equal(torch.random.get_rng_state(), own):
            moved.append("torch")
    finally:
        random.setstate(python)
        np.random.set_state(ours)
        torch.random.set_rng_state(own)
    if moved:
        raise Failed(f"it draws from the global generator of {', '.join(moved)}: {instead}")
