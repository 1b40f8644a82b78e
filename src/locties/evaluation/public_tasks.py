"""Tasks of the open tier: labels that the field knows, from fetched files.

Each is made from the files that `locties data fetch` puts into the cache folder, or that lie in
the folder that ``LOCTIES_MIRROR`` names. Names are those of the embedded tier where the question is
the same; the labels and the points are others, so their rows are never mixed.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties._util.registry import check_counts
from locties.data import public
from locties.data.embedded import load
from locties.data.sampling import land_lonlat
from locties.evaluation.tasks import TIERS, Task, TierTasks, is_common

TIER = "open"


def _drawn(n: int, points: int, seed: int) -> Tensor:
    """Which of n rows to take: all, or `points` of them drawn with the seed; in order."""
    check_counts(points=points)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:points].sort().values


def _regression(
    name: str, lonlat: Tensor, target: NDArray[Any], unit: str, points: int, seed: int
) -> Task:
    rows = _drawn(len(lonlat), points, seed)
    return Task(name, lonlat[rows], target[rows.numpy()], unit=unit, tier=TIER)


def _classification(
    name: str, lonlat: Tensor, names: NDArray[np.str_], points: int, seed: int
) -> Task:
    rows = _drawn(len(lonlat), points, seed).numpy()
    rows = rows[is_common(names[rows])]
    return Task(name, lonlat[torch.from_numpy(rows)], names[rows], "classification", tier=TIER)


@cache
def air_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Annual mean air temperature, degC, at 3,076 weather stations (Hooker et al. 2018).

    The labels that SatCLIP was judged on. Stations stand where people measure: dense in North
    America and Europe.

    Args:
        points: at most as many.
        seed: of the draw, where there are more.

    Returns:
        The task.

    Raises:
        DataError: the file is missing or altered; the message says what to run.
        ValueError: where `points` is no whole number of at least 1.

    Example:
        >>> air_temperature().unit
        'degC'

    Source: Hooker, Duveiller and Cescatti (Scientific Data 5, 2018), by way of SatCLIP; see the
    manifest.
    """
    return _regression("air_temperature", *public.stations(), "degC", points, seed)


@cache
def elevation(points: int = 5000, seed: int = 0) -> Task:
    """Elevation, m, at 4,981 points of MOSAIKS (Rolf et al. 2021).

    Labels are as published: three lie below -60 m, one of them at -534 m.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task.

    Raises:
        DataError, ValueError: as for `air_temperature`.

    Example:
        >>> elevation().unit
        'm'

    Source: Rolf et al. (Nature Communications 12, 2021), by way of TorchSpatial; see the manifest.
    """
    return _regression("elevation", *public.mosaiks("elevation"), "m", points, seed)


@cache
def population(points: int = 5000, seed: int = 0) -> Task:
    """Log of one plus population density (persons per km2), at 4,256 points of MOSAIKS.

    That the published labels are logarithms is inferred from their range.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task.

    Raises:
        DataError, ValueError: as for `air_temperature`.

    Example:
        >>> population().kind
        'regression'

    Source: Rolf et al. (Nature Communications 12, 2021), by way of TorchSpatial; see the manifest.
    """
    lonlat, labels = public.mosaiks("population")
    return _regression("population", lonlat, labels, "log(1 + persons per km2)", points, seed)


@cache
def biome(points: int = 5000, seed: int = 0) -> Task:
    """WWF biome (Olson et al. 2001) at the places of D-PLACE, of which nothing else is read.

    A biome with fewer than 25 of the points drawn is dropped, as countries are in `TASKS`: there
    are then too few to learn from and to test. Eleven of sixteen are left.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task.

    Raises:
        DataError, ValueError: as for `air_temperature`.
        ValueError: also where `points` are so few that no two biomes have 25 of them.

    Example:
        >>> biome().kind
        'classification'

    Source: Olson et al. (BioScience 51, 2001), by way of D-PLACE; see the manifest.
    """
    return _classification("biome", *public.biomes(), points, seed)


@cache
def country(points: int = 5000, seed: int = 0) -> Task:
    """Country (ISO 3166-1 alpha-2) at points uniform by area on land, from Natural Earth.

    The points of the embedded tier's tasks on land. Those that the polygons have at sea or without
    a code are dropped, and countries with fewer than 25 of the points: 25 of 5,000 are about
    700,000 km2, so large countries are left. The embedded tier's task asks at places, and so has
    more of them.

    Args:
        points: how many on land, before any are dropped.
        seed: of the points.

    Returns:
        The task.

    Raises:
        DataError, ValueError: as for `air_temperature`.
        ValueError: also where `points` are so few that no two countries have 25 of them.

    Example:
        >>> country().kind
        'classification'

    Source: Natural Earth, 1:50 million; see the manifest.
    """
    check_counts(points=points)
    lonlat = land_lonlat(load(), points, torch.Generator().manual_seed(seed))
    codes = public.country_at(lonlat)
    known = codes != ""
    return _classification("country", lonlat[torch.from_numpy(known)], codes[known], points, seed)


OPEN_TASKS = TierTasks(
    "task of the open tier",
    air_temperature=air_temperature,
    elevation=elevation,
    population=population,
    biome=biome,
    country=country,
)
TIERS["open"] = OPEN_TASKS
