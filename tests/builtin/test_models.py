"""Built-in models: shapes, parameter counts, names, stacking."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from aflctl.api import DataSpec, Fusion, Modality, Model
from aflctl.builtin.fusions.late_sum import LateSum
from aflctl.builtin.models.afl_cnn import AflCnn
from aflctl.builtin.models.char_lstm import CharLstm
from aflctl.builtin.models.cnn import Cnn
from aflctl.builtin.models.fedavg_cnn import FedavgCnn
from aflctl.builtin.models.forootani_cnn import ForootaniCnn
from aflctl.builtin.models.lenet5 import Lenet5
from aflctl.builtin.models.logistic import Logistic
from aflctl.builtin.models.mlp import Mlp
from aflctl.builtin.models.resnet18 import Resnet18
from aflctl.builtin.models.resnet_small import ResnetSmall
from aflctl.builtin.models.sensor_cnn import SensorCnn
from aflctl.builtin.models.textcnn import Textcnn
from aflctl.builtin.models.transformer import Transformer
from aflctl.builtin.models.two_stream_resnet18 import TwoStreamResnet18
from aflctl.errors import UserError
from aflctl.train.task import FlatTask


def image(channels: int, side: int, classes: int = 10) -> DataSpec:
    return DataSpec((Modality("image", (channels, side, side), "image"),), classes)


def text(length: int, vocabulary: int, classes: int) -> DataSpec:
    return DataSpec((Modality("text", (length,), "sequence", vocabulary=vocabulary),), classes)


def sensor(channels: int, length: int, classes: int) -> DataSpec:
    return DataSpec((Modality("motion", (channels, length), "sensor"),), classes)


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
        (FedavgCnn(), image(1, 28), 1_663_370),  # the same
        (FedavgCnn(form="cifar"), image(3, 24), 1_068_298),  # the paper: about 10^6; by hand in the next test
        (AflCnn(), image(3, 32), 307_842),  # DATASETS.md 3.4
        (AflCnn(), image(3, 32, 100), 313_692),
        (ForootaniCnn(), image(1, 28), 19_146),  # ALGORITHMS.md
        (Lenet5(), image(1, 28), 61_706),
        # MOON's head between 84 features and the logits: 84*84 + 84, 84*256 + 256, and 256*10 for 84*10
        (Lenet5(projection=256), image(1, 28), 61_706 + 7_140 + 21_760 + 1_720),
        (ResnetSmall(), image(3, 32), 272_474),  # ResNet-20 with 1 x 1 shortcuts (option B)
        (Resnet18(), image(3, 32, 100), 11_220_132),
        (Resnet18(norm="batch", stem="imagenet"), image(3, 224, 1000), 11_689_512),  # torchvision's own
        (Textcnn(), text(200, 32_000, 4), 6_375_904),  # DATASETS.md 3.8
        (CharLstm(), text(80, 80, 80), 819_920),  # 3.9
        (Mlp(hidden=(300,)), sensor(9, 100, 5), 271_805),  # 3.11
        (Mlp(hidden=(300,)), sensor(9, 100, 3), 271_203),  # 3.10
    ],
    ids=repr,
)
def test_parameter_counts_match_the_literature(model: Model, spec: DataSpec, expected: int) -> None:
    assert size(model, spec) == expected


def test_the_second_fedavg_cnn_by_hand() -> None:
    # 24 x 24, pooled twice to 6 x 6: 5*5*3*64 + 64, 5*5*64*64 + 64, 2304*384 + 384, 384*192 + 192, 192*10 + 10
    assert size(FedavgCnn(form="cifar"), image(3, 24)) == 4_864 + 102_464 + 885_120 + 73_920 + 1_930


@pytest.mark.parametrize(
    ("model", "spec", "kind"),
    [
        (Cnn(norm="batch"), image(1, 28), torch.nn.BatchNorm2d),
        (SensorCnn(norm="batch"), sensor(9, 100, 5), torch.nn.BatchNorm1d),
        (ResnetSmall(norm="batch"), image(3, 32), torch.nn.BatchNorm2d),
        (Resnet18(norm="batch"), image(3, 32), torch.nn.BatchNorm2d),
    ],
    ids=repr,
)
def test_batch_norm_takes_the_place_of_group_norm(model: Model, spec: DataSpec, kind: type[torch.nn.Module]) -> None:
    module = model.build(spec)
    assert any(isinstance(part, kind) for part in module.modules())
    assert not any(isinstance(part, torch.nn.GroupNorm) for part in module.modules())
    assert size(model, spec) == size(model.model_copy(update={"norm": "group"}), spec)


def clips(side: int) -> DataSpec:
    return DataSpec((Modality("audio", (1, 257, 299), "audio"), Modality("video", (9, side, side), "image")), 6)


@pytest.mark.parametrize(("fusion", "expected"), [(None, 22_352_902), (LateSum(), 22_352_908)])  # DATASETS.md 3.12
def test_two_streams_have_afl_lib_s_parameters(fusion: Fusion | None, expected: int) -> None:
    module = TwoStreamResnet18(norm="batch").build(clips(224), fusion)
    assert sum(p.numel() for p in module.parameters()) == expected


def test_two_streams_average_frames_and_leave_out_what_is_absent() -> None:
    module = TwoStreamResnet18().build(clips(32)).eval()
    sound, video = torch.rand(2, 1, 257, 299), torch.rand(2, 9, 32, 32)
    turned = video.view(2, 3, 3, 32, 32).flip(1).reshape(2, 9, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(module((sound, video)), module((sound, turned)), atol=1e-4, rtol=1e-4)
        deaf = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        assert torch.equal(module((sound, video), deaf), module((torch.zeros_like(sound), video), deaf))


def test_two_streams_refuse_one_input_and_other_kinds() -> None:
    with pytest.raises(UserError, match="reads several inputs"):
        TwoStreamResnet18().build(image(3, 32))
    with pytest.raises(UserError, match="cannot read vector input"):
        TwoStreamResnet18().build(DataSpec((Modality("a", (3,)), Modality("b", (4,))), 2))


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


@pytest.mark.parametrize("model", [Mlp(projection=6), Cnn(projection=6), Lenet5(projection=6)], ids=repr)
def test_a_projection_head_gives_the_features(model: Model) -> None:
    task = FlatTask(model.build(image(1, 12)), image(1, 12))
    features = task.embed(task.init, torch.rand(40, 1, 12, 12))
    assert features.shape == (40, 6)
    assert features.min() < 0  # the head ends without a ReLU, so that cosines may be negative


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


SEQUENCE_MODELS = [Textcnn(width=6, filters=4), CharLstm(hidden=7), Transformer(width=8, heads=2)]
LARGER = [
    FedavgCnn(hidden=8), FedavgCnn(form="cifar"), Cnn(norm="batch"), AflCnn(), Lenet5(), ForootaniCnn(), ResnetSmall(),
    ResnetSmall(norm="batch"),
]  # fmt: skip


@pytest.mark.parametrize("spec", [text(12, 30, 4), text(80, 80, 80)])
@pytest.mark.parametrize("model", SEQUENCE_MODELS, ids=repr)
def test_sequence_models_give_one_logit_per_class_at_any_length(model: Model, spec: DataSpec) -> None:
    m = spec.modalities[0]
    assert model.build(spec)(torch.randint(m.vocabulary, (3, *m.shape))).shape == (3, spec.classes)


@pytest.mark.parametrize("spec", [sensor(9, 128, 6), sensor(9, 100, 5), sensor(3, 7, 2)])
@pytest.mark.parametrize("model", [SensorCnn(), SensorCnn(norm="none", channels=(8,)), Mlp(), Logistic()], ids=repr)
def test_sensor_models(model: Model, spec: DataSpec) -> None:
    assert model.build(spec)(torch.rand(2, *spec.modalities[0].shape)).shape == (2, spec.classes)


@pytest.mark.parametrize("spec", [image(1, 28), image(3, 32, 100), image(3, 64, 200)])
@pytest.mark.parametrize("model", LARGER, ids=repr)
def test_larger_image_models(model: Model, spec: DataSpec) -> None:
    assert model.build(spec)(torch.rand(2, *spec.modalities[0].shape)).shape == (2, spec.classes)


def test_resnet18_stems_and_norms() -> None:
    small = Resnet18().build(image(1, 28))
    assert small(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in small.modules())
    large = Resnet18(stem="imagenet", norm="batch").build(image(1, 96))
    assert large(torch.rand(2, 1, 96, 96)).shape == (2, 10)


def test_too_small_images_are_refused_with_the_size() -> None:
    with pytest.raises(UserError, match=r"sides of at least 16, modality 'image' is \(1, 8, 8\)"):
        AflCnn().build(image(1, 8))


@pytest.mark.parametrize(
    ("model", "stacks", "family"),
    [
        (Cnn(), True, "dense"),
        (Resnet18(), True, "dense"),
        (Resnet18(norm="batch"), False, "dense"),
        (Cnn(norm="batch"), False, "dense"),
        (SensorCnn(norm="batch"), False, "dense"),
        (SensorCnn(), True, "dense"),
        (ResnetSmall(norm="batch"), False, "dense"),
        (Textcnn(), True, "dense"),
        (Textcnn(dropout=0.8), False, "dense"),
        (CharLstm(), False, "rnn"),
        (Transformer(), True, "attention"),
    ],
    ids=repr,
)
def test_each_model_says_whether_it_stacks_and_its_family(model: Model, stacks: bool, family: str) -> None:
    assert (model.stacks, model.family) == (stacks, family)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (ResnetSmall(blocks=(1, 1), width=4), image(3, 16)),
        (Lenet5(), image(1, 28)),
        (Textcnn(width=6, filters=4), text(9, 20, 3)),
        (Transformer(width=8, heads=2), text(9, 20, 3)),
        (SensorCnn(channels=(8,)), sensor(3, 20, 4)),
    ],
    ids=repr,
)
def test_stacked_logits_equal_single_ones(model: Model, spec: DataSpec) -> None:
    first = model.build(spec)
    modules = [first, copy.deepcopy(first)]
    with torch.no_grad():
        for parameter in modules[1].parameters():
            parameter.mul_(1.1)
    params, buffers = stack_module_state(modules)
    m = spec.modalities[0]
    shape = (2, 3, *m.shape)
    x = torch.randint(m.vocabulary, shape) if m.kind == "sequence" else torch.rand(shape)
    stacked = vmap(lambda p, b, x: functional_call(modules[0], (p, b), (x,)))(params, buffers, x)
    for i, module in enumerate(modules):
        torch.testing.assert_close(stacked[i], module(x[i]), atol=1e-5, rtol=1e-4)


def test_stated_flops_agree_with_the_counter_where_it_sees_everything() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    # on a CPU the counter misses the attention of both blocks: 4 L^2 d each
    for model, missed in ((Textcnn(width=6, filters=4), 0), (Transformer(width=8, heads=2), 2 * 4 * 81 * 8)):
        spec = text(9, 20, 3)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.build(spec)(torch.zeros(1, 9, dtype=torch.int64))
        assert model.flops(spec) == counter.get_total_flops() + missed


def test_char_lstm_flops_by_hand() -> None:
    # a position: four gates of 2 units from 1 + 2 inputs, 2 FLOPs each: 2 * 4 * 2 * 3 = 48; head 2 * 2 * 5
    assert CharLstm(width=1, hidden=2, layers=1).flops(text(10, 5, 5)) == 10 * 48 + 20
