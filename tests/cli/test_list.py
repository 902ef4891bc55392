"""`aflctl list`: everything there is, broken things included, without loading what is not asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aflctl.cli.app import execute
from aflctl.cli.list import KINDS

MINE = '''
    from typing import ClassVar, Literal
    from pydantic import Field
    from aflctl.api import Algorithm

    class Mine(Algorithm):
        """Does what I want.

        More of it.
        """
        evidence: ClassVar[str] = "a dream"
        k: int = Field(3, ge=1, le=9, description="how often")
        mode: Literal["a", "b"] = "a"
        must: float
'''


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]):
    def call(*args: str, code: int = 0) -> Any:
        found = execute(["list", *args])
        out, err = capsys.readouterr()
        assert found == code, err
        return json.loads(out) if "--json" in args else (out or err)

    return call


def test_the_overview_has_every_kind(ask) -> None:
    text = ask()
    assert all(kind in text for kind in KINDS)
    assert set(ask("--json")) == {"schema", "version", *KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(ask, kind: str) -> None:
    assert ask(kind)
    document = ask(kind, "--json")
    assert (document["schema"], document["version"]) == ("aflctl.list", 1)
    for row in document[kind]:
        assert row["name"]
        assert row["broken"] is None
    for row in document[kind][:8]:
        assert ask(kind, f"{row['group']}/{row['name']}" if kind == "profiles" else row["name"])


def test_a_profile_tells_the_source_of_each_value(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ask("profiles", "markov", "--json")["detail"]["values"]
    assert values["mean_on_s"] == {"value": 600, "source": "engineering estimate", "unverified": True, "given": True}
    fleet = ask("profiles", "poster-1-1-1", "--json")["detail"]["values"]
    assert "10.1145/3680207.3765660" in fleet["devices"]["source"]
    assert fleet["offline"] == {"value": "pause", "source": "", "unverified": False, "given": False}
    (tmp_path / "profiles" / "devices").mkdir(parents=True)
    board = "name: desk\ndense_gflops: 40\nmemory_mib: {value: 4096, source: its label}\nidle_w: 2\ntrain_w: 6\n"
    (tmp_path / "profiles" / "devices" / "desk.yaml").write_text(board)
    monkeypatch.chdir(tmp_path)
    lines = {line.split()[0]: line for line in ask("profiles", "desk").splitlines() if line}
    assert lines["dense_gflops"].endswith("the file gives no source")
    assert lines["memory_mib"].endswith("its label")
    assert lines["rnn_factor"].endswith("default")


def test_every_profile_can_be_read(ask) -> None:
    assert [row["name"] for row in ask("profiles", "--check", "--json")["profiles"] if row["broken"]] == []


def test_the_singular_will_do_and_a_typo_is_helped(ask) -> None:
    assert "fedbuff" in ask("algorithm")
    assert "did you mean 'algorithms'" in ask("algoritms", code=2)
    assert "did you mean 'fedbuff'" in ask("algorithms", "fedbuf", code=2)
    assert "did you mean 'jetson-tx2'" in ask("profiles", "jetson-tx3", code=2)
    assert "'quickstart'" in ask("presets", "quikstart", code=2)
    assert ask("algorithms", "fedbuf", "--json", code=2)["error"]["code"] == 2


def test_a_plug_in_in_full(ask, install) -> None:
    install("my-dist", {"algorithms": {"mine": "mine_mod:Mine"}}, {"mine_mod.py": MINE})
    text = ask("algorithms", "mine")
    for part in ("my-dist 1.0", "Does what I want.", "More of it.", "a dream", ">= 1, <= 9", "how often", "required"):
        assert part in text
    detail = ask("algorithms", "mine", "--json")["detail"]
    assert detail["distribution"] == "my-dist"
    assert detail["evidence"] == "a dream"
    rows = {p["name"]: p for p in detail["parameters"]}
    assert rows["k"] == {
        "name": "k", "type": "integer", "required": False, "default": 3, "range": ">= 1, <= 9",
        "description": "how often",
    }  # fmt: skip
    assert (rows["mode"]["type"], rows["must"]["required"]) == ("one of a, b", True)


def test_parameters_of_parameters(ask) -> None:
    rows = {p["name"]: p for p in ask("algorithms", "fedbuff", "--json")["detail"]["parameters"]}
    assert rows["staleness.kind"]["default"] == "polynomial"
    assert rows["buffer_size"]["range"] == ">= 1"


def test_a_broken_plug_in_is_a_row(ask, install) -> None:
    code = "import sys\nsys.exit(3)\nclass Sick: ...\n"
    install("sick", {"algorithms": {"sick": "sick_mod:Sick"}}, {"sick_mod.py": code})
    install("void", {"algorithms": {"void": "void_mod:Void"}}, {})
    rows = {row["name"]: row for row in ask("algorithms", "--json")["algorithms"]}
    assert rows["sick"]["broken"] is None
    assert "'void_mod' is not installed" in rows["void"]["broken"]
    rows = {row["name"]: row for row in ask("algorithms", "--check", "--json")["algorithms"]}
    assert "SystemExit: 3" in rows["sick"]["broken"]
    assert rows["fedbuff"]["broken"] is None
    assert "BROKEN" in ask("algorithms", "--check")
    assert "algorithm sick" in ask("plugins", "--check")
    assert "sick" in ask("algorithms", "sick", code=3)


def test_a_name_claimed_twice_says_what_to_write(ask, install) -> None:
    for who in ("rival-one", "rival-two"):
        module = who.replace("-", "_")
        install(who, {"algorithms": {"mine": f"{module}:Mine"}}, {f"{module}.py": MINE})
    assert "write rival-one/mine" in ask("algorithms")
    assert "rival-one, rival-two" in ask("algorithms", "mine", code=2)
    assert ask("algorithms", "rival-two/mine", "--json")["detail"]["distribution"] == "rival-two"


def test_a_local_file_in_full(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from aflctl.api import Algorithm\nclass Mine(Algorithm):\n    '''Here.'''\n")
    assert "Here." in ask("algorithms", "./mine.py:Mine")


def test_a_distribution_in_full(ask) -> None:
    assert "FedBuff" not in ask("plugins")
    text = ask("plugins", "aflctl")
    assert "fedbuff" in text
    assert "digits" in text


def test_a_preset_in_full_is_its_file(ask) -> None:
    assert "buffer_size: 10" in ask("presets", "quickstart")


def test_no_runs(ask, tmp_path: Path) -> None:
    assert ask("runs").strip() == "no runs"
    assert ask("runs", "--runs-dir", str(tmp_path / "gone"), "--json")["runs"] == []


def test_a_pipe_gets_plain_lines(ask) -> None:
    text = ask("algorithms")
    assert "\x1b" not in text
    assert text.splitlines()[0].split() == ["name", "distribution", "summary"]


@pytest.mark.cli
def test_listing_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from aflctl.cli.app import execute; execute(['list'])\n"
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'numpy'}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.split() == []
