"""From a plan to the parts of an experiment: data, model, fleet, trainer, loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aflctl.api import Algorithm, FederatedData, Setup
from aflctl.data.holdout import hold_out
from aflctl.engine.parts import accept
from aflctl.engine.parts.division import rows_of
from aflctl.engine.parts.executors import choose, place
from aflctl.engine.parts.live import divide_all, live
from aflctl.engine.parts.modal import equipped, required, sensors_of
from aflctl.errors import UserError, blaming
from aflctl.sim.books import Books, Digest, Entry
from aflctl.sim.chance import Chance
from aflctl.sim.fleet import build_world
from aflctl.sim.loop import Limits, Loop
from aflctl.sim.streams import generator, key
from aflctl.sim.world import World
from aflctl.train.batches import Feed
from aflctl.train.federation import Divided
from aflctl.train.flops import count_activations, count_flops, draws, flops_by_module
from aflctl.train.jobs import Kit
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool
from aflctl.train.task import FlatTask

if TYPE_CHECKING:
    from torch import nn

    from aflctl.engine.parts.opened import Opened
    from aflctl.plan import Plan


REASONS = {
    "subspace": "a shared subspace is cut from the whole vector, so it lies innermost and there is one of it",
    "tracks": "tracks hold several states of what is shared, so they lie around the subspace and there is one division",
    "extra": "further models stand beside everything else, so they lie outermost",
}
PERSONAL_TEST = 0.25
"""Share of a client's data kept for its own test, where clients have models of their own and nothing is said."""


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


def federate(plan: Plan, cache: Path, opened: Opened | None = None) -> FederatedData:
    """The dataset, divided among the clients; a method that pools gets one client with everything."""
    config, seed = plan.config, plan.seeds["data"]
    clients = 1 if plan.algorithm.pools else config.clients.count
    made = accept.federated(plan.dataset, cache, clients, generator(key(seed, "federate")))
    if made is not None:
        if required(plan, made.spec) is not None:
            raise UserError("this dataset makes its clients itself, with all modalities", where="modalities")
        if config.dataset.merge_test:
            raise UserError("this dataset has clients of its own and no test set to merge", where="dataset.merge_test")
        return made
    source = accept.opened(plan.dataset, cache) if opened is None else opened.source(plan.dataset, cache)
    if config.dataset.merge_test:
        return divide_all(plan, source)
    labels = source.train.labels.numpy()
    if plan.algorithm.pools:
        rows = [np.arange(len(labels), dtype=np.int64)]
    else:
        rows = rows_of(plan, source)
    source, sensors = equipped(plan, source, rows)
    own = config.personalization or not plan.algorithm.uploads  # where nothing travels there are own models only
    share = config.dataset.test_fraction or (PERSONAL_TEST if own else None)
    if share is None:
        data = Divided(source, rows)
    else:
        held = [hold_out(labels, r, share, generator(key(seed, "local-test", c))) for c, r in enumerate(rows)]
        data = Divided(source, [h[0] for h in held], [h[1] for h in held])
    data.sensors = sensors
    return data


def build(
    plan: Plan,
    data: FederatedData,
    base: Path,
    digest: Digest,
    emit: Callable[[Entry], None] | None,
    shelves: Path | None = None,
) -> Experiment:
    """Wires the parts together; every stream of randomness is named here. `shelves`: clients' memories on disk."""
    config, training = plan.config, plan.seeds["training"]
    task, feed, flops = model_of(plan, data)
    arriving, growing = live(plan, data)
    setup = setup_of(plan, data, task)
    algorithm = wrapped(plan, setup)
    world = build_world(config.fleet, setup.clients, plan.seeds["fleet"], base)
    kit = Kit(algorithm, task, feed, config.local)

    def height() -> float:
        from aflctl.engine.plans.rehearsal import Scene  # which builds on this module

        return Scene(plan, data, task, feed, flops, setup, algorithm, world).height()

    executor, picked = choose(config.engine, plan.model, kit, flops, setup.concurrency, height)
    sensors = sensors_of(data)
    pool = Pool(
        kit, arriving, setup, executor,
        ClientMemory(accept.memory(algorithm, setup), shelves / "clients" if shelves else None),
        lambda client, nth: generator(key(training, "batches", client, nth)),
        lambda client, nth: key(training, "dropout", client, nth),
        lambda client, nth, n, epochs: sensors.seen(client, nth, n, epochs) if sensors else None,
    )  # fmt: skip
    books = Books(world, digest, emit)
    loop = Loop(
        algorithm, pool, world, setup, chance_of(plan, setup), books,
        flops=flops, family=plan.model.family, limits=limits_of(plan), growing=growing,
        activations=task.activations,
    )  # fmt: skip
    loop.check()
    if sensors is not None:
        sensors.now = lambda: loop.now
    return Experiment(plan, algorithm, data, task, feed, setup, world, pool, books, loop, picked)


