"""The checks of methods, and of personalizations around methods: each a function of a bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from aflctl.api import Algorithm, Local, overrides
from aflctl.errors import Diverged, UserError
from aflctl.runs import checkpoint
from aflctl.seam import Result
from aflctl.testing import parameters, toy
from aflctl.testing.bench import Bench
from aflctl.testing.chance import untouched
from aflctl.testing.parameters import Settings
from aflctl.testing.play import Play, Sum, differing, one_thread, play, told
from aflctl.testing.results import Body, Failed, Skipped
from aflctl.testing.toy import Scene
from aflctl.train.executors.stacked import Stack, _shape
from aflctl.train.jobs import Kit, Spec, job_of, train

TOLERANCE = 1e-5
SPOILED = 5
"""The upload that is made to be not finite."""
WILD = 8
"""Settings with everything changed at once in which a parameter is tried that shows no effect otherwise."""


def runs(bench: Bench) -> None:
    """Some thirty uploads with drop-outs, offline windows and stale clients, without an error."""
    if bench.base.error is not None:
        raise Failed(told(bench.base.error))
    if bench.base.books.broken:
        raise Failed(f"the books do not balance: {bench.base.books.broken[0]}")


def schema(bench: Bench) -> None:
    """Parameters have descriptions and bounds."""
    parameters.schema(bench.cls)


def constructs(bench: Bench) -> None:
    """Equal parameters, equal objects."""
    parameters.constructs(bench.cls, bench.settings)


def docstring(bench: Bench) -> None:
    """Summary, equation, source, deviations."""
    parameters.docstring(bench.cls, equation=True, sections=("Source", "Deviations"))


def state_is_data(bench: Bench) -> None:
    """Saved and loaded in the middle, the run goes on as if nothing had happened."""
    bench.sound  # noqa: B018
    scene, facts = bench.scene, bench.facts
    types = checkpoint.state_types(bench.make(toy.setup(scene)))
    at = (7, 19)

    def swap(made: Play) -> None:
        if made.loop.events in at:
            tensors, spec = checkpoint.pack(made.loop.state)
            made.loop.state = checkpoint.unpack({k: t.clone() for k, t in tensors.items()}, spec, types)

    again = play(bench.make, scene, between=swap)
    if again.error is not None:
        raise Failed(told(again.error))
    apart = differing(facts, again.facts)
    if apart:
        raise Failed(f"after saving and loading the state, the run goes on otherwise: {', '.join(apart)}")


def no_mutation(bench: Bench) -> None:
    """Nothing that was sent, received or returned as a model is changed in place."""
    bench.noted("no-mutation")


def uploads(bench: Bench) -> None:
    """`finish` returns what `uploads` declares, always in the same shapes."""
    found = bench.base.notes.found.get("uploads")
    if found:
        raise Failed("; ".join(found))
    if bench.base.error is not None and "uploads" in str(bench.base.error):
        raise Failed(told(bench.base.error))
    specs = bench.sound.trainer.specs
    seen: dict[Any, Any] = {}
    kit = kit_of(bench)
    for spec in specs:
        shapes = {name: tuple(t.shape) for name, t in finished(kit, spec)[0].items()}
        if seen.setdefault(_shape(spec), shapes) != shapes:
            raise Failed(f"jobs of one shape give uploads of several: {seen[_shape(spec)]} and {shapes}")


def kit_of(bench: Bench) -> Kit:
    """What the jobs of the common run share, the method not observed."""
    scene = bench.scene
    return Kit(bench.make(toy.setup(scene)), toy.task_of(scene), toy.feed(scene.modal), scene.local)


def finished(kit: Kit, spec: Spec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(upload, memory) of a job trained by itself."""
    w, memory, _ = train(kit, spec).marks[spec.steps]
    up, kept = kit.algorithm.finish(w, _last_job(spec, memory))
    return up, kept


def _last_job(spec: Spec, memory: dict[str, Tensor]) -> Any:
    epoch = (spec.steps - 1) // spec.per_epoch
    return job_of(spec, memory, spec.lr[min(epoch, len(spec.lr) - 1)], spec.steps - 1, epoch, spec.steps)


def stacked_equals_single(bench: Bench) -> None:
    """Jobs trained together, over a leading axis that hooks do not know of, give what they give one by one."""
    made = bench.sound
    groups: dict[Any, list[Spec]] = {}
    for spec in made.trainer.specs:
        groups.setdefault(_shape(spec), []).append(spec)
    group = max(groups.values(), key=len, default=[])
    if len(group) < 2:
        raise Skipped("no two of its jobs have one shape, or all of them stop early")
    group = sorted(group, key=lambda s: (-s.steps, s.task))
    kit = kit_of(bench)
    algorithm = kit.algorithm
    if kit.task.buffers.numel():
        raise Skipped("the model has running statistics and does not stack")
    plain = not any(overrides(algorithm, h) for h in ("loss", "grad", "direction", "project"))
    try:
        together = Stack(kit, group).train(plain=plain)
        ends = [t.marks[s.steps] for t, s in zip(together, group, strict=True)]
        up, memory = _finish_stacked(algorithm, group, ends)
    except Exception as error:
        raise Failed(
            f"its client hooks do not run stacked; they may not branch on a tensor's value: {told(error)[:300]}"
        ) from error
    for row, spec in enumerate(group):
        alone = finished(kit, spec)
        for what, one, many in (("upload", alone[0], up), ("memory", alone[1], memory)):
            for name, t in one.items():
                t, row_ = t.double(), many[name][row].double()
                off = float((t - row_).abs().max()) if t.numel() else 0.0
                if not off <= TOLERANCE * max(1.0, float(t.abs().max()) if t.numel() else 1.0):
                    raise Failed(f"{what} {name!r} of client {spec.client} differs by {off:.2g} when stacked")


