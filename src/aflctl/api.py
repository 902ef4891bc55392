"""The plug-in surface, version 1: the types that cross it and the classes a plug-in extends.

Loads neither torch nor numpy; tensors appear in annotations only. Notation: `P` is the length of the flat float32
vector of trainable parameters, `B` a batch, `N` the number of clients, `M` the number of modalities, `[]` a scalar
tensor. Seconds are virtual, sizes are bytes.

The six stages of an asynchronous workflow and the hooks that replace them:

    sample = select        downlink = assign       client_update = start, loss, grad, direction, project, finish
    uplink = uploads       aggregate = receive     update_status = the loop's versions and staleness, plus recall
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    runtime_checkable,
)

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    Tensors = Mapping[str, Tensor]
else:
    Tensors = Mapping[str, Any]

API_VERSION = 1

S = TypeVar("S")
Recall = Literal["epoch", "cancel"]
Layout = Mapping[str, tuple[slice, tuple[int, ...]]]


class Plugin(BaseModel):
    """Base of every plug-in: frozen, its fields are its parameters, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


class Local(BaseModel):
    """What a client does between download and upload: E epochs (or a number of steps) of mini-batch training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(1, ge=1, description="passes over the local data")
    steps: int | None = Field(None, ge=1, description="optimizer steps instead of epochs")
    batch_size: int = Field(32, ge=1, description="samples in a mini-batch; the last one of an epoch may be smaller")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="made anew for every task")
    lr: float = Field(0.01, gt=0, description="learning rate")
    lr_decay: float = Field(1.0, gt=0, le=1, description="factor on lr per version of the model a task starts from")
    momentum: float = Field(0.0, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(0.0, ge=0, description="L2 for sgd and adam, decoupled for adamw")
    clip_norm: float | None = Field(None, gt=0, description="largest L2 norm of one step's gradient")


@dataclass(frozen=True)
class Setup:
    """What is known before time 0.

    layout    parameter name -> (slice into the flat vector, shape), in `named_parameters()` order
    init      [P] the initial model
    samples   training samples of each client at the start
    modules   name of a parameter or buffer -> class name of the module that holds it ("Linear", "GroupNorm", ...)
    owns      client -> the modalities it has; empty where the data have one modality
    buffers   buffer name -> (slice into the engine's vector of running statistics, shape)
    flops     module name -> forward FLOPs of one sample; empty where nobody counted
    modalities   names of all modalities; empty where the data have one
    """

    layout: Layout
    init: Tensor
    samples: Sequence[int]
    concurrency: int
    local: Local
    modules: Mapping[str, str] = field(default_factory=dict)
    owns: Callable[[int], tuple[str, ...]] = lambda client: ()
    buffers: Layout = field(default_factory=dict)
    flops: Mapping[str, float] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """P."""
        return self.init.numel()

    @property
    def clients(self) -> int:
        """N."""
        return len(self.samples)


@dataclass(frozen=True)
class Flight:
    """A task that is out: the version it started from, when it left, and how stale it is by now."""

    version: int
    sent_at: float
    staleness_by: Mapping[str, int]

    @property
    def staleness(self) -> int:
        """The maximum over the task's tracks."""
        return max(self.staleness_by.values())


class Streams(Protocol):
    """The random streams of one call of one hook, keyed anew by (seed, purpose, event, hook, client)."""

    @property
    def rng(self) -> np.random.Generator: ...

    def draw(self, fleet: Fleet, k: int, among: Sequence[int] | None) -> list[int]: ...


@dataclass(frozen=True, eq=False)
class Fleet:
    """The world at one instant, as a hook may see it. Holds no tensors; valid during the call it was given to."""

    now: float
    versions: Mapping[str, int]
    capacity: int
    samples: Sequence[int]
    total_samples: int
    idle: Collection[int]
    flying: Mapping[int, Flight]
    estimate: Callable[[int, Assignment | None], float]
    streams: Streams
    track: str = ""

    @property
    def version(self) -> int:
        """Number of versions made so far on this track."""
        return self.versions.get(self.track, 0)

    @property
    def free(self) -> int:
        """Tasks that may be started now: capacity less flying, at least 0."""
        return max(0, self.capacity - len(self.flying))

    @property
    def clients(self) -> int:
        """N."""
        return len(self.samples)

    @property
    def rng(self) -> np.random.Generator:
        """numpy Generator of this call; separate from what `draw` uses."""
        return self.streams.rng

    def due(self, t_s: float | None) -> bool:
        """Whether the moment `t_s` has come, by the clock's grain of 1 ns."""
        return t_s is not None and t_s <= self.now + 5e-10

    def expected_s(self, client: int, assignment: Assignment | None = None) -> float:
        """Noise-free seconds from dispatch to arrival; of a default task where no assignment is given."""
        return self.estimate(client, assignment)

    def draw(self, k: int, among: Sequence[int] | None = None) -> list[int]:
        """Up to `k` idle clients (of `among`) by the configured selection, in ascending order; expected O(k)."""
        return self.streams.draw(self, k, among)

    def on(self, track: str) -> Fleet:
        """The same instant as one track sees it: its version, its flights with their staleness, its free capacity."""
        mine = {
            c: Flight(f.version, f.sent_at, {"": f.staleness_by[track]})
            for c, f in self.flying.items()
            if track in f.staleness_by
        }
        return replace(self, flying=mine, track=track, capacity=self.capacity - len(self.flying) + len(mine))


@dataclass(frozen=True)
class Assignment:
    """What a client is sent and told.

    tensors     what travels down: any names and shapes, possibly none; the default hooks read "w"
    version     base version of what the client starts from, one or one per track; None = now
    tracks      the version lines this task belongs to
    epochs, steps   override the local-training config
    lr_scale    factor on the learning rate, one or one per epoch
    patience    stop after so many epochs without a lower mean training loss; such tasks train eagerly
    work        share of the dense compute cost
    down_bytes, up_bytes   override what is derived from the tensors
    """

    tensors: Tensors
    version: int | Mapping[str, int] | None = None
    tracks: tuple[str, ...] = ("",)
    epochs: int | None = None
    steps: int | None = None
    lr_scale: float | Sequence[float] = 1.0
    patience: int | None = None
    work: float = 1.0
    down_bytes: int | None = None
    up_bytes: int | None = None


class Job(NamedTuple):
    """What client hooks see of a task; scalars are tensors, so that jobs can be stacked.

    `steps` is the planned number in step hooks and the executed one in `finish`.
    """

    sent: dict[str, Tensor]
    memory: dict[str, Tensor]
    lr: Tensor
    step: Tensor
    epoch: Tensor
    steps: Tensor
    samples: Tensor


class Batch(NamedTuple):
    """`x` [B, ...] or a tuple of modalities, `y` [B], `mask` [B] (0 = padding), `present` [B, M]."""

    x: Any
    y: Tensor
    mask: Tensor
    present: Tensor


@dataclass(frozen=True)
class Update:
    """An upload that arrived.

    samples   n_k when the task was sent
    steps     optimizer steps executed
    sent, up  the tensors that travelled down and up
    stats     mean and mean square of the batch losses: `loss`, `loss_sq`, `first_loss`, `first_loss_sq`, `last_loss`
              (`first_` and `last_` = of the first and last epoch)
    """

    client: int
    version: int
    staleness_by: Mapping[str, int]
    samples: int
    steps: int
    sent: Tensors
    up: Tensors
    stats: Mapping[str, float]
    sent_at: float
    arrived_at: float
    interrupted: bool = False

    @property
    def staleness(self) -> int:
        """Versions made since the base version, taken at arrival; the maximum over the tracks."""
        return max(self.staleness_by.values())

    @property
    def delta(self) -> Tensor:
        """[P] trained model minus received model (descent included: add it)."""
        return self.up["delta"] if "delta" in self.up else self.up["w"] - self.sent["w"]

    @property
    def model(self) -> Tensor:
        """[P] the trained model."""
        return self.up["w"] if "w" in self.up else self.sent["w"] + self.up["delta"]


LossReason = Literal["dropout", "offline", "timeout", "stale", "not-finite"]


@dataclass(frozen=True)
class Lost:
    """A task that ended without an upload that counts."""

    client: int
    version: int
    staleness_by: Mapping[str, int]
    sent_at: float
    reason: LossReason

    @property
    def staleness(self) -> int:
        """The maximum over the task's tracks."""
        return max(self.staleness_by.values())


@dataclass(frozen=True, init=False)
class Step(Generic[S]):
    """What a server hook decides.

    advanced  a new version exists: True = on the tracks of the task that ended (`("",)` in `tick`), or on those named
    used      whether the update counts (False = rejected)
    weight    what the update weighed, for the record
    tracks    those of the task's tracks that the update counts for; None = all
    log       numbers worth recording
    """

    state: S
    advanced: bool | tuple[str, ...] = False
    used: bool = True
    weight: float | None = None
    tracks: tuple[str, ...] | None = None
    log: Mapping[str, float] = field(default_factory=dict)

    def __init__(
        self,
        state: S,
        advanced: bool | tuple[str, ...] = False,
        used: bool = True,
        weight: float | None = None,
        tracks: tuple[str, ...] | None = None,
        log: Mapping[str, float] | None = None,
    ) -> None:
        """As the generated one, in half the time: every event of every run makes one."""
        self.__dict__.update(
            state=state, advanced=advanced, used=used, weight=weight, tracks=tracks, log={} if log is None else log
        )


@runtime_checkable
class Task(Protocol):
    """A model and its loss as functions of a flat vector `w` [P]; works alone and under `torch.func` transforms."""

    layout: Layout

    def logits(self, w: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, classes]."""
        ...

    def embed(self, w: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, D], the input of the last linear layer, or what the model's own `embed` returns."""
        ...

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        """[] mean cross-entropy over the samples with mask 1."""
        ...


class Algorithm(Plugin, Generic[S]):
    """A federated method: its fields are its hyper-parameters, its state `S` is a frozen dataclass of plain data.

    `S` may hold tensors, numbers, strings, tuples, dicts, frozensets and `ClientTable`s. Tensors ever put into an
    `Assignment` or returned by `params` are immutable for ever; all other tensors, dicts and tables
    of the state are donated to the hook that receives it and may be updated in place. Client hooks are pure, may branch
    on which names are there but never on a tensor's value, and run alone or stacked over a new leading axis without
    knowing it.

    `own_buffers` names the running statistics (`Setup.buffers`) that stay with each client.
    """

    uploads: ClassVar[tuple[str, ...]] = ("delta",)
    probes: ClassVar[bool] = False
    evidence: ClassVar[str] = ""
    reads_results: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    own_buffers: ClassVar[tuple[str, ...]] = ()

    # ---- server half ----
    def init(self, setup: Setup, fleet: Fleet) -> S:
        """The state at time 0."""
        raise NotImplementedError(f"{type(self).__name__} must define init(setup, fleet)")

    def params(self, state: S) -> Tensor:
        """[P] the global model."""
        return state.w  # type: ignore[attr-defined, no-any-return]

    def select(self, state: S, fleet: Fleet) -> Sequence[int]:
        """Idle clients to start now, in the order in which they are to be sent."""
        return fleet.draw(fleet.free)

    def assign(self, state: S, client: int, fleet: Fleet) -> Assignment:
        """What this client is sent."""
        return Assignment({"w": self.params(state)})

    def launched(self, state: S, clients: Sequence[int], fleet: Fleet) -> S:
        """After each batch of assignments."""
        return state

    def receive(self, state: S, update: Update, fleet: Fleet) -> Step[S]:
        """An upload arrived; the client is neither flying nor idle during this call."""
        raise NotImplementedError(f"{type(self).__name__} must define receive(state, update, fleet)")

    def recall(self, state: S, fleet: Fleet) -> Mapping[int, Recall]:
        """After an advance or tick: flying clients to stop, at their next epoch boundary or without upload."""
        return {}

    def lost(self, state: S, lost: Lost, fleet: Fleet) -> Step[S]:
        """A task ended without an upload that counts."""
        return Step(state)

    def alarm(self, state: S, fleet: Fleet) -> float | None:
        """When to call `tick` next (virtual seconds, after `now`); asked after every event, replaces the old one.

        An alarm due at the moment of another event is dropped with it: test `fleet.due` in `receive` and `lost`, too.
        """
        return None

    def tick(self, state: S, fleet: Fleet) -> Step[S]:
        """The alarm rang. A wrapper may call this early, so check `fleet.due`."""
        return Step(state)

    def personal(self, state: S, client: int, memory: Tensors) -> Tensor:
        """[P] the vector this client is evaluated with."""
        return self.params(state)

    # ---- client half: pure ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        """What a client remembers before its first task."""
        return {}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        """The vector to train (may be longer than P) and the job's scratch memory. `data` only with `probes`."""
        return job.sent["w"], job.memory

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        """[] the local objective on one batch: `task.loss` plus terms."""
        return task.loss(w, batch)

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        """Corrects the gradient before the optimizer sees it."""
        return g

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(g, memory, loss) of one step; override only for per-step memory or inner loops."""
        from torch.func import grad_and_value

        g, value = grad_and_value(lambda p: self.loss(task, p, batch, job))(w)
        return self.grad(g, w, job), job.memory, value

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        """Corrects the vector after the optimizer."""
        return w

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(what travels up, exactly the names in `uploads`; what the client remembers)."""
        if self.uploads == ("w",):
            return {"w": w}, job.memory
        return {"delta": w - job.sent["w"]}, job.memory


class Wrapper(Algorithm[S]):
    """A method around a method: passes every hook through to `inner`; override what changes."""

    inner: Any
    setup: Any

    @property
    def uploads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.uploads  # type: ignore[no-any-return]

    @property
    def probes(self) -> bool:  # type: ignore[override]
        return self.inner.probes  # type: ignore[no-any-return]

    @property
    def reads_results(self) -> bool:  # type: ignore[override]
        return self.inner.reads_results  # type: ignore[no-any-return]

    @property
    def own_buffers(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.own_buffers  # type: ignore[no-any-return]


SERVER_HOOKS = (
    "init", "params", "select", "assign", "launched", "receive", "recall", "lost", "alarm", "tick", "personal",
)  # fmt: skip
CLIENT_HOOKS = ("memory", "start", "loss", "grad", "direction", "project", "finish")


def _forward(name: str) -> Callable[..., Any]:
    def hook(self: Wrapper[Any], *args: Any) -> Any:
        return getattr(self.inner, name)(*args)

    hook.__name__, hook.__doc__ = name, f"`inner.{name}`, unchanged."
    return hook


for _name in (*SERVER_HOOKS, *CLIENT_HOOKS):
    setattr(Wrapper, _name, _forward(_name))


def overrides(algorithm: Algorithm[Any], hook: str) -> bool:
    """Whether a method (or, through wrappers that pass the hook on, the method inside) defines this hook itself."""
    own = getattr(type(algorithm), hook)
    if own is getattr(Wrapper, hook):
        return overrides(algorithm.inner, hook)  # type: ignore[attr-defined]
    return own is not getattr(Algorithm, hook)


class Personalization(Plugin):
    """Group `aflctl.personalizations`: turns a method into a personalized one.

    layer     where it lies among several, from the inside: subspace, tracks, extra
    example   what `--set` must say besides, for the command that `aflctl list` shows
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"
    example: ClassVar[tuple[str, ...]] = ()

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        """`inner` as seen by a federation that keeps part of the work private."""
        raise NotImplementedError(f"{type(self).__name__} must define wrap(inner, setup)")


class Selection(Plugin):
    """Group `aflctl.selections`: which idle clients `Fleet.draw` returns. State is plain data."""

    def init(self, samples: Sequence[int]) -> Any:
        """The state at time 0; None where nothing is remembered."""
        return None

    def observe(self, state: Any, event: Update | Lost) -> Any:
        """Learn from a task that ended."""
        return state

    def pick(
        self, state: Any, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[Any, list[int]]:
        """(state, up to `k` distinct idle clients (of `among`))."""
        raise NotImplementedError(f"{type(self).__name__} must define pick(state, fleet, k, among, rng)")


# ---- data and models ----


@dataclass(frozen=True)
class Modality:
    """One input of a sample: shape without the batch axis; integer images are scaled to [0, 1], then normalised.

    kind    image, sequence (token ids), sensor, audio, vector
    mean, std   per channel (first axis), applied on the fly; empty = none
    vocabulary  number of token ids, for sequences
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["image", "sequence", "sensor", "audio", "vector"] = "vector"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocabulary: int = 0


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of a dataset."""

    modalities: tuple[Modality, ...]
    classes: int
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """`x` one tensor [n, ...] per modality, `y` [n] int64, `present` [n, M] or None = all there.

    `rows`, where given, are the positions that belong to this view: one copy of the data serves all clients.
    """

    x: tuple[Tensor, ...]
    y: Tensor
    present: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y) if self.rows is None else len(self.rows)

    @property
    def labels(self) -> Tensor:
        """[n] the labels of this view."""
        return self.y if self.rows is None else self.y[self.rows]


@dataclass(frozen=True)
class Source:
    """A dataset in memory, before it is divided among clients.

    naturals      column name -> [n] integer owner of each training sample (user, role, actor)
    fingerprint   sha256 over the arrays and how they were made
    """

    spec: DataSpec
    train: Samples
    test: Samples
    fingerprint: str
    naturals: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@runtime_checkable
class FederatedData(Protocol):
    """A dataset divided among clients."""

    spec: DataSpec
    samples: Sequence[int]
    fingerprint: str

    def train(self, client: int) -> Samples: ...

    def test(self) -> Samples: ...

    def local_test(self, client: int) -> Samples | None: ...


class Dataset(Plugin):
    """Group `aflctl.datasets`. Only `prepare` downloads; `open` reads what is there or raises DataMissing."""

    def prepare(self, cache: Path, *, download: bool) -> None:
        """Make the dataset's files present below `cache`; datasets that need no file do nothing."""

    def open(self, cache: Path) -> Source:
        """The dataset in memory."""
        raise NotImplementedError(f"{type(self).__name__} must define open(cache)")

    def federate(self, cache: Path, clients: int, rng: np.random.Generator) -> FederatedData | None:
        """For sets whose clients exist only as numbers: the divided data themselves, without a partition. Else None."""
        return None


class Partition(Plugin):
    """Group `aflctl.partitions`: which training samples belong to which client."""

    def split(
        self,
        labels: NDArray[np.int64],
        clients: int,
        rng: np.random.Generator,
        naturals: Mapping[str, NDArray[np.int64]],
    ) -> list[NDArray[np.int64]]:
        """One array of positions per client; each position at most once unless the scheme says otherwise."""
        raise NotImplementedError(f"{type(self).__name__} must define split(labels, clients, rng, naturals)")


class Fusion(Plugin):
    """Group `aflctl.fusions`: joins the encoders' outputs; missing modalities are zeros plus a presence mask.

    `reads` says what the parts are: the encoders' features, or the flattened inputs themselves (no encoders then).
    A submodule list named `heads` holds one head per modality, which then belongs to that modality's block.
    """

    reads: ClassVar[Literal["features", "inputs"]] = "features"
    example: ClassVar[tuple[str, ...]] = ("dataset=synthetic-modal", "model=multimodal")

    def build(self, dims: Sequence[int], out: int) -> nn.Module:
        """A module with `forward(parts: tuple[[B, D_m], ...], present: [B, M]) -> [B, out]`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(dims, out)")


class Model(Plugin):
    """Group `aflctl.models`.

    stacks   whether many copies can run in one call (no BatchNorm, no dropout)
    family   which multiplier of the device profiles applies: dense, attention, depthwise, rnn
    """

    stacks: ClassVar[bool] = True
    family: ClassVar[Literal["dense", "attention", "depthwise", "rnn"]] = "dense"

    def build(self, spec: DataSpec, fusion: Fusion | None = None) -> nn.Module:
        """A module with `forward(x) -> [B, classes]` and, optionally, `embed(x) -> [B, D]`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(spec, fusion)")

    def flops(self, spec: DataSpec) -> float | None:
        """Forward FLOPs of one sample (a multiply-add is 2); None = count them with torch's counter."""
        return None


# ---- trackers ----


class Tracker(Protocol):
    """Group `aflctl.trackers`: told of a run while it works (`track: [name]`) or afterwards; made without arguments.

    It sees, and never changes a result: one that raises after `begin` is left out of the rest of the run.
    """

    def begin(self, config: Mapping[str, Any], path: Path) -> None:
        """A run begins, with this resolved configuration; `path` is an empty folder of the tracker's own."""

    def metric(self, row: Mapping[str, float | None]) -> None:
        """One evaluation, by the columns of metrics.csv. A run that is continued tells its earlier ones again."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """The run is done, with this summary.json; a run that fails has no end."""
