"""README and docs are true: their files are written, their commands run, their configurations executed, in order."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from aflctl.cli.app import app
from aflctl.config.parameters import field_at
from aflctl.config.schema import Config
from pages import ROOT, Block, Shell, blocks, outline, outside_blocks, pages

pytestmark = pytest.mark.cli

NAMES = [page.relative_to(ROOT).as_posix() for page in pages()]
LINKED = [*NAMES, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "plugins/aflctl-fedstale/README.md"]
STORY = [name for name in NAMES if any(b.language in ("sh", "console", "yaml", "python") for b in blocks(ROOT / name))]
# Runs a configuration for a few updates; without pictures, which take half of the time of so short a run.
FEW = """
import sys, aflctl.cli.app, aflctl.report.pictures.drawing
aflctl.report.pictures.drawing.save = lambda figure, path: None
few = ['--set', 'stop={"updates": 4}', '--set', 'evaluate.every={"updates": 4}', '--quiet', '--runs-dir', 'blocks']
aflctl.cli.app.main(["run", FILE, *few])
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("shell"))
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def quickstart(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that a bare `aflctl run` makes, made once for all pages that begin with it."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = shell.command("aflctl run", folder)
    assert done.returncode == 0, done.stderr
    return next((folder / "runs").glob("fedbuff-digits-*"))


# ---- what is shown works ----


@pytest.mark.parametrize("page", STORY)
def test_what_a_page_shows_works(
    page: str, shell: Shell, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "plugins").symlink_to(ROOT / "plugins")  # what the README's reader has beside it
    shown_blocks, said = blocks(ROOT / page), ""
    if any("aflctl run" in block.commands for block in shown_blocks):
        finished: Path = request.getfixturevalue("quickstart")
        shutil.copytree(finished, tmp_path / "runs" / finished.name)
    for block in shown_blocks:
        if block.printed:
            absent = [line for line in outline(block.text) if not shown(line, outline(said))]
            assert absent == [], f"{page}:{block.line}: is not printed"
        elif block.skipped is None:
            said = tell(block, page, shell, tmp_path) or said


def shown(line: str, output: list[str]) -> bool:
    """Whether a line of the page is a line of the output, or its beginning where the page ends it with dots."""
    return line in output or (line.endswith("...") and any(o.startswith(line[:-3].strip()) for o in output))


def tell(block: Block, page: str, shell: Shell, folder: Path) -> str:
    """Does what one block says, and gives back what its commands said."""
    at, said = f"{page}:{block.line}", ""
    if block.file:
        file = folder / block.file
        file.parent.mkdir(parents=True, exist_ok=True)
        _, _, rest = block.text.partition("\n")
        file.write_text(rest if file.suffix in (".csv", ".json") else block.text)
    for command in block.commands:
        done = shell.command(command, folder)
        assert done.returncode == block.code, f"{at}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert (done.stdout + done.stderr).strip() or re.search(r"pip|>|python -", command), f"{at}: {command}: no word"
        said += f"{done.stdout}\n{done.stderr}\n"
    if block.file:
        return said
    if block.language == "yaml":
        file = folder / f"line-{block.line}.yaml"
        file.write_text(block.text)
        done = shell.program(FEW.replace("FILE", repr(file.name)), folder)
        assert done.returncode == block.code, f"{at}:\n{block.text}\n{done.stderr[-4000:]}"
    elif block.language == "python":
        done = shell.program(block.text, folder)
        assert done.returncode == block.code, f"{at}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    elif block.language == "toml":
        tomllib.loads(block.text)
    return said


@pytest.mark.parametrize("page", STORY)
def test_files_of_a_page_are_used(page: str) -> None:
    """A configuration that is shown as a file is one that a command of the page runs."""
    shown = blocks(ROOT / page)
    commands = "\n".join([*(c for b in shown for c in b.commands), *(b.text for b in shown if b.language != "sh")])
    files = [b.file for b in shown if b.file and b.skipped is None]
    assert [f for f in files if commands.count(Path(f).stem) < 2] == []


@pytest.mark.parametrize("page", NAMES)
def test_nothing_escapes_execution(page: str) -> None:
    """Commands stand in blocks that say so; a block that is not executed says why."""
    plain = [b.line for b in blocks(ROOT / page) if not b.language and re.search(r"^\s*(aflctl|pip) ", b.text, re.M)]
    indented = re.findall(r"^(?:\n|\A)((?: {4}|\t)(?:aflctl|pip|python) .*)$", outside_blocks(ROOT / page), re.M)
    assert (plain, indented) == ([], [])
    assert [b.line for b in blocks(ROOT / page) if b.skipped is not None and len(b.skipped) < 8] == []


# ---- the means themselves ----


def test_a_page_is_read_as_it_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# T\n\n```sh\naflctl run x && \\\n  true   # why\n# a comment\n```\n\n"
        "<!-- not executed: needs a GPU -->\n```console\n$ aflctl list\nname\n```\n\n"
        "<!-- exit 2: a mistake -->\n```sh\naflctl run y\n```\n\n- list\n\n"
        "    ```yaml\n    # a.yaml\n    seed: 1\n    ```\n"
    )
    first, second, third, fourth = blocks(page)
    assert (first.line, first.commands, first.skipped, first.code) == (3, ["aflctl run x &&    true   # why"], None, 0)
    assert (second.commands, second.skipped) == (["aflctl list"], "needs a GPU")
    assert (third.skipped, third.code) == (None, 2)
    assert (fourth.language, fourth.file, fourth.text) == ("yaml", "a.yaml", "# a.yaml\nseed: 1\n")
    assert outside_blocks(page).count("aflctl") == 0


