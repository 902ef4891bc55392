"""Imports point one way. The arrows allowed are those of the list below; every other one fails."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "aflctl"

BOTTOM = {"api", "errors", "seam"}
ALLOWED: dict[str, set[str]] = {
    "api": set(),
    "errors": set(),
    "seam": {"api"},
    "rules": BOTTOM,
    "sources": set(),
    "data": BOTTOM,
    # drives a method by hand
    "testing": BOTTOM | {"rules", "plugins", "seam", "sim", "train", "runs", "engine", "data"},
    "scaffold": BOTTOM | {"plugins"},
    "plugins": BOTTOM | {"sources"},
    "config": BOTTOM | {"plugins", "sources"},
    "plan": BOTTOM | {"plugins", "config", "sources"},
    "sim": BOTTOM,
    "train": BOTTOM | {"rules"},
    "runs": {"errors"},
    "report": {"errors", "runs"},
    "engine": BOTTOM | {"plan", "config", "plugins", "sources", "data", "sim", "train", "runs", "report"},
    "builtin": BOTTOM | {"rules", "data"},
    "cli": BOTTOM | {"data", "engine", "plan", "config", "plugins", "runs", "report", "testing", "scaffold"},
    "": BOTTOM | {"rules", "plugins", "config", "plan", "engine", "runs", "report", "testing", "scaffold"},
}
NO_TORCH_AT_ALL = ("sim", "config", "plugins", "sources", "plan", "report", "errors", "cli")
NO_TORCH_AT_THE_TOP = ("api", "rules", "runs", "builtin/algorithms", "builtin/partitions", "builtin/selections",
                       "builtin/models", "builtin/datasets", "builtin/personalizations", "builtin/fusions")  # fmt: skip


class Arrow(NamedTuple):
    """`module` (dotted, without the package's name) imports `target` on `line`; `top` = when the module is loaded."""

    module: str
    target: str
    line: int
    top: bool


def is_type_checking(test: ast.expr) -> bool:
    """`if TYPE_CHECKING:` in either spelling."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(tree: ast.AST, module: str, package: bool, top: bool = True) -> Iterator[tuple[str, int, bool]]:
    """(imported dotted name, line, at load time) of every import outside `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for child in node.orelse:
                yield from imports(ast.Module([child], []), module, package, top)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, top
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if package else module.split(".")[:-1]
            base = node.module or ""
            if node.level:
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno, top
        else:
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                    yield node.args[0].value, node.lineno, top
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, module, package, top and not inside)


def arrows(source: Path, root: Path) -> list[Arrow]:
    """Everything that one file imports."""
    relative = source.relative_to(root).with_suffix("")
    package = relative.name == "__init__"
    parts = relative.parts[:-1] if package else relative.parts
    module = ".".join(["aflctl", *parts])
    return [
        Arrow(".".join(parts), target, line, top)
        for target, line, top in imports(ast.parse(source.read_text()), module, package)
    ]


def ours(target: str) -> str | None:
    """`aflctl.sim.loop` -> `sim.loop`; None for other packages and for the version."""
    if target in ("aflctl", "aflctl.__version__"):
        return None
    return target.removeprefix("aflctl.") if target.startswith("aflctl.") else None


def forbidden(arrow: Arrow) -> bool:
    """Whether an import breaks the rule."""
    target = ours(arrow.target)
    if target is None:
        return False
    here, there = arrow.module.split("."), target.split(".")
    if here[0] == "builtin" and there[0] == "builtin":
        return here[:2] != there[:2]
    if not (SRC / there[0]).is_dir() and not (SRC / f"{there[0]}.py").is_file():
        return here[0] != "cli"  # a public name of the package itself
    return here[0] != there[0] and there[0] not in ALLOWED.get(here[0], set())


ARROWS = [arrow for source in sorted(SRC.rglob("*.py")) for arrow in arrows(source, SRC)]


def test_every_arrow_points_down() -> None:
    wrong = [f"{a.module or '__init__'}, line {a.line}: imports {a.target}" for a in ARROWS if forbidden(a)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_area_is_in_the_list() -> None:
    areas = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert areas - {"__init__", "__main__"} <= set(ALLOWED)


def below(module: str, area: str) -> bool:
    return f"{module.replace('.', '/')}/".startswith(f"{area}/")


def names_torch(target: str) -> bool:
    return target.split(".")[0] in ("torch", "torchvision")


@pytest.mark.parametrize("area", NO_TORCH_AT_ALL)
def test_knows_no_tensors(area: str) -> None:
    assert [a for a in ARROWS if below(a.module, area) and names_torch(a.target)] == []


@pytest.mark.parametrize("area", NO_TORCH_AT_THE_TOP)
def test_loads_torch_only_when_it_works(area: str) -> None:
    assert [a for a in ARROWS if below(a.module, area) and a.top and names_torch(a.target)] == []


def test_no_arrow_is_overlooked(tmp_path: Path) -> None:
    folder = tmp_path / "sim"
    folder.mkdir()
    source = folder / "loop.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "from aflctl.api import Step\n"
        "from .world import World\n"
        "from ..train import task\n"
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import aflctl.engine\n"
        "def f():\n    from aflctl import runs\n    import importlib\n    importlib.import_module('aflctl.report')\n"
    )
    wrong = {a.target: a.top for a in arrows(source, tmp_path) if forbidden(a)}
    assert wrong == {"aflctl.train.task": True, "aflctl.engine": True, "aflctl.runs": False, "aflctl.report": False}
    assert not any(names_torch(a.target) for a in arrows(source, tmp_path))


def loaded(*modules: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after importing `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.cli
def test_the_plug_in_surface_loads_neither_torch_nor_numpy() -> None:
    assert not loaded("aflctl", "aflctl.api", "aflctl.rules", "aflctl.errors") & {"torch", "numpy"}


@pytest.mark.cli
def test_planning_loads_no_torch() -> None:
    areas = [a for a in ("config", "plugins", "plan", "sim") if (SRC / a).is_dir() or (SRC / f"{a}.py").is_file()]
    modules = [f"aflctl.{a}" for a in areas]
    for area in areas:
        modules += sorted(f"aflctl.{area}.{p.stem}" for p in (SRC / area).glob("[!_]*.py"))
    assert "torch" not in loaded("aflctl.api", "aflctl.rules", *modules)
