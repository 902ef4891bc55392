"""Laws that the books of a run must obey, whatever the method; cheap, and checked after every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aflctl.sim.flights import PHASES

if TYPE_CHECKING:
    from aflctl.sim.books import Books
    from aflctl.sim.flights import Ticket


def audit(books: Books, flying: Mapping[int, Ticket], versions: Mapping[str, int]) -> dict[str, bool]:
    """law -> whether it holds.

    staleness_conserved, where there is one track: a version that is made makes every task that is out one staler, so

        sum of staleness, ended and flying = sum over versions of the tasks out when it was made + sum held at dispatch

    With concurrency C, a version per arrival or per full buffer, nobody lost and the next clients sent after the
    version, C - 1 tasks are out each time, and the right side is (C - 1) V. Runs with several tracks are left out.
    """
    t = books.totals
    parts = sum(part * n for counts in books.by_cause.values() for part, n in counts.items())
    whole = sum(tau * n for (_, tau), n in books.histogram.items())
    laws = {
        "staleness_parts_sum": parts == whole,
        "phases_not_negative": min(map(t.phase_ns.__getitem__, PHASES)) >= 0 and t.compute_ns == t.phase_ns["compute"],
        "participation_fits": sum(books.members.used) == t.used
        and sum(books.members.staleness_sum) == whole
        and t.wasted_compute_ns <= t.compute_ns,
        "nobody_arrives_before_being_sent": all(ticket.sent <= ticket.at for ticket in flying.values()),
    }
    if set(versions) == {""}:
        now = versions[""]
        out = sum(now - ticket.base[""] for ticket in flying.values())
        held = t.held + sum(ticket.seen[""] - ticket.base[""] for ticket in flying.values())
        laws["staleness_conserved"] = t.staleness_ended + out == t.out_at_versions + held
    return laws
