"""The event loop: an int64 nanosecond clock, one heap, one tail for every event. Imports no tensor library."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aflctl.api import Algorithm, Assignment, Fleet, LossReason, Lost, Setup, Step, Update, overrides
from aflctl.errors import AflctlError, Diverged, HookFailed
from aflctl.sim.answers import Answers
from aflctl.sim.chance import Chance, HookStreams, draw_one, uniform_draw
from aflctl.sim.flights import ARRIVE, LOST, NS, ONLINE, TICK, WORD, Flying, Idle, Ticket, packed, unpacked
from aflctl.sim.scout import LEAST, Scout
from aflctl.sim.world import NEVER, Work

if TYPE_CHECKING:
    from aflctl.seam import Load, Result, Trainer
    from aflctl.sim.books import Books
    from aflctl.sim.world import World
    from aflctl.sim.world.growth import Growing


VAIN = 100_000
"""So many events while nobody flies and somebody could, or so many tasks of which none is used: this run has no end."""
PER_PLACE = 100
_WORKS = 1 << 15
_HOPELESS = 100
"""With four rounds of all places: so many uploads in a row that are not finite, none used between, end a run."""


class Limits(NamedTuple):
    """`server:` of the configuration, in nanoseconds and versions."""

    timeout: int | None = None
    max_staleness: int | None = None
    on_nonfinite: str = "stop"


NO_LIMITS = Limits()


class Loop:
    """Runs one algorithm on one world. `peek` tells when the next event is due, `step` lets it happen."""

    def __init__(
        self,
        algorithm: Algorithm[Any],
        trainer: Trainer,
        world: World,
        setup: Setup,
        chance: Chance,
        books: Books,
        *,
        flops: float = 0.0,
        family: str = "dense",
        limits: Limits = NO_LIMITS,
        params: int | None = None,
        growing: Growing | None = None,
        activations: float = 0.0,
    ) -> None:
        """`params` is what a task trains in the eyes of the clock, where that is not `setup.size`.

        `activations` are the floats that one sample keeps for the backward pass (memory may cut a batch into parts).
        `growing` are the clients' samples where they change over time; the loop moves their clock.
        """
        self.alg, self.trainer, self.world, self.setup = algorithm, trainer, world, setup
        self.params = setup.size if params is None else params
        self.chance, self.books, self.flops, self.family, self.limits = chance, books, flops, family, limits
        local = setup.local
        self.memory = (activations, {"sgd": int(local.momentum > 0)}.get(local.optimizer, 2))
        self.now, self.busy, self.events, self.tasks = 0, -1, 0, 0
        self.used = self.advances = self.spoiled = 0
        self.versions: dict[str, int] = {"": 0}
        self.made: dict[str, array[int]] = {"": array("q")}
        self.tickets: dict[int, Ticket] = {}
        self.heap: list[int] = []  # `packed` events
        self.nth = array("q", bytes(8 * world.clients))
        self.alarm: int | None = None
        self.online: int | None = None
        self.hook = ("init", -1)
        self.online_at = world.online
        self.state: Any = None
        self.answers, self._idled, self._vain = Answers(type(algorithm).__name__), 0, 0
        self.growing = growing
        self.samples: Sequence[int] = setup.samples if growing is None else growing
        self._instant: dict[str, Any] = {
            "versions": MappingProxyType(self.versions),
            "capacity": setup.concurrency,
            "samples": self.samples,
            "total_samples": _total(setup.samples),
            "idle": Idle(world.clients, self),
            "flying": Flying(self.tickets, self.versions),
            "estimate": self._estimate,
            "track": "",
        }
        self._samples = getattr(self.samples, "data", self.samples)  # an array's memory: gives plain integers
        self._works: dict[tuple[Load, float], Work] = {}
        self._recalls, self._alarms = overrides(algorithm, "recall"), overrides(algorithm, "alarm")
        self._loses, self._launches = overrides(algorithm, "lost"), overrides(algorithm, "launched")
        self._plain = chance.selection is None and not overrides(algorithm, "select")
        self._scout: Scout | None = None
        if self._plain and setup.concurrency >= LEAST and getattr(world, "foresees", False):
            self._scout = Scout(chance, world, setup.concurrency, self.nth)
        self._sends = type(algorithm).assign is Algorithm.assign
        self._order: Assignment | None = None

    # ---- what the engine calls ----
    def check(self) -> None:
        """Raises UserError if a device of the fleet cannot hold the model: now, not when its turn comes."""
        batch = self.setup.local.batch_size
        self.world.check(Work(1, 1, 1, batch, self.params, self.flops, 1.0, self.family, 0, 0, *self.memory))

    def begin(self) -> None:
        """Time 0: `init`, then the first clients are sent."""
        try:
            self.state = self.alg.init(self.setup, self._fleet("init"))
            self._tail(Step(self.state), ONLINE)
        except (AflctlError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise self._failed(error) from error

    def peek(self) -> int | None:
        """When the next event is due (ns); None = nothing can ever happen again."""
        heap, tickets = self.heap, self.tickets
        at: int | None
        while heap:
            first = heap[0]
            ticket = tickets.get(first & WORD)
            if ticket is not None and ticket.event == first:
                if not ticket.provisional:
                    break
                self._settle(ticket)  # surfaced with a lower bound: now the training must end
            else:
                heapq.heappop(heap)  # cancelled or moved
        if not tickets and self.online is None and not any(True for _ in self._instant["idle"]):
            return None
        at = tickets[heap[0] & WORD].at if heap else None
        if self.alarm is not None and (at is None or self.alarm < at):
            at = self.alarm
        if self.online is not None and (at is None or self.online < at):
            at = self.online
        return at

    def step(self) -> None:
        """Lets the next event happen. Call `peek` first."""
        ticket = self.tickets[self.heap[0] & WORD] if self.heap else None
        at, kind = (NEVER, ONLINE) if ticket is None else (ticket.at, ticket.kind)
        if self.alarm is not None and (self.alarm, TICK) < (at, kind):
            at, kind = self.alarm, TICK
        if self.online is not None and (self.online, ONLINE) < (at, kind):
            at, kind = self.online, ONLINE
        assert self.now <= at < NEVER, (at, self.now)
        self.now = at
        self.events += 1
        try:
            if self.growing is not None:
                self._grow(self.growing)
            if not self.tickets:
                self._waited()
            if ticket is not None and kind <= ARRIVE:
                heapq.heappop(self.heap)
                self._end(ticket)
            elif kind == TICK:
                self.alarm = None
                self._tail(self.answers.step(self.alg.tick(self.state, self._fleet("tick")), "tick"), TICK)
            else:
                self.online = None
                self._tail(Step(self.state), ONLINE)
        except (AflctlError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a plug-in may even call sys.exit
            raise self._failed(error) from error

    # ---- events ----
    def _failed(self, error: BaseException) -> HookFailed:
        hook, client = self.hook
        who = f"{type(self.alg).__name__}.{hook}" + (f" for client {client}" if client >= 0 else "")
        return HookFailed.of(f"{who} at {self.now / NS:.6f} s", error)

    def _grow(self, growing: Growing) -> None:
        """What clients have by now."""
        growing.now = self.now
        self._instant["total_samples"] = growing.total

    def _end(self, ticket: Ticket) -> None:
        del self.tickets[ticket.client]
        self.busy = ticket.client
        staleness = ticket.staleness(self.versions)
        reason, update = ticket.reason, None
        if (
            reason is None
            and self.limits.max_staleness is not None
            and max(staleness.values()) > self.limits.max_staleness
        ):
            reason = "stale"
            self.trainer.discard(ticket.id)
        if reason is None:
            result = self.trainer.collect(ticket.id)
            if result.finite or self.limits.on_nonfinite == "keep":
                update = _update(ticket, staleness, result, self.now)
            elif self.limits.on_nonfinite == "stop":
                raise Diverged(
                    f"the upload of client {ticket.client} (task {ticket.id}, step {result.broke} of {result.steps}, "
                    f"{self.now / NS:.3f} s) is not finite",
                    hint="lower local.lr, set local.clip_norm, or set server.on_nonfinite: reject",
                )
            else:
                reason = "not-finite"
                self._spoil()
        if update is None:
            assert reason is not None
            self._end_lost(ticket, staleness, reason)
            return
        step = self.alg.receive(self.state, update, self._fleet("receive", ticket.client))
        self.answers.step(step, "receive", ticket.base)
        if step.used:
            self.used += 1
            self._vain = self.spoiled = 0
            self.trainer.commit(ticket.id, step.weight)
        else:
            self.trainer.discard(ticket.id)
            self._in_vain("rejected")
        if self.chance.selection is not None:
            self.chance.observe(update)
        self._lead(ticket, staleness, step.tracks)
        self.books.arrived(ticket, self.now, self.made, self.versions, update.stats, step, staleness)
        self._tail(step, ARRIVE, ticket)

    def _spoil(self) -> None:
        """One more upload that is not finite; without an end to that, `stop.updates` would never be reached."""
        self.spoiled += 1
        if self.spoiled > _HOPELESS + 4 * self.setup.concurrency:
            raise Diverged(
                f"the last {self.spoiled} uploads, to {self.now / NS:.3f} s, were all not finite and rejected",
                hint="lower local.lr or set local.clip_norm; `server.on_nonfinite: reject` is for single bad uploads",
            )

    def _waited(self) -> None:
        """An event while nobody flies; a method whose alarm rings for ever must not run for ever."""
        self._idled += 1
        if self._idled >= VAIN:
            if any(True for _ in self._instant["idle"]):
                raise self.answers.idling(self.now, VAIN)
            self._idled = 0

    def _in_vain(self, reason: str) -> None:
        self._vain += 1
        if self._vain >= max(VAIN, PER_PLACE * self.setup.concurrency):
            raise self.answers.in_vain(self.now, self._vain, reason)

    def _end_lost(self, ticket: Ticket, staleness: dict[str, int], reason: LossReason) -> None:
        self._in_vain(reason)
        if reason == "not-finite":
            self.trainer.discard(ticket.id)
        step: Step[Any] = Step(self.state)
        lost = Lost(ticket.client, ticket.first, staleness, ticket.sent / NS, reason)
        if self._loses:
            step = self.answers.step(self.alg.lost(self.state, lost, self._fleet("lost", ticket.client)), "lost")
        self.chance.observe(lost)
        self._lead(ticket, staleness, None)
        self.books.lost(ticket, self.now, self.made, self.versions, reason)
        self._tail(step, LOST, ticket)

    @staticmethod
    def _lead(ticket: Ticket, staleness: dict[str, int], tracks: tuple[str, ...] | None) -> None:
        """Which track's staleness counts."""
        if tracks is None and len(staleness) == 1:
            (ticket.lead,) = staleness
        else:
            ticket.lead = max(tracks or staleness, key=staleness.__getitem__)

    # ---- the one tail ----
    def _tail(self, step: Step[Any], kind: int, ticket: Ticket | None = None) -> None:
        self.state = step.state
        advanced = step.advanced
        if not advanced:
            tracks: tuple[str, ...] = ()
        elif isinstance(advanced, tuple):
            tracks = advanced
        else:
            tracks = tuple(ticket.base) if ticket else ("",)
        if tracks:
            for track in tracks:
                self.versions[track] = self.versions.get(track, 0) + 1
                self.made.setdefault(track, array("q")).append(self.now)
            self.advances += 1
            self.trainer.advance()
            self.books.advanced(self.now, tracks, step)
        if self._recalls and (tracks or kind == TICK):
            self._recall()
        self.busy = -1
        self._launch()
        if self._alarms:
            self._set_alarm()

    def _recall(self) -> None:
        wanted = self.answers.recall(self.alg.recall(self.state, self._fleet("recall")), self.tickets)
        for client in sorted(wanted):
            ticket = self.tickets[client]
            if wanted[client] == "epoch":
                self._shorten(ticket)
            else:
                del self.tickets[client]
                self.trainer.discard(ticket.id)
                self._lead(ticket, ticket.staleness(self.versions), None)
                self.books.cancelled(ticket, self.now, self.made, self.versions)

    def _shorten(self, ticket: Ticket) -> None:
        """Ask for the upload at the next epoch boundary; a task that is to be lost is not revived."""
        if ticket.provisional:
            self._settle(ticket)
        if ticket.kind == LOST or ticket.interrupted:
            return
        steps = self.world.epoch_end(ticket.trip, self.now, ticket.per_epoch)
        if steps < ticket.planned:
            ticket.planned = steps
            self.trainer.truncate(ticket.id, steps)
            ticket.trip = self.world.shorten(ticket.trip, ticket.client, self.now, steps)
            self._schedule(ticket)

    def _settle(self, ticket: Ticket) -> None:
        """Early stopping: now the number of steps is known, and with it the true arrival.

        A task that fails may do so before its lower bound (in a shorter task the same failure would have come after a
        delay, in this one before it); nobody knew then, so it is lost at the bound.
        """
        bound = ticket.at
        ticket.provisional, ticket.event = False, -1  # its old place in the heap is void
        ticket.steps = ticket.planned = self.trainer.settle(ticket.id)
        ticket.work = replace(ticket.work, steps=ticket.steps)
        ticket.trip = self.world.trip(ticket.client, ticket.nth, ticket.sent, ticket.work)
        self._schedule(ticket, bound)
        if ticket.kind == LOST:
            self.trainer.discard(ticket.id)

    def _schedule(self, ticket: Ticket, earliest: int = 0) -> None:
        trip = ticket.trip
        at, ticket.kind, ticket.reason = trip.segments[-1][1], ARRIVE, None
        if trip.lost_at is not None and trip.lost_at <= at:
            at, ticket.kind, ticket.reason = trip.lost_at, LOST, trip.lost_reason
        if self.limits.timeout is not None and ticket.sent + self.limits.timeout < at:
            at, ticket.kind, ticket.reason = ticket.sent + self.limits.timeout, LOST, "timeout"
        ticket.at = at = at if at > earliest else earliest
        if at >= NEVER:
            raise self.answers.endless(ticket.client, ticket.planned)
        ticket.event = event = packed(at, ticket.kind, ticket.id, ticket.client)
        heapq.heappush(self.heap, event)

    def _launch(self) -> None:
        chance = self.chance
        chance.short = 0
        chosen = self._draw() if self._plain else self._select()
        if chosen:
            self._idled = 0
            for client in chosen:
                self._send(client)
            if self._launches:
                state = self.alg.launched(self.state, chosen, self._fleet("launched"))
                self.state = self.answers.state(state, self.state)
        self.online = None
        if chance.short or not self.tickets:
            self.online = self.world.next_any_online(self.now, self.tickets.__contains__)

    def _draw(self) -> Sequence[int]:
        """What `Algorithm.select` does by default, without the detour."""
        free = self.setup.concurrency - len(self.tickets)
        if free <= 0:
            return ()
        clients = self.world.clients
        if free == 1:
            client = -1
            if self._scout is not None:
                client = self._scout.find(self.events, self.now, self.tickets, self.online_at)
            if client < 0:
                known = 0 if self._scout is None else self._scout.known(self.events)
                where = self.chance.drawing(self.events, "select", -1, 0)
                client = draw_one(clients, where, self.tickets, self.online_at, self.now, known)
            if client >= 0:
                return (client,)
        where = self.chance.drawing(self.events, "select", -1, 0)
        got = uniform_draw(self._instant["idle"], range(clients), free, where)
        self.chance.short = free - len(got)
        return sorted(got)

    def _same(self) -> Assignment:
        """What `Algorithm.assign` does by default, one assignment for all who are sent the same vector."""
        w, order = self.alg.params(self.state), self._order
        if order is None or w is not order.tensors["w"]:
            order = self._order = Assignment({"w": w})
        return order

    def _select(self) -> Sequence[int]:
        fleet = self._fleet("select")
        return self.answers.select(self.alg.select(self.state, fleet), fleet)

    def _send(self, client: int) -> None:
        if self._sends:
            order = self._same()
        else:
            order = self.answers.assign(self.alg.assign(self.state, client, self._fleet("assign", client)), client)
        nth, task, versions, given = self.nth[client], self.tasks, self.versions, order.version
        if given is None and order.tracks == ("",):
            first = versions[""]
            base = seen = {"": first}
        else:
            seen = {k: versions.setdefault(k, 0) for k in order.tracks}
            for track in seen:
                self.made.setdefault(track, array("q"))
            base = seen if given is None else self.answers.base(given, seen, client)
            first = max(base.values())
        load = self.trainer.submit(task, client, nth, order, first)
        work = self._works.get((load, order.work))
        if work is None:
            work = self._work(load, order.work)
        trip = self.world.trip(client, nth, self.now, work)
        ticket = Ticket(
            task,
            client,
            nth,
            base,
            first,
            seen,
            self.now,
            int(self._samples[client]),
            load.per_epoch,
            load.steps,
            load.steps,
            work,
            trip,
            0,
            ARRIVE,
            None,
            load.provisional,
        )
        self.tasks, self.nth[client] = task + 1, nth + 1
        self.tickets[client] = ticket
        self._schedule(ticket)
        if ticket.kind == LOST and not ticket.provisional:
            self.trainer.discard(task)
        else:
            self.trainer.launch(task, ticket.at)
        self.books.sent(ticket)

    def _work(self, load: Load, share: float) -> Work:
        if len(self._works) >= _WORKS:
            self._works.clear()
        work = self._works[load, share] = Work(
            load.steps,
            load.per_epoch,
            load.samples,
            load.batch_size,
            self.params,
            self.flops,
            share,
            self.family,
            load.down_bytes,
            load.up_bytes,
            *self.memory,
        )
        return work

    def _set_alarm(self) -> None:
        at = self.alg.alarm(self.state, self._fleet("alarm"))
        self.alarm = None if at is None else self.answers.alarm(at, self.now)

    # ---- what a checkpoint stores ----
    def save(self) -> dict[str, Any]:
        """Everything that later events depend on; between two events only."""
        plain = ("now", "events", "tasks", "used", "advances", "alarm", "online", "state")
        return {
            **{name: getattr(self, name) for name in plain},
            "heap": [unpacked(event) for event in self.heap],
            "versions": dict(self.versions),
            "made": {track: list(times) for track, times in self.made.items()},
            "tickets": dict(self.tickets),
            "nth": {client: n for client, n in enumerate(self.nth) if n},
            "selection": self.chance.state,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """As `save` said."""
        for name in ("now", "events", "tasks", "used", "advances", "alarm", "online", "state"):
            setattr(self, name, saved[name])
        self.heap[:] = [packed(*event) for event in saved["heap"]]
        self.versions.clear()
        self.versions.update(saved["versions"])
        self.made.clear()
        self.made.update({track: array("q", times) for track, times in saved["made"].items()})
        self.tickets.clear()
        self.tickets.update(saved["tickets"])
        for ticket in self.tickets.values():
            ticket.event = packed(ticket.at, ticket.kind, ticket.id, ticket.client)
        for client, n in saved["nth"].items():
            self.nth[client] = n
        self.chance.state = saved["selection"]
        if self.growing is not None:
            self._grow(self.growing)

    # ---- what hooks see ----
    def _fleet(self, hook: str, client: int = -1) -> Fleet:
        self.hook = (hook, client)
        fleet: Fleet = object.__new__(Fleet)
        fields = fleet.__dict__
        fields.update(self._instant)
        fields["now"] = self.now / NS
        fields["streams"] = HookStreams(self.chance, self.events, hook, client)
        return fleet

    def _estimate(self, client: int, order: Assignment | None) -> float:
        local, n = self.setup.local, int(self._samples[client])
        per_epoch = max(1, -(-n // local.batch_size))
        steps = (order.steps if order else None) or (None if order and order.epochs else local.steps)
        steps = steps or ((order.epochs if order else None) or local.epochs) * per_epoch
        size = 4 * self.params
        down = order.down_bytes if order and order.down_bytes is not None else size
        up = order.up_bytes if order and order.up_bytes is not None else size
        share = order.work if order else 1.0
        work = Work(
            steps, per_epoch, n, local.batch_size, self.params, self.flops, share, self.family, down, up, *self.memory
        )
        return self.world.expected_s(client, work)


def _update(ticket: Ticket, staleness: dict[str, int], result: Result, now: int) -> Update:
    """An `Update` without the cost of a frozen dataclass's constructor."""
    update: Update = object.__new__(Update)
    update.__dict__.update(
        client=ticket.client,
        version=ticket.first,
        staleness_by=staleness,
        samples=ticket.samples,
        steps=result.steps,
        sent=result.sent,
        up=result.up,
        stats=result.stats,
        sent_at=ticket.sent / NS,
        arrived_at=now / NS,
        interrupted=ticket.planned < ticket.steps,
    )
    return update


def _total(samples: Sequence[int]) -> int:
    """The sum, by numpy's own where it is an array."""
    own = getattr(samples, "sum", None)
    return int(own(dtype="int64") if own is not None else sum(samples))
