"""Tasks: what embeddings are judged on. Places, and what is to be predicted there.

The tasks of the embedded tier are computed from real data inside pinned packages, so they need no
network. Those of the open tier are in `locties.evaluation.public_tasks`. A new task is a function
that returns a `Task`, named in `TASKS`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from locties._util.registry import Registry, check_counts, unknown
from locties.data.climate import KOPPEN_CLASSES, koppen
from locties.data.embedded import load
from locties.data.sampling import OWNERS, land_lonlat, owner
from locties.lonlat import MEAN_EARTH_RADIUS_KM, check, to_xyz

KINDS = ("regression", "classification")
KERNEL_KM = 25.0
SMALLEST_CLASS = 25
TIER = "embedded"


@dataclass(frozen=True, eq=False)
class Task:
    """Points, their targets, and whether these are measurements or classes.

    Args:
        name: what tables call it.
        lonlat: `(N, 2)` longitude then latitude, degrees; kept as a float tensor.
        target: `(N,)` finite. Regression: kept as float64. Classification: int64 codes into
            `classes`; without `classes`, any values, whose sorted distinct ones become the
            classes.
        kind: ``"regression"`` or ``"classification"``.
        unit: of a regression target.
        classes: names of the classes, by code.
        tier: "embedded" for `TASKS`, "open" for `OPEN_TASKS`, empty for one's own; rows of
            different tiers are never mixed.

    Raises:
        ValueError: wrong shapes, coordinates or kind; a target that is not finite, a code without
            a class, or fewer than two classes.

    Example:
        >>> crop = Task("crop", [[13, 52], [2, 49], [12, 42]], ["rye", "oats", "rye"],
        ...             kind="classification")
        >>> crop.target, crop.classes
        (array([1, 0, 1]), ('oats', 'rye'))

    Source: a container of this project.
    """

    name: str
    lonlat: Tensor
    target: NDArray[Any]
    kind: str = "regression"
    unit: str = ""
    classes: tuple[str, ...] | None = None
    tier: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of task", self.kind, KINDS)
        lonlat, target = check(self.lonlat).detach().cpu().contiguous(), np.asarray(self.target)
        if target.shape != (len(lonlat),):
            raise ValueError(
                f"task {self.name!r}: target has shape {target.shape} but there are {len(lonlat)} "
                f"points; give one value for each, shape ({len(lonlat)},)"
            )
        classes: tuple[str, ...] | None
        if self.kind == "regression":
            target, classes = self._measurements(target), None
        else:
            target, classes = self._codes(target)
        object.__setattr__(self, "lonlat", lonlat)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "classes", classes)

    def _measurements(self, target: NDArray[Any]) -> NDArray[np.float64]:
        if self.classes is not None:
            raise ValueError(
                f"task {self.name!r}: a regression has no classes; pass kind='classification'"
            )
        try:
            values = target.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"task {self.name!r}: target of type {target.dtype} is not a measurement; give "
                "numbers, or pass kind='classification'"
            ) from None
        bad = ~np.isfinite(values)
        if bad.any():
            raise ValueError(
                f"task {self.name!r}: target is {values[bad.argmax()]} at row {bad.argmax()}; drop "
                "points without a finite value"
            )
        return values

    def _codes(self, target: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        if self.classes is None:
            if np.issubdtype(target.dtype, np.floating) and not np.isfinite(target).all():
                raise ValueError(
                    f"task {self.name!r}: target is not finite at row "
                    f"{(~np.isfinite(target)).argmax()}; drop points without a class"
                )
            values, target = np.unique(target, return_inverse=True)
            classes = tuple(str(value) for value in values)
        else:
            classes = tuple(str(value) for value in self.classes)
        if not np.issubdtype(target.dtype, np.integer):
            raise ValueError(
                f"task {self.name!r}: with classes, target holds integer codes into them, not "
                f"{target.dtype}; leave classes out to have codes made"
            )
        outside = (target < 0) | (target >= len(classes))
        if outside.any():
            raise ValueError(
                f"task {self.name!r}: code {target[outside.argmax()]} at row {outside.argmax()} "
                f"has no class; codes go from 0 to {len(classes) - 1}"
            )
        if len(np.unique(target)) < 2:
            raise ValueError(
                f"task {self.name!r}: every point has the same class; there must be at least 2"
            )
        return target.astype(np.int64), classes


@cache
def _land(points: int, seed: int) -> Tensor:
    check_counts(points=points)
    return land_lonlat(load(), points, torch.Generator().manual_seed(seed))


@cache
def air_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Annual mean air temperature near the surface, degC, at points uniform by area on land.

    ITU-R P.1510-1 (mean of 36 years of ERA reanalysis, 0.75 degrees).

    Args:
        points: how many.
        seed: of the points.

    Returns:
        The task, with `points` places; the same object at every call with the same arguments.

    Raises:
        DataError: where the embedded tier has to be built and a wheel is missing.
        ValueError: where `points` is no whole number of at least 1.

    Example:
        >>> task = air_temperature(points=200)
        >>> task.kind, task.unit, bool(-60 < task.target.min() < task.target.max() < 40)
        ('regression', 'degC', True)

    Source: ITU-R P.1510-1; see the manifest.
    """
    celsius = load().temperature.sample(_land(points, seed))[:, -1] - 273.15
    return Task("air_temperature", _land(points, seed), celsius.numpy(), unit="degC", tier=TIER)


