"""Plug-ins that come in separate distributions: one that works, some that are broken, two that claim one name.

Each is built as a wheel and installed into an environment of its own, which finds aflctl and its dependencies in the
environment that runs the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cli

TINY = {
    "dataset": {"name": "digits", "partition": "iid"},
    "model": "logistic",
    "clients": {"count": 6, "concurrency": 3},
    "fleet": "poster-1-1-1",
    "stop": {"updates": 6},
    "evaluate": {"every": {"updates": 3}},
}


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
    """An environment with aflctl in it, and a working folder."""

    python: Path
    folder: Path

    def call(self, *args: object) -> Answer:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "AFLCTL_", "COV_"))}
        done = subprocess.run(
            [str(self.python), *map(str, args)], cwd=self.folder, env=env, capture_output=True, text=True, timeout=300
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def aflctl(self, *args: object) -> Answer:
        return self.call("-c", "from aflctl.cli.app import main; main()", *args)

    @contextmanager
    def installed(self, *wheels: Path) -> Iterator[None]:
        """The wheels are there inside the block and gone after it."""
        names = [wheel.name.split("-")[0] for wheel in wheels]
        pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
        done = self.call(*pip, "install", "--no-deps", "--no-index", *wheels)
        assert done.code == 0, done.err
        try:
            yield
        finally:
            done = self.call(*pip, "uninstall", "--yes", *names)
            assert done.code == 0, done.err


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A fresh environment; a line in a .pth file lets it see what is installed beside this interpreter."""
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip())
    mine = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in mine))
    work = folder / "work"
    work.mkdir()
    (work / "tiny.yaml").write_text(json.dumps(TINY))  # JSON is YAML
    return Place(python, work)


def wheel(source: Path, out: Path) -> Path:
    """Builds a distribution."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def distribution(folder: Path, name: str, algorithms: Mapping[str, str], code: str) -> Path:
    """A wheel of one module, `name` with underscores, that offers `algorithms` (entry point -> class)."""
    module, source = name.replace("-", "_"), folder / name
    (source / module).mkdir(parents=True)
    (source / module / "__init__.py").write_text(textwrap.dedent(code))
    points = "\n".join(f'{key} = "{value}"' for key, value in algorithms.items())
    (source / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n[project.entry-points."aflctl.algorithms"]\n{points}\n'
    )
    return wheel(source, folder / f"{name}-wheel")


@pytest.fixture(scope="module")
def fedstale(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(root / "plugins" / "aflctl-fedstale", tmp_path_factory.mktemp("fedstale"))


def rows(place: Place) -> dict[str, dict[str, Any]]:
    """`aflctl list algorithms` by name."""
    answer = place.aflctl("list", "algorithms", "--json")
    assert answer.code == 0, answer.err
    return {f"{row['distribution']}/{row['name']}": row for row in answer.json["algorithms"]}


def test_a_plug_in_comes_works_and_goes(place: Place, fedstale: Path) -> None:
    before = rows(place)
    assert "aflctl/fedbuff" in before
    assert "aflctl-fedstale/fedstale" not in before
    with place.installed(fedstale):
        row = rows(place)["aflctl-fedstale/fedstale"]
        assert row["version"] == "0.1.0"
        assert row["summary"].startswith("FedStale")
        assert "fedstale" in place.aflctl("list", "algorithms").out
        method = '{"name": "fedstale", "buffer_size": 2}'
        answer = place.aflctl("run", "tiny.yaml", "--set", f"algorithm={method}", "--json")
        assert answer.code == 0, answer.err
        folder = place.folder / "runs" / "latest"
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["totals"]["updates"] == 6
        assert summary["totals"]["versions"] == 3
        used = json.loads((folder / "provenance.json").read_text())
        assert "aflctl-fedstale" in json.dumps(used)
        assert "beta: 0.5" in (folder / "config.yaml").read_text()
    assert rows(place) == before
    answer = place.aflctl("run", "tiny.yaml", "--set", "algorithm=fedstale")
    assert answer.code == 2
    assert "fedstale" in answer.err
    assert "Traceback" not in answer.err


def test_its_own_tests_pass_against_the_wheel(place: Place, fedstale: Path, root: Path) -> None:
    with place.installed(fedstale):
        answer = place.call("-m", "pytest", "-q", "-p", "no:cacheprovider", root / "plugins" / "aflctl-fedstale")
        assert answer.code == 0, answer.out


BROKEN = {
    "raises": "raise RuntimeError('no licence server')",
    "exits": "import sys; sys.exit(3)",
    "imports": "import a_module_that_is_nowhere",
    "syntax": "def broken(:",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("broken")
    wheels = [distribution(folder, f"sick-{k}", {f"sick-{k}": f"sick_{k}:Sick"}, code) for k, code in BROKEN.items()]
    points = {"sick-nowhere": "sick_nowhere.gone:Sick", "sick-classless": "sick_nowhere:Sick", "sick-form": "no path"}
    return [*wheels, distribution(folder, "sick-nowhere", points, "")]


def test_a_broken_plug_in_is_a_row_and_harms_nobody(place: Place, broken: list[Path]) -> None:
    sick = [*(f"sick-{kind}" for kind in BROKEN), "sick-nowhere", "sick-classless", "sick-form"]
    with place.installed(*broken):
        answer = place.aflctl("list", "algorithms", "--check", "--json")
        table = {row["name"]: row for row in answer.json["algorithms"]}
        assert {name for name, row in table.items() if row["broken"]} == set(sick)
        assert "no licence server" in table["sick-raises"]["broken"]
        assert "a_module_that_is_nowhere" in table["sick-imports"]["broken"]
        assert place.aflctl("list").code == 0
        answer = place.aflctl("run", "tiny.yaml", "--set", "algorithm=fedasync", "--quiet")
        assert answer.code == 0, answer.err
        for name in sick:
            answer = place.aflctl("run", "tiny.yaml", "--set", f"algorithm={name}")
            assert answer.code == 3, (name, answer.err)
            assert name in answer.err
            assert "Traceback" not in answer.err


MINE = """
    '''A method of {who}.'''
    from aflctl.builtin.algorithms.fedasync import FedAsync

    class Mine(FedAsync):
        '''The method of {who}.'''
"""


def test_a_name_claimed_twice_is_an_error_that_names_both(place: Place, tmp_path: Path) -> None:
    wheels = [
        distribution(tmp_path, who, {"fedmine": f"{who.replace('-', '_')}:Mine"}, MINE.format(who=who))
        for who in ("rival-one", "rival-two")
    ]
    with place.installed(*wheels):
        assert {"rival-one/fedmine", "rival-two/fedmine", "aflctl/fedbuff"} <= set(rows(place))
        answer = place.aflctl("run", "tiny.yaml", "--set", "algorithm=fedmine")
        assert answer.code == 2
        assert "rival-one" in answer.err
        assert "rival-two" in answer.err
        assert "Traceback" not in answer.err
        answer = place.aflctl("run", "tiny.yaml", "--set", "algorithm=rival-two/fedmine", "--quiet")
        assert answer.code == 0, answer.err
        used = json.loads((place.folder / "runs" / "latest" / "provenance.json").read_text())
        assert "rival-two" in json.dumps(used)
        assert "rival-one" not in json.dumps(used)
