"""The checks of models and fusions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from aflctl.api import Batch, DataSpec, Fusion, Modality
from aflctl.errors import HookFailed, UserError
from aflctl.testing import parameters
from aflctl.testing.chance import untouched
from aflctl.testing.data import constructs, docstring, schema
from aflctl.testing.parameters import Settings
from aflctl.testing.play import one_thread, told
from aflctl.testing.results import Body, Failed, Skipped
from aflctl.train.flops import count_flops
from aflctl.train.task import FlatTask

_VECTOR = Modality("vector", (12,), "vector")
_IMAGE = Modality("image", (1, 16, 16), "image")
_TEXT = Modality("text", (20,), "sequence", vocabulary=40)
_SENSOR = Modality("sensor", (3, 64), "sensor")
SPECS = (
    DataSpec((_VECTOR,), 5),
    DataSpec((_IMAGE,), 5),
    DataSpec((Modality("image", (3, 32, 32), "image"),), 5),
    DataSpec((Modality("image", (1, 28, 28), "image"),), 5),
    DataSpec((_TEXT,), 5),
    DataSpec((_SENSOR,), 5),
    DataSpec((Modality("audio", (1, 32, 32), "audio"),), 5),
    DataSpec((_SENSOR, replace(_SENSOR, name="other")), 5),
    DataSpec((_VECTOR, _IMAGE), 5),
    DataSpec((_IMAGE, _TEXT), 5),
)
"""What a model is tried with; it must read at least one of them."""
BATCH = 3
TOLERANCE = 2e-5


@dataclass
class Bench:
    """A model with its parameters, built for what it can read."""

    cls: type[Any]
    settings: Settings
    spec: DataSpec | None = None
    fusion: Fusion | None = None
    known: dict[Any, Any] = field(default_factory=dict)
    variants: Sequence[Settings] = ()

    @property
    def made(self) -> Any:
        """The plug-in."""
        return self.cls(**self.settings)

    @cached_property
    def fits(self) -> DataSpec:
        """The first description of data that the model does not refuse."""
        refusals = []
        for spec in (self.spec,) if self.spec is not None else SPECS:
            try:
                self.build(spec)
                return spec
            except UserError as error:
                refusals.append(error.message)
        raise Failed("it reads none of the kit's data (give spec=...): " + "; ".join(dict.fromkeys(refusals)))

    def build(self, spec: DataSpec, seed: int = 0, settings: Settings | None = None) -> nn.Module:
        """The module with first values of a seed."""
        made = self.made if settings is None else self.cls(**settings)
        fusion = self.fusion
        if fusion is None and len(spec.modalities) > 1:
            fusion = _some_fusion()
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            return made.build(spec, fusion)  # type: ignore[no-any-return]

    def task(self, seed: int = 0) -> FlatTask:
        """The module as functions of a flat vector, in training mode; built once per seed."""
        if ("task", seed) not in self.known:
            self.known["task", seed] = FlatTask(self.build(self.fits, seed), self.fits)
        return self.known["task", seed]  # type: ignore[no-any-return]


def _some_fusion() -> Fusion | None:
    from aflctl.plugins import registry

    names = registry().names("fusions")
    if not names:
        return None
    made: Fusion = registry().load("fusions", "concat" if "concat" in names else names[0])()
    return made


def inputs(spec: DataSpec, n: int = BATCH) -> tuple[Any, Tensor]:
    """(x, present) of a batch."""
    numbers = torch.Generator().manual_seed(11)
    parts = tuple(
        torch.randint(m.vocabulary, (n, *m.shape), generator=numbers)
        if m.kind == "sequence"
        else torch.randn((n, *m.shape), generator=numbers)
        for m in spec.modalities
    )
    return (parts if len(parts) > 1 else parts[0]), torch.ones(n, len(parts))


def rows(x: Any, at: slice) -> Any:
    """Some samples of a batch."""
    return tuple(part[at] for part in x) if isinstance(x, tuple) else x[at]


def shapes(bench: Bench) -> None:
    """[B, classes] finite logits; `embed`, where there is one, gives [B, D]."""
    spec, task = bench.fits, bench.task()
    x, present = inputs(spec)
    with one_thread(), torch.no_grad():
        logits = task.logits(task.init, x, present)
        if tuple(logits.shape) != (BATCH, spec.classes):
            raise Failed(f"logits of shape {tuple(logits.shape)}, not {(BATCH, spec.classes)}")
        if not bool(torch.isfinite(logits).all()):
            raise Failed("its first logits are not finite")
        if hasattr(task.module, "embed") or task._head is not None:
            z = task.embed(task.init, x, present)
            if z.shape[0] != BATCH or z.dim() < 2:
                raise Failed(f"embeddings of shape {tuple(z.shape)}, not [B, D]")


def repeatable(bench: Bench) -> None:
    """The first values follow from torch's seed alone."""
    one, two, other = bench.task().init, FlatTask(bench.build(bench.fits), bench.fits).init, bench.task(1).init
    if not torch.equal(one, two):
        raise Failed("built twice from one seed, it has two sets of first values")
    if torch.equal(one, other):
        raise Failed("another seed gives the same first values")


