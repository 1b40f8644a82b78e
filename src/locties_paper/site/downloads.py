"""The page of the book from which every table can be downloaded; the pipeline makes it."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

LARGE = 10_000_000  # bytes from which CSV is compressed
WHAT = {
    "runs": "Scores: a row for each encoder, task, split, probe, number of labels, seed and metric,"
    " with the settings, code, data and device that made it.",
    "histories": "Training: a row for each run, epoch and modality.",
    "claims": "Verdicts: a row for each cell of each claim, and one for the claim as a whole.",
    "sweeps": "Scores of the runs that the verdicts need, with the columns of `runs`.",
    "sweeps_histories": "Training of these runs, with the columns of `histories`.",
    "scores_along": "Scores of encoders kept along their training.",
    "erasure": "What is read of each modality's content before and after tying.",
    "continents": "Errors of the encoders that ship, on each continent and on all land: a row for"
    " each encoder, task and continent.",
    "benchmarks": "Timings, side by side with other code.",
    "benchmarks_goals": "Ratios of these timings, beside what was to be reached.",
    "benchmarks_step": "Where the time of a training step goes, by torch's profiler.",
    "light_install": "A fresh install without extras: time, size, and what it brings.",
    "read_ahead": "Steps of training on rows of a mapped file, asked for in several ways.",
    "kills": "Work that was killed and taken up again: a row for each kill.",
    "satclip_agreement": "How far a converted SatCLIP is from SatCLIP's own code.",
}


def write(folders: Sequence[Path], to: Path) -> None:
    """Write ``downloads.md``, and each table as CSV and as Parquet into ``downloads/`` beside it.

    Args:
        folders: of tables, Parquet or CSV; of tables of one name, that of the first folder counts.
        to: the folder of the book's pages.

    Example:
        >>> Path("results").mkdir()
        >>> pd.DataFrame({"task": ["elevation"], "value": [0.5]}).to_csv("results/claims.csv")
        >>> write([Path("results")], Path("book"))
        >>> sorted(path.name for path in Path("book/downloads").iterdir())
        ['claims.csv', 'claims.parquet']
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted([*folder.glob("*.parquet"), *folder.glob("*.csv")]):
            found.setdefault(path.stem, path)
    order = [*(name for name in WHAT if name in found), *sorted(set(found) - set(WHAT))]
    (to / "downloads").mkdir(parents=True, exist_ok=True)
    page = [
        "# Downloads",
        "Every table behind this book, twice: CSV (UTF-8, the first row names the columns) for a "
        "spreadsheet, Parquet for code. {doc}`reproducibility` says what made them. On every other "
        "page, *CSV* below a table saves what that table shows.",
        # Until `make pdf` there is no file to link to.
        '<span class="book-pdf">The whole book as one PDF</span> is printed by `make pdf`, which '
        "then links to it here.",
    ]
    for name in order:
        read = pd.read_parquet if found[name].suffix == ".parquet" else pd.read_csv
        page += _section(name, read(found[name]), to / "downloads")
    (to / "downloads.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _section(name: str, table: pd.DataFrame, folder: Path) -> list[str]:
    """Write one table's files; returns what the page says of it."""
    parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
    table.to_parquet(parquet, index=False)
    table.to_csv(csv, index=False)
    if csv.stat().st_size > LARGE:
        csv.unlink()
        csv = folder / f"{name}.csv.gz"
        table.to_csv(csv, index=False, compression={"method": "gzip", "mtime": 0})
    links = [
        f"{{download}}`{path.name} <downloads/{path.name}>` ({path.stat().st_size / 1e6:.2f} MB)"
        for path in (csv, parquet)
    ]
    columns = ", ".join(f"`{column}`" for column in table.columns)
    return [
        f"## {name}",
        WHAT.get(name, ""),
        f"{len(table):,} rows: {' · '.join(links)}",
        f"Columns: {columns}.",
    ]


if __name__ == "__main__":  # python -m locties_paper.site.downloads BOOK FOLDER...
    write([Path(folder) for folder in sys.argv[2:]], Path(sys.argv[1]))
