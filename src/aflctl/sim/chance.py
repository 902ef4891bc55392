"""The randomness of server hooks: `Fleet.draw` and `Fleet.rng`, two separate streams, each keyed anew per call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

from aflctl.errors import HookFailed, blaming
from aflctl.sim.streams import GOLDEN, M1, M2, MASK, Dice, fold, generator, key, word

if TYPE_CHECKING:
    import numpy as np

    from aflctl.api import Fleet, Lost, Selection, Update


class Chance:
    """Hands out the streams of one hook call; holds the selection strategy's state and how far draws fell short."""

    def __init__(self, selection_seed: int, algorithm_seed: int, selection: Selection | None = None) -> None:
        self.selection_seed, self.algorithm_seed = selection_seed, algorithm_seed
        self.selection, self.state = selection, None
        self.short = 0
        self.drawn = key(selection_seed, "draw")

    def begin(self, samples: Sequence[int]) -> None:
        """Time 0."""
        if self.selection is not None:
            with blaming(f"{type(self.selection).__name__}.init"):
                self.state = self.selection.init(samples)

    def observe(self, event: Update | Lost) -> None:
        """A task ended."""
        if self.selection is not None:
            with blaming(f"{type(self.selection).__name__}.observe of client {event.client}"):
                self.state = self.selection.observe(self.state, event)

    def pick(self, selection: Selection, fleet: Fleet, k: int, among: Sequence[int] | None, where: int) -> list[int]:
        """The strategy's answer: up to k distinct idle clients (of `among`)."""
        name = f"{type(selection).__name__}.pick"
        with blaming(name):
            answer = selection.pick(self.state, fleet, k, among, generator(where))
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise HookFailed(f"{name} returned {type(answer).__name__}, not a state and a list of clients")
        self.state, got = answer
        clients = _clients(got, name)
        if len(clients) > k or len(set(clients)) < len(clients):
            raise HookFailed(f"{name} named {sorted(clients)}, not up to {k} different clients")
        for client in clients:
            if client not in fleet.idle or (among is not None and client not in among):
                raise HookFailed(f"{name} named client {client}, which is not idle, or not among those to pick from")
        return clients

    def of(self, event: int, hook: str, client: int) -> HookStreams:
        """The streams of one call."""
        return HookStreams(self, event, hook, client)

    def drawing(self, event: int, hook: str, client: int, nth: int) -> int:
        """The key of the `nth` draw in one call: key(selection seed, "draw", event, hook, client, nth)."""
        return fold(fold(fold(fold(self.drawn, event), word(hook)), client), nth)


def _clients(got: Any, name: str) -> list[int]:
    try:
        return [index(client) for client in got]
    except TypeError:
        raise HookFailed(f"{name} returned {got!r} as clients, not a list of whole numbers") from None


class HookStreams:
    """What `Fleet` asks: one numpy generator and one sequence of draws, made when first used."""

    __slots__ = ("_at", "_chance", "_draws", "_rng")

    def __init__(self, chance: Chance, event: int, hook: str, client: int) -> None:
        self._chance, self._at, self._draws = chance, (event, hook, client), 0
        self._rng: np.random.Generator | None = None

    @property
    def rng(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = generator(key(self._chance.algorithm_seed, "rng", *self._at))
        return self._rng

    def draw(self, fleet: Fleet, k: int, among: Sequence[int] | None) -> list[int]:
        if k <= 0:
            return []
        chance = self._chance
        where = chance.drawing(*self._at, self._draws)
        self._draws += 1
        if chance.selection is None:
            got = uniform_draw(fleet.idle, range(len(fleet.samples)) if among is None else among, k, where)
        else:
            got = chance.pick(chance.selection, fleet, k, among, where)
        chance.short += max(0, k - len(got))
        return sorted(got)


def draw_one(
    size: int, where: int, taken: Container[int], online: Callable[[int, int], bool], now: int, skip: int = 0
) -> int:
    """The one client that `uniform_draw(idle, range(size), 1, where)` finds by rejection, -1 = that takes a scan.

    The first `skip` candidates are known not to be idle.
    """
    x = (where + GOLDEN * skip) & MASK
    for _ in range(skip, min(240, 8 * size)):
        z = x = (x + GOLDEN) & MASK
        z = ((z ^ (z >> 30)) * M1) & MASK
        z = ((z ^ (z >> 27)) * M2) & MASK
        client = ((z ^ (z >> 31)) * size) >> 64
        if client not in taken and online(client, now):
            return client
    return -1


def uniform_draw(idle: Collection[int], pool: Sequence[int], k: int, where: int) -> list[int]:
    """k distinct idle clients of `pool`, each set equally likely; O(k) by rejection while idle ones are not rare, else
    one scan. Draw i is `fold(where, i)`, written out because this is the loop's hottest place."""
    got: dict[int, None] = {}
    size, whole, x = len(pool), isinstance(pool, range), where
    if not size:
        return []
    for _ in range(min(200 + 40 * k, 8 * size)):
        z = x = (x + GOLDEN) & MASK
        z = ((z ^ (z >> 30)) * M1) & MASK
        z = ((z ^ (z >> 27)) * M2) & MASK
        client = ((z ^ (z >> 31)) * size) >> 64
        if not whole:
            client = int(pool[client])
        if client not in got and client in idle:
            got[client] = None
            if len(got) == k:
                return list(got)
    rest, dice = [int(c) for c in pool if c not in got and c in idle], Dice(x)
    while rest and len(got) < k:
        got[rest.pop(dice.below(len(rest)))] = None
    return list(got)
