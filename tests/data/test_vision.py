"""torchvision from the index beside a CPU-only torch."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_datasets_and_models_can_be_imported_in_a_fresh_process() -> None:
    done = run(
        "from aflctl.data import torchvision\n"
        "assert torchvision('datasets').MNIST\n"
        "assert torchvision('models').resnet18(weights=None)\n"
        "assert torchvision() is torchvision()\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_pair_from_the_index_needs_the_shim_and_has_it() -> None:
    plain = run("import torchvision")
    with_shim = run("from aflctl.data import torchvision as get; get(); import torchvision.ops, torchvision.transforms")
    assert with_shim.returncode == 0, with_shim.stderr
    if plain.returncode:  # a torchvision that belongs to this very torch needs none
        assert "operator torchvision::nms does not exist" in plain.stderr


def test_schemas_that_exist_already_are_left_alone() -> None:
    # torchvision's own operators are kept out: where they can be loaded, a second definition of one ends the process
    done = run(
        "import torch\n"
        "own = torch.library.Library('torchvision', 'DEF')\n"
        "own.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "def refused(path): raise OSError(path)\n"
        "torch.ops.load_library = refused\n"
        "from aflctl.data import vision\n"
        "vision._declare_missing()\n"
        "assert len(vision._declared) == 1\n"
        "assert torch.ops.torchvision.qnms\n"
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_neither_torch_nor_torchvision() -> None:
    done = run("import sys, aflctl.data; sys.exit(bool({'torch', 'torchvision', 'numpy'} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