def _finish_stacked(algorithm: Algorithm[Any], group: list[Spec], ends: list[Any]) -> Any:
    jobs = [_last_job(s, memory) for s, (_, memory, _) in zip(group, ends, strict=True)]

    def stack(parts: Sequence[Any]) -> Any:
        if isinstance(parts[0], dict):
            return {name: torch.stack([p[name] for p in parts]) for name in parts[0]}
        return torch.stack(list(parts))

    job = type(jobs[0])(*(stack(column) for column in zip(*jobs, strict=True)))
    return vmap(algorithm.finish)(torch.stack([w for w, _, _ in ends]), job)


def repeatable(bench: Bench) -> None:
    """The same seed gives the same bits, another seed others; the method keeps nothing to itself."""
    first = bench.sound.facts
    apart = differing(first, bench.facts)
    if apart:
        raise Failed(f"a second run with the same seed differs: {', '.join(apart)}")
    one, two = (play(bench.make, replace(bench.scene, seed=seed, arrivals=8)).facts for seed in (0, 1))
    if one["schedule"] == two["schedule"] or one["uploads"] == two["uploads"] != Sum().hex():
        raise Failed("another seed gives the same run: what is drawn should come from fleet.rng and fleet.draw")


def no_global_rng(bench: Bench) -> None:
    """The global generators of random, numpy and torch are where they were."""
    untouched(lambda: play(bench.make, replace(bench.scene, arrivals=12)), "use fleet.rng in a server hook")


def select_subset(bench: Bench) -> None:
    """Only idle clients, none twice, no more than there are places."""
    bench.noted("select")


def recall_subset(bench: Bench) -> None:
    """Only clients in flight, "epoch" or "cancel"."""
    bench.noted("recall")


def progress(bench: Bench) -> None:
    """Versions are made; also when all clients drop at once, and with one place."""
    dark = replace(bench.scene, weather="blackout", arrivals=10**6, events=2000)
    for scene, what in (
        (bench.scene, "in the common run"),
        (dark, "after all clients dropped out at once"),
        (replace(bench.scene, concurrency=1), "with one place (concurrency 1)"),
    ):
        enough = _after_dawn if scene is dark else _advanced
        made = bench.sound if scene is bench.scene else play(bench.make, scene, enough=enough)
        if isinstance(made.error, UserError) and scene is not bench.scene:
            continue  # it says that it cannot
        if made.error is not None:
            raise Failed(f"{what}: {told(made.error)}")
        if made.ended == "stalled":
            raise Failed(f"{what}: nobody flies and nobody is started after {made.trainer.collected} uploads")
        if not made.loop.advances or (scene is dark and not _after_dawn(made)):
            raise Failed(f"{what}: no version after {made.trainer.collected} uploads and {made.loop.events} events")


def _advanced(made: Play) -> bool:
    """Whether a version was made."""
    return made.loop.advances > 0


def _after_dawn(made: Play) -> bool:
    """Whether a version was made after everybody came back."""
    return max((times[-1] for times in made.loop.made.values() if times), default=-1) > toy.DAWN


def zero_update(bench: Bench) -> None:
    """Clients that learn nothing leave the global model where it is."""
    bench.sound  # noqa: B018
    made = play(bench.make, replace(bench.scene, flat=True, arrivals=24))
    if made.error is not None:
        raise Failed(told(made.error))
    off = max(float((w - made.setup.init).abs().max()) for w in made.models)
    if not off <= 1e-6:
        raise Failed(f"no client moves, but the model does, by up to {off:.2g} per entry")


def single_client(bench: Bench) -> None:
    """With one client, a version is that client's local training and nothing else."""
    if "single-client" not in bench.claims:
        raise Skipped('not claimed (claims=["single-client"])')
    scene = replace(bench.scene, clients=1, concurrency=1, weather="calm", arrivals=3)
    trained: list[Tensor] = []

    def keep(n: int, result: Result) -> Result:
        start = result.sent.get("w")
        trained.append(result.up["w"] if "w" in result.up or start is None else start + result.up["delta"])
        return result

    made = play(bench.make, scene, spoil=keep)
    if made.error is not None:
        raise Failed(told(made.error))
    if len(made.models) != len(trained) + 1:
        raise Failed(f"{len(trained)} uploads made {len(made.models) - 1} versions")
    for n, (w, model) in enumerate(zip(trained, made.models[1:], strict=True), 1):
        off = float((w - model).abs().max())
        if not off <= 1e-6:
            raise Failed(f"version {n} is {off:.2g} away from what its only client trained")


