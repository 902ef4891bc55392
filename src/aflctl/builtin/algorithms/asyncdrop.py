"""AsyncDrop: each client trains a sub-model of whole filters and neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Job, Setup, Step, Update
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Block = tuple[int, int, int]


@dataclass(frozen=True)
class DropState:
    """w [P], first [P] the initial model; `layers` (units F, blocks): a block (start, outer, inner) is w seen as
    [outer, F, inner] from `start`, the layer's own weight first; `rank` client -> place by speed, 0 = fastest."""

    w: Tensor
    first: Tensor
    layers: tuple[tuple[int, tuple[Block, ...]], ...]
    rank: tuple[int, ...] = ()


class AsyncDrop(Algorithm[DropState]):
    """Asynchronous distributed dropout: a client receives, trains and returns only some filters of each hidden layer.

        M_i in {0, 1}^P drops the share `drop` of each layer's units: their rows, biases and norms, and the next layer's
        matching inputs;   client: y_i = local SGD on x * M_i;
        server: x <- x (1 - M_i) + ((1 - alpha) x + alpha y_i) M_i

        uniform   the units are drawn at random
        hetero    scores ||W_j,t - W_j,0||_1 in falling order; the i-th fastest of N clients drops the window that
                  begins at i F / N (wrapping around): fast clients leave out what moved most

    Only active entries travel, plus one bit per unit; compute is charged by the share of parameters. A version is an
    arrival; staleness is not used. drop = 0 is FedAsync with constant alpha.

    Source: Dun et al., Efficient and Light-Weight Federated Learning via Asynchronous Distributed Dropout, AISTATS
    2023; authors' code. Deviations: the code thins the first convolution of each residual block of ResNet-34; here
    every linear and convolution layer but the last is thinned, or those named in `layers`. A dropped unit is zero, not
    cut out: group norms still count it. The learning-rate steps at 50 and 75 % of a run are not offered.

    Presets: Paper: drop 0.25 (LSTM 0.125), alpha 0.5, local {steps: 50, batch_size: 128, lr: 0.01, momentum: 0.9}, 104
    clients, concurrency 8.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "paper and official code read"

    drop: float = Field(0.25, ge=0, lt=1, description="share of each layer's units left out (paper: 0.25)")
    alpha: float = Field(0.5, gt=0, le=1, description="mixing weight (paper: 0.5)")
    scores: Literal["uniform", "hetero"] = Field("uniform", description="which units a client leaves out")
    layers: tuple[str, ...] = Field((), description="weights to thin, by parameter name; none given = all but the last")

    @property
    def reads_results(self) -> bool:  # type: ignore[override]
        return self.scores == "hetero"  # what is sent, and how much, follows from how far the weights moved

    def init(self, setup: Setup, fleet: Fleet) -> DropState:
        entries, kinds = list(setup.layout.items()), ("Linear", "Conv1d", "Conv2d")
        at = [i for i, (n, (_, s)) in enumerate(entries) if len(s) >= 2 and setup.modules.get(n, "Linear") in kinds]
        names = [entries[i][0] for i in at[:-1]]
        if unknown := [name for name in self.layers if name not in names]:
            raise UserError(f"asyncdrop: no layer {unknown[0]!r} to thin", hint=f"layers: {', '.join(names) or 'none'}")
        layers = []
        for this, after in pairwise(at):
            name, (where, shape) = entries[this]
            if self.layers and name not in self.layers:
                continue
            blocks: list[Block] = [(where.start, 1, prod(shape[1:]))]
            blocks += [(s.start, 1, 1) for _, (s, small) in entries[this + 1 : after] if small == shape[:1]]
            place, (rows, columns, *rest) = entries[after][1]
            if columns % shape[0] == 0:
                blocks.append((place.start, rows, columns // shape[0] * prod(rest)))
            layers.append((shape[0], tuple(blocks)))
        order = sorted(range(setup.clients), key=fleet.expected_s) if self.scores == "hetero" else []
        rank = tuple(sorted(range(len(order)), key=order.__getitem__))
        return DropState(setup.init, setup.init, tuple(layers), rank)

    def assign(self, state: DropState, client: int, fleet: Fleet) -> Assignment:
        mask, units = state.w.new_ones(state.w.shape), 0
        for f, blocks in state.layers:
            units, gone = units + f, min(round(self.drop * f), f - 1)
            if self.scores == "uniform":
                out = fleet.rng.permutation(f)[:gone].tolist()
            else:
                start, _, inner = blocks[0]
                moved = (state.w - state.first)[start : start + f * inner].view(f, inner).abs().sum(1)
                falling, begin = (-moved).argsort(stable=True).tolist(), state.rank[client] * f // len(state.rank)
                out = [falling[(begin + j) % f] for j in range(gone)]
            for start, outer, inner in blocks:
                mask[start : start + outer * f * inner].view(outer, f, inner)[:, out] = 0.0
        kept = int(mask.sum())
        return Assignment(
            {"w": state.w * mask, "mask": mask},
            work=kept / mask.numel() if mask.numel() else 1.0,
            down_bytes=4 * kept + (units + 7) // 8,
            up_bytes=4 * kept,
        )

    def receive(self, state: DropState, update: Update, fleet: Fleet) -> Step[DropState]:
        w = state.w.lerp(update.model, self.alpha).where(update.sent["mask"] > 0, state.w)
        return Step(replace(state, w=w), advanced=True, weight=self.alpha)

    # ---- client ----
    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return g * job.sent["mask"]
