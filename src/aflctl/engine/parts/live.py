"""Data that arrive over virtual time, and official test samples that are divided too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aflctl.data.holdout import hold_out
from aflctl.engine.parts.division import rows_of
from aflctl.errors import UserError
from aflctl.sim.streams import generator, key
from aflctl.sim.world.growth import Growing
from aflctl.train.federation import Divided, Live, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aflctl.api import FederatedData, Source
    from aflctl.plan import Plan

    Parts = Sequence[NDArray[np.int64]]


def live(plan: Plan, data: FederatedData) -> tuple[FederatedData, Growing | None]:
    """(the data as they arrive, the counts that the loop's clock moves); where nothing arrives, (`data`, None).

    Each loop needs its own. A method that pools receives what all clients would.
    """
    stream, seed = plan.config.dataset.stream, plan.seeds["data"]
    if stream is None:
        return data, None
    pooled = plan.config.clients.count if plan.algorithm.pools else 1
    rate = None if stream.rate_per_s is None else stream.rate_per_s * pooled
    growing = Growing(
        data.samples, start=stream.start, rate_per_s=rate, over_s=stream.over_s, spread=stream.spread, seed=seed
    )

    def order(client: int, n: int) -> NDArray[np.int64]:
        return generator(key(seed, "stream-order", client)).permutation(n)

    return Live(data, growing, order if stream.order == "shuffled" else None), growing


def divide_all(plan: Plan, source: Source) -> Divided:
    """`merge_test`: official training and test samples are divided together, then each client's part into two.

    The split of a client is the partition's own (`local_split`), or stratified by `test_fraction`. The global test set
    is what all clients keep for testing.
    """
    if plan.config.modalities is not None:
        raise UserError("merge_test and modalities cannot be combined", where="dataset.merge_test")
    if source.naturals and plan.config.dataset.partition.name == "natural":
        raise UserError(
            "merge_test and the partition natural cannot be combined: the owners of test samples are not known",
            where="dataset.merge_test",
            hint="use test_fraction alone; every owner then keeps a part of its training samples for testing",
        )
    source, clients = merged(source), plan.config.clients.count
    labels, share, seed = source.train.labels.numpy(), plan.config.dataset.test_fraction, plan.seeds["data"]
    own = getattr(plan.partition, "local_split", None)
    if share is not None:
        rows = rows_of(plan, source)
        pairs = [hold_out(labels, r, share, generator(key(seed, "local-test", c))) for c, r in enumerate(rows)]
    elif own is not None:
        pairs = own(labels, clients)
    else:
        raise UserError(
            "with merge_test no test set is left",
            where="dataset.merge_test",
            hint="set dataset.test_fraction, or use the partition legacy, which has a split of its own",
        )
    train, test = [np.sort(p[0]) for p in pairs], [np.sort(p[1]) for p in pairs]
    if not all(len(r) for r in train):
        raise UserError(
            f"{sum(not len(r) for r in train)} of {len(pairs)} clients are without a training sample",
            where="dataset.partition",
            hint="raise dataset.partition.min_size, or change clients.count",
        )
    if plan.algorithm.pools:
        train, test = [np.sort(np.concatenate(train))], [np.sort(np.concatenate(test))]
    return Divided(source, train, test, pooled=True)