@cache
def elevation(points: int = 5000, seed: int = 0) -> Task:
    """Elevation above sea level, m, at points uniform by area on land.

    ITU-R P.1511-2: means of cells of 5 arcmin, so peaks are lower than they are.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task, with `points` places.

    Raises:
        DataError, ValueError: as for `air_temperature`.

    Example:
        >>> elevation(points=200).unit
        'm'

    Source: ITU-R P.1511-2; see the manifest.
    """
    metres = load().topography.sample(_land(points, seed))[:, 0]
    return Task("elevation", _land(points, seed), metres.numpy(), unit="m", tier=TIER)


@cache
def population(points: int = 5000, seed: int = 0) -> Task:
    """Log of one plus population density (persons per km2), at points uniform by area on land.

    People of the places of GeoNames' cities500, spread by a Gaussian kernel of 25 km.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task, with `points` places.

    Raises:
        DataError, ValueError: as for `air_temperature`.

    Example:
        >>> bool(population(points=200).target.min() >= 0)
        True

    Source: GeoNames (cities500); see the manifest. The kernel is a choice of this project.
    """
    places = load().places
    density = kernel_density(_land(points, seed), places.lonlat, places.population)
    unit = "log(1 + persons per km2)"
    return Task("population", _land(points, seed), np.log1p(density), unit=unit, tier=TIER)


def kernel_density(lonlat: Any, sources: Any, weight: Any) -> NDArray[np.float64]:
    """Density of weighted sources per km2, with a Gaussian kernel of 25 km cut at 4 sigma.

    Args:
        lonlat: `(N, 2)` where to evaluate, degrees.
        sources: `(M, 2)` degrees.
        weight: `(M,)` persons, say.

    Returns:
        `(N,)` weight per km2.

    Raises:
        ValueError: coordinates that `locties.lonlat.check` refuses.

    Example:
        >>> kernel_density([[0, 0], [9, 9]], [[0, 0]], [1e6]).round(1).tolist()  # 1e6/(2 pi 25^2)
        [254.6, 0.0]

    Source: elementary; width and cut are choices of this project.
    """
    here, there = (cKDTree(to_xyz(check(x).double()).numpy()) for x in (lonlat, sources))
    # A chord of 100 km is shorter than its arc by 1 m: the chord serves as the distance.
    pairs = here.sparse_distance_matrix(
        there, 4 * KERNEL_KM / MEAN_EARTH_RADIUS_KM, output_type="ndarray"
    )
    kernel = np.exp(-((pairs["v"] * MEAN_EARTH_RADIUS_KM / KERNEL_KM) ** 2) / 2)
    persons = np.asarray(weight, dtype=np.float64)[pairs["j"]]
    total = np.bincount(pairs["i"], weights=kernel * persons, minlength=here.n)
    return total / (2 * np.pi * KERNEL_KM**2)


