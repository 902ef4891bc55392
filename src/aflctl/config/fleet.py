"""The `fleet` section of a configuration: devices, links and availability by name; the simulator resolves the names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AvailabilityRef(BaseModel):
    """One availability process: `markov`, or `{name: markov, mean_on_s: 60}`; what may be given depends on the kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="a profile's name, or a path to a YAML file that starts with ./, ../ or /")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters in place of the profile's own")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """A bare name, or the parameters beside the name."""
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, dict) and "name" in data and set(data) != {"name", "params"}:
            return {"name": data["name"], "params": {k: v for k, v in data.items() if k != "name"}}
        return data


class FleetSpec(BaseModel):
    """A fleet in few lines. With `name`, that fleet's values hold wherever nothing else is said.

    Errors: ratios that are negative or sum to zero; `csv` together with devices or networks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, description="a named fleet (or a YAML file) to start from")
    devices: dict[str, Ratio] = Field(default_factory=dict, description="device profile -> share of the clients")
    networks: dict[str, Ratio] = Field(default_factory=dict, description="network profile -> share of the clients")
    availability: tuple[AvailabilityRef, ...] = Field(
        (AvailabilityRef(name="always"),), description="one or several processes; a client is online where all are"
    )
    offline: Literal["abort", "pause", "offline-compute"] = Field(
        "pause",
        description="a task whose client goes offline is lost, waits, or is computed on and waits to be sent",
    )
    link_mode: Literal["constant", "varying", "afl-lib"] = Field(
        "constant", description="rate constant per client; varying over time; or AFL-Lib's: uniform, symmetric, no RTT"
    )
    csv: str | None = Field(None, description="file of clients: client, device, network [, availability] [, samples]")

    @field_validator("availability", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict | AvailabilityRef) else value

    @field_validator("devices", "networks")
    @classmethod
    def _some_share(cls, value: dict[str, float]) -> dict[str, float]:
        if value and not sum(value.values()) > 0:
            raise ValueError("the ratios sum to zero; give at least one a positive share")
        return value

    @model_validator(mode="after")
    def _complete(self) -> FleetSpec:
        if self.csv is not None and (self.devices or self.networks):
            raise ValueError("csv names each client's device and network; leave devices and networks out")
        if self.csv is None and self.name is None:
            for field in ("devices", "networks"):
                if not getattr(self, field):
                    raise ValueError(f"{field} is missing; give ratios such as {{name: 1}}, or a named fleet, or a csv")
        return self
