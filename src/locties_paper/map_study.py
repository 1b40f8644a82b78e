"""`locties.fit_map` beside a random forest and kriging, on the same labels of the open tier.

    python -m locties_paper.map_study --output results/map_study.parquet

It measures the score, and the coverage of nominal 90% intervals, in spatial blocks without a label.
In each draw, half of a task's blocks give labels and the other half is the test. Every contender
sees the same labels and nothing else, and chooses its settings on them. Draws 0 to 3 were pilots.
Because of them kriging joined the candidates of `fit_map`, so the draws reported here begin at 10.
Finished cells are kept, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from tqdm import tqdm

import locties
from locties import maps
from locties.apply.grid import pixel_centres
from locties.data.manifest import manifest_hash
from locties.evaluation import Task
from locties.evaluation.public_tasks import OPEN_TASKS
from locties.evaluation.splits import block_index
from locties.evaluation.statistics import mean_interval
from locties.lonlat import to_xyz
from locties_paper.results import write, write_table

LABELS = (50, 200, 1000)
FIRST = 10  # draw
TEST = 2000  # places, at most
COVERAGE = 0.9
NORMAL = NormalDist().inv_cdf(0.5 + COVERAGE / 2)  # half-width, in standard deviations
TREES = 500
DEGREE = 10  # of the harmonics of regression kriging's trend


class Answer(NamedTuple):
    """A contender's predictions at N test places.

    `value` is a measurement or a class code; `low` and `high` are the ends of the interval, or
    `inside` (N, K) says which classes are in the set. `trusted` marks places where the contender
    says its prediction can be trusted. `claimed` is the coverage that it measured itself, on blocks
    held back.
    """

    value: NDArray[Any]
    low: NDArray[Any] | None = None
    high: NDArray[Any] | None = None
    inside: NDArray[np.bool_] | None = None
    trusted: NDArray[np.bool_] | None = None
    claimed: float | None = None


Contender = Callable[[Task, torch.Tensor, int], Answer]


def with_locties(task: Task, places: torch.Tensor, seed: int) -> Answer:
    """`locties.fit_map`, which chooses among the published encoders and coordinates alone."""
    fitted = locties.fit_map("auto", task, coverage=COVERAGE, seed=seed, progress=False)
    there = fitted.predict(places)
    own: dict[str, Any] = {
        "trusted": there["trusted"].to_numpy(),
        "claimed": float(fitted.coverage["measured"].iloc[0]),
    }
    if task.classes is None:
        return Answer(*(there[name].to_numpy() for name in ("value", "low", "high")), **own)
    code = {name: number for number, name in enumerate(task.classes)}
    inside = np.zeros((len(there), len(code)), bool)
    for row, names in enumerate(there["set"]):
        inside[row, [code[name] for name in names.split("|") if name]] = True
    return Answer(there["value"].map(code).to_numpy(), inside=inside, **own)


def random_forest(task: Task, places: torch.Tensor, seed: int) -> Answer:
    """500 trees on x, y, z, with intervals or sets from the 90% quantile of out-of-bag errors."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if task.classes is None else RandomForestClassifier
    forest = kind(TREES, oob_score=True, random_state=seed)
    forest.fit(to_xyz(task.lonlat).numpy(), task.target)
    there = to_xyz(places).numpy()
    if task.classes is None:
        value = forest.predict(there)
        half = np.nanquantile(np.abs(task.target - forest.oob_prediction_), COVERAGE)
        return Answer(value, value - half, value + half)
    known = np.searchsorted(forest.classes_, task.target)
    error = 1 - forest.oob_decision_function_[np.arange(len(known)), known]
    probability = np.zeros((len(there), len(task.classes)))
    probability[:, forest.classes_] = forest.predict_proba(there)
    inside = probability >= 1 - np.nanquantile(error, COVERAGE)
    inside[np.arange(len(there)), probability.argmax(1)] = True
    return Answer(probability.argmax(1), inside=inside)


