"""The pages as the tests see them: their fenced blocks, what each is for, and a shell that executes them quickly.

A page is a story in an empty folder. Its blocks are taken in order:

    sh, console   commands (`$ ...` in console), each must end with exit code 0
    yaml          a file if the first line is `# name.yaml`, else a configuration that is executed for a few updates;
                  of a workflow, `# .github/workflows/name.yml`, the steps are executed
    python        a file if the first line is `# name.py`, else a program
    csv           a file; its first line, `# name.csv`, is left out
    toml          parsed
    text          shown only: equations, diagrams; or, with `printed`, what the commands before it print

An HTML comment in the line before a block changes that, always with a reason:

    <!-- not executed: needs a GPU -->
    <!-- exit 2: the mistake is the point -->
    <!-- printed: the end is left out -->

Of what is printed each line is compared, numbers and blanks aside; `...` stands for what is left out.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not executed|printed|exit (\d+)): (\S.*?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its fence, its language, its text, and what the comment before it says."""

    line: int
    language: str
    text: str
    skipped: str | None = None
    code: int = 0
    printed: bool = False

    @property
    def file(self) -> str | None:
        """The name in its first line, `# first.yaml`."""
        match = re.match(r"# (\S+\.(?:yaml|yml|py|csv|json|toml))\n", self.text)
        return match[1] if match else None

    @property
    def commands(self) -> list[str]:
        """The command lines of a block for a shell, continued lines joined; the steps of a workflow."""
        if self.language == "console":
            return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        if self.language == "sh":
            lines = self.text.replace("\\\n", " ").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if (self.file or "").startswith(".github/workflows/"):
            jobs = yaml.safe_load(self.text)["jobs"].values()
            return [step["run"] for job in jobs for step in job["steps"] if "run" in step]
        return []


def outline(text: str) -> list[str]:
    """The lines of an output without their numbers and blanks; empty ones are left out."""
    lines = (re.sub(r"\s+", " ", re.sub(r"\d[\d.,]*", "#", line)).strip() for line in text.splitlines())
    return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        found.append(
            Block(
                text.count("\n", 0, match.start()) + 1,
                match[2],
                textwrap.dedent(match[3]),
                mark[3] if mark and mark[1] == "not executed" else None,
                int(mark[2] or 0) if mark else 0,
                bool(mark and mark[1] == "printed"),
            )
        )
    return found


def outside_blocks(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """README and everything under docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Shell:
    """Runs a page's commands with this environment's aflctl, loaded once: each command is a fork of a warm process.

    `pip install FOLDER` puts a distribution where only this shell's commands find it; `pip install 'aflctl[extra]'`
    asks whether there is such an extra.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._address = str(folder / "socket")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AFLCTL_", "PYTHONPATH", "COLUMNS"))}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        environment |= {"AFLCTL_DATA_DIR": str(folder / "data"), "NO_COLOR": "1"}
        self._environment = environment | {"PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._script("aflctl", _CLIENT.format(address=self._address, kind="aflctl"))
        self._script("warm-python", _CLIENT.format(address=self._address, kind="python"))
        self._script("pip", _PIP.format(root=str(ROOT)))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._address)
        listener.listen()
        with listener:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(listener.fileno())],
                pass_fds=[listener.fileno()],
                env=self._environment,
            )

    def _script(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(f"#!{sys.executable} -IS\n{text}")
        file.chmod(0o755)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def command(self, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """One line of a shell."""
        return self._call(["sh", "-c", line], folder)

    def program(self, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """A program in Python."""
        return self._call(["warm-python", text], folder)

    def _call(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        environment = self._environment | {"PYTHONPATH": str(folder / ".installed")}
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )


# Takes (kind, arguments, folder, environment) and the three standard files from a client, forks, and works there.
_SERVER = """
import array, json, os, signal, socket, sys, traceback
import matplotlib.pyplot, scipy.stats, sklearn.datasets, torch
import aflctl.cli.app, aflctl.engine, aflctl.engine.suites.suite, aflctl.report, aflctl.testing
import aflctl.builtin.algorithms.fedbuff, aflctl.builtin.models.mlp, aflctl.builtin.datasets.digits
listener = socket.socket(fileno=int(sys.argv[1]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    connection, _ = listener.accept()
    with connection:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        message, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        kind, arguments, folder, environment = json.loads(message)
        for i, fd in enumerate(fds):
            os.dup2(fd, i)
            os.close(fd)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
        code = 0
        try:
            if kind == "aflctl":
                sys.argv = ["aflctl", *arguments]
                aflctl.cli.app.main(arguments)
            else:
                sys.argv, sys.path[:0] = ["-c"], [""]
                exec(compile(arguments[0], "<page>", "exec"), {"__name__": "__main__"})
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else int(done.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(0)
"""

_CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    message = json.dumps(["{kind}", sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [message], [0, 1, 2])
    answer = server.recv(1)
sys.exit(answer[0] if answer else 70)
"""

_PIP = """
import os, re, subprocess, sys, tomllib
wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
if wanted[:1] != ["install"] or not wanted[1:]:
    sys.exit("only pip install is known here")
for what in wanted[1:]:
    what, extras = re.fullmatch(r"([^\\[]*)(?:\\[(.*)\\])?", what).groups()
    where = {root!r} if what in ("aflctl", ".") else what
    with open(os.path.join(where, "pyproject.toml"), "rb") as file:
        known = tomllib.load(file)["project"].get("optional-dependencies", {{}})
    missing = set(filter(None, (extras or "").split(","))) - set(known)
    if missing:
        sys.exit(f"{{what}} has no extra {{sorted(missing)}}")
    if where != {root!r}:
        subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "python"), "-m", "pip", "install", "--quiet", "--no-deps",
             "--disable-pip-version-check", "--no-build-isolation", "--target", ".installed", where],
            check=True,
        )
"""
