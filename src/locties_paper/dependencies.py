"""Find the code that a notebook or a module depends on, from its imports.

The pipeline runs a job again when the `digest` of its code changes. Comments, docstrings and layout
of modules do not count, nor does a notebook's text, so rewording them repeats no training.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1]  # the folder of both packages


def digest(*start: str | Path, without: Sequence[str] = (), root: Path = SOURCES) -> str:
    """12 hex digits that change when the code or package data behind `start` changes.

    Args:
        start: paths of notebooks and dotted names of modules.
        without: modules and packages to leave out, with everything that only they import.
        root: the folder that holds the packages.
    """
    total, root = hashlib.sha256(), root.resolve()
    for notebook in filter(_is_notebook, start):
        total.update(json.dumps(code_cells(notebook)).encode())
    for path in files(*start, without=without, root=root):
        total.update(str(path.relative_to(root)).encode() + _content(path))
    return total.hexdigest()[:12]


def files(*start: str | Path, without: Sequence[str] = (), root: Path = SOURCES) -> list[Path]:
    """The files that `start` imports, directly or not, and the data files of their packages.

    The arguments are those of `digest`. Imports inside functions count; imports for type checking
    do not. A package may load names lazily. Its ``__init__`` then imports them for type checking,
    and using such a name counts as importing its module.

    Example:
        >>> [path.name for path in files("locties.lonlat")]
        ['__init__.py', 'lonlat.py', 'py.typed']
    """
    root = root.resolve()
    found: dict[str, Path] = {}
    waiting = [name for each in start for name in _started(each, root)]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        left_out = any(name == each or name.startswith(f"{each}.") for each in without)
        if path is None or name in found or left_out:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [name.rpartition(".")[0], *_imported(path.read_text(), package, root)]
    data = {other for path in found.values() for other in _data(path.parent)}
    return sorted({*found.values(), *data})


def code_cells(notebook: str | Path) -> list[str]:
    """The sources of a notebook's code cells."""
    cells = json.loads(Path(notebook).read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _is_notebook(start: str | Path) -> bool:
    return Path(start).suffix == ".ipynb"


def _started(start: str | Path, root: Path) -> list[str]:
    if not _is_notebook(start):
        if _file(str(start), root) is None:
            raise ValueError(f"no module {start!r} in {root}: give a dotted name, or a notebook")
        return [str(start)]
    code = "\n".join(code_cells(start))
    lines = [line for line in code.splitlines() if not line.startswith(("%", "!"))]
    return _imported("\n".join(lines), "", root)


@cache
def _file(module: str, root: Path) -> Path | None:
    """The file of a module in `root`, or None."""
    path = root.joinpath(*module.split("."))
    there = [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()]
    return there[0] if module and there else None


@cache
def _imported(source: str, package: str, root: Path) -> list[str]:
    """Modules of `root` that a source imports, or whose lazy names it uses."""
    tree = ast.parse(source)
    modules: list[str] = []
    meaning: dict[str, str] = {}  # what a name in this source stands for
    nodes = list(_run(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.append(alias.name)
                first = alias.name.partition(".")[0]
                meaning[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            modules.append(base)
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{base}.{alias.name}"
                modules += _resolved(f"{base}.{alias.name}", root)
    for node in nodes:
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            first, _, rest = dotted.partition(".")
            if first in meaning:
                modules += _resolved(f"{meaning[first]}.{rest}", root)
    return list(dict.fromkeys(modules))


def _resolved(dotted: str, root: Path) -> list[str]:
    """The modules that importing ``package.module.name`` runs, or the module of a lazy name."""
    parts = dotted.split(".")
    if not _file(parts[0], root):
        return []
    found = []
    for i, part in enumerate(parts):
        before, here = ".".join(parts[:i]), ".".join(parts[: i + 1])
        if _file(here, root):
            found.append(here)
            continue
        home = _file(before, root)
        return found + ([_lazy(home)[part]] if home and part in _lazy(home) else [])
    return found


@cache
def _lazy(init: Path) -> dict[str, str]:
    """The module of each name that a package's ``__init__`` imports for type checking only."""
    if init.name != "__init__.py":
        return {}
    blocks = [node for node in ast.parse(init.read_text()).body if _for_types(node)]
    imports = [node for block in blocks for node in ast.walk(block)]
    return {
        alias.asname or alias.name: node.module
        for node in imports
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those under ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not _for_types(child):
            yield from _run(child)


def _dotted(node: ast.expr) -> str:
    """The text of ``a.b.c``, or "" if the expression does not begin with a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _data(folder: Path) -> list[Path]:
    """Files in a package's folder, or in its ``_static``, that are not code."""
    beside = [*folder.glob("*"), *folder.glob("_static/*")]
    return [path for path in beside if path.is_file() and path.suffix not in (".py", ".pyc")]


def _content(path: Path) -> bytes:
    """The bytes of a file. For Python: its code without comments, docstrings and layout."""
    return _code(path.read_text()) if path.suffix == ".py" else path.read_bytes()


@cache
def _code(source: str) -> bytes:
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()
