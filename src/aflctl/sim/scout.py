"""Looks ahead: who the coming draws would take, whether they are online, and how fast they are, a block at a time.

A draw's candidates are a function of the seed and the event's number alone (`Chance.drawing`), so those of the next
events can be made before their time comes; and who is online now mostly still is a few events later. Answers are the
very same as those of `chance.draw_one`, found sooner: what a block cannot answer is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from aflctl.sim.streams import folds, integers_of, word
from aflctl.sim.world.availability import NEVER

if TYPE_CHECKING:
    from array import array

    from aflctl.sim.chance import Chance
    from aflctl.sim.world import World

LEAST = 256
LONGEST = 4096
ROUNDS, STEADY_ROUNDS = ((0, 3), (3, 6), (6, 10)), ((0, 2),)


class Scout:
    """Candidates of the draws by `select` in a fleet of `world`; a block spans about a quarter of a task's duration.

    `nth` is how many tasks each client was sent so far.

    clients, online, until   the candidates worth a look, event after event: online when the block was made, or back
                             before its `horizon`, after which a new block is made
    ends                     where each event's candidates end among them
    wide                     how many of its candidates each event was given; the rest is not known
    """

    def __init__(self, chance: Chance, world: World, concurrency: int, nth: array[int]) -> None:
        self.chance, self.world, self.block = chance, world, min(LONGEST, concurrency // 4)
        self.nth, self.first, self.last, self.since = nth, 0, -1, -1
        self.horizon = -1
        self.clients: list[int] = []
        self.online: list[bool] = []
        self.until: list[int] = []
        self.ends: list[int] = []
        self.wide: list[int] = []

    def find(self, event: int, now: int, taken: Collection[int], ask: Callable[[int, int], bool]) -> int:
        """The idle client that event number `event` draws first; -1 = none among those looked up."""
        if event > self.last or now >= self.horizon:
            self._look(event, now, taken)
        at, clients = event - self.first, self.clients
        for i in range(self.ends[at - 1] if at else 0, self.ends[at]):
            client = clients[i]
            if client not in taken:
                if now < self.until[i]:
                    if self.online[i]:
                        self.world.remember(client, now, self.until[i])
                        return client
                elif ask(client, now):
                    return client
        return -1

    def known(self, event: int) -> int:
        """How many of an event's candidates `find` has looked at."""
        return self.wide[event - self.first]

    def _look(self, event: int, now: int, taken: Collection[int]) -> None:
        """The block that begins with this event."""
        import numpy as np

        size, world = self.block, self.world
        # the block will last about as long as the last one, at twice its pace; the very first one may last for ever
        paced = self.since >= 0 and event > self.first
        self.horizon = now + 2 * size * (now - self.since) // (event - self.first) + 1 if paced else NEVER
        self.first, self.last, self.since = event, event + size - 1, now
        keys = folds(self.chance.drawn, np.arange(event, event + size, dtype=np.int64))
        for part in (word("select"), -1, 0):
            keys = folds(keys, part)
        rows, wide, found = np.arange(size), np.zeros(size, np.int64), []
        free = np.ones(world.clients, bool)
        free[np.fromiter(taken, np.int64, len(taken))] = False
        for first, last in STEADY_ROUNDS if world.steady else ROUNDS:
            wide[rows] = last
            columns = np.stack([integers_of(folds(keys[rows], i), world.clients) for i in range(first, last)], axis=1)
            online, until = world.states(columns.ravel(), now)
            keep = np.flatnonzero(online | (until <= self.horizon))
            found.append((rows[keep // (last - first)], columns.ravel()[keep], online[keep], until[keep]))
            rows = rows[~(online.reshape(columns.shape) & free[columns]).any(axis=1)]
        row, client, on, until = (np.concatenate(parts) for parts in zip(*found))
        order = np.argsort(row, kind="stable")  # rounds come in order, so an event's candidates stay in theirs
        row, client, on = row[order], client[order], on[order]
        self.clients, self.online, self.until = client.tolist(), on.tolist(), until[order].tolist()
        self.ends, self.wide = np.searchsorted(row, np.arange(size), side="right").tolist(), wide.tolist()
        sure = on & free[client]
        likely = client[sure][np.unique(row[sure], return_index=True)[1]]
        world.foresee(likely, np.asarray(self.nth)[likely])