def test_the_shell_is_a_shell(shell: Shell, tmp_path: Path) -> None:
    assert shell.command("aflctl --version", tmp_path).stdout.startswith("aflctl ")
    assert shell.command("aflctl list algorithms | head -1", tmp_path).stdout.startswith("name")
    assert shell.command("aflctl run nothing-such", tmp_path).returncode == 2
    assert shell.program("import os; print(os.getcwd())", tmp_path).stdout.strip() == str(tmp_path)
    assert shell.program("raise SystemExit(7)", tmp_path).returncode == 7
    assert shell.program("1 / 0", tmp_path).returncode == 1
    assert shell.command("pip install 'aflctl[slurm,test]'", tmp_path).returncode == 0
    assert "no extra" in shell.command("pip install 'aflctl[nothing]'", tmp_path).stderr


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (Block(1, "sh", "aflctl run nothing-such\n"), "nothing-such"),
        (Block(1, "sh", "aflctl --version\n", code=2), "aflctl --version"),
        (Block(1, "yaml", "clients: {cuont: 3}\n"), "did you mean 'count'"),
        (Block(1, "python", "import aflctl\naflctl.nothing\n"), "nothing"),
    ],
)
def test_what_does_not_work_is_noticed(block: Block, complaint: str, shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        tell(block, "page.md", shell, tmp_path)


# ---- what is mentioned exists ----


def known_options(words: list[str]) -> set[str] | None:
    """Options of the command that the words begin with; None where there is no such command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        inner = getattr(command, "commands", None)
        if inner is None:
            break
        if word not in inner:
            return None
        command = inner[word]
    return {name for p in command.params for name in [*p.opts, *p.secondary_opts]} | {"--help", "-h", "--version"}


@pytest.mark.parametrize("page", LINKED)
def test_commands_in_the_text_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    wrong = []
    for mention in re.findall(r"\baflctl ((?:[a-z]+ ?)+[^`|\n]*)`", text):
        words = [w for w in mention.split("#")[0].split() if w]
        options = known_options([w for w in words if not w.startswith("-")])
        used = {w.partition("=")[0] for w in words if re.match(r"--?[a-z]", w)}
        if options is None or used - options:
            wrong.append(mention)
    assert wrong == []


@pytest.mark.parametrize("page", LINKED)
def test_keys_in_the_text_exist(page: str) -> None:
    plain = "clients|local|server|stop|evaluate|seeds|engine|checkpoint|modalities"  # sections without plug-ins' keys
    text = outside_blocks(ROOT / page)
    found = re.findall(rf"(?:`|--set '?)((?:{plain})\.[a-z_]+(?:\.[a-z_]+)*)(?:[:=][^`]*)?`", text)
    keys = {tuple(key.split(".")) for key in found if not key.startswith("clients.selection.")}
    others = {("clients", "csv"), ("stop", "time")}  # a file; a name that was not chosen
    assert {key for key in keys - others if field_at(Config, key)[1] is None} == set()


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", file.read_text())
    assert [t for t in targets if not (file.parent / t).exists()] == []


def test_every_page_is_in_the_contents() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\S+\.md)$", yaml.safe_dump(yaml.safe_load(text)["nav"], width=1000), re.M))
    assert listed == {name.removeprefix("docs/") for name in NAMES if name != "README.md"}


def test_made_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.pages()
    stale = [name for name, text in made.items() if (ROOT / "docs" / "reference" / name).read_text() != text]
    assert stale == [], "run: python docs/generate.py"


def test_the_page_of_the_run_directory_names_all_that_is_there(shell: Shell, quickstart: Path, tmp_path: Path) -> None:
    few = "--set 'stop.updates=8' --set personalization=fedper --quiet"
    assert shell.command(f"aflctl run smoke {few}", tmp_path).returncode == 0
    text = (ROOT / "docs" / "reference" / "run-directory.md").read_text()
    absent = set()
    for run in (quickstart, next((tmp_path / "runs").glob("fedbuff-*"))):
        absent |= {f.name for f in run.iterdir() if f"`{f.name}{'/' if f.is_dir() else ''}`" not in text}
        for table in run.glob("*.csv"):
            section = text[text.index(f"## `{table.name}`") :].partition("\n## ")[0]
            columns = table.read_text().partition("\n")[0].split(",")
            absent |= {c for c in columns if f"`{c}`" not in section and f"`_{c.partition('_')[2]}`" not in section}
        section = text[text.index("## `summary.json`") :]
        absent |= {key for key in json.loads((run / "summary.json").read_text()) if f"`{key}`" not in section}
    assert absent == set()


# ---- what the README says of make and of the tests ----


TESTS = "python -m pytest -n auto --dist loadfile"


def recipe(target: str) -> list[str]:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True)
    return [line.strip().removeprefix(".venv/") for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_does_what_the_readme_says() -> None:
    assert "bin/aflctl run" in recipe("run")
    assert f"bin/{TESTS}" in recipe("test")
    assert "bin/mkdocs build --strict" in recipe("docs")


def test_ci_installs_tests_and_builds_as_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet '.[test,docs]'" in script
    assert f"\n{TESTS}\n" in (ROOT / "README.md").read_text()
    assert f"\n{TESTS} " in script
    assert re.search(r"mkdocs\" build --strict", script)
    assert "--quiet" not in script[script.index("mkdocs\"") :].splitlines()[0]  # warnings would not even be counted


def test_a_broken_link_breaks_the_site(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page, right, wrong in (
        ("index.md", "(tutorials/first-run.md)", "(tutorials/first-rum.md)"),
        ("reference/profiles.md", "(#source-1)", "(#source-9999)"),
    ):
        (tmp_path / "docs" / page).write_text((ROOT / "docs" / page).read_text().replace(right, wrong, 1))
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "'tutorials/first-rum.md', but the target is not found" in done.stderr
    assert "'#source-9999', but there is no such anchor" in done.stderr
