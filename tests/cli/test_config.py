"""`aflctl config`, and what every command does with mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aflctl import errors
from aflctl.cli import app as commands
from aflctl.cli.app import execute
from aflctl.config.load import load
from aflctl.config.yaml_text import parse


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]):
    def call(*args: str, code: int = 0) -> tuple[str, str]:
        found = execute(list(args))
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return call


def test_show_is_yaml_that_says_where_each_value_comes_from(ask, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("algorithm: {name: fedbuff, buffer_size: 7}\n")
    out, err = ask("config", "show", str(file), "--set", "local.lr=0.5")
    assert err == ""
    lines = {line.split(":")[0].strip(): line for line in out.splitlines()}
    assert lines["buffer_size"].endswith(f"# {file}:1")
    assert lines["lr"].endswith("# --set local.lr=0.5") or "--set local.lr=0.5" in out
    assert lines["concurrency"].endswith("# default")
    assert load(parse(out).data).config == load(file, ["local.lr=0.5"]).config


def test_show_as_json(ask) -> None:
    document = json.loads(ask("config", "show", "smoke", "--json")[0])
    assert (document["schema"], document["version"]) == ("aflctl.config", 1)
    assert document["config"]["algorithm"]["name"] == "fedbuff"
    assert document["origins"]["algorithm.name"]["source"] == "preset"


def test_schema_is_a_json_schema(ask) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(ask("config", "schema")[0]))
    document = json.loads(ask("config", "schema", "--json")[0])
    assert document["json_schema"]["$schema"].endswith("2020-12/schema")


def test_validate(ask, tmp_path: Path) -> None:
    assert ask("config", "validate")[0].startswith("quickstart: valid")
    document = json.loads(ask("config", "validate", "smoke", "--json")[0])
    assert document["valid"] is True
    file = tmp_path / "c.yaml"
    file.write_text("fleet: {devices: {jetson-tx: 1}, networks: {wifi: 1}}\nsed: 1\n")
    out, err = ask("config", "validate", str(file), code=2)
    assert out == ""
    assert "2 problems" in err
    assert f"{file}:1: fleet.devices.jetson-tx: unknown device profile" in err
    assert f"{file}:2: sed: unknown key" in err
    error = json.loads(ask("config", "validate", str(file), "--json", code=2)[0])["error"]
    assert error["code"] == 2
    assert error["where"] == f"{file}:1"
    assert [p["path"] for p in error["problems"]] == ["fleet.devices.jetson-tx", "sed"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("config", "validate", "gone.yaml"), "unknown configuration 'gone.yaml'"),
        (("config", "validat"), "No such command 'validat'"),
        (("run", "--sed", "3"), "No such option"),
        (("run", "--seed", "x"), "--seed"),
        (("run", "a.yaml", "b.yaml"), "unexpected extra argument"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("run", "smoke", "--set", "seed"), "is not key=value"),
    ],
)
def test_the_users_mistakes_are_short_and_exit_with_2(ask, args: tuple[str, ...], message: str) -> None:
    out, err = ask(*args, code=2)
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    document = json.loads(ask(*args, "--json", code=2)[0])
    assert message in document["error"]["message"]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.Diverged("weights are nan", hint="lower lr", where="update 3"), 1, "update 3: weights are nan"),
        (errors.PluginBroken("x"), 3, "x"),
        (errors.Interrupted("stopped"), 130, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "/x"), 3, "/x: No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (ZeroDivisionError("division by zero"), 1, "AFLCTL_TRACEBACK=1"),
        (SystemExit(5), 5, ""),
    ],
)
def test_every_error_has_its_exit_code(
    ask, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("aflctl.config.load.load", fail)
    out, err = ask("config", "validate", code=code)
    assert out == ""
    assert text in err
    assert "Traceback" not in err
    monkeypatch.setenv("AFLCTL_TRACEBACK", "1")
    if isinstance(error, errors.AflctlError | ZeroDivisionError):
        assert "Traceback" in ask("config", "validate", code=code)[1]
    assert commands.EPILOG


def test_what_is_printed_besides_the_document_goes_to_stderr(ask, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(
        "from aflctl.api import Algorithm\n"
        "class A(Algorithm):\n    def model_post_init(self, _):\n        print('hello')\n"
    )
    out, err = ask("config", "show", "--set", "algorithm=./loud.py:A", "--json")
    assert json.loads(out)["config"]["algorithm"]["name"] == "./loud.py:A"
    assert "hello" in err


@pytest.mark.cli
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m aflctl.cli.app config schema | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.cli
def test_an_interrupt_exits_with_130() -> None:
    code = (
        "import os, signal, aflctl.config.load as l\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        "l.load = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)\n"
        "from aflctl.cli.app import main\nmain(['config', 'validate'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted\n"


@pytest.mark.cli
def test_a_terminal_gets_colour_unless_it_says_no() -> None:
    import pty

    def seen(**env: str) -> str:
        pid, terminal = pty.fork()
        if pid == 0:  # pragma: no cover - the child
            os.environ.update(env, TERM="xterm")
            os.execv(sys.executable, [sys.executable, "-m", "aflctl.cli.app", "list", "presets"])
        text = b""
        while True:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
        os.waitpid(pid, 0)
        return text.decode()

    assert "\x1b[" in seen()
    assert "\x1b[" not in seen(NO_COLOR="1")
