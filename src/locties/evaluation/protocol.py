"""The protocol: frozen embeddings, tasks, folds, probes and label counts to one tidy table."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from locties._util.registry import unknown
from locties.apply.grid import POINTS_PER_CHUNK, eval_mode
from locties.evaluation.probes import PROBES, is_classification
from locties.evaluation.splits import SPLITS, block_index, folds, nearest_label_km
from locties.evaluation.statistics import Interval, block_bootstrap
from locties.evaluation.tasks import TASKS, Task
from locties.lonlat import check

Encoder = Callable[[Tensor], Any]
Rows = list[dict[str, Any]]

COLUMNS = ["encoder", "tier", "task", "split", "probe", "labels", "seed", "metric", "value"]
LABELS = ("all", 50, 200, 1000)
FOLDS = 5
# Folds and draws of labels are the same for every encoder and every training seed: what differs
# between two rows of a table is then the encoder.
PROTOCOL_SEED = 0


def evaluate(
    encoder: Encoder,
    tasks: str | Task | Sequence[str | Task] | None = None,
    *,
    name: str = "encoder",
    splits: str | Sequence[str] = SPLITS,
    probes: str | Sequence[str] = ("ridge", "knn"),
    labels: str | int | Sequence[str | int] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a frozen location encoder with probes on tasks.

    Embeddings are computed once for each set of points. Predictions are made for the points of
    each of five folds from labels in the other four, and are scored together. With few labels,
    that many are drawn from the four folds (50 are among the 200, and those among the 1000), and
    the whole fifth is still the test. Folds and draws are the same for every encoder.

    Metrics: ``r2`` for regression; ``accuracy`` and ``macro_f1`` for classification; ``r2_low``,
    ``r2_high``, ``accuracy_low``, ``accuracy_high``, the ends of the 95% interval of a bootstrap
    over blocks of 10 degrees. ``nearest_label_km``, the median distance from a test point to its
    nearest label, belongs to the labels and no probe: its rows have probe ``"none"``.

    Args:
        encoder: `LocationEncoder`, or any function from lonlat `(N, 2)` float32 tensor to
            `(N, d)`. A module is used where it lies, in evaluation mode, without gradients.
        tasks: names in `TASKS`, or `Task` objects, such as those of ``TIERS["open"]``; all of
            `TASKS` by default.
        name: what to call the encoder in the table.
        splits: ``"random"``, ``"block"`` or both.
        probes: names in `PROBES`. ``"mlp"``, SatCLIP's, takes minutes and is left out by default.
        labels: ``"all"`` or numbers of labels, at least 10. By default all, 50, 200 and 1000,
            without those a task has too few points for.
        seed: the encoder's training seed. It labels the rows and changes nothing else.

    Returns:
        Table with columns encoder, tier (of the task), task, split, probe, labels (text), seed,
        metric, value.

    Raises:
        ValueError: an unknown task, split or probe; more labels asked for than a task has;
            embeddings of the wrong shape or not finite.
        DataError: where the data of a named task are missing; the message says what to run.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> lonlat = torch.tensor(rng.uniform([-180, -60], [180, 60], (400, 2)))
        >>> warmth = Task("warmth", lonlat, 30 - lonlat[:, 1].abs() / 2, unit="degC")
        >>> table = evaluate(lambda x: x.abs(), warmth, splits="block", probes="ridge",
        ...                  labels="all")
        >>> table[table.metric == "r2"]["value"].round(3).tolist()
        [1.0]

    Source: a protocol of this project; the block bootstrap and block folds name theirs.
    """
    chosen_splits, chosen_probes = _several(splits), _several(probes)
    for split in chosen_splits:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
    for probe in chosen_probes:
        PROBES[probe]
    rows: Rows = []
    for group in _by_points(_tasks(tasks)):
        embedding = embed(encoder, group[0].lonlat)
        blocks = block_index(group[0].lonlat)
        for split in chosen_splits:
            fold = folds(group[0].lonlat, split, FOLDS, PROTOCOL_SEED)
            for count in _label_counts(labels, group[0], fold):
                draws = _draws(fold, count)
                distance = _median_distance(group[0].lonlat, fold, draws)
                row = {"split": split, "labels": "all" if count is None else str(count)}
                rows += [
                    {"tier": task.tier, "task": task.name, "probe": "none", **row}
                    | {"metric": "nearest_label_km", "value": distance}
                    for task in group
                ]
                for probe in chosen_probes:
                    predictions = _out_of_fold(probe, embedding, group, fold, draws)
                    for task, predicted in zip(group, predictions, strict=True):
                        rows += [
                            {"tier": task.tier, "task": task.name, "probe": probe, **row}
                            | {"metric": metric, "value": value}
                            for metric, value in _scores(task, predicted, blocks).items()
                        ]
    return pd.DataFrame(rows).assign(encoder=name, seed=seed)[COLUMNS]


def predict(
    encoder: Encoder, task: str | Task, split: str = "block", probe: str = "ridge"
) -> NDArray[Any]:
    """Out-of-fold prediction at each point of a task, as scored by `evaluate` with all labels.

    Args:
        encoder: as in `evaluate`.
        task: a name in `TASKS`, or a `Task`.
        split: ``"random"`` or ``"block"``.
        probe: a name in `PROBES`.

    Returns:
        `(N,)` in the target's unit, or int64 class codes.

    Raises:
        ValueError: an unknown task, split or probe, or embeddings that are not usable.
        DataError: where the data of a named task are missing; the message says what to run.

    Example:
        >>> lonlat = torch.rand(300, 2, generator=torch.manual_seed(0)) * 60
        >>> task = Task("north", lonlat, lonlat[:, 1])
        >>> bool(abs(predict(lambda x: x, task) - task.target).max() < 1)
        True
    """
    (chosen,) = _tasks(task)
    fold = folds(chosen.lonlat, split, FOLDS, PROTOCOL_SEED)
    embedding = embed(encoder, chosen.lonlat)
    return _out_of_fold(probe, embedding, [chosen], fold, _draws(fold, None))[0]


