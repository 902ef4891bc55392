"""What the sources never do, and what a run directory never tells."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path

import pytest

from aflctl.engine import run
from reliability.lab import config

SOURCES = Path(__file__).resolve().parents[2] / "src" / "aflctl"


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    files = sorted(SOURCES.rglob("*.py"))
    return [(p.relative_to(SOURCES), node) for p in files for node in ast.walk(ast.parse(p.read_text("utf-8")))]


@cache
def calls() -> list[tuple[Path, str, ast.Call]]:
    return [(path, ast.unparse(node.func), node) for path, node in nodes() if isinstance(node, ast.Call)]


def test_no_pickle() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    for path, node in nodes():
        if path.name == "cifar.py":  # the published batches are pickles: read by an Unpickler that knows three names
            continue
        if isinstance(node, ast.Import):
            assert not forbidden & {alias.name.partition(".")[0] for alias in node.names}, path
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in forbidden, path
    loads = {
        (str(path), name) for path, name, _ in calls() if name in ("torch.load", "torch.save", "np.load", "numpy.load")
    }
    for path, name in loads:
        assert name in ("np.load", "numpy.load"), (path, name)
    for path, name, call in calls():
        if name in ("np.load", "numpy.load"):
            assert not any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords), path


def test_the_one_reader_of_pickles_makes_no_objects(tmp_path: Path) -> None:
    import pickle

    from aflctl.builtin.datasets.cifar import read_pickle

    for harm in (os.mkdir, print, os.system):
        file = tmp_path / "batch"
        file.write_bytes(pickle.dumps({"data": harm}))
        with pytest.raises(ValueError, match="which no batch file needs"):
            read_pickle(file)


def test_nothing_is_evaluated() -> None:
    assert [
        str(path) for path, name, _ in calls() if name in ("eval", "exec", "compile", "__import__", "builtins.eval")
    ] == []


def test_no_shell() -> None:
    for path, name, call in calls():
        assert name not in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), path
        for keyword in call.keywords:
            assert not (keyword.arg == "shell" and ast.unparse(keyword.value) != "False"), path
        if name.startswith("subprocess."):
            assert not call.args or not isinstance(call.args[0], ast.Constant | ast.JoinedStr), path


def test_yaml_is_read_by_safe_loaders_only() -> None:
    for path, name, call in calls():
        assert name not in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"), path
        if name == "yaml.load":
            assert len(call.args) + len(call.keywords) == 2, path
    bases = {
        ast.unparse(b) for _, n in nodes() if isinstance(n, ast.ClassDef) for b in n.bases if "Loader" in ast.unparse(b)
    }
    assert not any("Unsafe" in base or "Full" in base or base in ("yaml.Loader", "Loader") for base in bases), bases
    names = {n.attr for _, n in nodes() if isinstance(n, ast.Attribute)}
    assert not names & {"UnsafeLoader", "FullLoader", "CLoader", "CFullLoader"}


def test_a_tag_in_a_configuration_makes_no_object(tmp_path: Path) -> None:
    from aflctl.errors import ConfigError

    file = tmp_path / "c.yaml"
    file.write_text(f"name: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
    with pytest.raises(ConfigError):
        run(file)
    assert not (tmp_path / "made").exists()


def test_a_run_directory_can_be_published(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-in-the-environment")
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run(config(stop={"updates": 6}), runs_dir=runs_dir)
    for file in result.path.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            text = file.read_text(encoding="utf-8", errors="replace")
            assert "hunter2" not in text, file
            assert str(tmp_path) not in text, file
            assert os.uname().nodename not in text or len(os.uname().nodename) < 4, file
