"""Plug-ins that raise or answer nonsense, in each hook: one error that names class, hook and what was wrong, exit code
1 (3 where it cannot even be made), an exit record, no lock left behind.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from aflctl.api import CLIENT_HOOKS, SERVER_HOOKS
from aflctl.builtin.datasets.digits import Digits
from aflctl.builtin.models.mlp import Mlp
from aflctl.builtin.partitions.iid import Iid
from aflctl.builtin.personalizations.ditto import Ditto
from aflctl.builtin.selections.round_robin import RoundRobin
from aflctl.engine import run
from aflctl.errors import AflctlError, HookFailed, PluginBroken, Stalled
from reliability.lab import config

SIGNATURES = {
    "init": "setup, fleet", "params": "state", "select": "state, fleet", "assign": "state, client, fleet",
    "launched": "state, clients, fleet", "receive": "state, update, fleet", "recall": "state, fleet",
    "lost": "state, lost, fleet", "alarm": "state, fleet", "tick": "state, fleet",
    "personal": "state, client, memory", "memory": "setup", "start": "task, data, job",
    "loss": "task, w, batch, job", "grad": "g, w, job", "direction": "task, w, batch, job",
    "project": "w, w_before, job", "finish": "w, job",
}  # fmt: skip

TEXT = """
from dataclasses import replace
import sys, torch
from aflctl.api import Assignment, Step
from aflctl.builtin.algorithms.fedbuff import FedBuff

class Bad(FedBuff):
    "Bad."
    def alarm(self, state, fleet):
        return fleet.now + 0.5
