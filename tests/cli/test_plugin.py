"""`aflctl plugin check` and `aflctl plugin new`, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aflctl.cli.app import execute
from aflctl.errors import UnknownName, UserError
from aflctl.scaffold import KINDS, create
from distributions import Install, install  # noqa: F401

GOOD = '''
    """A partition in turn."""
    import numpy as np
    from aflctl.api import Partition

    class Turn(Partition):
        """Sample i goes to client i mod M."""

        def split(self, labels, clients, rng, naturals):
            return [np.arange(c, len(labels), clients) for c in range(clients)]
'''
TWICE = GOOD.replace("np.arange(c, len(labels), clients)", "np.arange(0, len(labels), 2)").replace("Turn", "Twice")


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """(exit code, the answer as JSON or text, what went to stderr)."""
    code = execute(list(words))
    found = capsys.readouterr()
    return code, json.loads(found.out) if "--json" in words and found.out else found.out, found.err


def test_a_table_of_results(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "plugin", "check", "partition/iid")
    assert code == 0, out
    assert "covers" in out
    assert "passed" in out
    assert "checking partitions iid" in err


def test_a_fault_is_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path, install: Install) -> None:  # noqa: F811
    install("shuffle-parts", {"partitions": {"turn": "turns:Turn", "twice": "twices:Twice"}},
            {"turns.py": GOOD, "twices.py": TWICE})  # fmt: skip
    assert ask(capsys, "plugin", "check", "turn")[0] == 0
    code, found, _ = ask(capsys, "plugin", "check", "shuffle_parts", "--json")
    assert code == 1
    assert found["ok"] is False
    rows = {(row["name"], row["check"]): row for row in found["results"]}
    assert rows["turn", "covers"]["status"] == "passed"
    assert rows["twice", "covers"]["detail"] == "a sample belongs to two clients, or twice to one"


def test_what_does_not_load_is_a_failure(capsys: pytest.CaptureFixture[str], install: Install) -> None:  # noqa: F811
    install("sick", {"partitions": {"sick": "sick_mod:Sick"}}, {"sick_mod.py": "raise OSError('no licence')"})
    code, out, _ = ask(capsys, "plugin", "check", "sick")
    assert code == 1
    assert "no licence" in out


def test_a_class_in_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import textwrap

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(textwrap.dedent(GOOD) + "\n\nclass Other: pass\n")
    code, found, _ = ask(capsys, "plugin", "check", "./mine.py:Turn", "--json")
    assert code == 0
    assert {row["kind"] for row in found["results"]} == {"partitions"}
    code, out, _ = ask(capsys, "plugin", "check", "./mine.py:Other")
    assert code == 1
    assert "extends none of" in out
    code, _, err = ask(capsys, "plugin", "check", "./mine.py")
    assert code == 2
    assert "names no class" in err


def test_profiles_by_their_folder(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    assert ask(capsys, "plugin", "check", str(root / "profiles"))[0] == 0
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "My_Board.yaml").write_text("dense_gflops: -1\nmemory_mib: 5\n")
    code, found, _ = ask(capsys, "plugin", "check", str(tmp_path), "--json")
    assert code == 1
    failed = {row["check"]: row["detail"] for row in found["results"] if row["status"] == "failed"}
    assert "dense_gflops" in failed["reads"]
    assert "kebab-case" in failed["names"]
    (tmp_path / "devices" / "My_Board.yaml").write_text("dense_gflops: 1\nmemory_mib: 5\n")
    _, found, _ = ask(capsys, "plugin", "check", str(tmp_path), "--json")
    failed = {row["check"]: row["detail"] for row in found["results"] if row["status"] == "failed"}
    assert "dense_gflops has no source" in failed["sourced"]


def test_a_distribution_by_the_folder_of_its_source(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    from aflctl.testing.targets import find

    assert find(str(root)) == find("aflctl")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "aflctl-not-there"\n')
    code, _, err = ask(capsys, "plugin", "check", str(tmp_path))
    assert code == 2
    assert "aflctl-not-there, which is not installed" in err
    assert f"pip install -e {tmp_path}" in err
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    code, _, err = ask(capsys, "plugin", "check", str(tmp_path))
    assert code == 2
    assert "names no project" in err


def test_a_name_of_two_kinds_means_both(capsys: pytest.CaptureFixture[str]) -> None:
    from aflctl.testing.targets import find

    assert {t.kind for t in find("cfl")} == {"algorithms", "personalizations"}
    assert [t.name for t in find("algorithms/cfl")] == ["cfl"]
    assert len(find("aflctl")) > 60


def test_an_unknown_target_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, "plugin", "check", "fedbuf")
    assert code == 2
    assert "did you mean 'fedbuff'" in err
    code, found, _ = ask(capsys, "plugin", "check", "model/mpl", "--json")
    assert code == 2
    assert "mlp" in found["error"]["hint"]


def test_a_new_distribution(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, found, _ = ask(capsys, "plugin", "new", "aflctl-fedmine", "--path", str(tmp_path), "--json")
    assert code == 0
    assert (found["kind"], found["name"]) == ("algorithm", "fedmine")
    assert found["files"] == [
        "README.md", "pyproject.toml", "src/aflctl_fedmine/__init__.py", "src/aflctl_fedmine/py.typed",
        "tests/test_conformance.py",
    ]  # fmt: skip
    text = (tmp_path / "aflctl-fedmine" / "src" / "aflctl_fedmine" / "__init__.py").read_text()
    assert "class Fedmine(Algorithm[State]):" in text
    assert "$" not in text
    code, _, err = ask(capsys, "plugin", "new", "aflctl-fedmine", "--path", str(tmp_path))
    assert code == 2
    assert "nothing is overwritten" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("-fed", "cannot be the name of a distribution"),
        ("fed mine", "cannot be the name of a distribution"),
        ("../fed", "cannot be the name of a distribution"),
        ("9lives", "cannot be one"),
        ("class", "cannot be one"),
        ("aflctl", "cannot be one"),
        ("json", "exists already"),
        ("numpy", "exists already"),
        ("aflctl-fedbuff", "algorithm 'fedbuff' exists already, in aflctl"),
    ],
)
def test_names_that_will_not_do(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        create(name, "algorithm", tmp_path)
    assert caught.value.hint
    assert not any(tmp_path.iterdir())


def test_a_kind_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown kind of plug-in 'algorythm'"):
        create("aflctl-mine", "algorythm", tmp_path)
    assert set(KINDS) == {
        "algorithm", "dataset", "model", "partition", "selection", "personalization", "fusion", "profile",
    }  # fmt: skip


def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(UserError, match="cannot be written") as caught:
        create("aflctl-mine", "algorithm", Path("/proc/nowhere"))
    assert "--path" in (caught.value.hint or "")
