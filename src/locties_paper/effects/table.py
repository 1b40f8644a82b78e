"""The effects of the study, each with two intervals: ``results/effects.parquet``.

``python -m locties_paper.effects.table`` computes it from the rows of the study.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd

from locties_paper.design import HARMONICS
from locties_paper.effects import (
    c1_strongest_single,
    c2_more_modalities,
    c3_headroom,
    c4_budgets,
    c6_erasure,
    c7_scale,
    family,
    probes,
    training,
)
from locties_paper.effects.effect import Contrast, Names, beside, difference, members
from locties_paper.effects.rows import read_rows, without_leaks
from locties_paper.fair_runs import write

# By question: the sweep whose rows it takes, and what is compared in them.
QUESTIONS: dict[str, tuple[str, Callable[[pd.DataFrame], list[Contrast]]]] = {
    "training": ("main", training.contrasts),
    "C1": ("main", c1_strongest_single.contrasts),
    "C1 paper": ("paper", c1_strongest_single.paper_contrasts),
    "C2": ("main", c2_more_modalities.contrasts),
    "C2 counts": ("counts", c2_more_modalities.count_contrasts),
    "C3": ("main", c3_headroom.contrasts),
    "C3 crossed": ("crossed", c3_headroom.crossed_contrasts),
    "C4": ("main", c4_budgets.contrasts),
    "C6": ("own", c6_erasure.contrasts),
    "C7": ("scale", c7_scale.contrasts),
    "C7 main": ("main", c7_scale.main_contrasts),
    "probes": ("probes", probes.contrasts),
    "family": ("main", family.contrasts),
}
# Tasks that the five modalities do not leak into come first: they are the headline.
GROUPS = {
    "open, no leaks": "tier == 'open' and not leaks",
    "open": "tier == 'open'",
    "embedded": "tier == 'embedded'",
}
LEFT_OUT = "open, leaking modalities left out"
CELLS = ("labels", "split", "probe")


def effects(results: Path) -> Iterator[dict[str, object]]:
    """Rows of the table: every contrast in every group of tasks, over all cells and in each.

    A contrast whose contenders have no rows yet has no effects.
    """
    known = {sweep for sweep, _ in QUESTIONS.values()}
    known = {sweep for sweep in known if (results / f"study_{sweep}_table.parquet").exists()}
    cells = {sweep: list(_cells(_groups(results, sweep))) for sweep in known}
    for question, (sweep, contrasts) in QUESTIONS.items():
        if sweep not in known:
            continue
        chosen = pd.read_parquet(results / f"study_{sweep}_chosen.parquet")
        for reading, text, one, other in _read(contrasts(chosen)):
            for group, by, level, rows, encoders in cells[sweep]:
                if not members(one) | members(other) <= encoders:
                    continue
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


def _groups(results: Path, sweep: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of a sweep in each group of tasks."""
    rows = read_rows(results, sweep)
    if sweep == "own":
        yield from c6_erasure.groups(rows)
        return
    yield from ((group, rows.query(query)) for group, query in GROUPS.items())
    if sweep == "main" and (results / "study_left_out_table.parquet").exists():
        yield LEFT_OUT, without_leaks(rows, read_rows(results, "left_out"))


def _read(contrasts: list[Contrast]) -> Iterator[tuple[str, str, Names, Names]]:
    """Each contrast of encoders alone and beside harmonics, unless it says how they are read."""
    for text, one, other in contrasts:
        if "+" in f"{one}{other}":
            yield "as named", text, one, other
        else:
            yield "alone", text, one, other
            yield "beside harmonics", text, beside(one, HARMONICS), beside(other, HARMONICS)


def _cells(
    groups: Iterable[tuple[str, pd.DataFrame]],
) -> Iterator[tuple[str, str, str, pd.DataFrame, set[str]]]:
    """In each group: the mean over all cells, then over those of each level of `CELLS`.

    Each with its group, column and level, and the contenders that it has.
    """
    for group, rows in groups:
        found = [("all", "all", rows)]
        for column in CELLS:
            found += [(column, str(level), cell) for level, cell in rows.groupby(column)]
        for column, level, cell in found:
            yield group, column, level, _mean(cell), set(cell["encoder"])


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
