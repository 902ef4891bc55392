"""State trees that come back with the same bits and the same aliases."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aflctl import api, rules
from aflctl.errors import HookFailed, RunDirError
from aflctl.rules import ClientTable, OptimizerState
from aflctl.runs import checkpoint
from aflctl.runs.checkpoint import load, pack, save, state_types, unpack


@dataclass(frozen=True)
class Inner:
    w: Tensor
    tau: float = math.inf


@dataclass(frozen=True, slots=True)
class State:
    w: Tensor
    inner: Inner
    opt: OptimizerState
    table: ClientTable
    seen: frozenset[int]
    by_track: dict[tuple[str, int], float]
    rest: Any = None
    made: int = field(default=0, init=False)


class Event(NamedTuple):
    client: int
    at: float


class Method(api.Algorithm[State]):
    lr: float = 1.0


class Around(api.Wrapper[State]):
    pass


TYPES = state_types(Method(), rules)


def state() -> State:
    w = torch.tensor([1.0, float("nan"), -0.0, float("inf")])
    return State(
        w=w, inner=Inner(w), opt=OptimizerState(m=w[1:3], t=3), table=ClientTable(torch.zeros(2), {7: torch.ones(2)}),
        seen=frozenset({5, 1, 3}), by_track={("a", 1): math.nan, ("b", 2): -0.0}, rest=[Event(1, 2.5), (None, True)],
    )  # fmt: skip


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def test_a_state_comes_back_with_its_bits_and_aliases(tmp_path: Path) -> None:
    before = state()
    assert save(tmp_path / "checkpoint", before) > 0
    after = load(tmp_path / "checkpoint", TYPES)
    assert type(after) is State
    assert bits(after.w) == bits(before.w)
    assert after.inner.w is after.w
    assert after.inner.tau == math.inf
    assert bits(after.opt.m) == bits(before.opt.m)  # type: ignore[arg-type]
    assert after.opt.v is None
    assert (after.opt.t, after.made) == (3, 0)
    assert after.table[7].tolist() == [1, 1]
    assert after.table[8].tolist() == [0, 0]
    assert after.seen == {1, 3, 5}
    assert math.isnan(after.by_track["a", 1])
    assert math.copysign(1, after.by_track["b", 2]) == -1
    assert after.rest == [Event(1, 2.5), (None, True)]
    assert type(after.rest[0]) is Event
    after.w.add_(1)  # memory of its own, writable


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.text(), st.integers()), inner, max_size=4)
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


@given(plain)
def test_plain_data_come_back_exactly(tree: Any) -> None:
    tensors, spec = pack(tree)
    assert tensors == {}
    assert same(unpack({}, json.loads(json.dumps(spec, allow_nan=False)), {}), tree)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64"])
def test_arrays_of_numpy(tmp_path: Path, dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)[:, ::-1]
    save(tmp_path, {"a": array, "same": array, "scalar": array[0, 0], "point": np.array(array[0, 0])})
    back = load(tmp_path, {})
    assert back["a"].dtype == array.dtype
    assert np.array_equal(back["a"], array)
    assert back["same"] is back["a"]
    assert isinstance(back["scalar"], np.generic)
    assert back["point"].shape == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,), (2, 3)])
def test_tensors_of_every_kind(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(dtype)
    save(tmp_path, (tensor, tensor.clone(), tensor.expand(2, *shape)))
    one, two, wide = load(tmp_path, {})
    assert (one.dtype, one.shape) == (dtype, tensor.shape)
    assert one is not two
    assert wide.shape == (2, *shape)


def test_what_is_shared_and_changed_in_place_is_one_object(tmp_path: Path) -> None:
    table, inner = ClientTable(torch.zeros(1)), {"n": 0}
    save(tmp_path, {"a": table, "b": table, "c": inner, "d": [inner, {1}]})
    back = load(tmp_path, TYPES)
    assert back["a"] is back["b"]
    assert back["c"] is back["d"][0]
    assert back["d"][1] == {1}


def test_a_read_only_mapping_is_a_dict_afterwards() -> None:
    assert unpack({}, pack(MappingProxyType({"a": 1}))[1], {}) == {"a": 1}


def test_types_come_from_the_caller_only(tmp_path: Path) -> None:
    save(tmp_path, state())
    with pytest.raises(RunDirError, match=r"test_checkpoint\.State, which the method's modules do not define"):
        load(tmp_path, {})
    assert type(load(tmp_path, [*TYPES.values()])) is State


def test_state_types_sees_the_whole_method() -> None:
    for names in (TYPES, state_types(Around(inner=Method(), setup=None)), state_types(Method), state_types(State)):
        values = set(names.values())
        assert {State, Inner, Event, OptimizerState, ClientTable} <= values
    assert {api.Update, api.Assignment, api.Job} <= set(state_types(api).values())


class Odd:
    pass


@pytest.mark.parametrize("value", [Odd(), lambda: 0, {1: Odd()}, [Odd], np.array(["x"]), 1 + 2j, range(3)])
def test_what_no_state_may_hold_is_named_with_its_place(value: Any) -> None:
    with pytest.raises(HookFailed, match=r"the state holds a .* at \.rest"):
        pack(Holder(value))


@dataclass(frozen=True)
class Holder:
    rest: Any


def test_a_sparse_tensor_is_refused() -> None:
    with pytest.raises(HookFailed, match=r"layout torch\.sparse_coo at \.rest"):
        pack(Holder(torch.eye(2).to_sparse()))


def test_two_generations_are_kept_and_a_damaged_one_falls_back(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path, {"i": i, "w": torch.full((3,), float(i))})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3.json", "3.safetensors", "4.json", "4.safetensors"]
    assert load(tmp_path, {})["i"] == 3
    whole = (tmp_path / "4.safetensors").read_bytes()
    (tmp_path / "4.safetensors").write_bytes(whole[:-1])
    assert load(tmp_path, {})["i"] == 2
    (tmp_path / "4.safetensors").write_bytes(whole)
    (tmp_path / "4.json").write_text(
        (tmp_path / "4.json").read_text().replace('"i",3', '"i",9').replace('"i", 3', '"i", 9')
    )
    assert load(tmp_path, {})["i"] == 2
    (tmp_path / "3.json").write_text("{")
    with pytest.raises(RunDirError, match=r"no checkpoint can be used: generation 4: .* generation 3: "):
        load(tmp_path, {})


def test_no_checkpoint_and_a_newer_one(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="there is no checkpoint"):
        load(tmp_path, {})
    save(tmp_path, 1)
    document = json.loads((tmp_path / "1.json").read_text())
    (tmp_path / "1.json").write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(RunDirError, match="version 2"):
        load(tmp_path, {})


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, {"w": torch.ones(3), "n": 1})
    for name in ("1.json", "1.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for position in range(0, len(whole), 7):
            (tmp_path / name).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            try:
                back = load(tmp_path, {})
            except RunDirError:
                continue
            assert (back["w"].tolist(), back["n"]) == ([1, 1, 1], 1)
        (tmp_path / name).write_bytes(whole)


def test_a_crafted_state_is_refused_without_a_traceback(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for spec in ({"tuple": 3}, {"what": 1}, {"tensor": "t9"}, {"same": 4}, {"type": 1}, {"float": "zz"}, {}):
        document = json.loads((tmp_path / "1.json").read_text())
        (tmp_path / "1.json").write_text(
            json.dumps({**document, "state": spec, "state_sha256": checkpoint._digest(spec)})
        )
        with pytest.raises(RunDirError):
            load(tmp_path, {})


def test_other_fields_than_this_version_has() -> None:
    spec = pack(Holder(1))[1]
    with pytest.raises(RunDirError, match="other fields"):
        unpack({}, {**spec, "fields": {"other": 1}}, state_types(Holder))


def test_final_weights(tmp_path: Path) -> None:
    w = torch.arange(6.0)
    checkpoint.save_tensors(tmp_path / "model.safetensors", {"a": w[:2], "b": w[2:].reshape(2, 2)}, {"version": "7"})
    back = checkpoint.load_tensors(tmp_path / "model.safetensors")
    assert back["b"].tolist() == [[2, 3], [4, 5]]
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(RunDirError, match="not a safetensors file"):
        checkpoint.load_tensors(tmp_path / "model.safetensors")
    with pytest.raises(RunDirError, match="cannot be read"):
        checkpoint.load_tensors(tmp_path / "absent")