def learns(bench: Bench) -> None:
    """Every parameter has a finite gradient, and none is without use."""
    spec, task = bench.fits, bench.task()
    x, present = inputs(spec, 8)
    y = torch.arange(8) % spec.classes
    with one_thread():
        leaf = task.init.clone().requires_grad_()
        (g,) = torch.autograd.grad(task.loss(leaf, Batch(x, y, torch.ones(8), present)), leaf)
    if not bool(torch.isfinite(g).all()):
        raise Failed("a gradient is not finite")
    without = [name for name, (where, _) in task.layout.items() if not bool(g[where].any())]
    if without:
        raise Failed(f"no gradient reaches {', '.join(without[:4])}")


def stacks(bench: Bench) -> None:
    """`stacks` is true: copies with values of their own, run in one call, give what each gives alone."""
    if not bench.made.stacks:
        raise Skipped("it says that it does not stack")
    spec, task = bench.fits, bench.task()
    if task.buffers.numel():
        raise Failed("it has running statistics (BatchNorm), so `stacks` must be False")
    if task.random:
        raise Failed("it has dropout, so `stacks` must be False")
    x, present = inputs(spec)
    y = torch.arange(BATCH) % spec.classes
    ws = torch.stack([task.init, bench.task(1).init])

    def slope(w: Tensor) -> Tensor:
        return grad(task.loss)(w, Batch(x, y, torch.ones(BATCH), present))  # type: ignore[no-any-return]

    with one_thread():
        try:
            together = vmap(slope)(ws)
        except Exception as error:
            raise Failed(f"it does not run stacked, so `stacks` must be False: {told(error)[:300]}") from error
        for row, w in zip(together, ws, strict=True):
            alone = slope(w)
            off = float((alone - row).abs().max())
            if not off <= TOLERANCE * max(1.0, float(alone.abs().max())):
                raise Failed(f"its gradient differs by {off:.2g} when stacked")


def samples_apart(bench: Bench) -> None:
    """What it says of a sample does not depend on the other samples of the batch."""
    task = bench.task()
    if task.buffers.numel() or task.random:
        raise Skipped("BatchNorm and dropout in training mode mix samples")
    x, present = inputs(bench.fits)
    with one_thread(), torch.no_grad():
        whole = task.logits(task.init, x, present)
        one = task.logits(task.init, rows(x, slice(0, 1)), present[:1])
    if float((whole[:1] - one).abs().max()) > 1e-4:
        raise Failed("the logits of a sample change with the rest of the batch")


def flops(bench: Bench) -> None:
    """FLOPs of a sample are known: counted, or said by the model."""
    spec = bench.fits
    said = bench.made.flops(spec)
    if said is None:
        try:
            said = count_flops(bench.build(spec), spec)
        except HookFailed as error:
            raise Failed(str(error).replace("\n", " ")) from error
    if not said > 0:
        raise Failed(f"a forward pass costs {said} FLOPs")


def model_no_global_rng(bench: Bench) -> None:
    """A forward and backward pass moves no generator; only `build` may draw, and aflctl seeds and undoes that."""
    task = bench.task()
    if task.random:
        raise Skipped("it has dropout, which aflctl seeds for each task")
    x, present = inputs(bench.fits)
    untouched(lambda: task.logits(task.init, x, present), "draw first values in build only")


def parameters_matter(bench: Bench) -> None:
    """Changing any parameter changes the layout or the logits, for some data that the model reads."""
    bench.fits  # noqa: B018
    starts = [bench.settings, *bench.variants]
    dead = list(bench.cls.model_fields)
    for spec in (bench.spec,) if bench.spec is not None else SPECS:
        try:
            bench.build(spec)
        except UserError:
            continue
        dead = [name for name in dead if parameters.idle(bench.cls, name, starts, _facts_of(bench, spec), 40, 10)]
        if not dead:
            return
    raise Failed(f"no change of {', '.join(dead)} changes the model")


def _facts_of(bench: Bench, spec: DataSpec) -> Callable[[Settings], Mapping[str, str] | None]:
    def facts(settings: Settings) -> Mapping[str, str] | None:
        at = (spec, repr(sorted(settings.items(), key=str)))
        if at not in bench.known:
            try:
                task = FlatTask(bench.build(spec, settings=settings), spec)
                x, present = inputs(spec)
                with one_thread(), torch.no_grad(), torch.random.fork_rng(devices=[]):
                    torch.random.manual_seed(0)
                    logits = task.logits(task.init, x, present)
                bench.known[at] = {"layout": repr(dict(task.layout)), "logits": repr(logits.tolist())}
            except UserError:
                bench.known[at] = None
        return bench.known[at]  # type: ignore[no-any-return]

    return facts