def ordinary_kriging(task: Task, places: torch.Tensor, seed: int) -> Answer:
    """Exponential variogram of great-circle distances; the interval is normal."""
    return _kriged(task.lonlat, task.target, places)


def regression_kriging(task: Task, places: torch.Tensor, seed: int) -> Answer:
    """Ordinary kriging of a ridge's residuals on harmonics; blocks choose the penalty."""
    trend = locties.fit_probe(f"harmonics_{DEGREE}", task)
    rest = _kriged(task.lonlat, task.target - trend(task.lonlat), places)
    return Answer(*(part + trend(places) for part in rest[:3]))


def _kriged(lonlat: torch.Tensor, values: NDArray[Any], places: torch.Tensor) -> Answer:
    from pykrige.ok import OrdinaryKriging

    model = OrdinaryKriging(
        *_columns(lonlat),
        values,
        variogram_model="exponential",
        coordinates_type="geographic",
        nlags=20,
        pseudo_inv=True,  # repeated places make the matrix singular
    )
    value, variance = map(np.asarray, model.execute("points", *_columns(places)))
    half = NORMAL * np.sqrt(np.maximum(variance, 0))
    return Answer(value, value - half, value + half)


def _columns(lonlat: torch.Tensor) -> NDArray[np.float64]:
    """Longitudes and latitudes (2, N), as a copy, since pykrige changes its input."""
    return lonlat.double().numpy().T.copy()


ALWAYS: dict[str, Contender] = {"locties": with_locties, "random forest": random_forest}
KRIGING: dict[str, Contender] = {
    "ordinary kriging": ordinary_kriging,
    "regression kriging": regression_kriging,
}