def hyperparameters_matter(bench: Bench) -> None:
    """Changing any parameter changes something that comes out."""
    if bench.again is None:
        raise Skipped("it has no parameters of its own")
    bench.sound  # noqa: B018
    again, cls, crashed = bench.again, bench.cls, list[str]()
    brief, short = replace(bench.scene, arrivals=12), replace(bench.scene, arrivals=28)
    other = replace(bench.scene, arrivals=24, seed=1)
    eager = replace(short, local=Local(epochs=5, batch_size=4, lr=1.0), arrivals=24)
    alone = replace(short, concurrency=1)

    def facts(scene: Scene) -> Callable[[Settings], Mapping[str, str] | None]:
        def of(settings: Settings) -> Mapping[str, str] | None:
            at = (scene, repr(cls(**settings)))
            if at not in bench.known:
                try:
                    made = play(again(settings), scene)
                except UserError:
                    return None
                refused = isinstance(made.error, UserError)
                if made.error is not None and not refused and not isinstance(made.error, Diverged):
                    crashed.append(f"with {cls(**settings)!r}: {told(made.error)}")
                bench.known[at] = None if refused else made.facts
            return bench.known[at]  # type: ignore[no-any-return]

        return of

    starts = [bench.settings, *bench.variants]
    dead = []
    for name in cls.model_fields:
        tries = ((brief, 0, 0), (other, 0, 0), (short, WILD, 60), (eager, 0, 0), (alone, 0, 0))
        if all(parameters.idle(cls, name, starts, facts(scene), most, wild) for scene, wild, most in tries):
            dead.append(name)
        if crashed:
            raise Failed(crashed[0])
    if dead:
        raise Failed(f"no change of {', '.join(dead)} changes anything that comes out")


def interrupt(bench: Bench) -> None:
    """Tasks that are asked to report early do, with finite uploads, after whole epochs."""
    bench.sound  # noqa: B018
    scene = replace(bench.scene, local=replace_local(bench.scene.local), arrivals=20)
    made = play(bench.make, scene, watch=True, recalls=True)
    if made.error is not None:
        raise Failed(told(made.error))
    if not made.books.cut:
        raise Skipped("none of its tasks has a second epoch to be cut off")
    if any(bad for _, bad in made.notes.interrupted):
        raise Failed("an upload of an interrupted task is not finite")
    if any(steps < 1 for steps, _ in made.notes.interrupted):
        raise Failed("an interrupted task reports no step")


def replace_local(local: Local) -> Local:
    """The same training, long enough to be cut."""
    return local.model_copy(update={"epochs": 4, "steps": None} if local.steps is None else {"steps": 8})


def nonfinite(bench: Bench) -> None:
    """An upload that is not finite ends the run, or is rejected and leaves no trace: as the configuration says."""
    bench.sound  # noqa: B018

    def spoil(n: int, result: Result) -> Result:
        if n != SPOILED or not result.up:
            return result
        broken = {name: torch.full_like(t, float("nan")) for name, t in result.up.items()}
        return result._replace(up=broken, finite=False)

    scene = replace(bench.scene, arrivals=20)
    stopped = play(bench.make, scene, spoil=spoil)
    if not stopped.trainer.collected or not bench.make(stopped.setup).uploads:
        raise Skipped("it uploads nothing")
    if stopped.error is None and stopped.trainer.collected < SPOILED:
        raise Skipped(f"it ends before its upload number {SPOILED}")
    if not isinstance(stopped.error, Diverged):
        raise Failed(f"with on_nonfinite: stop the run ends with {told(stopped.error)}")
    made = play(bench.make, scene, spoil=spoil, on_nonfinite="reject")
    if made.error is not None:
        raise Failed(f"with on_nonfinite: reject {told(made.error)}")
    if not all(bool(w.isfinite().all()) for w in made.models):
        raise Failed("the upload was rejected, but the model is not finite")
    if not made.books.totals.lost:
        raise Failed("the rejected upload is not in the record")


def alone_on_one_thread(body: Body) -> Body:
    """The check on one thread."""

    @wraps(body)
    def check(bench: Any) -> None:
        with one_thread():
            body(bench)

    return check


_CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "runs": runs,
    "state-is-data": state_is_data,
    "no-mutation": no_mutation,
    "uploads": uploads,
    "stacked-equals-single": stacked_equals_single,
    "repeatable": repeatable,
    "no-global-rng": no_global_rng,
    "select": select_subset,
    "recall": recall_subset,
    "progress": progress,
    "zero-update": zero_update,
    "single-client": single_client,
    "hyper-parameters-matter": hyperparameters_matter,
    "interrupt": interrupt,
    "non-finite": nonfinite,
}
CHECKS: dict[str, Body] = {name: alone_on_one_thread(body) for name, body in _CHECKS.items()}