def model_of(plan: Plan, data: FederatedData) -> tuple[FlatTask, Feed, float]:
    """(the model as functions of a flat vector, what feeds it, forward FLOPs of a sample)."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(key(plan.seeds["model"], "init") & (2**63 - 1))
        module = joined(plan, data)
    flops, parts = accept.priced(plan.model, data.spec), {}
    with blaming(f"the module of {type(plan.model).__name__}, given two samples of zeros,"):
        activations = count_activations(module, data.spec)
    if flops is None:
        flops = count_flops(module, data.spec)
        parts = flops_by_module(module, data.spec) if plan.personalization else {}
    device = place(plan.config.engine.device)
    if isinstance(data, Divided):
        data.to(device)
    random = draws(module, data.spec)
    task = FlatTask(module, data.spec).to(device)
    task.random = random
    task.flops, task.activations = parts, activations
    return task, Feed(data.spec, device), flops


def joined(plan: Plan, data: FederatedData) -> nn.Module:
    """The module of the configured model and fusion; a fusion that the model never builds is a mistake."""
    if plan.fusion is None:
        return accept.built(plan.model, data.spec, None)
    fusion, built = plan.fusion.model_copy(), []

    def noted(dims: Sequence[int], out: int) -> nn.Module:
        built.append(out)
        return type(fusion).build(fusion, dims, out)

    object.__setattr__(fusion, "build", noted)  # plug-ins are frozen; this copy is nobody else's
    module = accept.built(plan.model, data.spec, fusion)
    if not built:
        raise UserError(
            f"the model {plan.config.model.name} builds no fusion, so the one configured would do nothing",
            where="model.fusion", hint="leave it out, or use a model that joins modalities, such as multimodal",
        )  # fmt: skip
    return module


def setup_of(plan: Plan, data: FederatedData, task: FlatTask) -> Setup:
    """What methods know before time 0."""
    clients, names = len(data.samples), tuple(m.name for m in data.spec.modalities)
    sensors = sensors_of(data)
    owns = sensors.owns if sensors else lambda client: names
    _, growing = live(plan, data)
    samples = data.samples if growing is None else tuple(growing.start.tolist())
    return Setup(
        task.layout, task.init, samples, min(plan.config.clients.concurrency, clients), plan.config.local,
        task.modules, owns if len(names) > 1 else lambda client: (), task.buffer_layout, task.flops,
        names if len(names) > 1 else (),
    )  # fmt: skip


def wrapped(plan: Plan, setup: Setup) -> Algorithm[Any]:
    """The method inside its personalizations: one subspace, then one division into tracks, then further models."""
    algorithm, layers = plan.algorithm, ("subspace", "tracks", "extra")
    ranks = [layers.index(p.layer) for p in plan.personalization]
    names = [ref.name for ref in plan.config.personalization]
    for (a, one), (b, two) in pairwise(zip(ranks, names, strict=True)):
        if a > b:
            raise UserError(
                f"{two} must come before {one}: {REASONS[layers[b]]}", where="personalization",
                hint=f"personalization: [{two}, {one}]",
            )  # fmt: skip
        if a == b < 2:
            raise UserError(
                f"{one} and {two} cannot be combined: {REASONS[layers[b]]}", where="personalization",
                hint="keep one; a list of selectors can name everything that is private",
            )  # fmt: skip
    for personalization in plan.personalization:
        algorithm = accept.wrapped(personalization, algorithm, setup)
    return algorithm


def chance_of(plan: Plan, setup: Setup) -> Chance:
    """The streams of server hooks and the selection."""
    # uniform selection is what `draw` does by itself, in O(k) and without a numpy generator
    selection = None if plan.config.clients.selection.name == "uniform" else plan.selection
    chance = Chance(plan.seeds["selection"], plan.seeds["algorithm"], selection)
    chance.begin(setup.samples)
    return chance


def limits_of(plan: Plan) -> Limits:
    """The loop's own limits."""
    server = plan.config.server
    timeout = None if server.timeout_s is None else round(server.timeout_s * 1e9)
    return Limits(timeout, server.max_staleness, server.on_nonfinite)