def draw(task: Task, labels: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows with a label, from half of the blocks, and rows of the test, from the other half."""
    rng = np.random.default_rng(seed)
    block = block_index(task.lonlat)
    names = rng.permutation(np.unique(block))
    among = np.isin(block, names[: len(names) // 2])
    known, test = (rng.permutation(np.flatnonzero(rows)) for rows in (among, ~among))
    if len(known) < labels:
        raise ValueError(f"{task.name}: {len(known)} places in half of the blocks, not {labels}")
    return known[:labels], test[:TEST]


def measure(task: Task, labels: int, seed: int, name: str) -> dict[str, float]:
    """Score, coverage, mean width or size of set, and duration (s) of one contender in one draw.

    The score is R² or accuracy; `width` is in standard deviations of the test's target, or in
    classes. `loss` is the interval score of Gneiting and Raftery (2007) in the same unit, which
    penalises both width and misses. `trusted` is the share of test places that the contender
    trusts; `score_trusted` and `coverage_trusted` are for these places.
    """
    known, test = draw(task, labels, seed)
    labelled = replace(task, lonlat=task.lonlat[known], target=task.target[known])
    places, truth = task.lonlat[test], task.target[test]
    start = time.perf_counter()
    answer = {**ALWAYS, **KRIGING}[name](labelled, places, seed)
    duration = time.perf_counter() - start
    if answer.inside is not None:
        right = (answer.value == truth).astype(float)
        covered = answer.inside[np.arange(len(truth)), truth]
        found = {"score": right.mean(), "width": answer.inside.sum(1).mean()}
    else:
        assert answer.low is not None
        assert answer.high is not None
        spread = truth.std()
        covered = (answer.low <= truth) & (truth <= answer.high)
        miss = np.maximum(answer.low - truth, 0) + np.maximum(truth - answer.high, 0)
        width = answer.high - answer.low
        found = {
            "score": r2_score(truth, answer.value),
            "width": width.mean() / spread,
            "loss": (width + 2 / (1 - COVERAGE) * miss).mean() / spread,
        }
    found |= {"coverage": covered.mean(), "duration": duration}
    if answer.claimed is not None:
        found["claimed"] = answer.claimed
    if answer.trusted is not None and answer.trusted.any():
        kept = answer.trusted
        error = answer.value != truth if answer.inside is not None else (answer.value - truth)
        found |= {
            "trusted": kept.mean(),
            "coverage_trusted": covered[kept].mean(),
            "error_trusted": np.sqrt((error[kept].astype(float) ** 2).mean()),
            "error_elsewhere": np.sqrt((error[~kept].astype(float) ** 2).mean())
            if (~kept).any()
            else np.nan,
        }
    return {metric: float(value) for metric, value in found.items()}


def study(
    to: Path, names: Sequence[str], labels: Sequence[int], seeds: int, progress: bool = True
) -> pd.DataFrame:
    """Measure every cell, several seeds each, into a table; finished cells are kept in `to`.

    A task with fewer than three times as many places as labels is left out for that number. Rows of
    other data are not mixed with new ones: ValueError.
    """
    cell = ["task", "labels", "seed", "contender"]
    rows = pd.read_parquet(to).to_dict("records") if to.exists() else []
    if any(row.get("data", manifest_hash()) != manifest_hash() for row in rows):
        raise ValueError(f"{to} has rows of other data: pass another --output")
    done = {tuple(row[name] for name in cell) for row in rows}
    tasks = {name: OPEN_TASKS[name]() for name in names}
    # Go draw by draw, so that an interrupted study has every task.
    asked = [
        (name, count, seed, contender)
        for seed, count, (name, task) in product(range(FIRST, FIRST + seeds), labels, tasks.items())
        if len(task.target) >= 3 * count
        for contender in (ALWAYS if task.classes else {**ALWAYS, **KRIGING})
    ]
    for each in tqdm([each for each in asked if each not in done], disable=not progress):
        name, count, seed, contender = each
        rows.append(
            dict(zip(cell, each, strict=True)) | measure(tasks[name], count, seed, contender)
        )
        write_table(pd.DataFrame(rows), to)
    return pd.DataFrame(rows)


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """The score of locties minus each other contender's in the same draw, with its interval.

    Returns:
        By task, labels and contender: difference, low and high (95%, t over draws).
    """
    draw = ["task", "labels", "seed"]
    ours = table[table["contender"] == "locties"]
    pairs = ours.merge(table[table["contender"] != "locties"], on=draw, suffixes=("", "_other"))
    pairs["apart"] = pairs["score"] - pairs["score_other"]
    groups = pairs.groupby(["task", "labels", "contender_other"], sort=False)["apart"]
    found = groups.agg(mean_interval)
    columns = ["difference", "low", "high"]
    return pd.DataFrame(found.tolist(), found.index.set_names("contender", level=2), columns)


def example(to: Path) -> None:
    """Map tree species from all labels, at the land of a grid of one degree, into a table."""
    task = OPEN_TASKS["tree_species"]()
    fitted = locties.fit_map("auto", task, coverage=COVERAGE)
    height = 180
    lon, lat = pixel_centres(180 / height)
    rows, columns = np.nonzero(maps.land_mask(height))
    there = fitted.predict(np.stack([lon[columns], lat[rows]], axis=1))
    kept = there[["value", "low", "high"]].astype(np.float32)
    about = {"trusted": there["trusted"], "chosen": fitted.chosen, "labels": len(task.target)}
    where = {"row": rows.astype(np.int16), "column": columns.astype(np.int16)}
    write_table(kept.assign(**where, **about), to)


def main() -> None:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/map_study.parquet"))
    parser.add_argument("--tasks", nargs="+", default=list(OPEN_TASKS), choices=list(OPEN_TASKS))
    parser.add_argument("--labels", nargs="+", type=int, default=list(LABELS))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    example(options.output.with_name("map_tree_species.parquet"))
    table = study(options.output, options.tasks, options.labels, options.seeds)
    settings = {"tasks": options.tasks, "labels": options.labels, "draws": options.seeds}
    write(table, options.output, settings)
    print(table.groupby(["task", "labels", "contender"])[["score", "coverage"]].mean().round(3))


if __name__ == "__main__":
    main()
