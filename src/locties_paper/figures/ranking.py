"""An interactive ranking: a reader chooses a task, split, probe and number of labels.

`rank_contenders` turns scores into means with intervals. `html` puts several `Source` of scores,
with style and script, into one piece of HTML that needs no network.
"""

import html as markup
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from locties_paper import design
from locties_paper.effects.effect import interval
from locties_paper.effects.rows import read_rows, seen, shared
from locties_paper.figures.charts import METRICS
from locties_paper.site.downloads import FILES, TABLES
from locties_paper.sweeps import SWEEPS

ALL = "mean of all tasks"
CLEAN = "mean of tasks without leaks"
CELL = ["tier", "task", "split", "probe", "labels"]
REPLICATE = ["seed", "draw"]
DIGITS = 3  # of a score


class Source(NamedTuple):
    """Scores that are ranked together, since they rest on the same points.

    Attributes:
        rows: of `locties.evaluate`, with columns seed and draw.
        code: Python that reads them, in a clone.
        tables: the files behind them, by their names in `results/`.
    """

    rows: pd.DataFrame
    code: str
    tables: Sequence[str]


def sources(results: Path) -> dict[str, Source]:
    """What can be ranked of the tables in a folder, by title."""
    found = {}
    for kind in ("main", "crossed"):
        tables = [f"study_{kind}_table"]
        if SWEEPS[kind].baselines:
            tables.append(f"study_{kind}_baselines")
        if all((results / f"{name}.parquet").exists() for name in tables):
            code = 'shared(read_rows(Path("results")))'
            if kind != "main":
                code = f'shared(read_rows(Path("results"), "{kind}"))'
            code = (
                "from pathlib import Path\n\n"
                f"from locties_paper.effects.rows import read_rows, shared\n\n{code}"
            )
            rows = shared(read_rows(results, kind))
            found[SWEEPS[kind].title] = Source(
                rows[~rows["encoder"].str.contains("@")], code, tables
            )
    if (results / "open_tasks.parquet").exists():
        found["baselines on the open tasks"] = Source(
            pd.read_parquet(results / "open_tasks.parquet"),
            'import pandas as pd\n\npd.read_parquet("results/open_tasks.parquet")',
            ["open_tasks"],
        )
    return found


class Ranking(NamedTuple):
    """Means of scores, cells by contenders; NaN where there are no rows.

    Attributes:
        contenders: their names.
        cells: rows with `CELL`, and metric.
        mean: (cells, contenders) float.
        half: half the width of the 95% interval; NaN for a single replicate.
        seeds, draws: (cells, contenders) int, how many.
        leaks: for a tier and task, the modalities that leak into it, by position of the contender.
        tasks: for a tier, the tasks in `ALL` and in `CLEAN`.
    """

    contenders: list[str]
    cells: pd.DataFrame
    mean: np.ndarray
    half: np.ndarray
    seeds: np.ndarray
    draws: np.ndarray
    leaks: dict[tuple[str, str], dict[int, list[str]]]
    tasks: dict[tuple[str, str], list[str]]


def leaks(encoder: str, tier: str, task: str) -> list[str]:
    """The modalities of a contender that leak into a task.

    Example:
        >>> leaks("melt", "embedded", "elevation")
        ['relief']
    """
    return sorted(seen(encoder) & set(design.LEAKING[tier].get(task, ())))


