"""Looks ahead: the candidates of the coming draws and whether they are online, a block at a time as arrays.

A draw's candidates are a function of the seed and the event's number alone (`Chance.drawing`), so those of the next
events can be made before their time comes; and who is online now mostly still is a few events later. Answers are the
very same as those of `chance.draw_one`, found sooner: what a block cannot answer is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from aflctl.sim.streams import folds, integers_of, word

if TYPE_CHECKING:
    from aflctl.sim.chance import Chance
    from aflctl.sim.world import World

LEAST = 256
LONGEST = 4096
COLUMNS, STEADY_COLUMNS = 10, 2


class Scout:
    """Candidates of the draws by `select` in a fleet of `world`; a block spans about a quarter of a task's duration."""

    def __init__(self, chance: Chance, world: World, concurrency: int) -> None:
        self.chance, self.world, self.block = chance, world, min(LONGEST, concurrency // 4)
        self.first, self.last, self.wide = 0, -1, 0
        self.candidates: list[int] = []
        self.online: list[bool] = []
        self.until: list[int] = []

    def find(self, event: int, now: int, taken: Container[int], ask: Callable[[int, int], bool]) -> int:
        """The idle client that event number `event` draws first; -1 = none among those looked up."""
        if event > self.last:
            self._look(event, now)
        at, candidates = (event - self.first) * self.wide, self.candidates
        for i in range(at, at + self.wide):
            client = candidates[i]
            if client not in taken:
                if now < self.until[i]:
                    if self.online[i]:
                        self.world.remember(client, now, self.until[i])
                        return client
                elif ask(client, now):
                    return client
        return -1

    def _look(self, event: int, now: int) -> None:
        """The block that begins with this event."""
        import numpy as np

        steady = self.world.steady
        self.first, self.last = event, event + self.block - 1
        self.wide = STEADY_COLUMNS if steady else COLUMNS
        keys = folds(self.chance.drawn, np.arange(event, event + self.block, dtype=np.int64))
        for part in (word("select"), -1, 0):
            keys = folds(keys, part)
        found = np.stack([integers_of(folds(keys, i), self.world.clients) for i in range(self.wide)], axis=1).ravel()
        online, until = self.world.states(found, now)
        self.candidates, self.online, self.until = found.tolist(), online.tolist(), until.tolist()
