"""Reads the source of a module without importing it: where it lies, what a class says of itself, its hash."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_HOPS = 4


@dataclass(frozen=True)
class ClassText:
    """What the text of a module says of one of its classes; `problem` where the class is certainly not there."""

    doc: str = ""
    file: Path | None = None
    line: int | None = None
    problem: str | None = None

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().splitlines()[0].strip() if self.doc.strip() else ""


def find_module(module: str) -> tuple[Path, ...]:
    """Files a module may consist of, the package roots first and the module itself last; () where it is not found.

    Only the finder of the top-level name is asked, which executes nothing; the rest is a walk over folders. The result
    for `a.b.c` is (a/__init__.py, a/b/__init__.py, a/b/c.py), namespace packages left out.
    """
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return ()
    if spec is None:
        return ()
    found = [Path(spec.origin)] if spec.has_location and spec.origin else []
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    for name in rest:
        file, inside = _step(folders, name)
        if file is None and not inside:
            return ()
        if file is not None:
            found.append(file)
        folders = inside
    return tuple(found)


def _step(folders: list[Path], name: str) -> tuple[Path | None, list[Path]]:
    spaces = []
    for folder in folders:
        package = folder / name / "__init__.py"
        if package.is_file():
            return package, [folder / name]
        for suffix in (".py", *EXTENSION_SUFFIXES):
            file = folder / f"{name}{suffix}"
            if file.is_file():
                return file, []
        if (folder / name).is_dir():
            spaces.append(folder / name)
    return None, spaces


def read_class(module: str, name: str) -> ClassText:
    """The docstring and place of `module:name`, followed through at most a few re-exporting imports."""
    seen = module
    for _ in range(_HOPS):
        files = find_module(module)
        if not files:
            return ClassText(problem=f"module {module!r} is not installed")
        if files[-1].suffix != ".py":
            return ClassText(file=files[-1])
        tree = _parse(files[-1])
        if isinstance(tree, str):
            return ClassText(file=files[-1], problem=tree)
        found, onward, sure = _look(tree, name)
        if found is not None:
            return ClassText(ast.get_docstring(found) or "", files[-1], found.lineno)
        if onward is None:
            problem = f"{files[-1].name} of module {seen!r} has no class {name!r}" if sure else None
            return ClassText(file=files[-1], problem=problem)
        level, target, name = onward
        module = _absolute(module, files[-1], level, target)
    return ClassText()


def read_class_of_file(file: Path, name: str) -> ClassText:
    """The docstring and place of a class in a file that is no installed module."""
    tree = _parse(file)
    if isinstance(tree, str):
        return ClassText(file=file, problem=tree)
    found, onward, sure = _look(tree, name)
    if found is not None:
        return ClassText(ast.get_docstring(found) or "", file, found.lineno)
    return ClassText(file=file, problem=f"{file.name} has no class {name!r}" if sure and onward is None else None)


def classes_of_file(file: Path) -> list[str]:
    """Names of the classes defined at the top of a file; empty where it cannot be read."""
    tree = _parse(file)
    return [] if isinstance(tree, str) else [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def hash_file(file: Path) -> str:
    """sha256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def hash_module(module: str, *, whole: bool) -> str:
    """sha256 of a module's source and of the modules beside it that it imports, and so on.

    With `whole`, of every Python file of the package it belongs to: the outermost one that has an `__init__`, so that a
    namespace package shared by several distributions does not count. Raises FileNotFoundError where the module has no
    file.
    """
    files = find_module(module)
    if not files:
        raise FileNotFoundError(f"module {module!r} has no file")
    root = files[0]
    if whole and root.name == "__init__.py":
        return _hash_files(root.parent, sorted(root.parent.rglob("*.py")))
    return _hash_files(files[-1].parent, beside(module))


def beside(module: str) -> list[Path]:
    """The file of a module, and the files in its folder that it imports, directly or through each other; sorted."""
    file = find_module(module)[-1]
    found, waiting = {file}, [file]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    while waiting:
        tree = _parse(waiting.pop())
        for name in () if isinstance(tree, str) else _imported(tree, package):
            other = file.parent / f"{name}.py"
            if other not in found and other.is_file():
                found.add(other)
                waiting.append(other)
    return sorted(found)


@lru_cache(maxsize=512)
def _imported(tree: ast.Module, package: str) -> frozenset[str]:
    """Names that a module of `package` imports from that very package, wherever the statement stands."""
    names: set[str] = set()
    inside = f"{package}." if package else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level < 2:
            origin = node.module or ""
            if node.level:
                origin = inside + origin if origin else package
            dotted = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        names |= {n.removeprefix(inside).partition(".")[0] for n in dotted if n.startswith(inside)}
    return frozenset(names)


def _hash_files(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix().encode()
        data = file.read_bytes()
        digest.update(b"%d:%b%d:" % (len(name), name, len(data)))
        digest.update(data)
    return digest.hexdigest()


def _parse(file: Path) -> ast.Module | str:
    try:
        stat = file.stat()
    except OSError as error:
        return f"{file.name}: {error.strerror or error}"
    return _parse_cached(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=512)
def _parse_cached(file: Path, mtime_ns: int, size: int) -> ast.Module | str:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        return f"{file.name}:{error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{file.name}: {error}"


def _look(tree: ast.Module, name: str) -> tuple[ast.ClassDef | None, tuple[int, str, str] | None, bool]:
    """(the class, or the import that brings the name as (level, module, original name), whether absence is certain)."""
    sure = True
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop(0)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, None, True
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return None, (node.level, node.module or "", alias.name), True
                sure = sure and alias.name != "*"
        elif isinstance(node, ast.If | ast.Try | ast.With):
            nodes = [*node.body, *getattr(node, "orelse", []), *nodes]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.Import | ast.Expr):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {getattr(node, "name", "")}
            sure = sure and name not in names and not names & {"__getattr__", "globals", "setattr"}
    return None, None, sure


def _absolute(module: str, file: Path, level: int, target: str) -> str:
    if level == 0:
        return target
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    parts = package[: len(package) - (level - 1)]
    return ".".join([*parts, target] if target else parts)
