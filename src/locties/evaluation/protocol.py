"""The protocol: frozen embeddings, tasks, folds, probes and label counts to one tidy table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from locties import month as months
from locties._util.registry import unknown
from locties.apply.grid import POINTS_PER_CHUNK, eval_mode
from locties.apply.metadata import Encoder, describe, takes_month
from locties.evaluation.baselines import contender, parts_of
from locties.evaluation.probes import PROBES, is_classification
from locties.evaluation.splits import (
    FOLDS,
    SPLITS,
    block_index,
    count_places,
    folds,
    nearest_label_km,
    possible_folds,
)
from locties.evaluation.statistics import Interval, block_bootstrap
from locties.evaluation.tasks import MONTHLY_TASKS, TASKS, Task
from locties.lonlat import LonLat, check

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]

COLUMNS = ["encoder", "tier", "task", "split", "probe", "labels", "seed", "draw", "metric", "value"]
LABELS = (50, 200, 1000)  # beside all, if a task has enough points
FEWEST_LABELS = 10


def evaluate(
    encoder: str | Path | Encoder,
    tasks: str | Task | Sequence[str | Task] | None = None,
    *,
    name: str | None = None,
    splits: str | Sequence[str] = SPLITS,
    probes: str | Sequence[str] = ("ridge", "knn"),
    labels: ArrayLike | None = None,
    seed: int = 0,
    draw: int = 0,
) -> pd.DataFrame:
    """Score a frozen location encoder with probes on tasks.

    Each of five folds is predicted from labels in the other four, and all predictions are scored
    together. For a smaller number of labels, that many are drawn from the four folds; a smaller
    draw is part of a larger one. Folds and drawn labels depend on `draw` alone, so two rows of a
    table with the same draw differ only by the encoder.

    Metrics: ``r2`` for regression; ``accuracy`` and ``macro_f1`` for classification; ``r2_low``,
    ``r2_high``, ``accuracy_low``, ``accuracy_high``, the 95% interval of a bootstrap over spatial
    blocks. ``nearest_label_km`` is the median distance from a test point to its nearest label. It
    depends on no probe, so its rows have probe ``"none"``.

    Blocks are 10 degrees high, or smaller if the labels cover only a region:
    `locties.evaluation.block_degrees` gives the height. With labels at fewer than five places, only
    random folds are scored, with a warning.

    Args:
        encoder: a name such as ``"best"`` or ``"melt+geoclip"`` (all that `contender` takes), the
            folder of a saved one, a `LocationEncoder`, or any function from lonlat `(N, 2)` float32
            to `(N, d)`. A module runs on its device, in evaluation mode.
        tasks: names in `TASKS` or `Task` objects, such as those of ``TIERS["open"]``; by default
            all of `TASKS`. An encoder that takes a month is scored on `MONTHLY_TASKS` instead;
            "melt+month" is one too.
        name: name of the encoder in the table; by default its own name.
        splits: ``"random"``, ``"block"`` or both.
        probes: names in `PROBES`. ``"mlp"``, SatCLIP's, takes minutes.
        labels: ``"all"`` or numbers of labels, at least 10. By default all, 50, 200 and 1000, as
            far as a task has enough points.
        seed: the encoder's training seed, a column of the table; it changes nothing else.
        draw: seed of the folds and of the draw of labels. Scores vary more between draws than
            between training seeds, so compare encoders over several.

    Returns:
        Table with columns encoder, tier, task, split, probe, labels (text), seed, draw, metric,
        value.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lonlat = torch.tensor(rng.uniform([-180, -60], [180, 60], (400, 2)))
        >>> warmth = Task("warmth", lonlat, 30 - lonlat[:, 1].abs() / 2, unit="degC")
        >>> table = evaluate(lambda x: x.abs(), warmth, splits="block", probes="ridge",
        ...                  labels="all")
        >>> table[table.metric == "r2"]["value"].round(3).tolist()
        [1.0]
    """
    import pandas as pd

    chosen_splits = _known("split", splits, SPLITS)
    chosen_probes = _known("probe", probes, list(PROBES))
    function, rows = contender(encoder), []
    for group in _by_points(_tasks(tasks, MONTHLY_TASKS if takes_month(function) else TASKS)):
        lonlat = group[0].lonlat
        embedding, blocks = _embedded(function, group[0]), block_index(lonlat)
        for split in _possible(chosen_splits, lonlat):
            fold = folds(lonlat, split, FOLDS, draw)
            for count in _label_counts(labels, group[0], fold):
                draws = _draw_labels(fold, count, draw)
                row = {"split": split, "labels": "all" if count is None else str(count)}
                distance = {"nearest_label_km": _median_distance(lonlat, fold, draws)}
                for task in group:
                    rows += _rows(task, "none", row, distance)
                for probe in chosen_probes:
                    predictions = _out_of_fold(probe, embedding, group, fold, draws)
                    for task, predicted in zip(group, predictions, strict=True):
                        rows += _rows(task, probe, row, _scores(task, predicted, blocks))
    return pd.DataFrame(rows).assign(encoder=name or called(encoder), seed=seed, draw=draw)[COLUMNS]


def predict(
    encoder: str | Path | Encoder, task: str | Task, split: str = "block", probe: str = "ridge"
) -> NDArray[Any]:
    """Out-of-fold predictions `(N,)` at the points of a task: those that `evaluate` scores.

    Predictions are in the target's unit, or int64 class codes.
    """
    chosen = _task(task)
    fold = folds(chosen.lonlat, split, FOLDS, seed=0)
    embedding = _embedded(contender(encoder), chosen)
    return _out_of_fold(probe, embedding, [chosen], fold, _draw_labels(fold, None))[0]


def fit_probe(
    encoder: str | Path | Encoder, task: str | Task, split: str = "block", probe: str = "ridge"
) -> Callable[..., NDArray[Any]]:
    """Fit a probe on all points of a task, to predict anywhere.

    Args:
        encoder: as in `evaluate`.
        task: a name in `TASKS`, or a `Task`.
        split: the kind of folds on which the ridge penalty is chosen.
        probe: a name in `PROBES`.

    Returns:
        Function from lonlat `(M, 2)`, and months if the encoder takes them, to predictions
            `(M,)`: in the target's unit, or int64 codes into ``task.classes``.

    Example:
        >>> lonlat = torch.rand(300, 2, generator=torch.manual_seed(0)) * 60
        >>> north = fit_probe(lambda x: x, Task("north", lonlat, lonlat[:, 1]))
        >>> north([[10.0, 50.0]]).round(2)
        array([50.])
    """
    chosen, function = _task(task), contender(encoder)
    fold = possible_folds(chosen.lonlat, split, seed=0)
    embedding = _embedded(function, chosen)
    fitted = PROBES[probe](embedding, [chosen.target], fold).fit()
    return lambda lonlat, month=None: fitted(checked_embedding(function, lonlat, month))[0]


def _embedded(function: Encoder, task: Task) -> NDArray[Any]:
    """`checked_embedding` at the points of a task, and in its months if it has any."""
    if takes_month(function) and task.month is None:
        raise ValueError(
            f"the encoder takes a month and task {task.name!r} has none: fix one with "
            f"encoder.in_month(7), or take a task with months ({', '.join(MONTHLY_TASKS)})"
        )
    if task.month is not None and not takes_month(function):
        raise ValueError(
            f"task {task.name!r} has months and the encoder takes none: join them by name, as "
            "'melt+month', or with Joined(encoder, contender('month'))"
        )
    return checked_embedding(function, task.lonlat, task.month)


def checked_embedding(
    encoder: str | Path | Encoder, lonlat: LonLat, month: Any = None
) -> NDArray[Any]:
    """Embeddings `(N, d)` of places `(N, 2)`: without gradients, in evaluation mode, all finite.

    A wrong shape or a value that is not finite raises ValueError. `month` is one or `(N,)`, for an
    encoder that takes it.
    """
    function, points = contender(encoder), check(lonlat).float()
    given = [points] if month is None else [points, months.check(month, len(points))]
    with torch.no_grad(), eval_mode(function) as device:
        parts = zip(*(torch.split(x.to(device), POINTS_PER_CHUNK) for x in given), strict=True)
        embedding = torch.cat([torch.as_tensor(function(*part)).cpu() for part in parts]).numpy()
    if embedding.ndim != 2 or len(embedding) != len(points):
        raise ValueError(
            f"the encoder gave shape {embedding.shape} for {len(points)} points: it must give "
            f"({len(points)}, d)"
        )
    check_finite(embedding, "the encoder", "points")
    return embedding


def check_finite(embedding: NDArray[Any], source: str, what: str) -> None:
    """Raise ValueError if a row of an embedding is not finite."""
    bad = ~np.isfinite(embedding).all(1)
    if bad.any():
        raise ValueError(
            f"{source} gave values that are not finite for {bad.sum()} of {len(bad)} {what}, the "
            f"first at row {bad.argmax()}: drop these, or repair the encoder"
        )


def called(encoder: str | Path | Encoder) -> str:
    """The name of an encoder in tables; for a path, its last part."""
    if isinstance(encoder, Path):
        return encoder.resolve().name
    if isinstance(encoder, str):
        return "+".join(Path(part).resolve().name for part in parts_of(encoder))
    return describe(encoder)["encoder"]


def _listed(argument: str, value: Any, allowed: str) -> list[Any]:
    """One value, or several, as a list with at least one."""
    try:
        values = [value] if isinstance(value, str | Integral | Task) else list(value)
    except TypeError:
        values = []
    if not values:
        raise ValueError(f"{argument}={value!r}: give one or several of {allowed}")
    return values


def _known(what: str, value: Any, known: Sequence[str]) -> list[str]:
    """One name, or several, as a list; all of them among the known."""
    names = _listed(f"{what}s", value, ", ".join(known))
    for each in names:
        if not isinstance(each, str) or each not in known:
            raise unknown(what, each, known)
    return names


def _possible(splits: list[str], lonlat: Tensor) -> list[str]:
    """The splits, without blocks if there are too few places for them and another split."""
    places = count_places(lonlat)
    if places >= FOLDS or len(splits) == 1:
        return splits
    warnings.warn(
        f"the labels are at {places} places, too few for {FOLDS} folds of spatial blocks: scores "
        "are of random folds alone: a test point can have a label at its own place",
        stacklevel=3,
    )
    return [split for split in splits if split != "block"]


def _tasks(
    tasks: str | Task | Sequence[str | Task] | None, default: Mapping[str, Any]
) -> list[Task]:
    chosen = list(default) if tasks is None else tasks
    allowed = f"{', '.join(TASKS)}, or Task objects"
    return [_task(task) for task in _listed("tasks", chosen, allowed)]


def _task(task: str | Task) -> Task:
    if isinstance(task, Task):
        return task
    if not isinstance(task, str):
        raise ValueError(f"{task!r} is not a task: give a Task, or one of {', '.join(TASKS)}")
    made: Task = MONTHLY_TASKS[task]() if task in MONTHLY_TASKS else TASKS[task]()
    return made


def _by_points(tasks: Sequence[Task]) -> list[list[Task]]:
    """Group tasks on the same points: they share one embedding and one decomposition."""
    groups: dict[bytes, list[Task]] = {}
    for task in tasks:
        month = b"" if task.month is None else task.month.numpy().tobytes()
        groups.setdefault(task.lonlat.numpy().tobytes() + month, []).append(task)
    return list(groups.values())


def _label_counts(
    labels: ArrayLike | None, task: Task, fold: NDArray[np.int64]
) -> list[int | None]:
    """Numbers of labels to draw, None for all."""
    available = len(fold) - int(np.bincount(fold).max())
    if labels is None:
        return [None, *(n for n in LABELS if n <= available)]
    counts: list[int | None] = []
    allowed = "'all'"
    if available >= FEWEST_LABELS:
        allowed += f" and whole numbers from {FEWEST_LABELS} to {available}"
    for n in _listed("labels", labels, allowed):
        if isinstance(n, str) and n.isdecimal():  # as in the table of results
            n = int(n)
        if isinstance(n, Integral) and FEWEST_LABELS <= int(n) <= available:
            counts.append(int(n))
        elif isinstance(n, str) and n == "all":
            counts.append(None)
        else:
            raise ValueError(
                f"labels={n!r} ({type(n).__name__}): pass {allowed}; task {task.name!r} has "
                "no more labels outside its largest fold"
            )
    return counts


def _draw_labels(
    fold: NDArray[np.int64], count: int | None, draw: int = 0
) -> list[NDArray[np.int64]]:
    """For each fold, the rows outside it whose labels may be used."""
    outside = [np.flatnonzero(fold != held_out) for held_out in range(FOLDS)]
    if count is None:
        return outside
    # One shuffle for all counts, so that a smaller draw is part of a larger one.
    rngs = np.random.default_rng(draw).spawn(FOLDS)
    return [rng.permutation(rows)[:count] for rng, rows in zip(rngs, outside, strict=True)]


def _median_distance(
    lonlat: Tensor, fold: NDArray[np.int64], draws: Sequence[NDArray[np.int64]]
) -> float:
    distances = [
        nearest_label_km(lonlat[torch.from_numpy(fold == held_out)], lonlat[torch.from_numpy(rows)])
        for held_out, rows in enumerate(draws)
    ]
    return float(np.median(np.concatenate(distances)))


def _out_of_fold(
    probe: str,
    embedding: NDArray[Any],
    tasks: Sequence[Task],
    fold: NDArray[np.int64],
    draws: Sequence[NDArray[np.int64]],
) -> list[NDArray[Any]]:
    """Predictions `(N,)` for each task; each fold is predicted from the rows drawn outside it."""
    predictions = [np.empty_like(task.target) for task in tasks]
    everything = PROBES[probe](embedding, [task.target for task in tasks], fold)
    for held_out, rows in enumerate(draws):
        test = fold == held_out
        if len(rows) + test.sum() == len(fold):
            predictor = everything.fit(held_out)
        else:
            targets = [task.target[rows] for task in tasks]
            predictor = PROBES[probe](embedding[rows], targets, fold[rows]).fit()
        for prediction, predicted in zip(predictions, predictor(embedding[test]), strict=True):
            prediction[test] = predicted
    return predictions


def _rows(task: Task, probe: str, row: dict[str, str], scores: dict[str, float]) -> Rows:
    who = {"tier": task.tier, "task": task.name, "probe": probe, **row}
    return [{**who, "metric": metric, "value": value} for metric, value in scores.items()]


def _scores(task: Task, predicted: NDArray[Any], blocks: NDArray[np.int64]) -> dict[str, float]:
    if is_classification(task.target):
        from sklearn.metrics import f1_score

        hit = (predicted == task.target).astype(np.float64)
        accuracy = block_bootstrap(np.stack([hit, np.ones_like(hit)], 1), blocks, share)
        macro_f1 = f1_score(task.target, predicted, average="macro", zero_division=0.0)
        return _with_ends("accuracy", accuracy) | {"macro_f1": float(macro_f1)}
    # Shifting and scaling the target does not change R2, and its sums do not cancel.
    spread = task.target.std() or 1.0
    truth, error = (task.target - task.target.mean()) / spread, (predicted - task.target) / spread
    terms = np.stack([error**2, truth**2, truth, np.ones_like(truth)], 1)
    return _with_ends("r2", block_bootstrap(terms, blocks, r2))


def _with_ends(metric: str, interval: Interval) -> dict[str, float]:
    return {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first sum divided by the last: a mean, if the last counts points."""
    return sums[..., 0] / sums[..., -1]


def r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """R2 from sums of squared errors, squared truths, truths and ones; truths are standardised."""
    spread = sums[..., 1] - sums[..., 2] ** 2 / sums[..., 3]
    # If all labels of a draw are equal, R2 is not defined.
    varies = spread > 1e-9 * sums[..., 3]
    return np.where(varies, 1 - sums[..., 0] / np.where(varies, spread, 1), np.nan)