@cache
def climate_zone(points: int = 5000, seed: int = 0) -> Task:
    """Köppen-Geiger class at points uniform by area on land: up to 30 classes.

    From monthly ITU-R P.1510 temperature and P.837 rain (`locties.data.climate.koppen`). P.837
    counts rain and no snow, so cold climates come out dry in winter: Dwc where maps made from all
    precipitation have Dfc. The classes are as the data have them, not as those maps do. A class
    with fewer than 25 points is merged into the commonest class of the same first two letters, or
    else of the same first: dropping its points would leave holes in the map, and the other tasks
    on land would no longer share their points.

    Args:
        points, seed: as for `air_temperature`.

    Returns:
        The task, with `points` places.

    Raises:
        DataError, ValueError: as for `air_temperature`.
        ValueError: also where `points` are so few that all have one class.

    Example:
        >>> "BWh" in climate_zone(points=1000).classes
        True

    Source: Peel, Finlayson and McMahon (2007), on ITU-R P.1510 and P.837; see
    `locties.data.climate.koppen`.
    """
    earth, lonlat = load(), _land(points, seed)
    celsius = earth.temperature.sample(lonlat)[:, :12] - 273.15
    codes = koppen(celsius, earth.rain.sample(lonlat), lonlat[:, 1])
    zones = merge_rare([KOPPEN_CLASSES[code] for code in codes.tolist()])
    return Task("climate_zone", lonlat, np.array(zones), "classification", tier=TIER)


def merge_rare(zones: Sequence[str], smallest: int = SMALLEST_CLASS) -> list[str]:
    """Köppen classes with those of fewer than `smallest` points merged into their nearest kin.

    Args:
        zones: names of Köppen classes, one for each point.
        smallest: the fewest points that a class may have.

    Returns:
        As many names.

    Example:
        >>> merge_rare(["Cfa", "Cfa", "Csa", "Csa", "Csa", "Cfb"], smallest=2)
        ['Cfa', 'Cfa', 'Csa', 'Csa', 'Csa', 'Cfa']

    Source: the letters are those of Peel, Finlayson and McMahon (2007); merging along them is a
    choice of this project.
    """
    count = Counter(zones)
    kept = [zone for zone, n in count.most_common() if n >= smallest]

    def merged(zone: str) -> str:
        kin = [[other for other in kept if other[:shared] == zone[:shared]] for shared in (3, 2, 1)]
        return next((found[0] for found in kin if found), zone)

    names = {zone: merged(zone) for zone in count}
    return [names[zone] for zone in zones]


@cache
def country(points: int = 5000, seed: int = 0) -> Task:
    """Country (ISO 3166-1 alpha-2) of places whose names no encoder has seen.

    Places of GeoNames' cities500 in cells that the modality of toponyms does not own: drawn
    evenly among places, so at most `points`, most of them where places are dense. Countries with
    fewer than 25 of them are dropped, as there are then too few to learn from and to test.

    Args:
        points: at most as many.
        seed: of the draw.

    Returns:
        The task, with at most `points` places.

    Raises:
        DataError, ValueError: as for `air_temperature`.
        ValueError: also where `points` are so few that no two countries have 25 of them.

    Example:
        >>> {"US", "IN"} <= set(country(points=2000).classes)
        True

    Source: GeoNames (cities500); see the manifest.
    """
    check_counts(points=points)
    places = load().places
    held_out = torch.nonzero(owner(places.lonlat) != OWNERS.index("toponyms"))[:, 0]
    generator = torch.Generator().manual_seed(seed)
    drawn = held_out[torch.randperm(len(held_out), generator=generator)[:points]]
    names = np.array(places.countries)[places.country[drawn].numpy()]
    common = is_common(names)
    lonlat = places.lonlat[drawn][torch.from_numpy(common)]
    return Task("country", lonlat, names[common], "classification", tier=TIER)


def is_common(names: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points (N,) are of a class that has at least 25 of them."""
    _, code, count = np.unique(names, return_inverse=True, return_counts=True)
    return count[code] >= SMALLEST_CLASS


class TierTasks(Registry):
    """The tasks of one tier, by name. A name of another tier's is answered with where it is."""

    def __missing__(self, name: object) -> Any:
        for tier, tasks in TIERS.items():
            if name in tasks:
                raise ValueError(
                    f"{name!r} is a {tasks.what}, not a {self.what}: take it from "
                    f"locties.evaluation.TIERS[{tier!r}]"
                )
        return super().__missing__(name)


TASKS = TierTasks(
    "task of the embedded tier",
    air_temperature=air_temperature,
    elevation=elevation,
    population=population,
    climate_zone=climate_zone,
    country=country,
)

# `locties.evaluation.public_tasks` adds the open tier.
TIERS = Registry("tier", embedded=TASKS)
