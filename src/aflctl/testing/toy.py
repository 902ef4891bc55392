"""A federation for checks: two dozen clients, a model of some fifty parameters, a world in which things go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aflctl.api import DataSpec, Local, Modality, Samples, Setup, Source
from aflctl.sim.fleet.profiles import DeviceProfile, NetworkProfile
from aflctl.sim.streams import generator, key
from aflctl.sim.world import NS, Clients, World
from aflctl.sim.world.availability import Availability, TaskFailure
from aflctl.sim.world.compute import Device
from aflctl.sim.world.link import Link
from aflctl.sim.world.traces import Trace, Windows
from aflctl.train.batches import Feed
from aflctl.train.federation import Divided
from aflctl.train.flops import flops_by_module
from aflctl.train.task import FlatTask

INPUTS, HIDDEN, CLASSES = 4, 4, 3
DUSK, DAWN = 30 * NS, 50 * NS
Weather = Literal["rough", "calm", "blackout"]


@dataclass(frozen=True)
class Scene:
    """What a run meets.

    weather    rough: devices six times apart, 10 % of the tasks fail, everybody is offline now and then, and a task
               whose client goes offline is lost; calm: none of that; blackout: at 30 s everybody is gone for 20 s
    arrivals   uploads after which the run ends; it also ends after `events` events
    flat       a model whose loss has no slope, so that training moves nothing
    modal      modalities of a sample
    norm       the model's norm layer; with "batch" it has running statistics and does not stack
    """

    seed: int = 0
    clients: int = 24
    concurrency: int = 6
    weather: Weather = "rough"
    arrivals: int = 32
    events: int = 800
    local: Local = field(default_factory=lambda: Local(epochs=2, batch_size=4, lr=0.1))
    flat: bool = False
    modal: int = 1
    norm: Literal["layer", "batch"] = "layer"


class Net(nn.Module):
    """An encoder per modality, a norm, a hidden layer and a head; `flat`: whose logits have no slope."""

    def __init__(self, modalities: Sequence[str], norm: str, flat: bool) -> None:
        super().__init__()
        self.scale = 0.0 if flat else 1.0
        self.encoders = nn.ModuleDict({name: nn.Linear(INPUTS, HIDDEN) for name in modalities})
        self.norm = nn.BatchNorm1d(HIDDEN) if norm == "batch" else nn.LayerNorm(HIDDEN)
        self.mid, self.head = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def embed(self, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, HIDDEN]."""
        parts = [encoder(part) for encoder, part in zip(self.encoders.values(), x if isinstance(x, tuple) else (x,))]
        if present is not None and len(parts) > 1:
            parts = [part * present[:, m : m + 1] for m, part in enumerate(parts)]
        z = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        return torch.tanh(self.mid(torch.tanh(self.norm(z))))

    def forward(self, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, CLASSES]."""
        return self.scale * self.head(self.embed(x, present))  # type: ignore[no-any-return]


@lru_cache(maxsize=8)
def data(clients: int, modal: int = 1) -> Divided:
    """3 to 8 samples a client, each client with a favourite class; no batch of 4 is left with one sample."""
    rng = generator(key(7, "toy"))
    sizes = [(3, 7, 4, 8, 6)[c % 5] for c in range(clients)]
    n = sum(sizes) + 30
    y = rng.integers(CLASSES, size=n)
    at = np.cumsum([0, *sizes])
    for c in range(clients):
        y[at[c] : at[c] + sizes[c] // 2] = c % CLASSES
    centres = rng.normal(size=(CLASSES, INPUTS))
    parts = [torch.tensor(centres[y] + rng.normal(size=(n, INPUTS)), dtype=torch.float32) for _ in range(modal)]
    labels = torch.tensor(y, dtype=torch.int64)
    present = None
    if modal > 1:
        present = torch.ones(n, modal)
        for c in range(clients):
            if c % 3 < modal:
                present[at[c] : at[c + 1], c % 3] = 0.0
        parts = [p * present[:, m : m + 1] for m, p in enumerate(parts)]
    cut = n - 30

    def view(rows: slice) -> Samples:
        return Samples(tuple(p[rows] for p in parts), labels[rows], None if present is None else present[rows])

    spec = DataSpec(tuple(Modality(f"m{m}", (INPUTS,)) for m in range(modal)), CLASSES)
    source = Source(spec, view(slice(0, cut)), view(slice(cut, n)), sha256(b"toy").hexdigest())
    return Divided(source, [np.arange(at[c], at[c + 1]) for c in range(clients)])


def owns(modal: int, client: int) -> tuple[str, ...]:
    """The modalities a client has."""
    if modal == 1:
        return ()
    return tuple(f"m{m}" for m in range(modal) if m != client % 3)


@lru_cache(maxsize=8)
def task(flat: bool = False, modal: int = 1, norm: str = "layer") -> FlatTask:
    """The model; its first values are the same at all times."""
    spec = data(1, modal).spec
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        module = Net([m.name for m in spec.modalities], norm, flat)
    rng = generator(key(7, "weights"))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(rng.normal(size=tuple(parameter.shape)) * 0.4, dtype=torch.float32))
    parts = flops_by_module(module, spec)
    made = FlatTask(module, spec)
    made.flops = parts
    return made


def task_of(scene: Scene) -> FlatTask:
    """The model of a scene."""
    return task(scene.flat, scene.modal, scene.norm)


@lru_cache(maxsize=8)
def feed(modal: int = 1) -> Feed:
    """What gathers batches."""
    return Feed(data(1, modal).spec)


def setup(scene: Scene) -> Setup:
    """What a method is told before time 0."""
    of, divided = task_of(scene), data(scene.clients, scene.modal)
    names = tuple(m.name for m in divided.spec.modalities)
    return Setup(
        of.layout, of.init.clone(), divided.samples, min(scene.concurrency, scene.clients), scene.local, of.modules,
        lambda client: owns(scene.modal, client), of.buffer_layout, of.flops, names if len(names) > 1 else (),
    )  # fmt: skip


@lru_cache(maxsize=16)
def world(weather: Weather, clients: int, seed: int) -> World:
    """Devices of 0.5, 1 and 3 s a step, links of 2 and 0.5 kbit/s, so that bytes take time too."""
    steps_ms = (1000.0,) if weather == "calm" else (500.0, 1000.0, 3000.0)
    common = {"dense_gflops": 1, "memory_mib": 1000, "jitter_sigma": 0.2}
    profiles = [DeviceProfile(name=f"d{i}", step_overhead_ms=ms, **common) for i, ms in enumerate(steps_ms)]
    devices = [Device(profile, profile.name) for profile in profiles]
    links = [Link(NetworkProfile(name=f"l{i}", down_mbps=r, up_mbps=r), f"l{i}") for i, r in enumerate((0.002, 0.0005))]
    which = np.arange(clients)
    rates = np.array([link.ns_per_byte_down for link in links])[which % 2]
    arrays = Clients(
        (which % len(devices)).astype(np.uint8), (which % 2).astype(np.uint8), rates, rates.copy(), np.zeros(clients)
    )
    return World(seed, devices, links, [_availability(weather, seed)], arrays, offline="abort")


def _availability(weather: Weather, seed: int) -> Availability:
    if weather == "calm":
        return Availability([])
    if weather == "blackout":
        always = 10**9
        return Availability([Trace(0, [Windows((0, DUSK, DAWN, always * NS))])])
    failures = [TaskFailure(key(seed, "toy-failure"), 0.1, None)]
    return Availability([Trace(key(seed, "toy-trace"), _windows(), in_order=False)], failures=failures)


def _windows() -> Sequence[Windows]:
    """Eight users, online for 60 to 130 s and then offline for 20 s, again and again."""
    return [Windows((0, (60 + 10 * u) * NS), (80 + 10 * u) * NS, u * 7 * NS) for u in range(8)]
