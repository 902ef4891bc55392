"""From a plan to the parts of an experiment: data, model, fleet, trainer, loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aflctl.api import Algorithm, FederatedData, Setup
from aflctl.engine.executors import choose, place
from aflctl.errors import UserError
from aflctl.sim.books import Books, Digest, Entry
from aflctl.sim.chance import Chance
from aflctl.sim.fleet import build_world
from aflctl.sim.loop import Limits, Loop
from aflctl.sim.streams import generator, key
from aflctl.sim.world import World
from aflctl.train.batches import Feed
from aflctl.train.federation import Divided, hold_out
from aflctl.train.flops import count_flops
from aflctl.train.jobs import Kit
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool
from aflctl.train.task import FlatTask

if TYPE_CHECKING:
    from aflctl.plan import Plan


@dataclass
class Experiment:
    """Everything of a run that lives in memory."""

    plan: Plan
    algorithm: Algorithm[Any]
    data: FederatedData
    task: FlatTask
    feed: Feed
    setup: Setup
    world: World
    pool: Pool
    books: Books
    loop: Loop
    executor: dict[str, Any]


def federate(plan: Plan, cache: Path) -> FederatedData:
    """The dataset, divided among the clients; a method that pools gets one client with everything."""
    config, seed = plan.config, plan.seeds["data"]
    clients = 1 if plan.algorithm.pools else config.clients.count
    made = plan.dataset.federate(cache, clients, generator(key(seed, "federate")))
    if made is not None:
        return made
    source = plan.dataset.open(cache)
    labels = source.train.labels.numpy()
    if plan.algorithm.pools:
        rows = [np.arange(len(labels), dtype=np.int64)]
    else:
        rows = plan.partition.split(labels, clients, generator(key(seed, "partition")), source.naturals)
    if len(rows) != clients:
        raise UserError(
            f"the partition made {len(rows)} clients, the configuration asks for {clients}",
            where="clients.count",
            hint=f"set clients.count to {len(rows)}",
        )
    empty = [i for i, r in enumerate(rows) if not len(r)]
    if empty:
        raise UserError(
            f"{len(empty)} clients have no training sample (client {empty[0]} is the first)",
            where="dataset.partition",
            hint="set dataset.partition.min_size to 1 or more, or lower clients.count",
        )
    share = config.dataset.test_fraction
    if share is None:
        return Divided(source, rows)
    held = [hold_out(labels, r, share, generator(key(seed, "local-test", c))) for c, r in enumerate(rows)]
    return Divided(source, [h[0] for h in held], [h[1] for h in held])


def build(
    plan: Plan, data: FederatedData, base: Path, digest: Digest, emit: Callable[[Entry], None] | None
) -> Experiment:
    """Wires the parts together; every stream of randomness is named here."""
    config, seeds = plan.config, plan.seeds
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(key(seeds["model"], "init") & (2**63 - 1))
        module = plan.model.build(data.spec, plan.fusion)
    flops = plan.model.flops(data.spec)
    flops = count_flops(module, data.spec) if flops is None else flops
    device = place(config.engine.device)
    task, feed = FlatTask(module, data.spec).to(device), Feed(data.spec, device)
    if isinstance(data, Divided):
        data.to(device)
    clients = len(data.samples)
    setup = Setup(
        task.layout, task.init, data.samples, min(config.clients.concurrency, clients), config.local, task.modules
    )
    algorithm = plan.algorithm
    for personalization in plan.personalization:
        algorithm = personalization.wrap(algorithm, setup)
    world = build_world(config.fleet, clients, seeds["fleet"], base)
    kit = Kit(algorithm, task, feed, config.local)
    training = seeds["training"]
    executor, picked = choose(config.engine, plan.model, kit, flops, setup.concurrency)
    pool = Pool(
        kit, data, setup, executor, ClientMemory(algorithm.memory(setup)),
        lambda client, nth: generator(key(training, "batches", client, nth)),
        lambda client, nth: key(training, "dropout", client, nth),
    )  # fmt: skip
    # uniform selection is what `draw` does by itself, in O(k) and without a numpy generator
    selection = None if config.clients.selection.name == "uniform" else plan.selection
    chance = Chance(seeds["selection"], seeds["algorithm"], selection)
    chance.begin(data.samples)
    books = Books(world, digest, emit)
    server = config.server
    limits = Limits(
        None if server.timeout_s is None else round(server.timeout_s * 1e9), server.max_staleness, server.on_nonfinite
    )
    loop = Loop(algorithm, pool, world, setup, chance, books, flops=flops, family=plan.model.family, limits=limits)
    return Experiment(plan, algorithm, data, task, feed, setup, world, pool, books, loop, picked)
