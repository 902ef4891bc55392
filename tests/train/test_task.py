"""The flat task: a module's parameters as one vector, its statistics as another."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aflctl.api import Batch, DataSpec, Modality
from aflctl.builtin.datasets.digits import Digits
from aflctl.builtin.models.cnn import Cnn
from aflctl.builtin.models.logistic import Logistic
from aflctl.builtin.models.mlp import Mlp
from aflctl.train.task import FlatTask, aligned

IMAGE = DataSpec((Modality("image", (1, 8, 8), "image"),), 10)
WORDS = DataSpec((Modality("text", (6,), "sequence", vocabulary=12),), 4)
VECTOR = DataSpec((Modality("x", (5,)),), 3)


def made(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(3)
        return build()


class Tied(nn.Module):
    """An autoencoder-like net whose last layer is the first one's transpose; a parameter of its own on top."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(5, 3, bias=False), nn.Linear(5, 3, bias=False)
        self.leave.weight = self.enter.weight
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.enter(x) + self.leave(x * x)


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.embedding, self.rnn, self.out = nn.Embedding(12, 4), kind(4, 7, batch_first=True), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(x))[0][:, -1])


class Two(nn.Module):
    """Two modalities; the second one may be absent."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x: tuple[Tensor, Tensor], present: Tensor) -> Tensor:
        return self.a(x[0]) * present[:, :1] + self.b(x[1]) * present[:, 1:]


def images(n: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, 8, 8, generator=g), torch.randint(10, (n,), generator=g)


def words(n: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randint(12, (n, 6), generator=g), torch.randint(4, (n,), generator=g)


def vectors(n: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, generator=g), torch.randint(3, (n,), generator=g)


CASES: dict[str, tuple[Callable[[], nn.Module], DataSpec, Callable[[], tuple[Tensor, Tensor]]]] = {
    "logistic": (lambda: Logistic().build(IMAGE), IMAGE, images),
    "mlp": (lambda: Mlp(hidden=(12, 9)).build(IMAGE), IMAGE, images),
    "cnn": (lambda: Cnn().build(IMAGE), IMAGE, images),
    "tied": (Tied, VECTOR, vectors),
    "lstm": (lambda: Recurrent(nn.LSTM), WORDS, words),
    "gru": (lambda: Recurrent(nn.GRU), WORDS, words),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_the_plain_module(name: str) -> None:
    build, spec, data = CASES[name]
    module = made(build)
    plain = deepcopy(module)
    x, y = data()
    task = FlatTask(module, spec)
    want = F.cross_entropy(plain(x), y)
    own = list(dict.fromkeys(plain.parameters()))
    grads = torch.autograd.grad(want, own)
    w = task.init.clone().requires_grad_()
    loss = task.loss(w, Batch(x, y, torch.ones(len(y)), torch.ones(len(y), 1)))
    (g,) = torch.autograd.grad(loss, w)
    assert torch.allclose(loss, want, rtol=1e-6, atol=0)
    assert torch.allclose(g, torch.cat([p.reshape(-1) for p in grads]), rtol=1e-5, atol=1e-7)
    assert task.size == sum(p.numel() for p in own) == w.numel()


@pytest.mark.parametrize("name", CASES)
def test_the_layout_names_every_parameter_in_order(name: str) -> None:
    build, spec, _ = CASES[name]
    module = made(build)
    named = {k: v.detach().clone() for k, v in module.named_parameters()}  # tied ones once, under their first name
    task = FlatTask(module, spec)
    assert list(task.layout) == list(named)
    assert set(task.modules) == set(named)
    end = 0
    for key, (at, shape) in task.layout.items():
        assert at.start == end
        end = at.stop
        assert torch.equal(task.init[at].view(shape), named[key])
        assert torch.equal(task.parts(task.init)[key], named[key])
    assert end == task.size
    pieces = task.cut(torch.stack([task.init, task.init + 1]))
    assert [tuple(p.shape) for p in pieces] == [(2, *shape) for _, shape in task.layout.values()]
    assert torch.equal(torch.cat([p.reshape(2, -1) for p in pieces], 1)[0], task.init)


def test_kinds_of_modules_are_known_by_parameter() -> None:
    task = FlatTask(made(lambda: Recurrent(nn.GRU)), WORDS)
    assert task.modules["embedding.weight"] == "Embedding"
    assert task.modules["rnn.weight_hh_l0"] == "GRU"
    assert task.modules["out.bias"] == "Linear"
    assert FlatTask(made(Tied), VECTOR).modules == {"scale": "Tied", "enter.weight": "Linear"}


def test_padding_counts_for_nothing() -> None:
    task = FlatTask(made(lambda: Mlp(hidden=(4,)).build(IMAGE)), IMAGE)
    x, y = images(6)
    mask = torch.tensor([1.0, 1, 1, 1, 0, 0])
    short = task.loss(task.init, Batch(x[:4], y[:4], torch.ones(4), torch.ones(4, 1)))
    padded = task.loss(task.init, Batch(x, y, mask, torch.ones(6, 1)))
    assert torch.allclose(short, padded, rtol=1e-6)
    nobody = task.loss(task.init, Batch(x, y, torch.zeros(6), torch.ones(6, 1)))
    assert nobody == 0


def test_two_modalities_and_the_presence_of_each() -> None:
    spec = DataSpec((Modality("a", (4,)), Modality("b", (2,))), 3)
    module = made(Two)
    plain = deepcopy(module)
    task = FlatTask(module, spec)
    x, present = (torch.ones(2, 4), torch.ones(2, 2)), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(task.logits(task.init, x, present), plain(x, present))


def test_embed_is_the_input_of_the_last_linear_layer() -> None:
    module = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10)))
    plain = deepcopy(module)
    task = FlatTask(module, IMAGE)
    x, _ = images()
    assert torch.equal(task.embed(task.init, x), plain[:3](x))
    assert torch.equal(task.logits(task.init, x), plain(x))  # and leaves nothing behind


def test_embed_of_the_models_own_comes_first() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)

        def embed(self, x: Tensor) -> Tensor:
            return torch.relu(self.a(x))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.embed(x))

    module = made(Own)
    plain = deepcopy(module)
    task = FlatTask(module, VECTOR)
    x, _ = vectors()
    assert torch.equal(task.embed(task.init, x), plain.embed(x))


def test_a_model_without_embed_says_so() -> None:
    module = made(lambda: nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()))
    task = FlatTask(module, IMAGE)
    with pytest.raises(TypeError, match=r"neither embed\(x\) nor a linear layer"):
        task.embed(task.init, images()[0])


def test_a_clone_shares_nothing() -> None:
    task = FlatTask(made(lambda: Mlp(hidden=(4,)).build(IMAGE)), IMAGE)
    x, _ = images()
    before = task.logits(task.init, x)
    other = task.clone()
    other.logits(other.init + 1, x)
    assert torch.equal(task.logits(task.init, x), before)
    assert other.module is not task.module


def test_vectors_are_aligned_copies() -> None:
    source = torch.arange(100.0)
    view = source[3:70]
    copy = aligned(view)
    assert copy.data_ptr() % 64 == 0
    assert copy.data_ptr() != view.data_ptr()
    assert aligned(source.double()).dtype == torch.float32


# ---- BatchNorm ----


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def test_running_statistics_are_a_second_vector() -> None:
    module = made(normed)
    task = FlatTask(module, VECTOR)
    assert task.buffers.tolist() == [0.0] * 4 + [1.0] * 4  # mean and variance; the integer counter is no statistic
    assert task.size == 5 * 4 + 4 + 4 + 4 + 4 * 3 + 3


def test_training_moves_the_running_vector_like_the_plain_module() -> None:
    module = made(normed)
    plain = deepcopy(module).train()
    task = FlatTask(module, VECTOR)
    task.training(True)
    task.running = task.buffers.clone()
    for i in range(3):
        x, y = vectors(8)
        task.loss(task.init, Batch(x + i, y, torch.ones(8), torch.ones(8, 1)))
        plain(x + i)
    bn: Any = plain[1]
    assert torch.allclose(task.running, torch.cat([bn.running_mean, bn.running_var]), rtol=1e-6)
    assert task.buffers.tolist() == [0.0] * 4 + [1.0] * 4  # the engine's own are moved by nobody else


def test_evaluation_reads_the_statistics_and_does_not_move_them() -> None:
    module = made(normed)
    plain = deepcopy(module)
    bn: Any = plain[1]
    bn.running_mean.fill_(0.5)
    bn.running_var.fill_(2.0)
    plain.eval()
    task = FlatTask(module, VECTOR)
    task.buffers = torch.tensor([0.5] * 4 + [2.0] * 4)
    task.training(False)
    task.running = task.buffers
    x, _ = vectors()
    assert torch.allclose(task.logits(task.init, x), plain(x), rtol=1e-6, atol=1e-7)
    assert task.buffers.tolist() == [0.5] * 4 + [2.0] * 4


def test_digits_feed_the_built_in_models() -> None:
    source = Digits().open(None)  # type: ignore[arg-type]
    for model in (Logistic(), Mlp(), Cnn()):
        task = FlatTask(made(lambda m=model: m.build(source.spec)), source.spec)
        assert task.logits(task.init, source.train.x[0][:3].float()).shape == (3, 10)
        assert not task.random
        assert task.buffers.numel() == 0
