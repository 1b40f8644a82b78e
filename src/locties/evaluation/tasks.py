"""Tasks: places, and what to predict there.

Tasks of the embedded tier are computed from data in pinned packages and need no download. Those of
the open tier are in `locties.evaluation.public_tasks`. To add a task, write a function that returns
a `Task` and name it in `TASKS`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties import month as months
from locties._util.registry import Registry, check_counts, unknown
from locties.data.climate import KOPPEN_CLASSES, koppen
from locties.data.embedded import FOOT, load
from locties.data.raster import Raster
from locties.data.sampling import OWNERS, SOUTHERN_LIMIT, land_lonlat, owner
from locties.lonlat import MEAN_EARTH_RADIUS_KM, LonLat, cell_index, check, to_xyz

KINDS = ("regression", "classification")
KERNEL_KM = 25.0
AIRPORT_CELL = 1.0  # degrees: 44% of all airports are in the USA, but 14% of such cells
SMALLEST_CLASS = 25  # points: fewer are not enough to train and to test


def check_kind(kind: str) -> None:
    """Raise ValueError unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise unknown("kind of task", kind, KINDS)


@dataclass(frozen=True, eq=False)
class Task:
    """Points, their targets, and whether these are measurements or classes.

    Args:
        name: shown in tables.
        lonlat: `(N, 2)` longitude then latitude, degrees; copied.
        target: `(N,)`, none missing; copied. Measurements become float64. Classes are int64 codes
            into `classes`. Without `classes`, the target may hold any values; `classes` becomes the
            sorted distinct values.
        kind: ``"regression"`` or ``"classification"``.
        unit: unit of a regression target.
        classes: names of the classes, by code.
        tier: "embedded" for `TASKS`, "open" for `OPEN_TASKS`, empty for your own. Scores of
            different tiers are never averaged.
        month: `(N,)`, 1 to 12, of each target, for encoders that take a month.

    Example:
        >>> crop = Task("crop", [[13, 52], [2, 49], [12, 42]], ["rye", "oats", "rye"],
        ...             kind="classification")
        >>> crop.target, crop.classes
        (array([1, 0, 1]), ('oats', 'rye'))
    """

    name: str
    lonlat: Tensor
    target: NDArray[Any]
    kind: str = "regression"
    unit: str = ""
    classes: Sequence[str] | None = None
    tier: str = ""
    month: Tensor | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind)
        lonlat = check(self.lonlat).detach().cpu().clone(memory_format=torch.contiguous_format)
        target = self._values(len(lonlat))
        target, classes = self._codes(target) if self.kind != KINDS[0] else self._numbers(target)
        object.__setattr__(self, "lonlat", lonlat)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "classes", classes)
        if self.month is not None:
            object.__setattr__(self, "month", months.check(self.month, len(lonlat)).cpu().clone())

    def _wrong(self, problem: str) -> ValueError:
        return ValueError(f"task {self.name!r}: {problem}")

    def _values(self, points: int) -> NDArray[Any]:
        """The target as given, one value for each point and none missing."""
        from pandas import isna

        given: Any = self.target.detach().cpu() if isinstance(self.target, Tensor) else self.target
        try:
            values = np.asarray(given)
        except ValueError as error:
            raise self._wrong(
                f"target is not an array ({error}); give one value for each point"
            ) from None
        if values.shape != (points,):
            raise self._wrong(
                f"target has shape {values.shape} but there are {points} points; give one value "
                f"for each, shape ({points},)"
            )
        masked = np.ma.getmaskarray(given if np.ma.isMaskedArray(given) else values)
        missing = isna(values) | masked
        if values.dtype.kind == "f":
            missing |= ~np.isfinite(values)
        if missing.any():
            row = int(missing.argmax())
            shown = "masked" if masked[row] else values[row]
            raise self._wrong(
                f"target is {shown} at row {row}; drop the {missing.sum()} points without a value"
            )
        return values

    def _numbers(self, target: NDArray[Any]) -> tuple[NDArray[np.float64], None]:
        if self.classes is not None:
            raise self._wrong("a regression has no classes; pass kind='classification'")
        try:
            if target.dtype.kind not in "biufOU":
                raise TypeError
            numbers = target.astype(np.float64)
        except (TypeError, ValueError):
            raise self._wrong(
                f"target of type {target.dtype}, such as {target[0]!r}, is not a measurement; give "
                "numbers, or pass kind='classification'"
            ) from None
        if (numbers == numbers[:1]).all():
            raise self._wrong(
                f"every one of {len(numbers)} points has the same value, "
                f"{numbers[0] if len(numbers) else 'none'}; there must be at least 2"
            )
        return numbers, None

    def _codes(self, target: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        if self.classes is None:
            try:
                values, target = np.unique(target, return_inverse=True)
            except TypeError as error:
                raise self._wrong(
                    f"target mixes classes of several types ({error}); give text alone"
                ) from None
            classes = tuple(str(value) for value in values)
        elif isinstance(self.classes, str) or not isinstance(self.classes, Iterable):
            raise self._wrong(f"classes={self.classes!r} is not a list; give a list of names")
        else:
            classes = tuple(str(value) for value in self.classes)
        if not np.issubdtype(target.dtype, np.integer):
            raise self._wrong(
                f"with classes, target holds integer codes into them, not {target.dtype}; leave "
                "classes out, and codes are made"
            )
        outside = (target < 0) | (target >= len(classes))
        if outside.any():
            raise self._wrong(
                f"code {target[outside.argmax()]} at row {outside.argmax()} has no class; codes go "
                f"from 0 to {len(classes) - 1}"
            )
        if len(np.unique(target)) < 2:
            raise self._wrong(
                f"every one of {len(target)} points has the same class; there must be at least 2"
            )
        return target.astype(np.int64), classes


def land_points(points: int, seed: int) -> Tensor:
    """Places `(points, 2)` uniform by area on land, degrees."""
    check_counts(points=points)
    return land_lonlat(load(), points, torch.Generator().manual_seed(seed))


_task = partial(Task, tier="embedded")


def air_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Annual mean air temperature at 2 m, degC, at points uniform by area on land.

    Source: ERA5, mean of twelve monthly means of 2000 to 2025, 0.25 degrees.
    """
    lonlat = land_points(points, seed)
    celsius = load().temperature.sample(lonlat).mean(1)
    return _task("air_temperature", lonlat, celsius.numpy(), unit="degC")


def elevation(points: int = 5000, seed: int = 0) -> Task:
    """Elevation of airports, m, drawn evenly over the Earth.

    Each cell of 1 degree (111 km) gives one airport at most; `points` of the cells are drawn, or
    all if there are fewer. Rows that `plausible_airports` finds wrong are left out.

    Source: airportsdata.
    """
    check_counts(points=points)
    airports = load().airports
    generator = torch.Generator().manual_seed(seed)
    shuffled = plausible_airports()
    shuffled = shuffled[torch.randperm(len(shuffled), generator=generator)]
    cells = cell_index(airports.lonlat[shuffled], AIRPORT_CELL)
    _, first = np.unique(cells.numpy(), return_index=True)
    # The order of the cells is geographic: draw from all of them.
    drawn = shuffled[torch.from_numpy(first)]
    drawn = drawn[torch.randperm(len(drawn), generator=generator)[:points]]
    return _task("elevation", airports.lonlat[drawn], airports.elevation[drawn].numpy(), unit="m")


def plausible_airports() -> Tensor:
    """The rows (A,) int64 of `Airports` that can be elevations of airports.

    Left out, by comparison with the relief within 12 arcmin:

    - elevation 0, which also stands for an unknown one;
    - more than 300 m below or above all the relief around, which is an error more often than a
      valley narrower than a pixel of relief;
    - outside the relief around, while the number before the conversion from feet is the relief's
      height in m, within a tenth: metres given as feet;
    - a position that an earlier row has; and Antarctica, as in all tasks.
    """
    earth = load()
    lonlat, metres = earth.airports.lonlat, earth.airports.elevation
    around = earth.relief.patches(lonlat, 5).flatten(1)
    low, high = around.amin(1), around.amax(1)
    beyond = torch.maximum(low - metres, metres - high)
    here = earth.relief.sample(lonlat)[:, 0]
    unconverted = (metres / FOOT - here).abs() < 0.1 * here
    wrong = (metres == 0) | (beyond > 300) | ((beyond > 0) & unconverted)
    _, first = np.unique(lonlat.numpy(), axis=0, return_index=True)
    twice = torch.ones(len(lonlat), dtype=torch.bool)
    twice[torch.from_numpy(first)] = False
    return (~wrong & ~twice & (lonlat[:, 1] > SOUTHERN_LIMIT)).nonzero()[:, 0]


def population(points: int = 5000, seed: int = 0) -> Task:
    """Log of one plus population density (persons per km2), at points uniform by area on land.

    `kernel_density` spreads the inhabitants of GeoNames' cities500.
    """
    lonlat, places = land_points(points, seed), load().places
    density = kernel_density(lonlat, places.lonlat, places.population)
    return _task("population", lonlat, np.log1p(density), unit="log(1 + persons per km2)")


def kernel_density(lonlat: LonLat, sources: LonLat, weight: Any) -> NDArray[np.float64]:
    """Density (N,) per km2 of weighted sources, by a Gaussian kernel of 25 km cut at 4 sigma.

    It is evaluated at `lonlat` (N, 2); `sources` (M, 2) have a `weight` (M,), such as persons.

    Example:
        >>> kernel_density([[0, 0], [9, 9]], [[0, 0]], [1e6]).round(1).tolist()  # 1e6/(2 pi 25^2)
        [254.6, 0.0]
    """
    from scipy.spatial import cKDTree

    here, there = (cKDTree(to_xyz(check(x).double()).numpy()) for x in (lonlat, sources))
    # A chord of 100 km is only 1 m shorter than its arc, so chords serve as distances.
    pairs = here.sparse_distance_matrix(
        there, 4 * KERNEL_KM / MEAN_EARTH_RADIUS_KM, output_type="ndarray"
    )
    kernel = np.exp(-((pairs["v"] * MEAN_EARTH_RADIUS_KM / KERNEL_KM) ** 2) / 2)
    persons = np.asarray(weight, dtype=np.float64)[pairs["j"]]
    total = np.bincount(pairs["i"], weights=kernel * persons, minlength=here.n)
    return total / (2 * np.pi * KERNEL_KM**2)


def climate_zone(points: int = 5000, seed: int = 0) -> Task:
    """Köppen-Geiger class at points uniform by area on land: up to 30 classes.

    Rare classes are merged (`merge_rare`).

    Source: `locties.data.climate.koppen`, on ERA5's months.
    """
    earth, lonlat = load(), land_points(points, seed)
    codes = koppen(earth.temperature.sample(lonlat), earth.rain.sample(lonlat), lonlat[:, 1])
    zones = merge_rare([KOPPEN_CLASSES[code] for code in codes.tolist()])
    return _task("climate_zone", lonlat, np.array(zones), "classification")


def merge_rare(zones: Sequence[str], smallest: int = SMALLEST_CLASS) -> list[str]:
    """Merge rare Köppen classes into the commonest class that shares most of their letters.

    Dropping their points would leave holes in the map, and the tasks on land would no longer share
    their points. A class is kept if it has `smallest` points.

    Example:
        >>> merge_rare(["Cfa", "Cfa", "Csa", "Csa", "Csa", "Cfb"], smallest=2)
        ['Cfa', 'Cfa', 'Csa', 'Csa', 'Csa', 'Cfa']
    """
    count = Counter(zones)
    kept = [zone for zone, n in count.most_common() if n >= smallest]

    def merged(zone: str) -> str:
        kin = (other for shared in (3, 2, 1) for other in kept if other[:shared] == zone[:shared])
        return next(kin, zone)

    names = {zone: merged(zone) for zone in count}
    return [names[zone] for zone in zones]


def country(points: int = 5000, seed: int = 0) -> Task:
    """Country (ISO 3166-1 alpha-2) of places whose names no encoder has seen.

    At most `points` places of GeoNames' cities500 are drawn evenly from the cells that do not
    belong to the modality of toponyms. Countries with fewer than 25 of them are dropped.
    """
    check_counts(points=points)
    places = load().places
    held_out = torch.nonzero(owner(places.lonlat) != OWNERS.index("toponyms"))[:, 0]
    generator = torch.Generator().manual_seed(seed)
    drawn = held_out[torch.randperm(len(held_out), generator=generator)[:points]]
    names = np.array(places.countries)[places.country[drawn].numpy()]
    common = is_common(names)
    lonlat = places.lonlat[drawn][torch.from_numpy(common)]
    return _task("country", lonlat, names[common], "classification")


def is_common(names: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points (N,) belong to a class with at least 25 points."""
    _, code, count = np.unique(names, return_inverse=True, return_counts=True)
    common: NDArray[np.bool_] = count[code] >= SMALLEST_CLASS
    return common


def monthly_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Air temperature at 2 m in one month, degC, at points where no modality trains.

    The points are uniform by area on the land of the blocks kept for validation; each has one
    month.

    Source: ERA5, monthly means of 2000 to 2025, 0.25 degrees.
    """
    return _monthly("monthly_temperature", load().temperature, "degC", points, seed)


def monthly_precipitation(points: int = 5000, seed: int = 0) -> Task:
    """Log of one plus the precipitation of one month, mm, at the points of `monthly_temperature`.

    Source: ERA5, monthly means of 2000 to 2025, 0.25 degrees.
    """
    task = _monthly("monthly_precipitation", load().rain, "log(1 + mm)", points, seed)
    return replace(task, target=np.log1p(task.target.clip(0)))


def _monthly(name: str, raster: Raster, unit: str, points: int, seed: int) -> Task:
    check_counts(points=points)
    generator = torch.Generator().manual_seed(seed)
    lonlat = land_lonlat(load(), points, generator, owned_by="validation")
    month = torch.arange(points) % 12 + 1
    values = raster.sample(lonlat).gather(1, month[:, None] - 1)[:, 0]
    return _task(name, lonlat, values.numpy(), unit=unit, month=month)


class TierTasks(Registry):
    """The tasks of one tier, by name. For a task of another tier, the error names the tier."""

    def __missing__(self, name: object) -> Any:
        for tier, tasks in TIERS.items():
            if name in tasks:
                raise ValueError(
                    f"{name!r} is a {tasks.what}, not a {self.what}: it is in "
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

# For encoders that take a month. They are scored by themselves.
MONTHLY_TASKS = Registry(
    "task with months",
    monthly_temperature=monthly_temperature,
    monthly_precipitation=monthly_precipitation,
)

# `locties.evaluation.public_tasks` adds the open tier.
TIERS = Registry("tier", embedded=TASKS)