"""

RELIABLE = {"devices": {"raspberry-pi-4": 1}, "networks": {"wifi": 1}}

# hook -> bodies, each with words that the message must have besides the class and the hook
ANSWERS: dict[str, list[tuple[str, str]]] = {
    "init": [("return None", "'NoneType'"), ("s = super().init(setup, fleet); return replace(s, w=s.w.double())",
             "start for client 1 returned a tensor of shape [436] and float64, not a vector of float32 numbers")],
    "params": [
        ("return super().params(state)[:-1]", "shape [435] and float32, not a vector of 436 float32 numbers"),
        ("return super().params(state)[None]", "shape [1, 436]"),
        ("return super().params(state).tolist()", "returned list as 'w' in the assignment"),
        ("return super().params(state) * float('nan')", "not finite"),
    ],
    "select": [
        ("return None", "returned NoneType, not a list of clients"),
        ("return 'abc'", "returned str, not a list"),
        ("return [99]", "client 99, which is not idle"),
        ("return [0, 0]", "named a client twice"),
        ("return [0.5]", "named 0.5, which is not the number of a client"),
        ("return [True]", "client True, which is not idle"),
        ("return range(8)", "started 8 clients with 4 places free"),
        ("return (c for c in [0])", "returned generator"),
    ],
    "assign": [
        ("return None", "returned NoneType, not an Assignment"),
        ("return Assignment({'w': None})", "returned None as 'w' in the assignment's tensors"),
        ("return Assignment({1: self.params(state)})", "the name 1"),
        ("return Assignment([1])", "returned list as the assignment's tensors"),
        ("return Assignment({'w': self.params(state).to_sparse()})", "not a dense one"),
        ("return Assignment({'w': self.params(state).double()})", "start for client"),
        ("return Assignment({'w': self.params(state)}, epochs=0)", "`epochs` is 0"),
        ("return Assignment({'w': self.params(state)}, steps=2.5)", "`steps` is 2.5"),
        ("return Assignment({'w': self.params(state)}, patience=-1)", "`patience` is -1"),
        ("return Assignment({'w': self.params(state)}, lr_scale=[])", "`lr_scale` is []"),
        ("return Assignment({'w': self.params(state)}, lr_scale=float('nan'))", "`lr_scale` is nan"),
        ("return Assignment({'w': self.params(state)}, work=-1)", "`work` is -1"),
        ("return Assignment({'w': self.params(state)}, work=1e30)", "longer than the clock"),
        ("return Assignment({'w': self.params(state)}, up_bytes=-5)", "`up_bytes` is -5"),
        ("return Assignment({'w': self.params(state)}, version='a')", "`version` is 'a'"),
        ("return Assignment({'w': self.params(state)}, version={'b': 0})", "'' is missing"),
        ("return Assignment({'w': self.params(state)}, tracks='ab')", "`tracks` is 'ab'"),
        ("return Assignment({})", "KeyError: 'w'"),
    ],
    "launched": [("pass", "returned None, not the state")],
    "receive": [
        ("return state", "not a Step"),
        ("return Step(None)", "a Step without a state"),
        ("return Step(state, used=None)", "`used` is None"),
        ("return Step(state, weight=float('nan'))", "`weight` is nan"),
        ("return Step(state, weight='a')", "`weight` is 'a'"),
        ("return Step(state, advanced=('a', 1))", "`advanced` is ('a', 1)"),
        ("return Step(state, tracks=('zz',))", "`tracks` names 'zz'"),
    ],
    "recall": [
        ("return None", "returned NoneType, not a mapping"),
        ("return {99: 'cancel'}", "client 99, which is not flying"),
        ("return dict.fromkeys(fleet.flying, 'now')", "'now' is neither"),
    ],
    "lost": [("return None", "not a Step")],
    "alarm": [
        ("return fleet.now", "not after now"),
        ("return 'soon'", "'soon', which is not a number"),
        ("return float('inf')", "inf, which is not"),
        ("return 1e12", "never reaches"),
    ],
    "tick": [("return None", "not a Step")],
    "personal": [
        ("return None", "returned None, not a vector of 436"),
        ("return state.w[:3]", "shape [3]"),
        ("return state.w * float('inf')", "is not finite"),
    ],
    "memory": [("return [1]", "returned list"), ("return {'a': 1}", "returned int as 'a'")],
    "start": [
        ("return job.sent['w']", "not a pair of the vector to train and memory"),
        ("return job.sent['w'].double(), {}", "float64"),
        ("return job.sent['w'], None", "returned None as its memory"),
        ("return torch.zeros(2, 3), {}", "shape [2, 3]"),
    ],
    "loss": [("return w", "not a scalar"), ("return 1.0", "returned float, not a scalar")],
    "grad": [("return g[:-1]", "shape [435]"), ("return None", "returned None"), ("return g.double()", "float64")],
    "direction": [("return w", "not a gradient, a memory and a loss"),
                  ("return w, None, w.sum()", "None as its memory")],
    "project": [("return w[None]", "shape [1, 436]"), ("return 'w'", "returned str")],
    "finish": [
        ("return {'w': w}, {}", "returned ['w'], but `uploads` declares ['delta']"),
        ("return {'delta': w}", "not a pair of uploads and memory"),
        ("return {'delta': w[:-1]}, {}", "returned 'delta' of shape [435]"),
        ("return {'delta': w.sum()}, {}", "returned 'delta' of shape []"),
        ("return {'delta': w * float('nan')}, {}", "is not finite"),
        ("return {'delta': w}, {'a': 'b'}", "returned str as 'a' in its memory"),
    ],
}  # fmt: skip
CASES = [
    pytest.param(hook, body, words, id=f"{hook}-{n}", marks=() if n < 2 else pytest.mark.slow)
    for hook, bodies in ANSWERS.items()
    for n, (body, words) in enumerate(bodies)
]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    import aflctl.report

    monkeypatch.setattr(aflctl.report, "write_all", lambda folder, summary: None)


def play(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> AflctlError:
    """The error of a run with the method `Bad` of this source text."""
    (folder / "bad.py").write_text(text)
    monkeypatch.chdir(folder)
    settings = config(**{"algorithm": {"name": "./bad.py:Bad", "buffer_size": 3}, "stop": {"updates": 8}, **sections})
    with pytest.raises(AflctlError) as told:
        run(settings)
    assert "Traceback" not in str(told.value)
    assert not list(folder.glob("runs/*/lock"))
    assert told.value.exit_code == 1
    (record,) = folder.glob("runs/*-*/exit.json")
    assert json.loads(record.read_text())["exit_code"] == 1
    return told.value


def method(hook: str, body: str) -> str:
    return f"{TEXT}\n    def {hook}(self, {SIGNATURES[hook]}):\n        {body}\n"


def test_all_hooks_are_tried() -> None:
    assert set(ANSWERS) == set(SIGNATURES) == {*SERVER_HOOKS, *CLIENT_HOOKS}


@pytest.mark.parametrize(("hook", "body", "words"), CASES)
def test_an_answer_that_means_nothing(
    hook: str, body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = play(tmp_path, method(hook, body), monkeypatch)
    assert words in error.message, error.message
    if words != "longer than the clock" and "finite" not in words:
        assert isinstance(error, HookFailed)
        assert "Bad" in error.message


@pytest.mark.parametrize("executor", ["serial", pytest.param("stacked", marks=pytest.mark.slow)])
@pytest.mark.parametrize("hook", SIGNATURES)
def test_a_hook_that_raises(hook: str, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even what no `except Exception` catches."""
    raised = "sys.exit(7)" if executor == "serial" else "raise BaseException('boom')"
    error = play(tmp_path, method(hook, raised), monkeypatch, engine={"executor": executor})
    assert isinstance(error, HookFailed)
    assert ("SystemExit: 7" if executor == "serial" else "BaseException: boom") in error.message
    assert "Bad" in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys\nsys.exit(4)\n", "SystemExit: 4"),
        ("raise BaseException('no')\n", "BaseException: no"),
        ("def (:\n", "SyntaxError"),
        ("from aflctl.api import Algorithm\nclass Bad(Algorithm):\n    def __init__(self, **kw):\n        raise "
         "SystemExit(3)\n", "SystemExit: 3"),
        ("class Bad:\n    pass\n", "no subclass of aflctl.api.Algorithm"),
        ("Bad = 3\n", "no class but a int"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_load(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginBroken) as told:
        run(config(algorithm="./bad.py:Bad"))
    assert words in str(told.value)
    assert told.value.exit_code == 3
    assert not list(tmp_path.glob("runs/*"))


def test_uploads_whose_shape_depends_on_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of an upload are known before it is trained: the dry run and the real one must agree."""
    text = TEXT + "    uploads = ('delta', 'few')\n    def finish(self, w, job):\n        d = w - job.sent['w']\n"
    text += "        return {'delta': d, 'few': d[d != 0]}, {}\n"
    assert "tried out at dispatch" in play(tmp_path, text, monkeypatch).message


def test_alarms_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aflctl.sim import loop

    monkeypatch.setattr(loop, "VAIN", 500)
    error = play(tmp_path, method("select", "return []"), monkeypatch)
    assert isinstance(error, Stalled)
    assert "500 events pass and started nobody" in error.message


@pytest.mark.parametrize(
    ("sections", "words"),
    [({"server": {"timeout_s": 0.001}}, "ended as timeout"), ({"fleet": RELIABLE}, "ended as rejected")],
)
def test_tasks_without_end(sections: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aflctl.sim import loop

    monkeypatch.setattr(loop, "VAIN", 20)
    monkeypatch.setattr(loop, "PER_PLACE", 1)
    error = play(tmp_path, method("receive", "return Step(state, used=False)"), monkeypatch, **sections)
    assert isinstance(error, Stalled)
    assert "none was used" in error.message
    assert words in error.message


# ---- the other kinds of plug-ins, whose hooks are replaced ----


def _swap(cls: Any, name: str, value: Any) -> Any:
    return lambda patch: patch.setattr(cls, name, value)


def _spoiled(**changes: Any) -> Any:
    """Digits with some fields of the training samples replaced."""
    plain = Digits.open

    def open_(self: Any, cache: Path) -> Any:
        source = plain(self, cache)
        made = {k: v(getattr(source.train, k)) for k, v in changes.items()}
        return replace(source, train=replace(source.train, **made))

    return _swap(Digits, "open", open_)


def _boom(*args: Any, **kwargs: Any) -> Any:
    raise SystemExit("boom")


def _returns(value: Any) -> Any:
    return lambda *args, **kwargs: value


SWAPS: dict[str, tuple[Any, str]] = {
    "dataset raises": (_swap(Digits, "open", _boom), "Digits.open raised SystemExit: boom"),
    "dataset None": (_swap(Digits, "open", _returns(None)), "Digits.open returned NoneType, not a Source"),
    "labels as floats": (_spoiled(y=lambda y: y.double()), "labels must be a tensor [n] of int64"),
    "a label too many": (_spoiled(y=lambda y: y + 5), "labels go from 5 to 14, outside 0 ... 9"),
    "inputs too short": (_spoiled(x=lambda x: (x[0][:-1],)), "Digits.open: `train`: "),
    "no tuple": (_spoiled(x=lambda x: x[0]), "`x` must be a tuple of 1 tensors"),
    "federate": (_swap(Digits, "federate", _returns(3)), "Digits.federate returned int, which is no FederatedData"),
    "partition raises": (_swap(Iid, "split", _boom), "Iid.split raised SystemExit: boom"),
    "partition None": (_swap(Iid, "split", _returns(None)), "Iid.split returned NoneType"),
    "before the first": (_swap(Iid, "split", _returns([np.array([-1])] * 8)), "client 0 has a position outside"),
    "after the last": (_swap(Iid, "split", _returns([np.array([10**9])] * 8)), "client 0 has a position outside"),
    "half positions": (_swap(Iid, "split", _returns([np.array([0.5])] * 8)), "client 0 has float64 of shape (1,)"),
    "model raises": (_swap(Mlp, "build", _boom), "Mlp.build raised SystemExit: boom"),
    "model None": (_swap(Mlp, "build", _returns(None)), "Mlp.build returned NoneType, not a torch module"),
    "no parameters": (_swap(Mlp, "build", _returns(nn.Identity())), "a module without parameters"),
    "too few classes": (
        _swap(Mlp, "build", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))),
        "gave a tensor of shape [2, 3] and float32 for 2 samples, not [2, 10]",
    ),
    "another width": (
        _swap(Mlp, "build", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(63, 10))),
        "the module of Mlp, given two samples of zeros, raised RuntimeError",
    ),
    "flops": (_swap(Mlp, "flops", _returns(float("nan"))), "Mlp.flops returned nan"),
    "selection raises": (_swap(RoundRobin, "pick", _boom), "RoundRobin.pick raised SystemExit: boom"),
    "selection begins": (_swap(RoundRobin, "init", _boom), "RoundRobin.init raised SystemExit: boom"),
    "selection observes": (_swap(RoundRobin, "observe", _boom), "RoundRobin.observe of client"),
    "no pair": (_swap(RoundRobin, "pick", _returns([0])), "returned list, not a state and a list of clients"),
    "picked twice": (_swap(RoundRobin, "pick", _returns((None, [1, 1]))), "RoundRobin.pick named [1, 1]"),
    "picked a stranger": (_swap(RoundRobin, "pick", _returns((None, [77]))), "RoundRobin.pick named client 77"),
    "picked a half": (_swap(RoundRobin, "pick", _returns((None, [0.5]))), "not a list of whole numbers"),
    "wrap raises": (_swap(Ditto, "wrap", _boom), "Ditto.wrap raised SystemExit: boom"),
    "wrap None": (_swap(Ditto, "wrap", _returns(None)), "Ditto.wrap returned NoneType, not an Algorithm"),
}


@pytest.mark.parametrize("what", SWAPS)
def test_other_kinds_of_plugins(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, words = SWAPS[what]
    patch(monkeypatch)
    settings = config(
        dataset={"name": "digits", "partition": "iid"}, personalization=["ditto"],
        clients={"count": 8, "concurrency": 4, "selection": "round-robin"},
    )  # fmt: skip
    with pytest.raises(HookFailed) as told:
        run(settings, runs_dir=tmp_path)
    assert words in told.value.message
    assert not list(tmp_path.glob("*/lock"))
