"""What a configuration may say: one pydantic model, extra keys forbidden, units in the names.

Loads neither torch nor numpy. Parameters of plug-ins are kept as plain data here; `load` checks them with the plug-ins'
own models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aflctl.api import Local
from aflctl.config.fleet import FleetSpec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A part of the configuration: frozen, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class PluginRef(Section):
    """A plug-in and its parameters: `fedbuff`, or `{name: fedbuff, buffer_size: 10}`."""

    name: str = Field(min_length=1, description="entry-point name, distribution/name, or ./file.py:Class")
    params: dict[str, Any] = Field(default_factory=dict, description="the plug-in's own parameters")

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError("plugin_ref", "Input should be a name, or a mapping with the key 'name'")
        own = cls.own_keys()
        if isinstance(value.get("params"), Mapping):  # as the constructor is called; files keep parameters beside name
            value = {**{k: v for k, v in value.items() if k != "params"}, **value["params"]}
        return {
            **{k: v for k, v in value.items() if k in own},
            "params": {k: v for k, v in value.items() if k not in own},
        }

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        params = data.pop("params")
        return {"name": data.pop("name"), **params, **{k: v for k, v in data.items() if v is not None}}

    @classmethod
    def own_keys(cls) -> tuple[str, ...]:
        """Keys that are not parameters of the plug-in."""
        return tuple(k for k in cls.model_fields if k != "params")


class Stream(Section):
    """Live data: a client starts with a part of its training samples and receives the rest over virtual time."""

    start: float = Field(0.1, ge=0, le=1, description="share that is there at time 0; never less than one sample")
    rate_per_s: Positive | None = Field(None, description="samples that a client receives per virtual second")
    over_s: Positive | None = Field(None, description="or: virtual seconds after which a client has everything")
    spread: float = Field(0.0, ge=0, le=5, description="standard deviation of the logarithm of the clients' rates")
    order: Literal["shuffled", "given"] = Field("shuffled", description="order of arrival; given = that of the dataset")

    @model_validator(mode="after")
    def _one_pace(self) -> Stream:
        given = [k for k in ("rate_per_s", "over_s") if getattr(self, k) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "one_of",
                "Input should have exactly one of {keys}",
                {"keys": "rate_per_s, over_s", "given": ", ".join(given) or "none"},
            )
        return self


class DatasetRef(PluginRef):
    """A dataset, and how it is divided among the clients."""

    partition: PluginRef = Field(PluginRef(name="dirichlet"), description="which training samples go to which client")
    test_fraction: float | None = Field(
        None, gt=0, lt=1, description="share kept for the client's own test; 0.25 with a personalization or local-only"
    )
    merge_test: bool = Field(False, description="divide the official test samples too, as AFL-Lib and PFLlib do")
    stream: Stream | None = Field(None, description="live data: samples that arrive over virtual time")


class ModelRef(PluginRef):
    """A model, and how it joins the modalities."""

    fusion: PluginRef | None = Field(None, description="joins the encoders of several modalities")


class Clients(Section):
    """Who takes part."""

    count: int = Field(100, ge=1, description="clients in the federation")
    concurrency: int = Field(10, ge=1, description="tasks out at once; by default 10, or all clients if fewer")
    selection: PluginRef = Field(PluginRef(name="uniform"), description="which idle clients are drawn")

    @model_validator(mode="before")
    @classmethod
    def _all_if_few(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "concurrency" not in value and isinstance(value.get("count"), int):
            return {**value, "concurrency": max(1, min(10, value["count"]))}
        return value

    @model_validator(mode="after")
    def _enough(self) -> Clients:
        if self.concurrency > self.count:
            raise PydanticCustomError(
                "at:concurrency",
                "Input should be at most clients.count = {count}",
                {"count": self.count, "given": self.concurrency},
            )
        return self


def _refs(value: Any) -> Any:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _fleet_kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "parts"


FleetField = Annotated[
    Annotated[str, Field(min_length=1), Tag("name")] | Annotated[FleetSpec, Tag("parts")], Discriminator(_fleet_kind)
]


class Server(Section):
    """What the loop does with tasks that take too long or come back broken."""

    timeout_s: Positive | None = Field(None, description="virtual seconds after which a task is lost")
    max_staleness: int | None = Field(None, ge=0, description="updates staler than this are lost")
    on_nonfinite: Literal["stop", "reject", "keep"] = Field("stop", description="for updates with nan or inf")


class Stop(Section):
    """When a run ends; the first that is reached ends it."""

    updates: int | None = Field(None, ge=1, description="used arrivals")
    versions: int | None = Field(None, ge=1, description="versions of the global model")
    time_s: Positive | None = Field(None, description="virtual seconds")
    accuracy: float | None = Field(None, gt=0, le=1, description="test accuracy at an evaluation")

    @model_validator(mode="after")
    def _some_end(self) -> Stop:
        if self.updates is None and self.versions is None and self.time_s is None:
            raise PydanticCustomError("no_end", "Input should have at least one of updates, versions, time_s")
        return self


class _OneOf(Section):
    @model_validator(mode="after")
    def _exactly_one(self) -> _OneOf:
        given = [k for k in type(self).model_fields if getattr(self, k) is not None]
        if len(given) != 1:
            keys = ", ".join(type(self).model_fields)
            raise PydanticCustomError(
                "one_of", "Input should have exactly one of {keys}", {"keys": keys, "given": ", ".join(given) or "none"}
            )
        return self


class Every(_OneOf):
    """A distance between evaluations."""

    updates: int | None = Field(None, ge=1, description="used arrivals")
    versions: int | None = Field(None, ge=1, description="versions of the global model")
    time_s: Positive | None = Field(None, description="virtual seconds")


class SensorFailure(Section):
    """Sensors that fail and come back over virtual time, each on its own; both times are exponential."""

    mean_on_s: Positive = Field(description="mean virtual seconds until a sensor fails")
    mean_off_s: Positive = Field(description="mean virtual seconds until it works again")


class Modalities(Section):
    """Who has which modality, and how often one is missing. Missing is zeros plus a presence mask."""

    pattern: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="share of clients by what they have: a name, a+b, or all"
    )
    missing: float = Field(0.0, ge=0, lt=1, description="chance that a sample lacks a modality; one always remains")
    failure: SensorFailure | None = Field(None, description="sensors that fail for a while; a task finds them so")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance that training hides a modality; one always remains")


class Evaluate(Section):
    """When and how the global model is tested, and how clients are."""

    every: Every = Field(Every(updates=10), description="exactly one of updates, versions, time_s")
    batch_size: int = Field(1000, ge=1, description="samples in a batch of the evaluation")
    clients: int = Field(1000, ge=1, description="clients whose own accuracy is measured, spread evenly over all")
    fine_tune: int | None = Field(None, ge=1, description="epochs of local training on a copy, before a last test")


class Seeds(Section):
    """Seeds of single streams; each defaults to `seed`."""

    data: Seed | None = Field(None, description="partition and splits")
    fleet: Seed | None = Field(None, description="devices, links, delays and dropouts")
    selection: Seed | None = Field(None, description="who is drawn")
    algorithm: Seed | None = Field(None, description="what the method itself draws")
    model: Seed | None = Field(None, description="initial weights")
    training: Seed | None = Field(None, description="order of the batches")


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
DEVICE = r"^(cpu|cuda(:\d+)?)$"
SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})")


def _size(value: Any) -> Any:
    found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or float(found[1]) * UNITS[found[2]] < 1:
        raise PydanticCustomError("size", "Input should be a size with its unit, such as 512MiB or 2GiB")
    return f"{found[1]}{found[2]}"


def _device(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(DEVICE, value):
        raise PydanticCustomError("device", "Input should be cpu, cuda, or one of several GPUs such as cuda:1")
    return value


class Engine(Section):
    """How the work is carried out. Changes speed, never the result beyond the executors' stated tolerance."""

    executor: Literal["auto", "serial", "workers", "stacked"] = Field("auto", description="how jobs are trained")
    workers: int | None = Field(None, ge=1, description="threads of the workers executor; by default one per core")
    device: Annotated[str, BeforeValidator(_device), Field(pattern=DEVICE)] = Field(
        "cpu", description="cpu, cuda, cuda:1, ..."
    )
    max_memory: Annotated[str, BeforeValidator(_size)] | None = Field(
        None, description="what trainings under way and their results may hold, with its unit: 512MiB, 2GiB"
    )
    client_memory: Literal["ram", "disk"] = Field("ram", description="where clients' memories and server tables live")

    @property
    def max_memory_bytes(self) -> int | None:
        """`max_memory` as a number."""
        found = SIZE.fullmatch(self.max_memory or "")
        return int(float(found[1]) * UNITS[found[2]]) if found else None


