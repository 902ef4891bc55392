"""Whatever happened to a raw file: it is read, or one error names the dataset, and no converted file is left."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from aflctl.errors import EnvironmentProblem
from aflctl.plugins import registry
from builtin.raw_sets import VARIANTS, WRITERS

KEPT = "tiny-imagenet"
"""Its fixture has hundreds of pictures, so fewer damages are tried on it."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("originals")
    for name, write in WRITERS.items():
        (place / name / "raw").mkdir(parents=True)
        write(place / name / "raw")
    return place


def damage(path: Path, dice: random.Random) -> str:
    """One accident: cut, flipped, filled, overwritten, emptied, or another kind of file altogether."""
    content = bytearray(path.read_bytes())
    kind = dice.choice(["cut", "flip", "fill", "page", "empty", "zip", "long"])
    if kind == "cut":
        del content[dice.randrange(len(content)) :]
    elif kind == "flip":
        for _ in range(3):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    elif kind == "fill":
        at = dice.randrange(len(content))
        content[at : at + 64] = dice.randbytes(len(content[at : at + 64]))
    elif kind == "long":
        content += dice.randbytes(1000)
    else:
        content = bytearray({"page": b"<html>not found</html>", "empty": b"", "zip": b"PK\x03\x04" + bytes(40)}[kind])
    path.write_bytes(bytes(content))
    return kind


def tried(name: str, originals: Path, cache: Path, seeds: range) -> None:
    for seed in seeds:
        dice = random.Random(f"{name} {seed}")
        place = cache / str(seed)
        shutil.copytree(originals / name, place / name, copy_function=shutil.copyfile)
        files = sorted(p for p in (place / name / "raw").rglob("*") if p.is_file() and p.stat().st_size)
        victim = dice.choice([p for p in files if p.suffix not in (".JPEG", ".jpg")] if seed % 2 else files)
        kind = damage(victim, dice)
        dataset = registry().load("datasets", name)(**dice.choice(VARIANTS.get(name, ({},))))
        try:
            dataset.prepare(place, download=False)
            dataset.open(place)
            said, left = name, set()
        except EnvironmentProblem as error:
            said, left = error.message, {p.name for p in (place / name).iterdir()} - {"raw", ".lock"}
        told = f"{name} {seed}: {kind} of {victim.name}: {said}"
        assert name in said, told
        assert len(said) < 1000, told
        assert not left, told
        shutil.rmtree(place)


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_one_clear_error(name: str, originals: Path, tmp_path: Path) -> None:
    tried(name, originals, tmp_path, range(2 if name == KEPT else 5))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_damage_many_times(name: str, originals: Path, tmp_path: Path) -> None:
    tried(name, originals, tmp_path, range(100, 140 if name == KEPT else 250))
