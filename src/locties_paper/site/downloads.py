"""Every table of results as CSV and as Parquet, and on each page those that it reads.

`locties_paper.site.build` calls `write` on the staged book.
"""

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


def write(results: Path, book: Path) -> None:
    """Save the tables of a folder in `FILES` of the book, and link to them.

    `LIST` gets a row for each table, and each notebook a last line with those that its code reads:
    their files, the command that makes them, and the code and data that they were made with.
    """
    paths = {path.stem: path for path in [*results.glob("*.parquet"), *results.glob("*.csv")]}
    (book / FILES).mkdir(parents=True, exist_ok=True)
    rows, read = [], {}
    for name in [*(name for name in TABLES if name in paths), *sorted({*paths} - {*TABLES})]:
        path = paths[name]
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        contents, command = TABLES.get(name, Table(""))
        made = f"<code>{escape(command)}</code>" if command else ""
        files = _save(table, book / FILES / name)
        origin = [made] if made else []
        for column in ("code", "data"):
            if column in table:
                origin.append(f"{column} {', '.join(sorted({str(v)[:12] for v in table[column]}))}")
        links, made_by = ", ".join(map(_link, files)), "; ".join(origin)
        cells = [name, escape(contents), f"{len(table):,}", links, made_by]
        rows.append(f'<tr id="rows-{name}"><td>{"</td><td>".join(cells)}</td></tr>')
        read[path.name] = f"{name} ({links}; {made_by})" if made_by else f"{name} ({links})"
    titles = ("table", "what it holds", "rows", "files", "made by")
    (book / LIST).write_text(
        '<div class="pst-scrollable-table-container"><table class="table">'
        f"<thead><tr><th>{'</th><th>'.join(titles)}</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n",
        encoding="utf-8",
    )
    for page in book.glob("*.ipynb"):
        _name_rows(page, read)


def _name_rows(page: Path, read: dict[str, str]) -> None:
    """Add a line to a notebook that says which of the tables (by file name) its code reads."""
    notebook = nbformat.read(page, as_version=4)
    source = "".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = [line for name, line in read.items() if f'"{name}"' in source]
    if found:
        text = f'<p class="rows">Rows of this page: {", ".join(found)}.</p>'
        notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="rows"))
        nbformat.write(notebook, page)


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
