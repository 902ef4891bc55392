"""Thousands of broken inputs: one clear error each, never a traceback, and nothing damaged is taken for whole."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aflctl.config.load import load, to_yaml
from aflctl.engine import run
from aflctl.errors import AflctlError
from aflctl.plan import resolve
from aflctl.runs.load import Run, load_run
from reliability.lab import config

MANY = 8000
SIZES = [pytest.param(1, id="short"), pytest.param(20, id="long", marks=pytest.mark.slow)]

KEYS = [
    "name", "tags", "algorithm", "dataset", "partition", "model", "clients", "count", "concurrency",
    "selection", "local", "epochs", "batch_size", "lr", "momentum", "fleet", "devices", "networks",
    "availability", "offline", "csv", "server", "timeout_s", "stop", "updates", "versions", "time_s",
    "evaluate", "every", "seed", "seeds", "engine", "executor", "workers", "device", "checkpoint",
    "track", "matrix", "extends", "personalization", "fusion", "alpha", "buffer_size",
]  # fmt: skip
VALUES: tuple[Any, ...] = (
    "fedbuff", "mnist", "digits", "synthetic", "mlp", "dirichlet", "uniform", "poster-1-1-1", "./a.py:B", "../..", "",
    " ", "~",
    "/dev/null", "\x00", "\u202e", "é" * 300, "${HOME}", "{{x}}", "!!python/object", "1e999", "-0", "0x10", "1_000",
    0, 1, -1, 3, 10**30, -(2**63), 1.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), True, False,
    None, [], {}, [[]],
)  # fmt: skip


def refused(act: Callable[[], Any]) -> bool:
    """Whether it was refused in the way that is promised; anything but an AflctlError of code 2 or 3 fails the test."""
    try:
        act()
    except AflctlError as error:
        told = error
    else:
        return False
    assert told.exit_code in (2, 3), told
    assert str(told).strip()
    assert "Traceback" not in str(told)
    return True


def read(source: Any, sets: Any = ()) -> None:
    """All that `aflctl config show`, `validate` and the start of a run do with a configuration."""
    loaded = load(source, sets=sets)
    resolve(loaded)
    to_yaml(loaded.config)


def value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.random()
    if depth > 3 or kind < 0.6:
        return deepcopy(dice.choice(VALUES))  # else its list and its dictionary grow from case to case, into each other
    if kind < 0.9:
        return {dice.choice(KEYS): value(dice, depth + 1) for _ in range(dice.randint(1, 4))}
    return [value(dice, depth + 1) for _ in range(dice.randint(0, 3))]


def spoiled(tree: Any, dice: random.Random) -> Any:
    """A configuration with one to three places changed."""
    tree = json.loads(json.dumps(tree))
    for _ in range(dice.randint(1, 3)):
        node = tree
        while True:
            key = dice.choice(list(node)) if node and dice.random() < 0.9 else dice.choice(KEYS)
            if isinstance(node.get(key), dict) and dice.random() < 0.7:
                node = node[key]
                continue
            if dice.random() < 0.15 and key in node:
                del node[key]
            else:
                node[key] = value(dice)
            break
    return tree


@pytest.mark.parametrize("times", SIZES)
def test_spoiled_configurations(times: int) -> None:
    dice, bad = random.Random(1), 0
    count = MANY // 10 * times
    for _ in range(count):
        tree = spoiled(config(), dice)
        bad += refused(lambda tree=tree: read(tree))  # type: ignore[misc]
    assert count // 3 < bad < count


@pytest.mark.parametrize("times", SIZES)
def test_configuration_files_mutated(tmp_path: Path, times: int) -> None:
    dice, file = random.Random(2), tmp_path / "c.yaml"
    whole = yaml.safe_dump(config()).encode()
    pieces = [b"\x00", b"\xff\xfe", b"\t", b": ", b"- ", b"{", b"]", b"&a ", b"*a", b"!!python/name:os.system ",
              b"? ", b"|",
              b"%", b"@",
              b"<<: ", b"\n\n---\n", b"'", b'"', b"#", b"\xc3", b"1e", b"  "]  # fmt: skip
    for _ in range(MANY // 10 * times):
        text = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(text))
            how = dice.random()
            if how < 0.4:
                text[at:at] = dice.choice(pieces)
            elif how < 0.7:
                text[at] = dice.randrange(256)
            elif how < 0.9:
                del text[at : at + dice.randint(1, 20)]
            else:
                del text[at:]
                text += b"\n"
        file.write_bytes(text)
        refused(lambda: read(file))


@pytest.mark.parametrize("times", SIZES)
def test_sets(times: int) -> None:
    dice = random.Random(3)
    signs = "a.b=[]{}:'\",!&*#|>%@` \t\n\\/~-+0123456789eE_éλ\u2028\x00"
    for _ in range(MANY // 10 * times):
        if dice.random() < 0.6:
            path = ".".join(dice.choice(KEYS) for _ in range(dice.randint(1, 4)))
            text = (
                f"{path}={json.dumps(value(dice), default=str)}"
                if dice.random() < 0.7
                else f"{path}={dice.choice(VALUES)}"
            )
        else:
            text = "".join(dice.choice(signs) for _ in range(dice.randint(0, 25)))
        refused(lambda text=text: read(config(), [text]))  # type: ignore[misc]


NAMES = st.sampled_from(KEYS) | st.text(max_size=5)
SCRAPS = (b",", b"\n", b'"', b"-", b"nan", b"inf", b"1e400", b"9" * 30, b"\x00", b"\xff", b";", b" ")
FILES = ("metrics.csv", "updates.csv", "summary.json", "provenance.json", "config.yaml", "clients.csv")


@settings(max_examples=150)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_any_tree_at_all(tree: Any) -> None:
    if isinstance(tree, dict):
        refused(lambda: read(tree))


# ---- files that a fleet is read from ----

FLEET = "client,device,network\n0,raspberry-pi-4,wifi\n1,jetson-tx2,lte\n2,jetson-nano,wifi\n"
TRACE = "client,start_s,end_s\n0,0,10\n1,5,20\n2,0,3\n"


def spoil(text: bytes, dice: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(max(1, len(data)))
        how = dice.random()
        if how < 0.4:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif how < 0.7:
            data[at:at] = dice.choice(
                [b",", b"\n", b'"', b"-", b"nan", b"inf", b"1e400", b"9" * 30, b"\x00", b"\xff", b";", b" "]
            )
        else:
            del data[at : at + dice.randint(1, 30)]
    return bytes(data)


@pytest.mark.parametrize("times", SIZES)
@pytest.mark.parametrize("kind", ["csv", "trace"])
def test_fleets_and_traces(tmp_path: Path, kind: str, times: int) -> None:
    from aflctl.config.fleet import FleetSpec
    from aflctl.sim.fleet import build_world

    file, dice = tmp_path / "f.csv", random.Random(4)
    base: dict[str, Any] = {"devices": {"raspberry-pi-4": 1}, "networks": {"wifi": 1}}
    spec = {"csv": str(file)} if kind == "csv" else {**base, "availability": {"name": "trace", "path": str(file)}}

    def build() -> None:
        world = build_world(FleetSpec.model_validate(spec), 3, 0)
        for client in range(3):
            assert world.online(client, 5) in (True, False)

    whole = (FLEET if kind == "csv" else TRACE).encode()
    good = 0
    for _ in range(MANY // 40 * times):
        file.write_bytes(spoil(whole, dice))
        good += not refused(build)
    assert good


# ---- run directories ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import aflctl.report

    plain, aflctl.report.write_all = aflctl.report.write_all, lambda folder, summary: None
    try:
        yield run(config(stop={"updates": 6}), runs_dir=tmp_path_factory.mktemp("finished")).path
    finally:
        aflctl.report.write_all = plain


def shown(folder: Path) -> str:
    """All that `show` and `compare` read from a run."""
    from aflctl.report import render

    recorded: Run = load_run(folder)
    recorded.config
    return render.terminal(recorded) if recorded.status == "done" else recorded.status


@pytest.mark.parametrize("times", SIZES)
@pytest.mark.parametrize(
    "name", ["metrics.csv", "updates.csv", "summary.json", "provenance.json", "config.yaml", "clients.csv"]
)
def test_run_directories_with_a_damaged_file(finished: Path, tmp_path: Path, name: str, times: int) -> None:
    folder, dice = tmp_path / "run", random.Random(5)
    shutil.copytree(finished, folder)
    whole = (folder / name).read_bytes()
    for _ in range(60 * times):
        (folder / name).write_bytes(spoil(whole, dice))
        refused(lambda: shown(folder))
        refused(lambda: [load_run(folder).columns(n) for n in ("metrics", "updates", "clients")])


@pytest.mark.parametrize("name", ["metrics", "updates"])
def test_an_edited_record_loads_equal_or_is_told(finished: Path, tmp_path: Path, name: str) -> None:
    from aflctl.engine.verify import edited

    folder, dice = tmp_path / "run", random.Random(6)
    shutil.copytree(finished, folder)
    file = folder / f"{name}.csv"
    whole, before = file.read_bytes(), list(load_run(finished).columns(name).records())
    told = 0
    for _ in range(300):
        file.write_bytes(spoil(whole, dice))
        found: list[str | None] = []
        if refused(lambda found=found: found.append(edited(load_run(folder)))):  # type: ignore[misc]
            told += 1
        elif found[0] is not None:
            assert found[0] == file.name
            told += 1
        else:
            assert list(load_run(folder).columns(name).records()) == before
    assert told > 200


def test_a_mutated_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    from aflctl.engine.course.keep import types_of
    from aflctl.runs import checkpoint

    types = types_of(resolve(load(finished)))
    folder, dice = tmp_path / "checkpoint", random.Random(7)
    shutil.copytree(finished / "checkpoint", folder)
    newest = max(int(p.stem) for p in folder.glob("*.json"))
    for file in folder.iterdir():
        if file.is_file() and file.stem != str(newest):
            file.unlink()
    before = checkpoint.pack(checkpoint.load(folder, types))[1]
    for kind in ("json", "safetensors"):
        file = folder / f"{newest}.{kind}"
        whole = file.read_bytes()
        for _ in range(150):
            file.write_bytes(spoil(whole, dice))
            if not refused(lambda: checkpoint.load(folder, types)):
                assert checkpoint.pack(checkpoint.load(folder, types))[1] == before
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "sections",
    [
        {"fleet": {"devices": {"~nobody-here": 1}, "networks": {"wifi": 1}}},
        {"fleet": "~nobody-here"},
        {"algorithm": "~nobody-here/mine.py:Mine"},
        {"fleet": {"csv": "~nobody-here/fleet.csv"}},
    ],
)
def test_a_home_that_nobody_has(sections: dict[str, Any], tmp_path: Path) -> None:
    assert refused(lambda: run(config(**sections), runs_dir=tmp_path))
    assert refused(lambda: load("~nobody-here/a.yaml"))
    assert refused(lambda: load_run("~nobody-here/run"))