def fit_probe(
    encoder: Encoder, task: str | Task, split: str = "block", probe: str = "ridge"
) -> Callable[[Any], NDArray[Any]]:
    """Fit a probe on all points of a task, to predict anywhere: for maps, and for use.

    Args:
        encoder: as in `evaluate`.
        task: a name in `TASKS`, or a `Task`.
        split: the kind of folds on which the ridge penalty is chosen.
        probe: a name in `PROBES`.

    Returns:
        Function from lonlat `(M, 2)` to predictions `(M,)`: in the target's unit, or int64 codes
        into ``task.classes``.

    Raises:
        ValueError: an unknown task, split or probe, or embeddings that are not usable.
        DataError: where the data of a named task are missing; the message says what to run.

    Example:
        >>> lonlat = torch.rand(300, 2, generator=torch.manual_seed(0)) * 60
        >>> north = fit_probe(lambda x: x, Task("north", lonlat, lonlat[:, 1]))
        >>> north([[10.0, 50.0]]).round(2)
        array([50.])
    """
    (chosen,) = _tasks(task)
    fold = folds(chosen.lonlat, split, FOLDS, PROTOCOL_SEED)
    fitted = PROBES[probe](embed(encoder, chosen.lonlat), [chosen.target], fold).fit()
    return lambda lonlat: fitted(embed(encoder, lonlat))[0]


def embed(encoder: Encoder, lonlat: Any) -> NDArray[Any]:
    """Embeddings `(N, d)` as a numpy array, checked; a module keeps its mode and device.

    Raises:
        ValueError: the wrong shape, or a value that is not finite.
    """
    points = check(lonlat).float()
    with torch.no_grad(), eval_mode(encoder) as device:
        parts = points.to(device).split(POINTS_PER_CHUNK)
        embedding = torch.cat([torch.as_tensor(encoder(part)).cpu() for part in parts]).numpy()
    if embedding.ndim != 2 or len(embedding) != len(points):
        raise ValueError(
            f"the encoder gave shape {embedding.shape} for {len(points)} points: it must give "
            f"({len(points)}, d)"
        )
    bad = ~np.isfinite(embedding).all(1)
    if bad.any():
        raise ValueError(
            f"the encoder gave values that are not finite for {bad.sum()} of {len(points)} points, "
            f"the first at row {bad.argmax()}: a probe cannot be fitted on them"
        )
    return embedding


def _several(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | int | Task) else list(value)


def _tasks(tasks: str | Task | Sequence[str | Task] | None) -> list[Task]:
    named = list(TASKS) if tasks is None else _several(tasks)
    return [task if isinstance(task, Task) else TASKS[task]() for task in named]


def _by_points(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks on the same points go together: one embedding and one decomposition serve them all."""
    groups: dict[bytes, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.lonlat.numpy().tobytes(), []).append(task)
    return iter(groups.values())


def _label_counts(
    labels: str | int | Sequence[str | int] | None, task: Task, fold: NDArray[np.int64]
) -> list[int | None]:
    """Numbers of labels to draw, None for all."""
    available = len(fold) - int(np.bincount(fold).max())
    if labels is None:
        fitting = [n for n in LABELS if isinstance(n, str) or n <= available]
        return [None if isinstance(n, str) else n for n in fitting]
    counts = [None if n == "all" else n for n in _several(labels)]
    for n in counts:
        if n is not None and not (isinstance(n, int) and 10 <= n <= available):
            raise ValueError(
                f"labels={n!r}: task {task.name!r} leaves {available} labels to draw from outside "
                f"its largest fold; ask for 10 to {available}, or 'all'"
            )
    return counts


def _draws(fold: NDArray[np.int64], count: int | None) -> list[NDArray[np.int64]]:
    """For each fold, the rows outside it whose labels may be used."""
    outside = [np.flatnonzero(fold != held_out) for held_out in range(FOLDS)]
    if count is None:
        return outside
    # One shuffle for every count, so that a smaller draw lies inside a larger one.
    rngs = np.random.default_rng(PROTOCOL_SEED).spawn(FOLDS)
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
    """Predictions `(N,)` for each task, for each fold from the rows drawn outside it."""
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


def _scores(task: Task, predicted: NDArray[Any], blocks: NDArray[np.int64]) -> dict[str, float]:
    if is_classification(task.target):
        hit = (predicted == task.target).astype(np.float64)
        accuracy = block_bootstrap(np.stack([hit, np.ones_like(hit)], 1), blocks, _mean)
        macro_f1 = f1_score(task.target, predicted, average="macro", zero_division=0.0)
        return _with_ends("accuracy", accuracy) | {"macro_f1": float(macro_f1)}
    # A shift and scale of the target leave R2 as it is, and its sums free of cancellation.
    spread = task.target.std() or 1.0
    truth, error = (task.target - task.target.mean()) / spread, (predicted - task.target) / spread
    terms = np.stack([error**2, truth**2, truth, np.ones_like(truth)], 1)
    return _with_ends("r2", block_bootstrap(terms, blocks, _r2))


def _with_ends(metric: str, interval: Interval) -> dict[str, float]:
    return {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def _mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[..., 0] / sums[..., 1]


def _r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - sums[..., 0] / (sums[..., 1] - sums[..., 2] ** 2 / sums[..., 3])
