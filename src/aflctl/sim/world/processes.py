"""The kinds of availability, with the parameters each takes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aflctl.sim.world.availability import DelayDropout, Diurnal, Markov, Outages, Presence, TaskFailure

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass
class Parts:
    """What a list of processes adds up to."""

    processes: list[Presence] = field(default_factory=list)
    delays: list[DelayDropout] = field(default_factory=list)
    failures: list[TaskFailure] = field(default_factory=list)


class Params(BaseModel):
    """Parameters of one kind; `add` builds the process from its key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def add(self, parts: Parts, k: int, base: Path) -> None:
        """Append what this kind is made of."""
        raise NotImplementedError


class AlwaysParams(Params):
    """Always online."""

    def add(self, parts: Parts, k: int, base: Path) -> None:
        return


class DelayDropoutParams(Params):
    """With `probability`, U(0, max_s) seconds more; never lost."""

    probability: float = Field(0.1, ge=0, le=1)
    max_s: float = Field(100.0, ge=0, allow_inf_nan=False)

    def add(self, parts: Parts, k: int, base: Path) -> None:
        parts.delays.append(DelayDropout(k, self.probability, self.max_s))


class TaskFailureParams(Params):
    """Either the probability that a task fails, or a hazard per busy second (it replaces the profile's probability)."""

    probability: float | None = Field(None, ge=0, lt=1)
    hazard_per_s: float | None = Field(None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_form(self) -> TaskFailureParams:
        if self.probability is None and self.hazard_per_s is None:
            raise ValueError("give probability or hazard_per_s")
        return self

    def add(self, parts: Parts, k: int, base: Path) -> None:
        parts.failures.append(
            TaskFailure(k, None if self.hazard_per_s is not None else self.probability, self.hazard_per_s)
        )


class MarkovParams(Params):
    """Mean times online and offline; both exponential."""

    mean_on_s: Seconds = 600.0
    mean_off_s: Seconds = 1800.0

    def add(self, parts: Parts, k: int, base: Path) -> None:
        parts.processes.append(Markov(k, self.mean_on_s, self.mean_off_s))


class DiurnalParams(Params):
    """Availability over the local day: mean, highest over lowest, hour of the peak; `zones_h` = hours ahead of UTC."""

    mean_availability: float = Field(0.25, gt=0, lt=1)
    swing: float = Field(4.0, ge=1, allow_inf_nan=False)
    peak_hour: float = Field(2.0, ge=0, lt=24)
    mean_on_s: Seconds = 600.0
    zones_h: tuple[Annotated[float, Field(ge=-12, le=14)], ...] = Field((0.0,), min_length=1)

    @model_validator(mode="after")
    def _below_one(self) -> DiurnalParams:
        peak = self.mean_availability * 2 * self.swing / (self.swing + 1)
        if peak > 0.99:
            raise ValueError(
                f"the peak of the day would be {peak:.3g} of the clients, above 0.99; "
                f"with this swing mean_availability must be below {0.99 * (self.swing + 1) / (2 * self.swing):.3g}"
            )
        return self

    def add(self, parts: Parts, k: int, base: Path) -> None:
        parts.processes.append(
            Diurnal(k, self.mean_availability, self.swing, self.peak_hour, self.mean_on_s, self.zones_h)
        )


class OutageParams(Params):
    """Sites whose clients go off together."""

    sites: int = Field(10, ge=1)
    outages_per_day: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    mean_outage_s: Seconds = 1800.0

    def add(self, parts: Parts, k: int, base: Path) -> None:
        parts.processes.append(Outages(k, self.sites, self.outages_per_day, self.mean_outage_s))


class TraceParams(Params):
    """Windows from a file, its `path` relative to the configuration. Client c follows user c of the file (in the file's
    order, starting over where there are more clients), or with `assignment: random` a user drawn from its own stream.

    period_s    the trace repeats after this; default: as the file says, else it ends for good
    """

    path: str
    format: Literal["auto", "csv", "fedscale", "flash"] = "auto"
    period_s: Seconds | None = None
    assignment: Literal["in-order", "random"] = "in-order"

    def add(self, parts: Parts, k: int, base: Path) -> None:
        from aflctl.sim.world.traces import Trace, read_trace

        path = Path(os.path.expanduser(self.path))
        users = read_trace(path if path.is_absolute() else base / path, self.format, self.period_s)
        parts.processes.append(Trace(k, users, in_order=self.assignment == "in-order"))


KINDS: dict[str, type[Params]] = {
    "always": AlwaysParams,
    "correlated-outage": OutageParams,
    "delay-dropout": DelayDropoutParams,
    "diurnal": DiurnalParams,
    "markov": MarkovParams,
    "task-failure": TaskFailureParams,
    "trace": TraceParams,
}