def rank_contenders(rows: pd.DataFrame) -> Ranking:
    """Mean scores with 95% intervals over replicates, for each cell and contender.

    A replicate is a seed with its draws; for a contender with one seed, it is a draw.

    Args:
        rows: of `locties.evaluate`, with columns seed and draw.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    rows = rows.assign(labels=rows["labels"].astype(str))
    contenders = list(rows["encoder"].unique())
    leaking = _leaking(rows, contenders)
    tasks = {}
    for tier in rows["tier"].unique():
        own = [task for of, task in leaking if of == tier]
        clean = [task for task in own if not leaking[tier, task]]
        if len(own) > 1:
            tasks[tier, ALL] = own
            union = defaultdict(set)
            for task in own:
                for at, found in leaking[tier, task].items():
                    union[at].update(found)
            leaking[tier, ALL] = {at: sorted(found) for at, found in union.items()}
        if 1 < len(clean) < len(own):
            tasks[tier, CLEAN] = clean
    means = [_mean(rows, tier, title, found) for (tier, title), found in tasks.items()]
    rows = pd.concat([*means, rows], ignore_index=True)

    cells = rows[[*CELL, "metric"]].drop_duplicates(CELL)
    cells = cells.sort_values(CELL, key=_order, ignore_index=True)
    number = pd.MultiIndex.from_frame(cells[CELL])
    shape = len(cells), len(contenders)
    mean, half = np.full(shape, np.nan), np.full(shape, np.nan)
    seeds, draws = np.zeros(shape, int), np.zeros(shape, int)
    for name, mine in rows.groupby("encoder"):
        at = contenders.index(name)
        wide = mine.pivot(index=REPLICATE, columns=CELL, values="value")  # noqa: PD010
        several = [len(wide.index.unique(level)) for level in REPLICATE]
        if several[0] > 1 and 1 < several[1] < len(wide):
            raise ValueError(
                f"{name!r} has {several[0]} seeds that share draws: score each seed at its own"
            )
        replicates = wide.groupby(level="seed" if several[0] > 1 else "draw").mean()
        at_rows = number.get_indexer(wide.columns)
        for row, of, values in zip(at_rows, wide, replicates.to_numpy().T, strict=True):
            mean[row, at] = values[np.isfinite(values)].mean()
            _, high = interval(values[np.isfinite(values)], mean[row, at])
            half[row, at] = high - mean[row, at]
            there = wide.index[wide[of].notna()]
            seeds[row, at], draws[row, at] = (len(there.unique(level)) for level in REPLICATE)
    return Ranking(contenders, cells, mean, half, seeds, draws, leaking, tasks)


def _leaking(
    rows: pd.DataFrame, names: Sequence[str]
) -> dict[tuple[str, str], dict[int, list[str]]]:
    """For each tier and task, the modalities that leak into it, by position of the contender."""
    pairs = rows[["tier", "task"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        pair: {at: found for at, name in enumerate(names) if (found := leaks(name, *pair))}
        for pair in pairs
    }


def _mean(rows: pd.DataFrame, tier: str, title: str, tasks: Sequence[str]) -> pd.DataFrame:
    """Rows of the mean over tasks of a tier, of contenders that have all that others have."""
    rows = rows[(rows["tier"] == tier) & rows["task"].isin(tasks)]
    beside = [name for name in CELL if name != "task"]
    wanted = rows.groupby(beside)["task"].nunique().rename("wanted")
    by = ["encoder", *beside, *REPLICATE]
    mean = rows.groupby(by)["value"].agg(value="mean", found="count").reset_index()
    mean = mean.merge(wanted, on=beside)
    whole = mean[mean["found"] == mean["wanted"]]
    return whole.assign(task=title, metric="").drop(columns=["found", "wanted"])


def _order(column: pd.Series) -> pd.Series:
    """Means before tasks, blocks before random folds, all labels before few."""
    if column.name == "labels":
        return -column.replace("all", "1e99").astype(float)
    first = {ALL: 0, CLEAN: 1, "open": 0, "block": 0, "ridge": 0}
    ranks = {value: first.get(value, 2 + at) for at, value in enumerate(sorted(set(column)))}
    return column.map(ranks)


def html(given: Mapping[str, Source]) -> str:
    """The data, the style and the script as one piece of HTML.

    Args:
        given: what a reader can choose to rank, by title.
    """
    rankings = {title: rank_contenders(source.rows) for title, source in given.items()}
    static = files("locties_paper.figures") / "_static"
    data = [_packed(title, given[title], ranking) for title, ranking in rankings.items()]
    return Template((static / "ranking.html").read_text("utf-8")).substitute(
        controls=(static / "controls.css").read_text("utf-8"),
        style=(static / "ranking.css").read_text("utf-8"),
        element=(static / "element.js").read_text("utf-8"),
        script=(static / "ranking.js").read_text("utf-8"),
        # A closing tag would end the script; JSON reads \u003c as the same character.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        files=f"../{FILES}/",
        table=_first(next(iter(rankings.values()))),
    )


def _packed(title: str, source: Source, ranking: Ranking) -> dict[str, Any]:
    """A source as the script reads it: for each cell, who has scores, and these in thousandths."""
    scores = []
    kinds: dict[tuple[int, int], int] = {}  # of numbers of seeds and draws
    everyone = np.isfinite(ranking.mean).all(axis=1)
    for row, mean in enumerate(ranking.mean):
        there = np.flatnonzero(np.isfinite(mean))
        counts = zip(ranking.seeds[row, there], ranking.draws[row, there], strict=True)
        kind = [kinds.setdefault((int(s), int(d)), len(kinds)) for s, d in counts]
        scores.append(
            [
                None if everyone[row] else there.tolist(),
                _thousandths(mean[there]),
                _thousandths(ranking.half[row, there]),
                kind[0] if len(set(kind)) == 1 else kind,
            ]
        )
    return {
        "title": title,
        "code": source.code,
        "tables": source.tables,
        "commands": list(dict.fromkeys(TABLES[name].command for name in source.tables)),
        "contenders": ranking.contenders,
        "cells": ranking.cells.to_dict("split")["data"],
        "scores": scores,
        "kinds": list(kinds),
        "leaks": [[*pair, found] for pair, found in ranking.leaks.items()],
        "tasks": [[*pair, found] for pair, found in ranking.tasks.items()],
    }


def _thousandths(values: np.ndarray) -> list[int | None]:
    whole = np.round(10**DIGITS * values)
    return [int(value) if np.isfinite(value) else None for value in whole]


def _first(ranking: Ranking) -> str:
    """The first ranking as a plain table, for readers without scripts."""
    cell = ranking.cells.iloc[0]
    shown = pd.DataFrame(
        {"contender": ranking.contenders, "mean": ranking.mean[0], "±": ranking.half[0]}
    )
    shown = shown.dropna(subset="mean").sort_values("mean", ascending=False)
    title = f"Tier {cell['tier']}, {cell['task']}, {cell['split']} folds, {cell['probe']}"
    table = shown.to_html(index=False, border=0, float_format=f"%.{DIGITS}f", na_rep="")
    return f"<p>{markup.escape(title)}, {cell['labels']} labels:</p>{table}"