MODEL_CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "shapes": shapes,
    "repeatable": repeatable,
    "learns": learns,
    "stacks": stacks,
    "samples-apart": samples_apart,
    "flops": flops,
    "no-global-rng": model_no_global_rng,
    "hyper-parameters-matter": parameters_matter,
}


# ---- fusions ----

DIMS, OUT = (3, 5), 4


@dataclass
class FusionBench:
    """A fusion with its parameters."""

    cls: type[Any]
    settings: Settings
    variants: Sequence[Settings] = ()
    known: dict[Any, Any] = field(default_factory=dict)

    @property
    def made(self) -> Any:
        """The plug-in."""
        return self.cls(**self.settings)

    def build(self, seed: int = 0, settings: Settings | None = None) -> nn.Module:
        """The module for two encoders of 3 and 5 features, 4 features out."""
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            made = self.made if settings is None else self.cls(**settings)
            return made.build(DIMS, OUT)  # type: ignore[no-any-return]


def _parts(n: int = BATCH, seed: int = 11) -> tuple[Tensor, ...]:
    numbers = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, d, generator=numbers) for d in DIMS)


def fused_shapes(bench: FusionBench) -> None:
    """[B, out], finite, whoever is present; first values follow from torch's seed."""
    module = bench.build()
    for mask in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        present = torch.tensor([mask] * BATCH)
        parts = tuple(p * present[:, m : m + 1] for m, p in enumerate(_parts()))
        with torch.no_grad():
            z = module(parts, present)
        if tuple(z.shape) != (BATCH, OUT):
            raise Failed(f"a result of shape {tuple(z.shape)}, not {(BATCH, OUT)}")
        if not bool(torch.isfinite(z).all()):
            raise Failed(f"not finite with presence {mask}")


def presence(bench: FusionBench) -> None:
    """What an absent modality holds does not matter, and a present one does."""
    module = bench.build()
    here, other = _parts(), _parts(seed=12)
    for m in range(len(DIMS)):
        mask = [0.0 if i == m else 1.0 for i in range(len(DIMS))]
        changed = tuple(other[i] if i == m else p for i, p in enumerate(here))
        with torch.no_grad():
            absent = torch.tensor([mask] * BATCH)
            apart = float((module(here, absent) - module(changed, absent)).abs().max())
            there = torch.ones(BATCH, len(DIMS))
            moved = float((module(here, there) - module(changed, there)).abs().max())
        if apart > 1e-6:
            raise Failed(f"modality {m} is absent, and its content changes the result by {apart:.2g}")
        if not moved:
            raise Failed(f"modality {m} is present, and its content changes nothing")


def fused_stacks(bench: FusionBench) -> None:
    """It runs under vmap, over samples one by one, and gives the same."""
    module, parts = bench.build(), _parts()
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        whole = module(parts, present)
        try:
            apart = vmap(lambda p, there: module(tuple(q.unsqueeze(0) for q in p), there.unsqueeze(0)).squeeze(0))(
                parts, present
            )
        except Exception as error:
            raise Failed(f"it does not run under vmap: {type(error).__name__}: {error}") from error
    if float((whole - apart).abs().max()) > 1e-5:
        raise Failed("the result of a sample changes with the rest of the batch")


def fused_learns(bench: FusionBench) -> None:
    """Every parameter has a finite gradient."""
    module = bench.build()
    module(_parts(8), torch.ones(8, len(DIMS))).square().sum().backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is None or not bool(torch.isfinite(parameter.grad).all()):
            raise Failed(f"no finite gradient reaches {name}")


def fusion_parameters_matter(bench: FusionBench) -> None:
    """Changing any parameter changes the layout or the result."""

    def facts(settings: Settings) -> Mapping[str, str] | None:
        try:
            module = bench.build(settings=settings)
        except UserError:
            return None
        layout = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
        present = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        parts = tuple(p * present[:, m : m + 1] for m, p in enumerate(_parts()))
        with torch.no_grad():
            return {"layout": repr(layout), "result": repr(module(parts, present).tolist())}

    starts = [bench.settings, *bench.variants]
    dead = [n for n in bench.cls.model_fields if parameters.idle(bench.cls, n, starts, facts, 40, 10)]
    if dead:
        raise Failed(f"no change of {', '.join(dead)} changes the fusion")


FUSION_CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "shapes": fused_shapes,
    "presence": presence,
    "stacks": fused_stacks,
    "learns": fused_learns,
    "hyper-parameters-matter": fusion_parameters_matter,
}
