"""A plan's partition applied to a dataset, and what it must keep to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aflctl.engine.parts import accept
from aflctl.errors import UserError
from aflctl.sim.streams import generator, key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aflctl.api import FederatedData, Source
    from aflctl.plan import Plan


def rows_of(plan: Plan, source: Source) -> list[NDArray[np.int64]]:
    """Positions among the training samples per client, at least one each.

    A partition that leaves clients out on purpose (`leaves_out`) makes a smaller federation.
    """
    _made_for(plan, source)
    clients = plan.config.clients.count
    random = generator(key(plan.seeds["data"], "partition"))
    rows = accept.divided(plan.partition, source.train.labels.numpy(), clients, random, source.naturals)
    if len(rows) != clients:
        raise UserError(
            f"the partition made {len(rows)} clients, the configuration asks for {clients}",
            where="clients.count",
            hint=f"set clients.count to {len(rows)}",
        )
    empty = [i for i, r in enumerate(rows) if not len(r)]
    if empty and getattr(plan.partition, "leaves_out", False):
        if len(empty) == clients:
            raise UserError(
                "the partition left no client", where="dataset.partition", hint="lower dataset.partition.min_size"
            )
        return [r for r in rows if len(r)]
    if empty:
        raise UserError(
            f"{len(empty)} clients have no training sample (client {empty[0]} is the first)",
            where="dataset.partition",
            hint="set dataset.partition.min_size to 1 or more, or lower clients.count",
        )
    return rows


def facts_of(data: FederatedData) -> dict[str, Any] | None:
    """Sizes and label skew of the clients, and the share that was given out; None where clients make their data."""
    from aflctl.data.index import describe_counts
    from aflctl.train.federation import Divided

    return {**describe_counts(data.counts()), "coverage": data.coverage()} if isinstance(data, Divided) else None


def _made_for(plan: Plan, source: Source) -> None:
    """Refuses an index file that was written for other data."""
    told = getattr(plan.partition, "made_for", None)
    mark = told() if told is not None else ""
    if mark and mark != source.fingerprint:
        raise UserError(
            f"the file was written for data with the fingerprint {mark[:12]}, these have {source.fingerprint[:12]}",
            where="dataset.partition.path",
            hint="use the dataset and the parameters of `aflctl data show --save`, or write the file anew",
        )
