"""The book's page of downloads: every table of results as CSV and as Parquet.

The pipeline runs ``python -m locties_paper.site.downloads BOOK FOLDER...``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

LARGE = 10_000_000  # bytes above which a CSV is compressed
CONTENTS = {
    "runs": "Scores: one row for each encoder, task, split, probe, number of labels, seed and "
    "metric, with the settings, code, data and device behind it.",
    "histories": "Training: one row for each run, epoch and modality.",
    "claims": "Verdicts: one row for each cell of each claim, and one for the whole claim.",
    "sweeps": "Scores of the runs behind the verdicts, with the columns of `runs`.",
    "sweeps_histories": "Training of the runs in `sweeps`, with the columns of `histories`.",
    "scores_along": "Scores of encoders saved during training.",
    "erasure": "What a probe reads of each modality's content, before and after tying.",
    "continents": "Errors of the shipped encoders by continent and on all land.",
    "open_tasks": "Scores of baselines on the tasks of the open tier.",
    "coordbench": "Encoders of locties under CoordBench's linear probe.",
    "coordbench_published": "The rows of other encoders that CoordBench published.",
    "benchmarks": "Timings of locties and of other code.",
    "benchmarks_goals": "Ratios of these timings, with the goals set for them.",
    "benchmarks_step": "Where the time of a training step goes, by torch's profiler.",
    "light_install": "A fresh install without extras: time, size and packages.",
    "read_ahead": "Training on a memory-mapped file, with several ways to read ahead.",
    "kills": "Runs that were killed and resumed: one row for each kill.",
    "satclip_agreement": "Differences between a converted SatCLIP and SatCLIP's own code.",
}


def write(folders: Sequence[Path], book: Path) -> None:
    """Write ``downloads.md`` and the files that it links to.

    If two tables in `folders` (Parquet or CSV) have the same name, the first counts. `book` holds
    the book's pages; the files go to ``downloads/`` inside it.
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
    (book / "downloads").mkdir(parents=True, exist_ok=True)
    for name in [
        *(name for name in CONTENTS if name in tables),
        *sorted(set(tables) - {*CONTENTS}),
    ]:
        read = pd.read_parquet if tables[name].suffix == ".parquet" else pd.read_csv
        table = read(tables[name])
        links = [
            f"{{download}}`{file.name} <downloads/{file.name}>` "
            f"({file.stat().st_size / 1e6:.2f} MB)"
            for file in _save(table, book / "downloads" / name)
        ]
        page += [
            f"## {name}",
            CONTENTS.get(name, ""),
            f"{len(table):,} rows: {' · '.join(links)}",
            f"Columns: {', '.join(f'`{column}`' for column in table.columns)}.",
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
