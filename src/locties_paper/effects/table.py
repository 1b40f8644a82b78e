"""The effects of the study, each with two intervals: ``results/effects.parquet``.

``python -m locties_paper.effects.table`` computes it from the rows of the study.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from locties_paper.design import HARMONICS
from locties_paper.effects import c1_strongest_single, c2_more_modalities, c3_headroom, training
from locties_paper.effects.effect import Contrast, Names, beside, difference, members
from locties_paper.effects.rows import read_rows
from locties_paper.fair_runs import write

# By question: the kind of rows, and what is compared in them.
QUESTIONS: dict[str, tuple[str, Callable[[pd.DataFrame], list[Contrast]]]] = {
    "training": ("main", training.contrasts),
    "C1": ("main", c1_strongest_single.contrasts),
    "C2": ("main", c2_more_modalities.contrasts),
    "C3": ("main", c3_headroom.contrasts),
    "C3 crossed": ("crossed", c3_headroom.crossed_contrasts),
}
# Tasks that the five modalities do not leak into come first: they are the headline.
GROUPS = {
    "open, no leaks": "tier == 'open' and not leaks",
    "open": "tier == 'open'",
    "embedded": "tier == 'embedded'",
}
CELLS = ("labels", "split", "probe")


def effects(results: Path) -> Iterator[dict[str, object]]:
    """Rows of the table: every contrast in every group of tasks, over all cells and in each."""
    kinds = [
        kind for kind in ("main", "crossed") if (results / f"study_{kind}_table.parquet").exists()
    ]
    cells = {kind: list(_cells(read_rows(results, kind))) for kind in kinds}
    for question, (kind, contrasts) in QUESTIONS.items():
        if kind not in cells:
            continue
        chosen = pd.read_parquet(results / f"study_{kind}_chosen.parquet")
        known = set(cells[kind][0][-1]["encoder"])
        for reading, text, one, other in _read(contrasts(chosen)):
            if not members(one) | members(other) <= known:  # not all are read alone
                continue
            for group, by, level, rows in cells[kind]:
                yield {
                    "question": question,
                    "contrast": text,
                    "reading": reading,
                    "one": _text(one),
                    "other": _text(other),
                    "group": group,
                    "by": by,
                    "level": level,
                    **difference(rows, one, other)._asdict(),
                }


def _read(contrasts: list[Contrast]) -> Iterator[tuple[str, str, Names, Names]]:
    """Each contrast of encoders alone and beside harmonics, unless it says how they are read."""
    for text, one, other in contrasts:
        if "+" in f"{one}{other}":
            yield "as named", text, one, other
        else:
            yield "alone", text, one, other
            yield "beside harmonics", text, beside(one, HARMONICS), beside(other, HARMONICS)


def _cells(rows: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """In each group of tasks: the mean over all cells, then over those of each level of `CELLS`."""
    for group, query in GROUPS.items():
        of_group = rows.query(query)
        yield group, "all", "all", _mean(of_group)
        for column in CELLS:
            for level, cell in of_group.groupby(column):
                yield group, column, str(level), _mean(cell)


def _mean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(["encoder", "seed", "draw", "task"])["value"].mean().reset_index()


def _text(names: Names) -> str:
    return names if isinstance(names, str) else f"mean of {', '.join(names)}"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    given = parser.parse_args()
    table = pd.DataFrame(effects(given.results))
    path = given.results / "effects.parquet"
    write(table, path)
    print(f"{path}: {len(table):,} effects")


if __name__ == "__main__":
    main()
