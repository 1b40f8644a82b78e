"""Tasks of the open tier: well-known labels, from fetched files.

The files are in the cache (`locties data fetch`) or in the folder that ``LOCTIES_MIRROR`` names. A
task on the same quantity as one of the embedded tier has its name, but other points and labels.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties._util.registry import check_counts
from locties.data import public
from locties.evaluation.tasks import TIERS, Task, TierTasks, is_common, land_points

_task = partial(Task, tier="open")


def _draw_rows(n: int, points: int, seed: int) -> Tensor:
    """Which of n rows to use, in order: all, or `points` of them drawn with the seed."""
    check_counts(points=points)
    generator = torch.Generator().manual_seed(seed)
    rows: Tensor = torch.randperm(n, generator=generator)[:points].sort().values
    return rows


def _regression(
    name: str, lonlat: Tensor, target: NDArray[Any], unit: str, points: int, seed: int
) -> Task:
    rows = _draw_rows(len(lonlat), points, seed)
    return _task(name, lonlat[rows], target[rows.numpy()], unit=unit)


def _classification(
    name: str, lonlat: Tensor, names: NDArray[np.str_], points: int, seed: int
) -> Task:
    rows = _draw_rows(len(lonlat), points, seed).numpy()
    rows = rows[is_common(names[rows])]
    return _task(name, lonlat[torch.from_numpy(rows)], names[rows], "classification")


def air_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Annual mean air temperature, degC, at 3,076 weather stations.

    SatCLIP was evaluated on these labels. Stations are dense in North America and Europe.

    Source: Hooker, Duveiller and Cescatti (Scientific Data 5, 2018), by way of SatCLIP.
    """
    return _regression("air_temperature", *public.stations("temperature"), "degC", points, seed)


def precipitation(points: int = 5000, seed: int = 0) -> Task:
    """Annual precipitation, mm, at the stations of `air_temperature`.

    Source: Hooker, Duveiller and Cescatti (Scientific Data 5, 2018), by way of SatCLIP.
    """
    found = public.stations("precipitation")
    return _regression("precipitation", *found, "mm per year", points, seed)


def elevation(points: int = 5000, seed: int = 0) -> Task:
    """Elevation, m, at some of 53,487 points of MOSAIKS.

    Labels are as published: 34 lie below -60 m, one of them at -573 m.

    Source: Rolf et al. (Nature Communications 12, 2021), by way of TorchSpatial.
    """
    return _regression("elevation", *public.mosaiks("elevation"), "m", points, seed)


def population(points: int = 5000, seed: int = 0) -> Task:
    """Log of one plus population density (persons per km2), at some of 45,704 points of MOSAIKS.

    We infer from their range that the published labels are logarithms.

    Source: Rolf et al. (Nature Communications 12, 2021), by way of TorchSpatial.
    """
    lonlat, labels = public.mosaiks("population")
    return _regression("population", lonlat, labels, "log(1 + persons per km2)", points, seed)


def plant_richness(points: int = 5000, seed: int = 0) -> Task:
    """Number of vascular plant species around the places of D-PLACE, from a model.

    The model's inputs were climate and relief, so an encoder trained on these has seen much of the
    answer.

    Source: Kreft and Jetz (PNAS 104, 2007), by way of D-PLACE.
    """
    return _regression("plant_richness", *public.plant_richness(), "species", points, seed)


def tree_species(points: int = 5000, seed: int = 0) -> Task:
    """Logarithm of the number of tree species in 809 forest plots of about a hectare.

    Most plots are in the tropics. Many share a place.

    Source: Keil and Chase (Nature Ecology & Evolution 3, 2019).
    """
    return _regression("tree_species", *public.tree_plots(), "log(species)", points, seed)


def winter_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Winter design temperature, degC, at some of 15,550 weather stations.

    Heating is designed for it: 99% of all hours are warmer. The files hold no value below -70,
    so the 7 coldest stations of Antarctica all have -70.

    Source: Climate.OneBuilding.Org, by way of CBE Clima.
    """
    found = public.design_temperature("winter")
    return _regression("winter_temperature", *found, "degC", points, seed)


def summer_temperature(points: int = 5000, seed: int = 0) -> Task:
    """Summer design temperature, degC, at the stations of `winter_temperature`.

    Cooling is designed for it: 99% of all hours are colder.

    Source: Climate.OneBuilding.Org, by way of CBE Clima.
    """
    found = public.design_temperature("summer")
    return _regression("summer_temperature", *found, "degC", points, seed)


def house_value(points: int = 5000, seed: int = 0) -> Task:
    """Median value of a house, USD, at some of 20,640 census blocks of California in 1990.

    The regional task: what matters changes within tens of kilometres. Values end at 500,001 USD.

    Source: Pace and Barry (Statistics & Probability Letters 33, 1997).
    """
    return _regression("house_value", *public.house_values(), "USD", points, seed)


def biome(points: int = 5000, seed: int = 0) -> Task:
    """WWF biome at the places of D-PLACE. No other column is read.

    Biomes with fewer than 25 of the drawn points are dropped; eleven of sixteen are left.

    Source: Olson et al. (BioScience 51, 2001), by way of D-PLACE.
    """
    return _classification("biome", *public.biomes(), points, seed)


def country(points: int = 5000, seed: int = 0) -> Task:
    """Country (ISO 3166-1 alpha-2) at points uniform by area on land, from Natural Earth.

    Points outside all countries are dropped, and so are countries with fewer than 25 points. 25 of
    5,000 points stand for about 700,000 km2, so only large countries are left.

    Source: Natural Earth, 1:50 million.
    """
    lonlat = land_points(points, seed)
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
    precipitation=precipitation,
    plant_richness=plant_richness,
    tree_species=tree_species,
    winter_temperature=winter_temperature,
    summer_temperature=summer_temperature,
    house_value=house_value,
)
TIERS["open"] = OPEN_TASKS
