"""IFCA: several models, each client trains the one that fits it best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Personalization, Setup, Step, Task, Update, overrides
from aflctl.builtin.personalizations.subspace import name_of
from aflctl.builtin.personalizations.tracks import Many, Tracked, over, under
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

MEMORY = "ifca"
PICK = "cluster"


class Ifca(Personalization):
    """Iterative federated clustering: k models travel down, the client trains the one with the least local loss.

        client:  j = argmin_j f_i(x_j) on all local data;   y <- local training from x_j;   upload (update, j)
        server:  the method's own rule on state j; versions and staleness are per cluster

    Traffic down is k models; the k forward passes are charged, at a third of a training epoch each. The first model
    starts from the initial weights, the others from fresh draws with the same mean and deviation per tensor. What a
    method keeps per client it keeps once, whichever cluster the client trains. `personal` gives a client the model it
    trained last, and the cluster with most members stands for the global model. k = 1 is the plain method, without
    probing.

    Source: Ghosh, Chung, Yin, Ramchandran, An Efficient Framework for Clustered Federated Learning, NeurIPS 2020;
    authors' code. Deviations: no weight sharing between clusters (combine with a private or shared part instead).
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "tracks"

    clusters: int = Field(2, ge=1, le=64, description="k, number of models (paper: 2 to 4)")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        hooked = any(overrides(inner, hook) for hook in ("loss", "grad", "project"))
        cls = Directed if overrides(inner, "direction") else Hooked if hooked else Clustered
        return cls(inner=inner, setup=setup, who="ifca", k=self.clusters)


