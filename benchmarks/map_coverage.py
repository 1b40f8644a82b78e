"""Do the intervals and sets of `fit_map` hold what they promise, on real labels?

    LOCTIES_MIRROR=... python benchmarks/map_coverage.py [results/map_coverage.parquet]

Some labels of each open file are drawn and mapped. The table says what the map measured by itself
(held-out blocks, random folds), and how it did on labels that were not drawn. Beside it stand the
scores of coordinates alone.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import locties
from locties.evaluation import OPEN_TASKS, Task
from locties_paper.results import write

LABELS, DRAWS, OTHERS = (200, 1000), 5, 2000
COVERAGE = 0.9


def tasks() -> list[Task]:
    """Global and regional, measurements and classes."""
    mirror = Path(os.environ["LOCTIES_MIRROR"])
    plots = pd.read_csv(mirror / "trees/PLOTS_with_environment.csv").query("S > 0")
    houses = pd.read_csv(mirror / "housing/housing.csv")
    return [
        OPEN_TASKS["air_temperature"](),
        Task("tree_species", plots[["Lon", "Lat"]], np.log(plots["S"]), unit="log species"),
        Task("house_value", houses[["longitude", "latitude"]], houses["median_house_value"]),
        OPEN_TASKS["biome"](),
    ]


def part(task: Task, rows: np.ndarray) -> Task:
    """A task of some of its labels."""
    lonlat, target = task.lonlat[torch.from_numpy(rows)], task.target[rows]
    return Task(task.name, lonlat, target, task.kind, task.unit, task.classes)


def measure(task: Task, labels: int, draw: int) -> dict[str, object]:
    """One map of `labels` labels, judged by itself and on other labels."""
    order = np.random.default_rng(draw).permutation(len(task.target))
    drawn, others = (part(task, rows) for rows in (order[:labels], order[labels:][:OTHERS]))
    start = time.perf_counter()
    fitted = locties.fit_map("auto", drawn, coverage=COVERAGE, seed=draw, progress=False)
    seconds = time.perf_counter() - start
    table = fitted.predict(others.lonlat)
    if task.classes is None:
        inside = table["low"].le(others.target) & table["high"].ge(others.target)
        error = np.abs(table["value"] - others.target)
    else:
        truth = np.array(task.classes)[others.target]
        pairs = zip(table["set"], truth, strict=True)
        inside = pd.Series([name in names.split("|") for names, name in pairs])
        error = pd.Series(table["value"] != truth, dtype=float)
    scores, trusted = fitted.scores.set_index("candidate")["block"], table["trusted"]
    blocks, random = (row for _, row in fitted.coverage.iterrows())
    return {
        "task": task.name,
        "labels": labels,
        "draw": draw,
        "chosen": fitted.chosen,
        "block_degrees": fitted.metadata["block_degrees"],
        "score": scores["the choice"],
        "score_harmonics": scores["harmonics_10, ridge"],
        "score_knn_on_xyz": scores["xyz, knn"],
        "coverage_blocks": blocks["measured"],
        "coverage_blocks_low": blocks["low"],
        "coverage_blocks_high": blocks["high"],
        "coverage_random": random["measured"],
        "coverage_others": inside.mean(),
        "width": blocks["mean_width"],
        "width_others": (
            table["high"] - table["low"] if "low" in table else table["set_size"]
        ).mean(),
        "trusted_others": trusted.mean(),
        "error_trusted": error[trusted].mean(),
        "error_not_trusted": error[~trusted].mean(),
        "fit_seconds": seconds,
    }


def rows() -> Iterator[dict[str, object]]:
    for labels in LABELS:
        for task in tasks():
            for draw in range(DRAWS):
                row = measure(task, min(labels, len(task.target) // 2), draw)
                print(row, flush=True)
                yield row


if __name__ == "__main__":
    to = sys.argv[1] if len(sys.argv) > 1 else "results/map_coverage.parquet"
    settings = {"labels": LABELS, "draws": DRAWS, "coverage": COVERAGE, "encoder": "auto"}
    write(pd.DataFrame(rows()), to, "laptop", settings)
