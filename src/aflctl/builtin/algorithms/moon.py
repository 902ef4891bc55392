"""MOON: FedAvg with a contrastive term between the new, the global and the previous local model."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Assignment, Batch, Fleet, Job, Setup, Task
from aflctl.builtin.algorithms.fedavg import FedAvg, RoundState

if TYPE_CHECKING:
    from torch import Tensor


class Moon(FedAvg):
    """Model-contrastive learning: features are pulled to the global model's, pushed from the client's last model's.

        l = CE + mu l_con,   l_con = -log( exp(s_x / T) / (exp(s_x / T) + sum_p exp(s_p / T)) )
        s_x = cos(z_w, z_x),  s_p = cos(z_w, z_prev_p),  z = task.embed(model, batch);  server as FedAvg

    T is `temperature`; prev_p are the client's last `pool` trained models, the initial model before its first task. So
    all three agree in round 1, the term's gradient is 0 and the round is FedAvg's. The extra forward passes of a step
    (1 + pool of them) are charged as compute, at a third of a training step each.

    z is what the model's own `embed` returns, else the input of its last linear layer. The paper's models have a
    projection head there: `model: {name: lenet5, projection: 256}`, also `cnn` and `mlp`.

    Source: Li, He, Song, Model-Contrastive Federated Learning, CVPR 2021; authors' code. Deviations: the head is the
    model's (`projection`) and off by default; without it z is mostly a ReLU's output, whose cosines are never negative.

    Presets: Authors' README, CIFAR-10: model {name: lenet5, projection: 256}, mu 5, temperature 0.5, 10 clients,
    Dirichlet 0.5, 100 rounds; local {epochs: 10, batch_size: 64, lr: 0.01, momentum: 0.9, weight_decay: 1e-5}.
    """

    evidence: ClassVar[str] = "official code read"

    mu: float = Field(1.0, ge=0, description="weight of the contrastive term (paper: tuned in 0.001 ... 10)")
    temperature: float = Field(0.5, gt=0, description="T (paper: 0.5)")
    pool: int = Field(1, ge=1, description="previous local models to push away from (paper: 1)")

    def assign(self, state: RoundState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, work=1 + (1 + self.pool) / 3 if self.mu else 1.0)

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"prev0": setup.init}

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        if not self.mu:
            return task.loss(w, batch)
        import torch
        from torch.nn.functional import cosine_similarity

        z = task.embed(w, batch.x, batch.present).flatten(1)
        others = [job.sent["w"], *(job.memory[k] for k in self._pool(job))]
        with torch.no_grad():
            seen = [task.embed(other, batch.x, batch.present).flatten(1) for other in others]
        s = torch.stack([cosine_similarity(z, other, dim=-1) for other in seen]) / self.temperature
        con = s.logsumexp(0) - s[0]
        return task.loss(w, batch) + self.mu * (con * batch.mask).sum() / batch.mask.sum().clamp(min=1)

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        others = {k: v for k, v in job.memory.items() if not k.startswith("prev")}
        kept = [w, *(job.memory[k] for k in self._pool(job))][: self.pool]
        return {"delta": w - job.sent["w"]}, {**others, **{f"prev{p}": v for p, v in enumerate(kept)}}

    def _pool(self, job: Job) -> list[str]:
        return [k for p in range(self.pool) if (k := f"prev{p}") in job.memory]