class CheckpointEvery(_OneOf):
    """A distance between checkpoints."""

    updates: int | None = Field(None, ge=1, description="used arrivals")
    host_s: Positive | None = Field(None, description="seconds of this machine's clock")


class Checkpoint(Section):
    """When the state is saved."""

    every: CheckpointEvery = Field(description="exactly one of updates, host_s")


class Config(Section):
    """One experiment."""

    name: str | None = Field(None, min_length=1, description="name of the run; by default algorithm-dataset")
    tags: tuple[str, ...] = Field((), description="for people")
    algorithm: PluginRef = Field(PluginRef(name="fedbuff"), description="the method")
    dataset: DatasetRef = Field(DatasetRef(name="digits"), description="the data and their partition")
    model: ModelRef = Field(ModelRef(name="mlp"), description="what is trained")
    personalization: Annotated[tuple[PluginRef, ...], BeforeValidator(_refs)] = Field(
        (), description="wrappers around the method, innermost first"
    )
    modalities: Modalities | None = Field(None, description="who has which modality, where some lack one")
    clients: Clients = Field(Clients(), description="who takes part")
    local: Local = Field(Local(), description="what a client does with a model")
    fleet: FleetField = Field("poster-1-1-1", description="a named fleet, or its parts")
    server: Server = Field(Server(), description="limits that the loop enforces")
    stop: Stop = Field(Stop(updates=1000), description="when the run ends")
    evaluate: Evaluate = Field(Evaluate(), description="when the model is tested")
    seed: Seed = Field(0, description="the master seed")
    seeds: Seeds = Field(Seeds(), description="seeds of single streams")
    engine: Engine = Field(Engine(), description="how the work is carried out")
    checkpoint: Checkpoint | None = Field(None, description="when the state is saved")
    track: tuple[str, ...] = Field((), description="trackers that are told of the run")

    @field_serializer("fleet")
    def _fleet(self, fleet: str | FleetSpec) -> Any:
        """Over a named fleet only what was said counts; otherwise all is said."""
        if isinstance(fleet, str):
            return fleet
        data = fleet.model_dump(mode="json", exclude_unset=fleet.name is not None)
        if "availability" in data:
            data["availability"] = [{"name": a["name"], **a.get("params", {})} for a in data["availability"]]
        return {k: v for k, v in data.items() if v not in (None, {})}
