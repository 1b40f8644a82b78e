"""The book's page of downloads: every table of results as CSV and as Parquet.

The pipeline runs ``python -m locties_paper.site.downloads BOOK FOLDER...``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from locties_paper.sweeps import SWEEPS

LARGE = 10_000_000  # bytes above which a CSV is compressed
FILES = "_static/results"  # where the book's site keeps the files


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
        "python -m locties_paper.figures.cards best clip melt salt",
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


def write(folders: Sequence[Path], book: Path) -> None:
    """Write ``downloads.md`` and the files that it links to.

    If two tables in `folders` (Parquet or CSV) have the same name, the first counts. `book` holds
    the book's pages; the files go to `FILES` inside it, so that any page can link to them.
    """
    tables: dict[str, Path] = {}
    for folder in folders:
        for path in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]):
            tables.setdefault(path.stem, path)
    page = [
        "# Downloads",
        "Every table behind this book, as CSV (UTF-8, with a header) and as Parquet. "
        "{doc}`reproducibility` says how they were made. On every other page, *CSV* below a table "
        "saves that table.",
        "The whole book as one PDF: `make pdf` prints it and links to it here.",
    ]
    (book / FILES).mkdir(parents=True, exist_ok=True)
    for name in [
        *(name for name in TABLES if name in tables),
        *sorted(set(tables) - {*TABLES}),
    ]:
        read = pd.read_parquet if tables[name].suffix == ".parquet" else pd.read_csv
        table = read(tables[name])
        links = [
            f'<a class="download" href="../{FILES}/{file.name}" download>{file.name}</a> '
            f"({file.stat().st_size / 1e6:.2f} MB)"
            for file in _save(table, book / FILES / name)
        ]
        contents, command = TABLES.get(name, Table(""))
        page += [
            f"## {name}",
            contents,
            f"{len(table):,} rows: {' · '.join(links)}",
            f"Columns: {', '.join(f'`{column}`' for column in table.columns)}.",
            f"Made by `{command}`." if command else "",
        ]
    (book / "downloads.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


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


if __name__ == "__main__":
    write([Path(folder) for folder in sys.argv[2:]], Path(sys.argv[1]))
