"""How long client work takes on a device: a pure function of FLOPs, parameters, steps and the device's profile.

    t_mean = t_start [first task only] + steps * micro * (t_step + u * P * share)
             + kappa * samples * flops * share / (F * eta)
    t      = t_mean * exp(sigma * z - sigma^2 / 2),   z ~ N(0, 1) from the stream (seed, "jitter", client, nth)

kappa = 3 (a training step costs three forward passes), eta = the factor of the model's layer family, share = the
share of the dense cost that a task asks for. A batch that does not fit into memory is worked off in `micro` equal
parts, which costs the overhead per step again for each part and changes nothing in the training itself.

The cold start is charged to a client's task number 0, whatever becomes of that task: one process per client, which
lives for the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aflctl.errors import UserError

if TYPE_CHECKING:
    from aflctl.sim.fleet.profiles import DeviceProfile

KAPPA = 3.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a task asks of a device and a link.

    steps, per_epoch      optimizer steps in all; in one epoch
    samples_per_epoch     samples that one epoch passes over
    params                parameters trained
    flops_per_sample      of a forward pass
    share                 share of the dense compute cost (`Assignment.work`)
    activations           floats that one sample keeps for the backward pass; 0 = unknown, then memory caps no batch
    state_floats          floats per parameter that the optimizer keeps (0 SGD, 1 momentum, 2 Adam)
    """

    steps: int
    per_epoch: int
    samples_per_epoch: int
    batch_size: int
    params: int
    flops_per_sample: float
    share: float
    family: str
    down_bytes: int
    up_bytes: int
    activations: float = 0.0
    state_floats: int = 0


class Device:
    """A device profile in the form that the clock needs: seconds, bytes and reciprocals."""

    __slots__ = (
        "cold_s", "flop_s", "gflops", "half_variance", "idle_w", "memory_bytes", "name", "param_s", "radio_w", "sigma",
        "step_s", "train_w",
    )  # fmt: skip

    def __init__(self, profile: DeviceProfile, name: str) -> None:
        self.name, self.gflops = name, profile.gflops
        self.step_s, self.param_s = profile.step_overhead_ms * 1e-3, profile.parameter_overhead_ns * 1e-9
        self.cold_s = profile.cold_start_s
        one = KAPPA / (profile.gflops * 1e9)
        self.flop_s = {
            "dense": one,
            "attention": one / profile.attention_factor,
            "depthwise": one / profile.depthwise_factor,
            "rnn": one / profile.rnn_factor,
        }
        self.memory_bytes = profile.memory_mib * 2**20 * profile.usable_memory_share
        self.sigma, self.half_variance = profile.jitter_sigma, profile.jitter_sigma**2 / 2
        self.idle_w, self.train_w, self.radio_w = profile.idle_w, profile.train_w, profile.radio_w

    def seconds(self, work: Work, steps: int) -> float:
        """Mean seconds of `steps` steps without the cold start. Raises UserError if the model does not fit."""
        epochs, rest = divmod(steps, work.per_epoch)
        samples = epochs * work.samples_per_epoch
        if rest:
            samples += min(rest * work.batch_size, work.samples_per_epoch)
        params, share = work.params, work.share
        if work.activations or params * (8 + 4 * work.state_floats) > self.memory_bytes:
            overheads = steps * self.micro(work)
        else:
            overheads = steps
        return (
            overheads * (self.step_s + self.param_s * params * share)
            + samples * work.flops_per_sample * share * self.flop_s[work.family]
        )

    def micro(self, work: Work) -> int:
        """Into how many parts a batch must be cut to fit into memory."""
        free = self.memory_bytes - self.model_bytes(work)
        if free < 0 or (work.activations and free < 4 * work.activations):
            raise UserError(
                f"device {self.name!r} cannot train this model: {work.params:,} parameters need "
                f"{_size(self.model_bytes(work) + 4 * work.activations)}, the device has {_size(self.memory_bytes)}",
                hint="take a smaller model, or a fleet without this device",
            )
        if not work.activations:
            return 1
        fits = int(free / (4 * work.activations))
        return -(-work.batch_size // min(fits, work.batch_size))

    @staticmethod
    def model_bytes(work: Work) -> float:
        """Weights, gradients and the optimizer's state in float32."""
        return 4.0 * work.params * (2 + work.state_floats)


def _size(count: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"
