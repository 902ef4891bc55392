"""What holds for every built-in method: client hooks stack, state is plain data, sent tensors stay as they were."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from double import Lab, Quadratic, train, vec

from aflctl.api import Algorithm, Batch, Job, Local
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.moon import Moon
from aflctl.builtin.algorithms.rfedavg import RFedAvg
from aflctl.builtin.algorithms.scaffold import Scaffold
from aflctl.rules import ClientTable

OURS = sorted(
    (e for e in entry_points(group="aflctl.algorithms") if e.value.startswith("aflctl.builtin.")), key=lambda e: e.name
)
OPTIONS: dict[str, dict[str, Any]] = {
    "quafl": {"polled": 3},
    "fedprox": {"mu": 0.3},
    "fedasync": {"rho": 0.3},
    "fedat": {"mu": 0.3},
}
METHODS = [pytest.param(e.load()(**OPTIONS.get(e.name, {})), id=e.name) for e in OURS]
EXTRA = [
    pytest.param(Scaffold(option=1), id="scaffold-1"),
    pytest.param(RFedAvg(plus=True, strength=0.1), id="rfedavg+"),
    pytest.param(Moon(pool=2), id="moon-2"),
    pytest.param(Forootani(no_broadcast=True), id="forootani-alone"),
]
TARGETS = [vec(1.0, 0.3), vec(-3.0, 0.1), vec(0.7, 5.0)]


def lab(algorithm: Algorithm[Any]) -> Lab:
    one = getattr(algorithm, "pools", False)
    return Lab(
        algorithm, TARGETS[:1] if one else TARGETS, lambda c, n: 1.0 + 0.7 * c, samples=(1,) if one else (3, 1, 2),
        local=Local(lr=0.1, epochs=2), init=vec(0.2, -0.9),
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", METHODS + EXTRA)
def test_client_hooks_run_alone_or_stacked(algorithm: Algorithm[Any]) -> None:
    """torch.func.vmap over two jobs gives what one at a time gives, in the first task and in later ones."""
    run, task = lab(algorithm), Quadratic()
    for _ in range(3):
        order = run.sent[-1][1]
        generator = torch.Generator().manual_seed(len(run.sent))

        def noisy(t: torch.Tensor, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.stack([t, t + 0.1 * torch.rand(t.shape, generator=generator)])

        sent = {k: noisy(v) for k, v in order.tensors.items()}
        memory = {k: noisy(v) for k, v in run.memory[0].items()}
        x = noisy(
            torch.stack([torch.stack([b, b + 1]) for b in TARGETS])
        )  # two jobs of three steps with batches of two
        lr, n = torch.tensor([0.1, 0.2]), torch.tensor([4.0, 6.0])

        def one(
            sent: dict[str, torch.Tensor],
            memory: dict[str, torch.Tensor],
            x: torch.Tensor,
            lr: torch.Tensor,
            n: torch.Tensor,
        ) -> Any:
            data = [Batch(rows, torch.zeros(2, dtype=torch.long), torch.ones(2), torch.ones(2, 1)) for rows in x]
            zero = torch.zeros(())
            return train(algorithm, task, data, Job(sent, memory, lr, zero, zero, torch.tensor(3.0), n))

        stacked = torch.func.vmap(one)(sent, memory, x, lr, n)
        for j in (0, 1):
            alone = one({k: v[j] for k, v in sent.items()}, {k: v[j] for k, v in memory.items()}, x[j], lr[j], n[j])
            for together, single in zip(stacked, alone):
                assert set(together) == set(single)
                for name, value in single.items():
                    torch.testing.assert_close(together[name][j], value, rtol=1e-5, atol=1e-5)
            assert set(alone[0]) == set(algorithm.uploads)
        run.run(3)


@pytest.mark.parametrize("algorithm", METHODS + EXTRA)
def test_names_that_a_wrapper_added_are_passed_on(algorithm: Algorithm[Any]) -> None:
    run = lab(algorithm)
    order, zero = run.sent[0][1], torch.zeros(())
    memory = {**run.memory[0], "wrapper/x": vec(1.0, 2.0)}
    ones = Batch(torch.ones(1, 2), torch.zeros(1, dtype=torch.long), torch.ones(1), torch.ones(1, 1))
    job = Job(dict(order.tensors), memory, torch.tensor(0.1), zero, zero, torch.tensor(1.0), torch.tensor(1.0))
    _, kept = train(algorithm, Quadratic(), [ones], job)
    assert kept["wrapper/x"].tolist() == [1.0, 2.0]


D, Q = 2, 2
"""Parameters of the lab's model, and features that its task's `embed` gives."""
TRAFFIC: dict[str, tuple[float, float]] = {
    "scaffold": (2, 2),
    "fedac": (2, 2),
    "local-only": (0, 0),
    "quafl": (4 / (4 * D), 4 / (4 * D)),  # 14 bits an entry, in whole bytes
}
"""Down and up of a first task in units of the model, where it is not one each (ALGORITHMS.md, section 0.5)."""


@pytest.mark.parametrize("algorithm", METHODS)
def test_what_travels(algorithm: Algorithm[Any]) -> None:
    """Neither a control variate nor a mask is forgotten by the clock."""
    run, name = lab(algorithm), next(e.name for e in OURS if e.load() is type(algorithm))

    def traffic(order: Any) -> tuple[float, float]:
        ones = Batch(torch.ones(1, D), torch.zeros(1, dtype=torch.long), torch.ones(1), torch.ones(1, 1))
        one, zero = torch.tensor(1.0), torch.zeros(())
        job = Job(dict(order.tensors), run.memory[0], one, zero, zero, one, one)
        up, _ = train(algorithm, Quadratic(), [ones], job)
        sizes = [sum(t.numel() for t in tensors.values()) / D for tensors in (order.tensors, up)]
        given = [None if b is None else b / (4 * D) for b in (order.down_bytes, order.up_bytes)]
        return tuple(size if g is None else g for size, g in zip(sizes, given))  # type: ignore[return-value]

    first = traffic(run.sent[0][1])
    if name != "rfedavg":
        assert first == TRAFFIC.get(name, (1, 1))
        return
    # maps under the client's own last model: nothing down, q up; then x and the maps of the two others down
    assert first == (0, Q / D)
    run.run(3)
    assert traffic(run.sent[3][1]) == (1 + 2 * Q / D, 1)
    plus = lab(RFedAvg(plus=True)).run(3)
    assert [sum(t.numel() for t in plus.sent[0][1].tensors.values()), plus.sent[3][1].down_bytes] == [D, 4 * (D + Q)]


def plain(value: Any, where: str) -> None:
    if isinstance(value, ClientTable):
        plain([value.default, *value.rows.values()], where)
    elif is_dataclass(value):
        for f in fields(value):
            plain(getattr(value, f.name), f"{where}.{f.name}")
    elif isinstance(value, dict):
        for k, v in value.items():
            assert isinstance(k, (int, str)), where
            plain(v, where)
    elif isinstance(value, (tuple, list, frozenset)):
        for v in value:
            plain(v, where)
    else:
        assert value is None or type(value) in (bool, int, float, str) or isinstance(value, torch.Tensor), (
            where,
            value,
        )


@pytest.mark.parametrize("algorithm", METHODS + EXTRA)
def test_state_is_plain_and_sent_tensors_stay(algorithm: Algorithm[Any]) -> None:
    run = lab(algorithm)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(30):
        for _, order in run.sent[-3:]:
            given += [(t, t.clone()) for t in order.tensors.values()]
        given.append((run.x, run.x.clone()))
        run.run(1)
        plain(run.state, type(run.state).__name__)
    assert all(torch.equal(now, then) for now, then in given)
    assert torch.equal(run.setup.init, vec(0.2, -0.9))
    assert len(run.models) > 1
    assert all(bool(torch.isfinite(m).all()) for m in run.models)


@pytest.mark.parametrize("entry", OURS, ids=lambda e: e.name)
def test_the_class_says_what_it_is(entry: EntryPoint) -> None:
    cls = entry.load()
    assert cls.evidence
    assert "Deviations" in cls.__doc__ or entry.name in NOTHING_DIFFERS
    assert all(f.description for f in cls.model_fields.values())
    assert len(code_lines(Path(sys.modules[cls.__module__].__file__ or ""))) < 80


NOTHING_DIFFERS = {"local-only", "fedvarp", "mifa", "rennala", "scaffold"}


def code_lines(path: Path) -> set[int]:
    """Lines that hold code: no blank ones, comments or docstrings."""
    text, docs, code = path.read_text(), set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            docs |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            code |= set(range(token.start[0], token.end[0] + 1))
    return code - docs


def test_importing_all_methods_loads_neither_torch_nor_numpy() -> None:
    modules = [
        e.value.split(":")[0] for group in ("algorithms", "selections") for e in entry_points(group=f"aflctl.{group}")
    ]
    ours = [m for m in modules if m.startswith("aflctl.builtin.")]
    code = f"import sys, importlib\nfor m in {ours}: importlib.import_module(m)\n"
    code += "print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
