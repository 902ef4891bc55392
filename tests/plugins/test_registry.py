"""The registry reads metadata, imports nothing before it must, and survives every broken plug-in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from aflctl import errors, sources
from aflctl.plugins import KINDS, Registry, is_local, registry

MINE = '''
    """A module."""
    from aflctl.api import Algorithm

    class Mine(Algorithm):
        """Does what I want.

        And more.
        """
        k: int = 3
'''


def test_built_ins_come_in_by_the_same_door() -> None:
    rows = {e.name: e for e in registry().entries("algorithms")}
    assert rows["fedbuff"].distribution == "aflctl"
    assert rows["fedbuff"].summary.startswith("Buffered asynchronous aggregation")
    assert registry().load("algorithms", "fedbuff").__name__ == "FedBuff"
    assert registry().load("algorithms", "aflctl/fedbuff").__name__ == "FedBuff"


def test_every_built_in_loads() -> None:
    for kind in KINDS:
        for entry in registry().entries(kind):
            if entry.distribution == "aflctl":
                assert entry.broken is None
                registry().load(kind, entry.name)


def test_a_summary_is_read_without_importing(install) -> None:
    code = "raise RuntimeError('imported!')\n" + "class Mine:\n    '''Never ran.'''\n"
    install("one", {"algorithms": {"mine": "one_mod:Mine"}}, {"one_mod.py": code})
    (row,) = [e for e in Registry().entries("algorithms") if e.name == "mine"]
    assert (row.summary, row.version, row.broken) == ("Never ran.", "1.0", None)
    assert "one_mod" not in sys.modules


def test_a_summary_is_followed_through_re_exports(install) -> None:
    impl = MINE.replace("Mine", "Real")
    files = {"two/__init__.py": "from .inner.impl import Real as Mine\n", "two/inner/impl.py": impl}
    install("two", {"algorithms": {"mine": "two:Mine"}}, files)
    (row,) = [e for e in Registry().entries("algorithms") if e.name == "mine"]
    assert row.summary == "Does what I want."
    assert not [m for m in sys.modules if m.split(".")[0] == "two"]


@pytest.mark.parametrize(
    ("code", "reason", "known_before"),
    [
        ("import sys; sys.exit(3)\nclass Mine: ...", "SystemExit", False),
        ("raise RuntimeError('no licence server')\nclass Mine: ...", "no licence server", False),
        ("import a_module_that_is_nowhere\nclass Mine: ...", "a_module_that_is_nowhere", False),
        ("def broken(:", "invalid syntax", True),
        ("x = 1", "no attribute 'Mine'", True),
        ("def Mine(): ...", "is no class", False),
        ("class Mine: ...", "no subclass of aflctl.api.Algorithm", False),
        ("from aflctl.api import Model\nclass Mine(Model): ...", "no subclass of aflctl.api.Algorithm", False),
        (
            "from aflctl.api import Algorithm\nfrom typing import ClassVar\n"
            "class Mine(Algorithm):\n    api_version: ClassVar[int] = 99",
            "wants plug-in API version 99",
            False,
        ),
        ("from aflctl.api import Algorithm\nclass Mine(Algorithm):\n    name: str = 'x'", "called 'name'", False),
    ],
)
def test_a_plug_in_that_does_not_load_is_a_row(install, code: str, reason: str, known_before: bool) -> None:
    install("sick", {"algorithms": {"sick": "sick_mod:Mine"}}, {"sick_mod.py": code})
    found = Registry()
    (row,) = [e for e in found.entries("algorithms") if e.name == "sick"]
    assert bool(row.broken) is known_before
    with pytest.raises(errors.PluginBroken, match=reason) as caught:
        found.load("algorithms", "sick")
    assert "'sick'" in caught.value.message
    assert found.load("algorithms", "fedavg")


def test_what_a_plug_in_prints_while_it_loads_is_not_the_answer(install, capsys) -> None:
    code = "from aflctl.api import Algorithm\nprint('hello')\nclass Mine(Algorithm): ...\n"
    install("loud", {"algorithms": {"loud": "loud_mod:Mine"}}, {"loud_mod.py": code})
    Registry().load("algorithms", "loud")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_malformed_metadata_harms_nobody(install) -> None:
    folder = install("odd", {"algorithms": {"mine": "odd_mod:Mine"}}, {"odd_mod.py": MINE})
    info = next(folder.glob("*.dist-info"))
    text = info.joinpath("entry_points.txt").read_text()
    info.joinpath("entry_points.txt").write_text(f"no section = here\n{text}a line without a value\nspaces = a b c\n")
    (folder / "ruin-1.0.dist-info").mkdir()
    (folder / "ruin-1.0.dist-info" / "entry_points.txt").write_text("[aflctl.algorithms]\nlost = nowhere:X\n")
    (folder / "bytes-1.0.dist-info").mkdir()
    (folder / "bytes-1.0.dist-info" / "entry_points.txt").write_bytes(b"[aflctl.algorithms]\n\xff\xfe\n")
    rows = {e.name: e for e in Registry().entries("algorithms")}
    assert rows["mine"].broken is None
    assert "not module:Class" in str(rows["spaces"].broken)
    assert "not module:Class" in str(rows["a line without a value"].broken)
    assert "'nowhere' is not installed" in str(rows["lost"].broken)


def test_a_name_claimed_twice_names_both(install) -> None:
    for who in ("rival-one", "rival-two"):
        module = who.replace("-", "_")
        install(who, {"algorithms": {"fedmine": f"{module}:Mine"}}, {f"{module}.py": MINE})
    found = Registry()
    rows = [e for e in found.entries("algorithms") if e.name == "fedmine"]
    assert [(e.distribution, e.rivals) for e in rows] == [("rival-one", ("rival-two",)), ("rival-two", ("rival-one",))]
    with pytest.raises(errors.UserError, match="rival-one, rival-two") as caught:
        found.load("algorithms", "fedmine")
    assert "rival-two/fedmine" in str(caught.value.hint)
    assert found.load("algorithms", "rival-two/fedmine").__module__ == "rival_two"
    assert found.load("algorithms", "Rival_Two/fedmine").__module__ == "rival_two"
    assert found.distributions_used([("algorithms", "rival-two/fedmine")]) == {"rival-two": "1.0"}
    assert "rival-one/fedmine" in found.names("algorithms")


def test_a_built_in_cannot_be_taken_over_in_silence(install) -> None:
    install("thief", {"algorithms": {"fedavg": "thief_mod:Mine"}}, {"thief_mod.py": MINE})
    with pytest.raises(errors.UserError, match="aflctl, thief"):
        Registry().load("algorithms", "fedavg")


def test_an_older_copy_further_down_the_path_is_not_a_rival(install) -> None:
    install("same", {"algorithms": {"mine": "same_mod:Mine"}}, {"same_mod.py": MINE}, "1.0")
    import shutil

    folder = next(Path(p) for p in sys.path if p.endswith("site/same"))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    rows = [e for e in Registry([str(folder), str(copy)]).entries("algorithms") if e.name == "mine"]
    assert len(rows) == 1


def test_an_unknown_name_suggests() -> None:
    with pytest.raises(errors.UnknownName, match="unknown algorithm 'fedbuf'") as caught:
        registry().load("algorithms", "fedbuf")
    assert "'fedbuff'" in str(caught.value.hint)
    with pytest.raises(errors.UnknownName, match="kind of plug-in"):
        registry().entries("gadgets")


def test_a_local_file_is_loaded_hashed_and_cached(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom aflctl.api import Algorithm\n"
        "@dataclass(frozen=True)\nclass State:\n    w: int\n"
        "class FedMine(Algorithm[State]):\n    k: int = 1\n"
    )
    found = Registry()
    first = found.load("algorithms", "./mine.py:FedMine", tmp_path)
    assert first(k=4).k == 4
    assert found.load("algorithms", "mine.py:FedMine", tmp_path) is first
    before = found.source_hash("algorithms", "./mine.py:FedMine", tmp_path)
    file.write_text(file.read_text().replace("k: int = 1", "k: int = 2"))
    assert found.source_hash("algorithms", "./mine.py:FedMine", tmp_path) != before
    assert found.load("algorithms", "./mine.py:FedMine", tmp_path)().k == 2
    assert found.distributions_used([("algorithms", "./mine.py:FedMine")]) == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.py"]


def test_a_local_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from aflctl.api import Model\nclass Net(Model):\n    width: int = 8\n")
    assert Registry().load("models", "./m.py:Net", tmp_path)().width == 8
    with pytest.raises(errors.PluginBroken, match=r"no subclass of aflctl\.api\.Dataset"):
        Registry().load("datasets", "./m.py:Net", tmp_path)


def test_mistakes_with_local_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from aflctl.api import Algorithm\nclass FedMine(Algorithm): ...\n")
    (tmp_path / "bad.py").write_text("x = (\n")
    found = Registry()
    with pytest.raises(errors.UserError, match=r"no file .*gone\.py"):
        found.load("algorithms", "./gone.py:X", tmp_path)
    with pytest.raises(errors.UserError, match="names no class") as caught:
        found.load("algorithms", "./mine.py", tmp_path)
    assert caught.value.hint == "write ./mine.py:FedMine"
    with pytest.raises(errors.UnknownName, match="FedMin") as unknown:
        found.load("algorithms", "./mine.py:FedMin", tmp_path)
    assert "FedMine" in str(unknown.value.hint)
    with pytest.raises(errors.PluginBroken, match="SyntaxError") as broken:
        found.load("algorithms", "./bad.py:X", tmp_path)
    assert str(broken.value.where).endswith("bad.py:1")


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("fedbuff", False),
        ("a/fedbuff", False),
        ("./m.py:X", True),
        ("m.py:X", True),
        ("/x/m.py", True),
        ("m.python", False),
    ],
)
def test_what_counts_as_a_file(name: str, local: bool) -> None:
    assert is_local(name) is local


def test_any_file_of_a_strangers_package_changes_its_hash(install) -> None:
    files = {"pack/__init__.py": "", "pack/a.py": MINE, "pack/b.py": "x = 1\n"}
    folder = install("pack", {"algorithms": {"mine": "pack.a:Mine"}}, files)
    before = Registry().source_hash("algorithms", "mine")
    (folder / "pack" / "b.py").write_text("x = 2\n")
    assert Registry().source_hash("algorithms", "mine") != before


def test_listing_loads_no_plug_in_and_no_torch() -> None:
    code = (
        "import sys; from aflctl.plugins import registry, KINDS\n"
        "[registry().entries(k) for k in KINDS]\n"
        "print(*{m.split('.')[0] for m in sys.modules}, *[m for m in sys.modules if 'builtin.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic"} & set(done.stdout.split())
    assert "aflctl.builtin" not in done.stdout


def test_modules_beside_a_plug_in_that_it_imports_change_its_hash(install) -> None:
    # two top-level modules: there is no package that could be hashed as a whole
    files = {
        "lone.py": "import lone_sizes\n" + dedent(MINE),
        "lone_sizes.py": "import lone_deep\n",
        "lone_deep.py": "x = 1\n",
    }
    folder = install("lone", {"algorithms": {"mine": "lone:Mine"}}, {**files, "lone_other.py": "y = 1\n"})
    hashes = [Registry().source_hash("algorithms", "mine")]
    for name in ("lone_deep.py", "lone_sizes.py", "lone_other.py"):
        (folder / name).write_text((folder / name).read_text() + "z = 3\n")
        hashes.append(Registry().source_hash("algorithms", "mine"))
    assert len(set(hashes[:3])) == 3
    assert hashes[3] == hashes[2]  # nobody imports it


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("datasets.mnist", ["idx.py", "images.py", "mnist.py"]),
        ("models.cnn", ["cnn.py", "inputs.py", "norms.py", "projection.py"]),
        ("partitions.legacy", ["dirichlet.py", "legacy.py", "sizes.py"]),
        ("algorithms.fedavg", ["fedavg.py"]),
    ],
)
def test_what_a_built_in_shares_with_its_siblings_counts(module: str, files: list[str]) -> None:
    found = sources.beside(f"aflctl.builtin.{module}")
    assert [file.name for file in found] == files


@pytest.mark.parametrize(
    "line",
    ["from . import near", "from .near import x", "from pack import near", "import pack.near", "import pack.near as n"],
)
def test_every_way_to_import_a_sibling_is_seen(line: str, install) -> None:
    files = {"pack/__init__.py": "", "pack/near.py": "x = 1\n", "pack/here.py": f"def f():\n    {line}\n"}
    install("pack", {"algorithms": {"mine": "pack.here:Mine"}}, files)
    assert [file.name for file in sources.beside("pack.here")] == ["here.py", "near.py"]
