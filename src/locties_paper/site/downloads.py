"""Offer every table of results for download, and name under each figure the tables behind it.

`locties_paper.site.build` calls `write` on the staged book.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from html import escape
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd

from locties_paper.sweeps import SWEEPS

LARGE = 10_000_000  # bytes above which a CSV is compressed
FILES = "_static/results"  # where the book's site keeps the files
LIST = "tables.txt"  # the list of all tables, which the page on reproducibility includes


class Table(NamedTuple):
    """What a table of results holds, and the command that makes it ("" if none does)."""

    contents: str
    command: str = ""


TIMINGS = "python benchmarks/side_by_side.py"
TABLES = {
    "effects": Table(
        "The study: differences between contenders, each with two intervals.",
        "python -m locties_paper.effects.table",
    ),
    **{
        f"study_{name}_{part}": Table(
            f"The study, {sweep.title}: {contents}.",
            f"python -m locties_paper.fair_runs {part} --sweep {name}",
        )
        for name, sweep in SWEEPS.items()
        for part, contents in (
            ("table", "scores"),
            ("baselines", "scores without training"),
            ("chosen", "the best budgets"),
            ("pilot", "scores on pilot places, which choose the budgets"),
        )
    },
    "erasure": Table(
        "What a probe reads of each modality's content, before and after tying.",
        "papermill book/erasure.ipynb",
    ),
    "continents": Table(
        "Errors of the shipped encoders by continent and on all land.",
        "python -m locties_paper.figures.cards large base small",
    ),
    "open_tasks": Table(
        "Scores of baselines and shipped encoders on the tasks of the open tier.",
        "python -m locties_paper.open_tasks",
    ),
    "map_study": Table(
        "Scores of maps from few labels, beside a random forest and kriging.",
        "python -m locties_paper.map_study",
    ),
    "map_tree_species": Table(
        "The map of tree species from few labels, with its intervals.",
        "python -m locties_paper.map_study",
    ),
    "coordbench": Table(
        "Encoders of locties under CoordBench's linear probe.", "python -m locties_paper.coordbench"
    ),
    "coordbench_published": Table("The rows of other encoders that CoordBench published."),
    "benchmarks": Table("Timings of locties and of other code.", TIMINGS),
    "benchmarks_goals": Table("Ratios of these timings, with the goals set for them.", TIMINGS),
    "benchmarks_step": Table(
        "Where the time of a training step goes, by torch's profiler.", TIMINGS
    ),
    "benchmarks_family": Table(
        "Timings of the encoders to use, beside GeoCLIP and SatCLIP, and what int8 costs them.",
        "python benchmarks/family.py",
    ),
    "light_install": Table(
        "A fresh install without extras: time, size and packages.",
        "python benchmarks/light_install.py",
    ),
    "read_ahead": Table(
        "Training on a memory-mapped file, with several ways to read ahead.",
        "python benchmarks/read_ahead.py",
    ),
    "kills": Table(
        "Runs that were killed and resumed: one row for each kill.", "python benchmarks/kills.py"
    ),
    "book_times": Table(
        "Seconds that each notebook of the book took, by profile.", "python -m locties_paper.times"
    ),
    "satclip_agreement": Table(
        "Differences between a converted SatCLIP and SatCLIP's own code.",
        "python benchmarks/satclip_agreement.py",
    ),
}

# These functions get a folder and read these of its tables.
READERS = {
    "read_rows": [f"study_main_{part}.parquet" for part in ("table", "chosen", "baselines")],
}


def write(results: Path, book: Path) -> None:
    """Save the tables of a folder in `FILES` of the book, and link to them.

    `LIST` gets a row for each table: its files, the command that makes it, and the code and data
    that it was made with. A line under each figure and table of a notebook says the same.
    """
    paths = {path.stem: path for path in [*results.glob("*.parquet"), *results.glob("*.csv")]}
    (book / FILES).mkdir(parents=True, exist_ok=True)
    rows, said = [], {}
    for name in [*(name for name in TABLES if name in paths), *sorted({*paths} - {*TABLES})]:
        path = paths[name]
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        contents, command = TABLES.get(name, Table(""))
        files = _save(table, book / FILES / name)
        origin = [f"<code>{escape(command)}</code>"] if command else []
        for column in ("code", "data"):
            if column in table:
                # The full commit, which may end in "-dirty"; 12 digits of the SHA-256 of the data.
                values = {str(value)[: 12 if column == "data" else None] for value in table[column]}
                origin.append(f"{column} {', '.join(sorted(values))}")
        links, made_by = ", ".join(map(_link, files)), "; ".join(origin)
        cells = [name, escape(contents), f"{len(table):,}", links, made_by]
        rows.append(f'<tr id="rows-{name}"><td>{"</td><td>".join(cells)}</td></tr>')
        said[path.name] = f"{name} ({'; '.join(filter(None, [links, made_by]))})"
    titles = ("table", "what it holds", "rows", "files", "made by")
    (book / LIST).write_text(
        '<div class="pst-scrollable-table-container"><table class="table">'
        f"<thead><tr><th>{'</th><th>'.join(titles)}</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n",
        encoding="utf-8",
    )
    for page in book.glob("*.ipynb"):
        _name_rows(page, said)


def _name_rows(page: Path, said: Mapping[str, str]) -> None:
    """Add a line under each figure and each table of results that says where it is from."""
    notebook = nbformat.read(page, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = origins([cell.source for cell in code], said)
    read = {cell.id: files for cell, files in zip(code, found, strict=True)}
    source = f'<a class="download" href="../_sources/book/{page.name}" download>notebook</a>'
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type != "code" or "remove-cell" in cell.metadata.get("tags", []):
            continue
        shown = "".join(str(out.get("data", "")) for out in cell.outputs)
        if "image/png" in shown or ("<table" in shown and read[cell.id]):
            rows = ", ".join(said[file] for file in read[cell.id])
            text = f"Rows: {rows}." if rows else f"Drawn by the code above ({source})."
            cells.append(
                nbformat.v4.new_markdown_cell(f'<p class="rows">{text}</p>', id=f"rows-{cell.id}")
            )
    notebook.cells = cells
    nbformat.write(notebook, page)


def origins(sources: Sequence[str], files: Iterable[str]) -> list[list[str]]:
    """The files behind each cell: those that it names, and those behind the variables it uses.

    Args:
        sources: the code of the cells, in order.
        files: file names to look for. An f-string in a cell may name several.

    Example:
        >>> origins(['scores = read("a.csv")', "scores.plot()", "1 + 1"], ["a.csv", "b.csv"])
        [['a.csv'], ['a.csv'], []]
    """
    behind: dict[str, set[str]] = {}
    found = []
    for source in sources:
        here: set[str] = set()
        for nodes, named in _statements(ast.parse(source).body):
            used = {file for node in nodes for file in files if _names(node, file)}
            for node in nodes:
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    used |= behind.get(node.id, set())
            behind |= dict.fromkeys(named, used)
            here |= used
        found.append([file for file in files if file in here])
    return found


def _statements(body: Sequence[ast.stmt]) -> Iterator[tuple[list[ast.AST], set[str]]]:
    """The nodes of each statement and the names that it sets, also for statements in blocks.

    Arguments and local names of functions and comprehensions are left out.
    """
    for statement in body:
        function = isinstance(statement, ast.FunctionDef)
        parts = [*ast.iter_child_nodes(statement)]
        inner = [] if function else [part for part in parts if isinstance(part, ast.stmt)]
        nodes = [node for part in parts if part not in inner for node in ast.walk(part)]
        own = {node.arg for node in nodes if isinstance(node, ast.arg)}
        for scope in nodes if not function else [statement]:
            if isinstance(scope, ast.comprehension | ast.FunctionDef):
                own |= _set_in(ast.walk(scope))
        outer = [n for n in nodes if not (isinstance(n, ast.Name) and n.id in own)]
        yield outer, {statement.name} if isinstance(statement, ast.FunctionDef) else _set_in(outer)
        yield from _statements(inner)


def _set_in(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that these nodes set, also by an item: ``a`` in ``a[0] = 1``."""
    stored = [n for n in nodes if isinstance(getattr(n, "ctx", None), ast.Store)]
    targets = [n.value if isinstance(n, ast.Subscript) else n for n in stored]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _names(node: ast.AST, file: str) -> bool:
    if isinstance(node, ast.Name):
        return file in READERS.get(node.id, ())
    if isinstance(node, ast.JoinedStr):
        texts = [
            str(p.value) if isinstance(p, ast.Constant) else "*" for p in ast.iter_child_nodes(node)
        ]
        return len(texts) > 1 and fnmatch(file, "".join(texts))
    return isinstance(node, ast.Constant) and node.value == file


def _link(file: Path) -> str:
    kind = "Parquet" if file.suffix == ".parquet" else "CSV"
    title = f"{file.name}, {file.stat().st_size / 1e6:.1f} MB"
    return f'<a class="download" href="../{FILES}/{file.name}" download title="{title}">{kind}</a>'


def _save(table: pd.DataFrame, stem: Path) -> list[Path]:
    """Save a table as CSV, compressed if large, and as Parquet."""
    csv, parquet = stem.with_suffix(".csv"), stem.with_suffix(".parquet")
    table.to_csv(csv, index=False)
    if csv.stat().st_size > LARGE:
        csv.unlink()
        csv = stem.with_suffix(".csv.gz")
        # Store no time, so that equal tables give equal files.
        table.to_csv(csv, index=False, compression={"method": "gzip", "mtime": 0})
    table.to_parquet(parquet, index=False)
    return [csv, parquet]
