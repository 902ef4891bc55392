"""How good clients are on their own test samples, with the newest shared and their own private part.

Touches neither state nor clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, fsum, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.api import Algorithm, overrides
from aflctl.engine.parts import accept
from aflctl.engine.parts.modal import sensors_of
from aflctl.report.statistics import better
from aflctl.runs.load import Run
from aflctl.runs.records import read_rows
from aflctl.runs.rundir import read_json
from aflctl.sim.streams import generator, key
from aflctl.train.batches import epoch_order, moved
from aflctl.train.evaluate import Member, evaluate_clients
from aflctl.train.executors.serial import Serial
from aflctl.train.executors.stacked import Stacked
from aflctl.train.jobs import Spec

if TYPE_CHECKING:
    from aflctl.engine.parts.build import Experiment
    from aflctl.engine.plans.rehearsal import Scene

COLUMNS = ("personal_accuracy", "personal_weighted", "personal_std", "personal_worst")
VECTOR_BYTES = 512 << 20
"""Vectors of clients that are in memory at once."""
Hits = Mapping[int, tuple[int, int]]
"""client -> (correct, samples)."""


def measured(x: Experiment | Scene) -> bool:
    """Whether clients are tested: they have vectors of their own, or test samples of their own were asked for."""
    config = x.plan.config
    return (
        bool(config.personalization) or config.dataset.test_fraction is not None or overrides(x.algorithm, "personal")
    )


def chosen(x: Experiment | Scene) -> list[int]:
    """At most `evaluate.clients` clients, spread evenly over all."""
    n, most = len(x.data.samples), x.plan.config.evaluate.clients
    return list(range(n)) if n <= most else [i * n // most for i in range(most)]


def members(x: Experiment, clients: Sequence[int]) -> list[Member]:
    """Clients with the vectors they are evaluated with; whoever has no test samples gets the global ones."""
    found = []
    for client in clients:
        samples = x.data.local_test(client)
        samples = x.data.test() if samples is None else samples
        if len(samples):
            w = accept.personal(x.algorithm, x.loop.state, client, x.pool.memory[client], x.task.size)
            found.append(Member(client, w, samples, x.pool.buffers_of(client)))
    return found


def test(x: Experiment, epochs: int | None = None) -> Hits:
    """The chosen clients' hits; with `epochs`, after so much local training on copies."""
    clients, size, stacks = chosen(x), x.plan.config.evaluate.batch_size, stacked(x)
    many = max(1, VECTOR_BYTES // (4 * max(1, x.task.size)))
    hits: dict[int, tuple[int, int]] = {}
    for start in range(0, len(clients), many):
        rows = members(x, clients[start : start + many])
        if epochs is not None:
            rows = _tuned(x, rows, epochs)
        hits |= evaluate_clients(x.task, x.feed, rows, size, stacks=stacks)
    return hits


def stacked(x: Experiment | Scene) -> bool:
    """Whether clients are tested several at once."""
    flat = all(len(shape) <= 2 for _, shape in x.task.layout.values())
    return x.plan.model.stacks and not x.task.buffers.numel() and (flat or x.feed.device.type == "cuda")


def columns(hits: Hits) -> dict[str, float]:
    """Client mean, sample-weighted mean, standard deviation over clients, mean of the worst tenth."""
    shares = sorted(right / n for right, n in hits.values())
    if not shares:
        return dict.fromkeys(COLUMNS, 0.0)
    mean = fsum(shares) / len(shares)
    worst = shares[: max(1, ceil(len(shares) / 10))]
    weighted = sum(right for right, _ in hits.values()) / sum(n for _, n in hits.values())
    spread = sqrt(fsum((s - mean) ** 2 for s in shares) / len(shares))
    return dict(zip(COLUMNS, (mean, weighted, spread, fsum(worst) / len(worst)), strict=True))


def summary(x: Experiment, hits: Hits) -> dict[str, Any]:
    """What summary.json says of clients: all together, by device class, by staleness quartile, by modalities."""
    shares = {c: right / n for c, (right, n) in hits.items()}
    devices: dict[str, list[int]] = {}
    for c in shares:
        devices.setdefault(x.world.device_of(c), []).append(c)
    out: dict[str, Any] = {
        "clients": len(shares),
        **{name.removeprefix("personal_"): value for name, value in columns(hits).items()},
        "by_device": {device: _group(mine, shares) for device, mine in sorted(devices.items())},
        "by_staleness": _quartiles(x, shares),
    }
    sensors = sensors_of(x.data)
    if sensors is not None:
        patterns = sensors.patterns()
        out["by_modalities"] = {p: _group([c for c in mine if c in shares], shares) for p, mine in patterns.items()}
    return out


def _group(mine: Sequence[int], shares: Mapping[int, float]) -> dict[str, Any]:
    return {"clients": len(mine), "accuracy": fsum(shares[c] for c in mine) / len(mine) if mine else None}


def _quartiles(x: Experiment, shares: Mapping[int, float]) -> list[dict[str, Any]]:
    """Clients whose updates were used, in four groups of equal size by their mean staleness, freshest first."""
    mean = {c: m.staleness_sum / m.used for c, m in x.books.members.items() if m.used and c in shares}
    order, n = sorted(mean, key=lambda c: (mean[c], c)), len(mean)
    groups = [order[q * n // 4 : (q + 1) * n // 4] for q in range(4)]
    return [
        {**_group(mine, shares), "staleness_from": mean[mine[0]], "staleness_to": mean[mine[-1]]}
        for mine in groups
        if mine
    ]


class Plain(Algorithm[Any]):
    """Local training without any method."""


def _tuned(x: Experiment, rows: Sequence[Member], epochs: int) -> list[Member]:
    """The same clients after `epochs` epochs of local training on copies, in an order of their own stream."""
    local, training = x.plan.config.local, x.plan.seeds["training"]
    kit = x.pool.kit._replace(algorithm=Plain())
    executor = Stacked(kit) if x.executor["name"] == "stacked" else Serial(kit)
    specs = []
    for i, member in enumerate(rows):
        data = moved(x.data.train(member.client), x.feed.device)
        n = len(data)
        per_epoch = -(-n // local.batch_size)
        order = epoch_order(generator(key(training, "fine-tune", member.client)), n, epochs).to(x.feed.device)
        steps = epochs * per_epoch
        specs.append(Spec(
            i, member.client, 0, {"w": member.w}, {}, data, order, [local.lr] * epochs, per_epoch, local.batch_size,
            steps, steps, key(training, "fine-tune-dropout", member.client), member.buffers,
        ))  # fmt: skip
    for spec in specs:
        executor.start(spec, 0)
    better = []
    for spec, member in zip(specs, rows, strict=True):
        w, _, buffers = executor.result(spec).marks[spec.steps]
        better.append(member._replace(w=w, buffers=buffers))
    return better


def better_than_local(folder: Path, prints: Mapping[str, str], hits: Hits) -> dict[str, Any] | None:
    """Share of clients above a finished local-only run that lies beside this one; equals count half.

    The same divided data, seed, model, modalities and local training; of several the one with the same end, else the
    first by name. None where there is no such run. `aflctl compare` finds the share also where local-only ran later.
    """
    config = Run(folder).config
    found: list[tuple[bool, str, tuple[int, float]]] = []
    for path in sorted(folder.parent.glob("*/summary.json")):
        summary = read_json(path) or {}
        same = (summary.get("fingerprints") or {}).get("data") == prints["data"]
        if not same or summary.get("algorithm") != "local-only" or path.parent.resolve() == folder.resolve():
            continue
        theirs = Run(path.parent).config
        if any(theirs.get(key) != config.get(key) for key in ("seed", "seeds", "model", "modalities", "local")):
            continue
        table = read_rows(path.parent / "clients.csv")
        alone = {c: a for c, a in zip(table["client"], table["accuracy"]) if a is not None}
        if above := better({c: right / n for c, (right, n) in hits.items()}, alone):
            found.append((theirs.get("stop") != config.get("stop"), path.parent.resolve().name, above))
    if not found:
        return None
    _, name, (clients, share) = min(found)
    return {"run": name, "clients": clients, "share": share}
