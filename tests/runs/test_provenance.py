"""What is told about a run's origin, and what is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aflctl.runs import provenance
from aflctl.runs.provenance import code_fingerprint, collect, identity, redact, without_credentials


class Origin(NamedTuple):
    source: str
    where: str


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home" / "mara"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def some(folder: Path, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "identity": "ab" * 32, "fingerprints": {"config": "c", "code": "d", "data": "e"}, "seeds": {"data": 1},
        "origins": {"local.lr": Origin("file", f"{folder}/first.yaml:3"), "seed": "default"},
        "overrides": ["local.lr=0.1"], "argv": [f"{folder}/bin/aflctl", "run", f"{folder}/first.yaml"],
        "plugins": {"algorithms/mine": "f" * 64}, "distributions": ["pytest"], "folder": folder, "threads": 1,
    }  # fmt: skip
    return collect(**{**values, **changes})


def test_the_document_is_json_and_says_what_the_design_asks_for(home: Path) -> None:
    document = some(home, executor={"name": "serial"}, history=[{"ended_as": "interrupted"}])
    assert json.loads(json.dumps(document)) == document
    assert {"aflctl", "python", "torch", "numpy", "pytest"} <= set(document["versions"])
    assert document["command"] == ["aflctl", "run", "~/first.yaml"]
    assert document["origins"]["local.lr"] == {"source": "file", "where": "~/first.yaml:3"}
    assert document["history"] == [{"ended_as": "interrupted"}]
    assert document["hardware"]["cpu"]
    assert document["hardware"]["memory_bytes"] > 2**20
    assert document["started"].endswith("+00:00")
    assert document["format"] == 1


def test_nothing_private_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2-hunter2")
    text = json.dumps(some(home))
    assert "hunter2" not in text
    assert str(home) not in text
    assert socket.gethostname() not in text.replace("aflctl", "") or len(socket.gethostname()) < 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{home}", "~"),
        ("{home}/a {home}/b", "~/a ~/b"),
        ("--set=x={home}/a", "--set=x=~/a"),
        ("{home}ly/a", "{home}ly/a"),
        ("{home}.old", "{home}.old"),
        ("see {home}, please", "see ~, please"),
        ("nothing", "nothing"),
    ],
)
def test_the_home_folder_is_a_tilde(home: Path, text: str, expected: str) -> None:
    assert redact(text.format(home=home)) == expected.format(home=home)


def test_a_home_behind_a_link_is_found_too(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    assert redact(f"{home}/x {tmp_path}/link/y") == "~/x ~/y"
    monkeypatch.setenv("HOME", "/")
    assert redact("/etc/x") == "/etc/x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:secret@example.org/a.git", "https://example.org/a.git"),
        ("https://token@example.org:8443/a.git?access=x#y", "https://example.org:8443/a.git"),
        ("git@example.org:a/b.git", "example.org:a/b.git"),
        ("ssh://git:pw@example.org/a.git", "ssh://example.org/a.git"),
        ("/srv/git/a@b.git", "/srv/git/a@b.git"),
    ],
)
def test_an_origin_has_no_credentials(url: str, expected: str) -> None:
    assert without_credentials(url) == expected


def test_the_state_of_a_git_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.git_state(tmp_path) is None

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    git("remote", "add", "origin", "https://me:secret@example.org/x.git")
    state = provenance.git_state(tmp_path)
    assert state is not None
    assert (state["dirty"], state["origin"], len(state["commit"])) == (False, "https://example.org/x.git", 40)
    (tmp_path / "a").write_text("2")
    assert (provenance.git_state(tmp_path) or {})["dirty"] is True
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.git_state(tmp_path) is None


def test_an_identity_depends_on_each_part() -> None:
    one = identity("config", "code", "data")
    assert len(one) == 64
    assert (
        len({one, identity("x", "code", "data"), identity("config", "x", "data"), identity("config", "code", "x")}) == 4
    )
    code = code_fingerprint("0.1.0", {"a": "1", "b": "2"})
    assert code == code_fingerprint("0.1.0", {"b": "2", "a": "1"})
    assert len({code, code_fingerprint("0.1.1", {"a": "1", "b": "2"}), code_fingerprint("0.1.0", {"a": "1"})}) == 3


def test_what_changed_between_two_runs_is_said(tmp_path: Path) -> None:
    before = some(tmp_path)
    assert provenance.changes(before, before) == []
    after = {
        **before,
        "versions": {**before["versions"], "aflctl": "9.9"},
        "plugins": {"algorithms/mine": "0" * 64},
        "fingerprints": {**before["fingerprints"], "data": "other"},
    }
    assert provenance.changes(before, after) == [
        f"aflctl {before['versions']['aflctl']} -> 9.9",
        "the source of algorithms/mine was edited",
        "the data changed",
    ]


def test_no_environment_is_dumped(tmp_path: Path) -> None:
    text = json.dumps(some(tmp_path))
    long_values = [v for k, v in os.environ.items() if len(v) > 12 and k not in ("HOME", "PWD") and "/" not in v]
    assert not [v for v in long_values if json.dumps(v)[1:-1] in text and v not in ("UTF-8",)]
