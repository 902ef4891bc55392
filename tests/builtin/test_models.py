"""Built-in models: shapes, parameter counts, names, stacking."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from aflctl.api import DataSpec, Modality, Model
from aflctl.builtin.models.cnn import Cnn
from aflctl.builtin.models.logistic import Logistic
from aflctl.builtin.models.mlp import Mlp
from aflctl.errors import UserError


def image(channels: int, side: int, classes: int = 10) -> DataSpec:
    return DataSpec((Modality("image", (channels, side, side), "image"),), classes)


def size(model: Model, spec: DataSpec) -> int:
    return sum(p.numel() for p in model.build(spec).parameters())


IMAGE_MODELS = [Logistic(), Mlp(), Mlp(hidden=(20, 30)), Cnn(), Cnn(norm="none", channels=(4,))]


@pytest.mark.parametrize("spec", [image(1, 8), image(1, 28, 47), image(3, 32, 100)])
@pytest.mark.parametrize("model", IMAGE_MODELS, ids=repr)
def test_image_models_give_one_logit_per_class(model: Model, spec: DataSpec) -> None:
    module = model.build(spec)
    x = torch.rand(3, *spec.modalities[0].shape)
    out = module(x)
    assert out.shape == (3, spec.classes)
    assert out.min() < 0  # no ReLU on the logits


@pytest.mark.parametrize(
    ("model", "spec", "expected"),
    [
        (Logistic(), image(1, 28), 7_850),
        (Mlp(hidden=(512, 256)), image(1, 28), 535_818),  # DATASETS.md 4
        (Mlp(hidden=(512, 256)), image(1, 28, 47), 545_327),
        (Mlp(hidden=(200, 200)), image(1, 28), 199_210),  # McMahan et al. 2017, 2NN
    ],
    ids=repr,
)
def test_parameter_counts_match_the_literature(model: Model, spec: DataSpec, expected: int) -> None:
    assert size(model, spec) == expected


@pytest.mark.parametrize("model", IMAGE_MODELS, ids=repr)
def test_models_that_say_they_stack_do(model: Model) -> None:
    assert model.stacks
    spec = image(1, 8)
    modules = [model.build(spec) for _ in range(2)]
    params, buffers = stack_module_state(modules)
    x, y = torch.rand(2, 5, 1, 8, 8), torch.randint(10, (2, 5))

    def loss(p: dict, b: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(functional_call(modules[0], (p, b), (x,)), y)

    stacked = vmap(grad(loss))(params, buffers, x, y)
    for i, module in enumerate(modules):
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x[i]), y[i]).backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(stacked[name][i], parameter.grad, atol=1e-5, rtol=1e-4)


def test_names_are_readable() -> None:
    assert [name for name, _ in Mlp(hidden=(3,)).build(image(1, 8)).named_parameters()] == [
        "fc1.weight", "fc1.bias", "head.weight", "head.bias",
    ]  # fmt: skip


def test_a_model_refuses_input_it_cannot_read_and_names_others() -> None:
    spec = DataSpec((Modality("text", (80,), "sequence", vocabulary=80),), 80)
    with pytest.raises(UserError, match="mlp cannot read sequence input") as caught:
        Mlp().build(spec)
    assert "lstm" in (caught.value.hint or "")


def test_a_model_for_one_input_refuses_two() -> None:
    both = (Modality("a", (3,)), Modality("b", (4,)))
    with pytest.raises(UserError, match=r"the dataset has 2 \(a, b\)"):
        Logistic().build(DataSpec(both, 2))


def test_importing_the_plugin_classes_loads_no_torch_and_no_numpy() -> None:
    code = (
        "import sys, pkgutil, importlib\n"
        "for area in ('models', 'partitions', 'datasets'):\n"
        "    package = importlib.import_module('aflctl.builtin.' + area)\n"
        "    for module in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(package.__name__ + '.' + module.name)\n"
        "bad = {'torch', 'torchvision', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {bad}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