class Clustered(Tracked):
    """k states; for methods whose step hooks are the defaults."""

    k: int

    def track(self, k: int) -> str:
        return f"cluster{k}"

    @property
    def uploads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.inner.uploads, PICK) if self.k > 1 else self.inner.uploads

    @property
    def probes(self) -> bool:  # type: ignore[override]
        return self.k > 1 or self.inner.probes

    @property
    def reads_results(self) -> bool:  # type: ignore[override]
        return self.k > 1 or self.inner.reads_results  # clients choose their cluster by loss

    # ---- server ----
    def init(self, setup: Setup, fleet: Fleet) -> Many:
        inits = [setup.init, *(_fresh(setup, fleet) for _ in range(self.k - 1))]
        return Many(
            tuple(
                self.inner.init(replace(setup, init=w), replace(fleet, track=self.track(k)))
                for k, w in enumerate(inits)
            )
        )

    def params(self, state: Many) -> Tensor:
        counts = [0] * self.k
        for k in state.of.values():
            counts[k] += 1
        return cast("Tensor", self.inner.params(state.states[counts.index(max(counts))]))

    def personal(self, state: Many, client: int, memory: Tensors) -> Tensor:
        return cast("Tensor", self.inner.personal(state.states[state.of.get(client, 0)], client, memory))

    def assign(self, state: Many, client: int, fleet: Fleet) -> Assignment:
        orders = [self.order(s, client, f) for _, s, f in self.each(state, fleet)]
        if any(_form(o) != _form(orders[0]) for o in orders):
            raise UserError(
                f"ifca sends every cluster's model in one task, and {name_of(self.inner)} asks for different work in "
                "different states",
                where="personalization", hint="use cfl, where a task belongs to one cluster",
            )  # fmt: skip
        first, names = orders[0], tuple(self.track(k) for k in range(self.k))
        versions = {
            n: f.version if o.version is None else cast(int, o.version)
            for n, o, (_, _, f) in zip(names, orders, self.each(state, fleet))
        }
        local, samples = self.setup.local, fleet.samples[client]
        steps = first.steps or (None if first.epochs else local.steps)
        epochs = steps * local.batch_size / samples if steps else float(first.epochs or local.epochs)
        down, up = ([getattr(o, name) for o in orders] for name in ("down_bytes", "up_bytes"))
        return replace(
            first,
            tensors={f"{k}/{n}": t for k, o in enumerate(orders) for n, t in o.tensors.items()},
            tracks=names,
            version=versions,
            work=first.work + (self.k / (3 * epochs) if self.k > 1 else 0.0),
            down_bytes=None if None in down else sum(down),
            up_bytes=None if None in up else max(up) + (4 if self.k > 1 else 0),
        )

    def receive(self, state: Many, update: Update, fleet: Fleet) -> Step[Many]:
        pick = int(update.up[PICK]) if self.k > 1 else 0
        tau = update.staleness_by[self.track(pick)]
        up = {n: t for n, t in update.up.items() if n != PICK}

        def one(k: int, s: Any, f: Fleet) -> Step[Any]:
            if k != pick:
                return self.poke(s, f)
            mine = replace(
                update, staleness_by={"": tau}, version=f.version - tau, sent=under(update.sent, str(k)), up=up
            )
            return cast(Step[Any], self.inner.receive(s, mine, f))

        step = self.fold(state, fleet, one, of=(pick,))
        return replace(
            step, state=replace(step.state, of={**state.of, update.client: pick}) if step.used else step.state
        )

    # ---- client ----
    direction = Algorithm.direction  # type: ignore[pydantic-field]

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        mine = data if self.inner.probes else None
        chosen, pick = (under(job.sent, "0"), {}) if self.k == 1 else self._least(task, data, mine, job)
        scratch = over(chosen, MEMORY)
        w, memory = self.inner.start(task, mine, job._replace(sent=chosen))
        return w, {**memory, **scratch, **pick}

    def _least(
        self, task: Task, data: Batch | None, mine: Batch | None, job: Job
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(the tensors sent for the cluster with the least loss, its number)."""
        import torch

        sent = [under(job.sent, str(k)) for k in range(self.k)]
        models = [self.inner.start(task, mine, job._replace(sent=s))[0] for s in sent]
        losses = torch.stack([task.loss(w, cast(Batch, data)) for w in models])
        pick = losses.argmin()
        hot = (torch.arange(self.k, device=losses.device) == pick).unbind()
        chosen = {}
        for name in sent[0]:
            parts = [torch.where(h, s[name], torch.zeros_like(s[name])) for h, s in zip(hot, sent)]
            chosen[name] = sum(parts[1:], parts[0])
        return chosen, {f"{MEMORY}/{PICK}": pick.to(torch.float32)}

    def job(self, job: Job) -> Job:
        """The job as the inner method sees it: it was sent its cluster's tensors only."""
        return job._replace(sent={n: t for n, t in under(job.memory, MEMORY).items() if n != PICK})

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        up, memory = self.inner.finish(w, self.job(job))
        pick = {PICK: job.memory[f"{MEMORY}/{PICK}"]} if self.k > 1 else {}
        return {**up, **pick}, {n: t for n, t in memory.items() if not n.startswith(MEMORY + "/")}


class Hooked(Clustered):
    """The same for methods with step hooks of their own."""

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        return cast("Tensor", self.inner.loss(task, w, batch, self.job(job)))

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return cast("Tensor", self.inner.grad(g, w, self.job(job)))

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        return cast("Tensor", self.inner.project(w, w_before, self.job(job)))


class Directed(Hooked):
    """The same for methods with a direction of their own."""

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        g, memory, value = self.inner.direction(task, w, batch, self.job(job))
        return g, memory, value


def _form(order: Assignment) -> tuple[Any, ...]:
    return {n: t.shape for n, t in order.tensors.items()}, order.epochs, order.steps, order.lr_scale


def _fresh(setup: Setup, fleet: Fleet) -> Tensor:
    """[P] a new draw: every tensor normal with the mean and deviation of the initial one."""
    import torch

    if not setup.layout:
        return setup.init.clone()
    parts = []
    for place, _ in setup.layout.values():
        old = setup.init[place]
        noise = torch.from_numpy(fleet.rng.standard_normal(old.numel())).to(old)
        spread = old.std(correction=0) if old.numel() > 1 else old.new_zeros(())
        parts.append(old.mean() + spread * noise)
    return torch.cat(parts)
